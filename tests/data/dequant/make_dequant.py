#!/usr/bin/env python3
"""Write random blocks of every GGUF quantised type and the float32 values that gguf-py reads from them.

usage: make_dequant.py OUT.safetensors [--seed N] [--blocks N]

For each type NAME: NAME.blocks [n, bytes per block] u8 and NAME.values [n, weights per block] f32. A dequantiser must match bit for bit.
"""
import argparse
import os, sys
import numpy as np, gguf
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize
from safetensors.numpy import save_file
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from make_gguf import SCALE, put_f16

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--blocks", type=int, default=16)
a = ap.parse_args()
rng, out = np.random.default_rng(a.seed), {}
for qt in list(SCALE) + [T.IQ1_M, T.MXFP4, T.TQ1_0, T.TQ2_0]:
    bs, ts = gguf.GGML_QUANT_SIZES[qt]
    b = rng.integers(0, 256, (a.blocks, ts), dtype=np.uint8)
    sign = rng.choice([-1.0, 1.0], a.blocks)
    if qt in SCALE:
        d, m = SCALE[qt]
        put_f16(b, d, rng.uniform(0.001, 0.1, a.blocks) * sign)
        if m is not None:
            put_f16(b, m, rng.uniform(0.001, 0.1, a.blocks) * sign)
        put_f16(b[:1], d, 0.0)           # a block of zero scale
        put_f16(b[1:2], d, 5.96e-8)      # the smallest subnormal half
    elif qt == T.MXFP4:
        b[:, 0] = rng.integers(0, 130, a.blocks)
    elif qt == T.IQ1_M:                  # its half-precision scale is spread over the top nibbles of the last four 16-bit words
        s = np.float16(0.02).view(np.uint16)
        w = b[:, -8:].view(np.uint16)
        for i in range(4):
            w[:, i] = (w[:, i] & 0x0FFF) | np.uint16(((int(s) >> (4 * i)) & 15) << 12)
    else:
        put_f16(b, ts - 2, rng.uniform(0.001, 0.1, a.blocks) * sign)
    v = dequantize(b, qt).reshape(a.blocks, bs).astype(np.float32)
    assert np.isfinite(v).all(), qt
    out[f"{qt.name}.blocks"], out[f"{qt.name}.values"] = b, v
save_file(out, a.out, metadata={"made_with": "gguf 0.19", "seed": str(a.seed)})
print(len(out) // 2, "types")
