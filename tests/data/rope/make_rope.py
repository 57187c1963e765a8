#!/usr/bin/env python3
"""Expected frequencies of rotary position embedding: plain, linear, and YaRN (Peng et al. 2023, section 3.2) in double precision.

Ends of the ramp that come out in the wrong order: "yarn" as transformers has it, "step" as llama.cpp.

usage: make_rope.py > expected.txt
A line: scaling theta dimensions factor original_context beta_fast beta_slow truncate attention_factor, then what must come out: the
scale of cos and sin, and dimensions / 2 frequencies (radians a position).
"""
import math

CASES = [  # scaling, theta, dimensions, factor, original context, beta_fast, beta_slow, truncate, attention factor (0: from the factor)
    ("none", 10000.0, 32, 1.0, 512, 32.0, 1.0, 1, 0.0),
    ("none", 1e6, 6, 1.0, 512, 32.0, 1.0, 1, 0.0),
    ("linear", 10000.0, 64, 8.0, 4096, 32.0, 1.0, 1, 0.0),
    ("yarn", 1e6, 128, 4.0, 32768, 32.0, 1.0, 1, 0.0),
    ("yarn", 1e6, 128, 4.0, 32768, 32.0, 1.0, 0, 0.0),
    ("yarn", 150000.0, 64, 32.0, 4096, 32.0, 1.0, 0, 0.0),
    ("yarn", 10000.0, 64, 40.0, 4096, 32.0, 1.0, 1, 1.0),
    ("yarn", 10000.0, 16, 2.0, 16, 4.0, 1.0, 1, 1.25),
    ("yarn", 10000.0, 16, 4.0, 4, 32.0, 8.0, 1, 0.0),  # both ends before the first pair
    ("yarn", 8.0, 16, 4.0, 4000000, 32.0, 1.0, 1, 0.0),  # both behind the last
    ("step", 10000.0, 16, 4.0, 4, 32.0, 8.0, 1, 0.0),  # the same in llama.cpp
    ("step", 8.0, 16, 4.0, 4000000, 32.0, 1.0, 1, 0.0),
]


def turns_to_dimension(turns, dims, theta, context):
    """The (fractional) pair of dimensions whose wave makes so many turns over the trained context."""
    return dims * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))


for scaling, theta, dims, factor, context, fast, slow, truncate, attention in CASES:
    plain = [theta ** (-2 * i / dims) for i in range(dims // 2)]
    scale = 1.0
    if scaling == "linear":
        out = [f / factor for f in plain]
    elif scaling in ("yarn", "step"):
        low, high = (turns_to_dimension(t, dims, theta, context) for t in (fast, slow))
        if truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dims - 1)
        width = max(high - low, 0.001) if scaling == "step" else high - low or 0.001
        kept = [1 - min(max((i - low) / width, 0), 1) for i in range(dims // 2)]  # 1: as trained, 0: stretched
        out = [f * k + f / factor * (1 - k) for f, k in zip(plain, kept)]
        scale = attention or 0.1 * math.log(factor) + 1
    else:
        out = plain
    print(scaling, theta, dims, factor, context, fast, slow, truncate, attention, repr(scale), *(repr(f) for f in out))
