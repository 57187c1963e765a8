#!/usr/bin/env python3
"""Add the heads of the tests' models to the corpora of the readers: every family and form, in both formats.

usage: make_heads.py ODMOE TREE     ODMOE: the program; TREE: build/tests/data/tree, where the models are whole

model_folder gets config.json, a zero byte and the JSON head of model.safetensors (tests/fuzz/model_folder.c); config the config.json alone;
model_gguf the metadata without the tokenizer's and the table of tensors; gguf the metadata alone. To stay small a folder keeps as few of its
experts as it opens with. An input that ODMOE does not open is an error: it would test nothing but the refusal.
"""
import json, pathlib, re, struct, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import corpus

HOLE = 64 << 20  # tests/fuzz/model_folder.c, model_gguf.c
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "I64": 8, "U8": 1, "F8_E4M3": 1}
EXPERTS = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"]
OF_EXPERTS = re.compile(r"expert|router|gate|correction_bias|moe_statics")


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


# ---- folders ----

def read_folder(folder):
    """config.json, and {name: (type, shape)} of all its files."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name == "expected.safetensors":
            continue
        with open(path, "rb") as f:
            head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        tensors.update({k: (v["dtype"], v["shape"]) for k, v in head.items() if k != "__metadata__"})
    return json.loads((folder / "config.json").read_text()), tensors


def with_experts(config, tensors, n):
    """The model with n experts a layer."""
    config = json.loads(json.dumps(config))
    text = config.get("text_config", config)
    key = next(k for k in EXPERTS if k in text)
    had, text[key] = text[key], n
    kept = {}
    for name, (kind, shape) in tensors.items():
        number = re.search(r"experts\.(\d+)\.", name)
        if number and int(number[1]) >= n:
            continue
        of_experts = not number and OF_EXPERTS.search(name)
        kept[name] = (kind, [n if of_experts and size == had and i < 2 else size for i, size in enumerate(shape)])
    return config, kept


def folder_input(config, tensors):
    head, at = {}, 0
    for name, (kind, shape) in tensors.items():
        size = BYTES[kind]
        for n in shape:
            size *= n
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return compact(config) + b"\0" + compact(head)


def opens_folder(odmoe, data):
    with tempfile.TemporaryDirectory() as folder:
        config, head = data.split(b"\0", 1)
        pathlib.Path(folder, "config.json").write_bytes(config)
        with open(f"{folder}/model.safetensors", "wb") as f:
            f.write(struct.pack("<Q", len(head)) + head)
            f.truncate(8 + len(head) + HOLE)
        return subprocess.run([odmoe, "inspect", folder], capture_output=True).returncode == 0


def smallest(odmoe, folder):
    config, tensors = read_folder(folder)
    for n in (2, 3, 4, 6):
        try:
            data = folder_input(*with_experts(config, tensors, n))
        except StopIteration:
            break
        if opens_folder(odmoe, data):
            return data
    data = folder_input(config, tensors)
    if not opens_folder(odmoe, data):
        sys.exit(f"{folder}: {odmoe} does not open its head")
    return data


# ---- GGUF ----

def text_end(raw, at):
    return at + 8 + struct.unpack_from("<Q", raw, at)[0]


def value_end(raw, at, kind):
    width = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    if kind == 8:
        return text_end(raw, at)
    if kind != 9:
        return at + width[kind]
    element, n = struct.unpack_from("<IQ", raw, at)
    at += 12
    if element != 8:
        return at + n * width[element]
    for _ in range(n):
        at = text_end(raw, at)
    return at


def gguf_parts(raw):
    """(pairs, table): what stands in the head for each pair that says something of the model, and for the tensors."""
    tensors, count = struct.unpack_from("<QQ", raw, 8)
    at, pairs = 24, []
    for _ in range(count):
        begin, key_end = at, text_end(raw, at)
        at = value_end(raw, key_end + 4, struct.unpack_from("<I", raw, key_end)[0])
        key = raw[begin + 8:key_end].decode()
        if key == "general.architecture" or not key.startswith(("general.", "tokenizer.")):
            pairs.append(raw[begin:at])
    begin = at
    for _ in range(tensors):
        at = text_end(raw, at)
        at += 4 + 8 * struct.unpack_from("<I", raw, at)[0] + 12
    return pairs, raw[begin:at], tensors


def gguf_head(pairs, table, tensors):
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs)) + b"".join(pairs) + table


def opens_gguf(odmoe, data):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        f.write(data)
        f.truncate(len(data) + HOLE)
        f.flush()
        return subprocess.run([odmoe, "inspect", f.name], capture_output=True).returncode == 0


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    odmoe, tree = sys.argv[1], pathlib.Path(sys.argv[2])
    folders, configs, models, metadata = [], [], [], []
    for config in sorted([*tree.glob("families/*/config.json"), *tree.glob("models/olmoe/config.json")]):
        name = config.parent.name
        folders.append((name, smallest(odmoe, config.parent)))
        configs.append((name, compact(json.loads(config.read_text()))))
    for path in sorted([*tree.glob("families/gguf/*.gguf"), *tree.glob("gguf/*.gguf")]):
        if "-split-" in path.name:
            continue
        pairs, table, tensors = gguf_parts(path.read_bytes())
        data = gguf_head(pairs, table, tensors)
        if not opens_gguf(odmoe, data):
            sys.exit(f"{path}: {odmoe} does not open its head")
        models.append((path.stem, data))
        metadata.append((path.stem, gguf_head(pairs, b"", 0)))
    for target, inputs in (("model_folder", folders), ("config", configs), ("model_gguf", models), ("gguf", metadata)):
        corpus.put(ROOT / "tests/data/fuzz" / f"{target}.corpus", inputs)
        print(f"{target}: {len(inputs)} inputs, {sum(len(data) for _, data in inputs)} bytes")


main()
