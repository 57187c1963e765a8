#!/usr/bin/env python3
"""Write random weights of the types whose scales lie apart, and the float32 values that they stand for.

usage: make_scaled.py OUT.safetensors [--seed N]

For each type NAME: NAME.data and NAME.scales as publishers store them (viewed as bytes), NAME.factor f32 [1, 1], NAME.rows i32 [1, n] and
NAME.values f32 [n, cols]: the values of these rows. A value is element * (scale * factor), each product rounded to float32; elements and
scales are read by ml_dtypes. Bytes that are NaN are left out. NVFP4 is GGUF's (blocks of 64): its values are what gguf-py reads.
"""
import argparse
import gguf
import ml_dtypes
import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import save_file

ap = argparse.ArgumentParser()
ap.add_argument("out"); ap.add_argument("--seed", type=int, default=1)
a = ap.parse_args()
rng, out = np.random.default_rng(a.seed), {}
f8, bf16, e8m0 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, ml_dtypes.float8_e8m0fnu
f4 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)


def put(name, data, scales, factor, elements, spread, rows):
    factor = np.float32(factor)
    values = (elements * (spread * factor).astype(np.float32)).astype(np.float32)
    out[f"{name}.data"] = data.view(np.uint8)
    out[f"{name}.scales"] = scales.view(np.uint8)
    out[f"{name}.factor"] = np.full((1, 1), factor, dtype=np.float32)
    out[f"{name}.rows"] = np.array([list(rows)], dtype=np.int32)
    out[f"{name}.values"] = values[list(rows)]


def four_bits(rows, cols):
    b = rng.integers(0, 256, (rows, cols // 2), dtype=np.uint8)
    return b, np.stack([b & 15, b >> 4], axis=-1).reshape(rows, cols)


# FP8: 128 x 128 weights share a scale; neither size is a multiple of 128. All bytes are there, in rows 0 and 1.
rows, cols = 131, 130
b = rng.integers(0, 256, (rows, cols), dtype=np.uint8)
b[:2].flat[:256] = np.arange(256)
b[(b & 0x7f) == 0x7f] = 0x7e
scale = rng.uniform(1e-4, 1e-2, (2, 2)).astype(np.float32)
spread = np.repeat(np.repeat(scale, 128, 0), 128, 1)[:rows, :cols]
put("F8_E4M3", b, scale, 1, b.view(f8).astype(np.float32), spread, [0, 1, 127, 128, 130])

# NVFP4: 16 weights share an FP8 scale, the tensor a float32.
rows, cols = 3, 80
b, q = four_bits(rows, cols)
s = rng.integers(0, 0x7f, (rows, cols // 16), dtype=np.uint8)
s[0, :2] = [0, 1]
put("NVFP4_SPLIT", b, s, 0.0123, f4[q], np.repeat(s.view(f8).astype(np.float32), 16, 1), [0, 1, 2])

# MXFP4: 32 weights share a power of 2.
rows, cols = 3, 96
b, q = four_bits(rows, cols)
s = rng.integers(100, 140, (rows, cols // 32), dtype=np.uint8)
s[0, :2] = [1, 2]
put("MXFP4_SPLIT", b, s, 1, f4[q], np.repeat(s.view(e8m0).astype(np.float32), 32, 1), [0, 1, 2])

# INT4: 32 weights share a bfloat16; a number is stored plus 8.
rows, cols = 3, 96
b, q = four_bits(rows, cols)
s = rng.uniform(1e-3, 0.1, (rows, cols // 32)).astype(bf16)
put("INT4_SPLIT", b, s, 1, q.astype(np.float32) - 8, np.repeat(s.astype(np.float32), 32, 1), [0, 1, 2])

# GGUF's NVFP4: every scale there is, the last two blocks with the bytes that E4M3 has no use for.
b = rng.integers(0, 256, (34, 36), dtype=np.uint8)
b[:32, :4] = np.arange(128).reshape(32, 4)
b[32:, :4] = [[0x7f, 0xff, 0x80, 0x81], [0xfe, 0, 0xc0, 0x38]]
out["NVFP4.blocks"] = b
out["NVFP4.values"] = dequantize(b, gguf.GGMLQuantizationType.NVFP4).reshape(34, 64).astype(np.float32)

# FP8 with a bfloat16 for each row, and with one float32 for the matrix.
rows, cols = 5, 70
b = rng.integers(0, 0x7f, (rows, cols), dtype=np.uint8) | rng.integers(0, 2, (rows, cols), dtype=np.uint8) << 7
s = rng.uniform(1e-4, 1e-2, (rows, 1)).astype(bf16)
put("F8_ROWS", b, s, 1, b.view(f8).astype(np.float32), np.repeat(s.astype(np.float32), cols, 1), range(rows))
s = rng.uniform(1e-4, 1e-2, (1, 1)).astype(np.float32)
put("F8_MATRIX", b, s, 1, b.view(f8).astype(np.float32), np.broadcast_to(s, (rows, cols)), range(rows))

# INT4 in larger groups, and with one scale for each row; the scales in every width.
rows, cols = 3, 256
for name, group, kind in (("INT4_64", 64, np.float16), ("INT4_128", 128, bf16), ("INT4_ROWS", cols, np.float32)):
    b, q = four_bits(rows, cols)
    s = rng.uniform(1e-3, 0.1, (rows, cols // group)).astype(kind)
    put(name, b, s, 1, q.astype(np.float32) - 8, np.repeat(s.astype(np.float32), group, 1), range(rows))
assert all(np.isfinite(v).all() for v in out.values() if v.dtype == np.float32)
save_file(out, a.out, metadata={"made_with": f"ml_dtypes {ml_dtypes.__version__}", "seed": str(a.seed)})
