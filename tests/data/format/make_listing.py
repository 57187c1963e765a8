#!/usr/bin/env python3
"""Write what gguf-py (and json, for safetensors) sees in some of the model files: gguf.txt and safetensors.txt.

usage: make_listing.py TREE     (needs gguf 0.19; TREE: the test data with its models made, build/tests/data/tree)

  file PATH                                    what follows is about this file
  tensor NAME TYPE SHAPE LENGTH CRC32          shape outermost first, "-" for a scalar; crc32 of the tensor's bytes
  int|float|bool|text KEY VALUE                metadata; texts in hexadecimal
  texts|ints|floats KEY COUNT CRC32            an array; of its bytes, texts one after the other without separators
"""
import json, os, struct, sys, zlib
import gguf
from gguf import GGUFValueType as V

INTS = {V.UINT8: "<B", V.INT8: "<b", V.UINT16: "<H", V.INT16: "<h", V.UINT32: "<I", V.INT32: "<i", V.UINT64: "<Q", V.INT64: "<q"}
FLOATS = {V.FLOAT32: "<f", V.FLOAT64: "<d"}
GGUF = ["gguf/llama-Q4_K_M.gguf", "gguf/qwen2moe-Q4_K_M.gguf", "gguf/qwen3moe-IQ2_XXS.gguf", "gguf/qwen3moe-Q5_K_M.gguf",
        "gguf/qwen3moe-MXFP4.gguf", "gguf/qwen3moe-Q8_0-split-00001-of-00002.gguf", "/models/demo.gguf"]
SAFETENSORS = ["models/mixtral/model.safetensors", "models/qwen3_moe_f16/model.safetensors",
               "models/olmoe_f32/model.safetensors", "models/qwen2_moe/model.safetensors", "layer/tiny.safetensors"]
FOLDER = "models/qwen3_moe"
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # of paths that begin with "/"


def crc(data):
    return f"{zlib.crc32(data):08x}"


def shape(dims):
    return "x".join(str(int(d)) for d in dims) or "-"


def gguf_lines(root, path):
    yield f"file {path}"
    parts = [path] if "00001-of-" not in path else [path, path.replace("00001-of", "00002-of")]
    for i, part in enumerate(parts):
        r = gguf.GGUFReader(SOURCE + part if part[0] == "/" else os.path.join(root, part))
        for t in r.tensors:
            yield f"tensor {t.name} {t.tensor_type.name.lower()} {shape(t.shape[::-1])} {t.n_bytes} {crc(t.data.tobytes())}"
        for f in r.fields.values() if i == 0 else ():
            if f.name.startswith("GGUF."):
                continue
            kind = f.types[0]
            if kind == V.STRING:
                yield f"text {f.name} {f.contents().encode().hex() or '-'}"
            elif kind == V.BOOL:
                yield f"bool {f.name} {int(f.contents())}"
            elif kind in INTS:
                yield f"int {f.name} {f.contents()}"
            elif kind in FLOATS:
                yield f"float {f.name} {float(f.contents()).hex()}"
            elif kind == V.ARRAY:
                inner, n = f.types[1], len(f.data)
                if inner == V.STRING:
                    data, name = b"".join(bytes(f.parts[k]) for k in f.data), "texts"
                else:
                    pack, name = (INTS[inner], "ints") if inner in INTS else (FLOATS[inner], "floats")
                    data = b"".join(struct.pack("<q" if name == "ints" else "<d", f.parts[k][0]) for k in f.data)
                yield f"{name} {f.name} {n} {crc(data)}"


def safetensors_lines(root, path, names):
    yield f"file {names}"
    for part in path:
        raw = open(os.path.join(root, part), "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        for name, t in json.loads(raw[8:8 + n]).items():
            if name == "__metadata__":
                continue
            a, b = t["data_offsets"]
            yield f"tensor {name} {t['dtype'].lower()} {shape(t['shape'])} {b - a} {crc(raw[8 + n + a:8 + n + b])}"


def main():
    root, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "gguf.txt"), "w") as f:
        for path in GGUF:
            f.writelines(line + "\n" for line in gguf_lines(root, path))
    with open(os.path.join(here, "safetensors.txt"), "w") as f:
        for path in SAFETENSORS:
            f.writelines(line + "\n" for line in safetensors_lines(root, [path], path))
        shards = sorted(p for p in os.listdir(os.path.join(root, FOLDER)) if p.startswith("model-"))
        f.writelines(line + "\n" for line in safetensors_lines(root, [f"{FOLDER}/{p}" for p in shards], FOLDER))


main()
