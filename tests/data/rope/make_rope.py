#!/usr/bin/env python3
"""Expected frequencies of rotary position embedding in double precision: plain, linear, YaRN (Peng et al. 2023, section 3.2), proportional
(Gemma 4), Llama 3's, LongRoPE (Ding et al. 2024).

Ends of YaRN's ramp that come out in the wrong order: "yarn" as transformers has it, "step" as llama.cpp. "proportional" has the part that
turns where others have beta_fast, "llama3" high_freq_factor and low_freq_factor as beta_fast and beta_slow. "long" has every pair's factor
1 + its number / 2, and a context of twice the original one.

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
    ("proportional", 1e6, 32, 1.0, 4096, 0.25, 1.0, 1, 0.0),
    ("proportional", 1e6, 16, 4.0, 4096, 0.4, 1.0, 1, 0.0),  # 3 of 8 pairs
    ("llama3", 500000.0, 128, 8.0, 8192, 4.0, 1.0, 1, 0.0),
    ("llama3", 500000.0, 128, 16.0, 8192, 1.0, 1.0, 1, 0.0),  # Llama 4 Scout: nothing between
    ("long", 10000.0, 16, 32.0, 4096, 32.0, 1.0, 1, 0.0),
    ("long", 10000.0, 16, 1.0, 4096, 32.0, 1.0, 1, 1.2431631),
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
    elif scaling == "proportional":
        out = [f / factor if i < dims * fast // 2 else 0.0 for i, f in enumerate(plain)]
    elif scaling == "llama3":
        out = []
        for f in plain:
            wave = 2 * math.pi / f
            if wave > context / slow:
                f /= factor
            elif wave >= context / fast:
                kept = (context / wave - slow) / (fast - slow)
                f = (1 - kept) * f / factor + kept * f
            out.append(f)
    elif scaling == "long":
        out = [f / (1 + i / 2) for i, f in enumerate(plain)]
        scale = attention or (math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0)
    else:
        out = plain
    print(scaling, theta, dims, factor, context, fast, slow, truncate, attention, repr(scale), *(repr(f) for f in out))
