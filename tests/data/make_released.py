#!/usr/bin/env python3
"""Write tiny Qwen3-MoE models whose weights are quantised as publishers release them, and what they must compute.

usage: make_released.py OUT_DIR [--case NAME ...]     write folders
       make_released.py --check FOLDER                 compare the reference below with expected.safetensors of a folder in BF16

Needs numpy. One folder a case: config.json, model.safetensors.seed (seeded.py), expected.safetensors.seed. Elements and scales are drawn from
tables of numbers; a weight is element * (scale * factor) in float64, exactly what the file says. `forward` is Qwen3-MoE written out in numpy,
float64; --check shows that it is the model that transformers computes (tests/data/models/qwen3_moe: within 1e-5).
"""
import argparse, json, os, struct
import numpy as np
import seeded


# ---- numbers ----

def bf16(x):
    """float -> bits, to nearest even."""
    u = np.asarray(x, np.float32).view(np.uint32)
    return ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (np.asarray(bits, np.uint32) << 16).view(np.float32).astype(np.float64)


def f8_table():
    e, m, s = np.arange(256) >> 3 & 15, np.arange(256) & 7, np.arange(256) >> 7
    return np.where(e > 0, (8 + m) * 2.0 ** (e - 10), m * 2.0 ** -9) * np.where(s, -1, 1)


F8 = f8_table()  # 0x7f and 0xff, which are NaN, are never drawn
F4 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6])


def normal(n=256):
    """n numbers that are spread as a normal distribution."""
    grid = np.linspace(-6, 6, 48001)
    cumulative = np.cumsum(np.exp(-grid * grid / 2))
    return np.interp((np.arange(n) + 0.5) / n, cumulative / cumulative[-1], grid)


def nearest_f8(x):
    order = np.argsort(F8[:127])
    return np.array([order[np.argmin(abs(F8[:127][order] - abs(v)))] | (0x80 if v < 0 else 0) for v in x], np.uint8)


def around(middle):
    """256 positive numbers between half and one and a half of `middle`."""
    return middle * (0.5 + (np.arange(256) + 0.5) / 256)


# ---- a file that is made of seeds ----

class File:
    def __init__(self, seed):
        self.seed, self.tensors = seed, []

    def draw(self, name, word, shape, table, width, n=None):
        """A tensor whose n numbers (as many as it has elements) of `width` bytes are entries of the table; returns its bytes."""
        drawn = (f"{self.seed} {name}", n or int(np.prod(shape)), width, table)
        self.tensors.append((name, word, shape, seeded.values(*drawn), drawn))
        return self.tensors[-1][3]

    def put(self, name, word, shape, raw):
        self.tensors.append((name, word, shape, raw, None))

    def write(self, path):
        """As the safetensors library orders them: wide types first, then by name."""
        width = {"I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F8_E4M3": 1, "U8": 1}
        header, at, maker, places = {"__metadata__": {"format": "pt"}}, 0, seeded.Maker(), []
        self.tensors.sort(key=lambda t: (-width[t[1]], t[0]))
        for name, word, shape, raw, drawn in self.tensors:
            header[name] = {"dtype": word, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
            places.append((at, drawn))
            at += len(raw)
        head = json.dumps(header, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 8)
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(head)) + head + b"".join(t[3] for t in self.tensors))
        for place, drawn in places:
            if drawn and drawn[1] * drawn[2] >= 128:
                maker.put(8 + len(head) + place, maker.values(*drawn)[0])
        maker.pack(path, path + ".seed")
        os.remove(path)


# ---- weights ----

def plain(f, name, shape, numbers):
    """A BF16 tensor; its values."""
    return from_bf16(np.frombuffer(f.draw(name, "BF16", shape, bf16(numbers).tobytes(), 2), np.uint16)).reshape(shape)


def spread(scales, rows, cols, shape):
    return np.repeat(np.repeat(scales, rows, 0), cols, 1)[:shape[0], :shape[1]]


def nibbles(raw, shape):
    b = np.frombuffer(raw, np.uint8).reshape(shape[0], shape[1] // 2)
    return np.stack([b & 15, b >> 4], axis=-1).reshape(shape)


def fp8(f, name, shape):
    std = shape[1] ** -0.5
    e = F8[np.frombuffer(f.draw(name, "F8_E4M3", shape, nearest_f8(normal() * 64).tobytes(), 1), np.uint8)].reshape(shape)
    grid = [(n + 127) // 128 for n in shape]
    s = plain(f, name + "_scale_inv", grid, around(std / 64))
    return e * spread(s, 128, 128, shape)


def fp8_rows(f, name, shape):
    e = F8[np.frombuffer(f.draw(name, "F8_E4M3", shape, nearest_f8(normal() * 64).tobytes(), 1), np.uint8)].reshape(shape)
    return e * plain(f, name + "_scale", (shape[0], 1), around(shape[1] ** -0.5 / 64))


def fp8_matrix(f, name, shape):
    e = F8[np.frombuffer(f.draw(name, "F8_E4M3", shape, nearest_f8(normal() * 64).tobytes(), 1), np.uint8)].reshape(shape)
    f.put(name.removesuffix("weight") + "input_scale", "BF16", (1,), bf16([0.5]).tobytes())
    return e * plain(f, name + "_scale", (1,), around(shape[1] ** -0.5 / 64))


def nvfp4(f, name, shape, packed, factor_name, divides):
    std = shape[1] ** -0.5
    q = nibbles(f.draw(name + packed, "U8", (shape[0], shape[1] // 2), bytes(range(256)), 1), shape)
    s = F8[np.frombuffer(f.draw(name + "_scale", "F8_E4M3", (shape[0], shape[1] // 16), nearest_f8(around(160)).tobytes(), 1), np.uint8)]
    factor = np.float32(std / 2.9 / 160)
    stored = np.float32(1 / factor) if divides else factor
    f.put(name + factor_name, "F32", (1,) if divides else (), stored.tobytes())
    f.put(name.removesuffix("weight") + ("input_global_scale" if divides else "input_scale"), "F32", (1,) if divides else (), np.float32(0.5).tobytes())
    return F4[q] * spread(s.reshape(shape[0], -1), 1, 16, shape) * (1 / np.float64(stored) if divides else np.float64(stored))


def int4(f, name, shape, size=32):
    std = shape[1] ** -0.5
    raw = f.draw(name + "_packed", "I32", (shape[0], shape[1] // 8), bytes(range(256)), 1, shape[0] * shape[1] // 2)
    s = plain(f, name + "_scale", (shape[0], shape[1] // size), around(std / 4.6))
    f.put(name + "_shape", "I64", (2,), struct.pack("<2q", *shape))
    return (nibbles(raw, shape).astype(np.float64) - 8) * spread(s, 1, size, shape)


def group(**weights):
    return {"quant_method": "compressed-tensors", "quantization_status": "compressed", "ignore": ["lm_head", "re:.*mlp.gate$"],
            "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": None, "weights": weights}}}


CASES = {  # ffn, weights, quantization_config, what else config.json says otherwise
    "qwen3_moe_fp8": (72, fp8, {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}),
    "qwen3_moe_fp8_rows": (72, fp8_rows, {"format": "float-quantized", **group(num_bits=8, type="float", strategy="channel", group_size=None, symmetric=True, dynamic=False)}),
    "qwen3_moe_fp8_matrix": (72, fp8_matrix, {"format": "float-quantized", **group(num_bits=8, type="float", strategy="tensor", group_size=None, symmetric=True, dynamic=False)}),
    "qwen3_moe_nvfp4": (96, lambda f, name, shape: nvfp4(f, name, shape, "_packed", "_global_scale", True),
                        {"format": "nvfp4-pack-quantized", **group(num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True)}),
    "qwen3_moe_modelopt": (96, lambda f, name, shape: nvfp4(f, name, shape, "", "_scale_2", False),
                           {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "model.layers.*.mlp.gate"]}),
    "qwen3_moe_int4": (96, int4, {"format": "pack-quantized", **group(num_bits=4, type="int", strategy="group", group_size=32, symmetric=True, actorder=None)}),
    "qwen3_moe_int4_128": (128, lambda f, name, shape: int4(f, name, shape, 128),
                           {"format": "pack-quantized", **group(num_bits=4, type="int", strategy="group", group_size=128, symmetric=True, actorder="weight")},
                           dict(hidden_size=256, num_attention_heads=4)),
}


def config(ffn, quantisation, others={}):
    return dict(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", hidden_size=160, intermediate_size=64, moe_intermediate_size=ffn,
                num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=32, num_experts=6, num_experts_per_tok=2,
                norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], attention_bias=False, hidden_act="silu", rms_norm_eps=1e-6,
                rope_theta=1e6, rope_scaling=None, max_position_embeddings=512, vocab_size=192, tie_word_embeddings=False, torch_dtype="bfloat16",
                use_sliding_window=False, sliding_window=None, eos_token_id=2, quantization_config=quantisation) | others


def make_weights(f, c, linear):
    h, ffn, d = c["hidden_size"], c["moe_intermediate_size"], c["head_dim"]
    heads, kv, experts, vocab = c["num_attention_heads"], c["num_key_value_heads"], c["num_experts"], c["vocab_size"]
    w = {"model.embed_tokens.weight": plain(f, "model.embed_tokens.weight", (vocab, h), normal()),
         "lm_head.weight": plain(f, "lm_head.weight", (vocab, h), normal() * h ** -0.5),
         "model.norm.weight": plain(f, "model.norm.weight", (h,), 1 + 0.1 * normal())}
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        for name, n in (("input_layernorm", h), ("post_attention_layernorm", h), ("self_attn.q_norm", d), ("self_attn.k_norm", d)):
            w[f"{p}{name}.weight"] = plain(f, f"{p}{name}.weight", (n,), 1 + 0.1 * normal())
        w[p + "mlp.gate.weight"] = plain(f, p + "mlp.gate.weight", (experts, h), normal() * 2 * h ** -0.5)
        shapes = {"self_attn.q_proj": (heads * d, h), "self_attn.k_proj": (kv * d, h), "self_attn.v_proj": (kv * d, h), "self_attn.o_proj": (h, heads * d)}
        for e in range(experts):
            shapes |= {f"mlp.experts.{e}.gate_proj": (ffn, h), f"mlp.experts.{e}.up_proj": (ffn, h), f"mlp.experts.{e}.down_proj": (h, ffn)}
        for name, shape in shapes.items():
            w[f"{p}{name}.weight"] = linear(f, f"{p}{name}.weight", shape)
    return w


# ---- the model ----

def rms(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(x, w, p, c):
    n, d = len(x), c["head_dim"]
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    q, k, v = ((x @ w[f"{p}{m}_proj.weight"].T).reshape(n, -1, d) for m in "qkv")
    q, k = rms(q, w[p + "q_norm.weight"], c["rms_norm_eps"]), rms(k, w[p + "k_norm.weight"], c["rms_norm_eps"])
    angle = np.arange(n)[:, None] * c["rope_theta"] ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    turn = lambda t: np.concatenate([t[..., :d // 2] * cos - t[..., d // 2:] * sin, t[..., d // 2:] * cos + t[..., :d // 2] * sin], -1)
    q, k = turn(q), turn(k)
    out = np.empty((n, heads, d))
    for i in range(heads):
        score = q[:, i] @ k[:, i * kv // heads].T / np.sqrt(d)
        out[:, i] = softmax(np.where(np.tril(np.ones((n, n), bool)), score, -np.inf)) @ v[:, i * kv // heads]
    return out.reshape(n, -1) @ w[p + "o_proj.weight"].T


def experts(x, w, p, c, out, l):
    logits = x @ w[p + "gate.weight"].T
    probability = softmax(logits)
    topk = np.argsort(-probability, axis=-1, kind="stable")[:, :c["num_experts_per_tok"]]
    topw = np.take_along_axis(probability, topk, -1)
    topw = topw / topw.sum(-1, keepdims=True)
    out |= {f"router.{l}": logits, f"topk.{l}": topk, f"topw.{l}": topw}
    y = np.zeros_like(x)
    for t in range(len(x)):
        for e, weight in zip(topk[t], topw[t]):
            gate, up = (w[f"{p}experts.{e}.{m}_proj.weight"] @ x[t] for m in ("gate", "up"))
            y[t] += weight * (w[f"{p}experts.{e}.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up))
    return y


def forward(ids, w, c):
    eps, out = c["rms_norm_eps"], {}
    x = w["model.embed_tokens.weight"][ids]
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        out[f"hidden.{l}"] = x
        x = x + attention(rms(x, w[p + "input_layernorm.weight"], eps), w, p + "self_attn.", c)
        x = x + experts(rms(x, w[p + "post_attention_layernorm.weight"], eps), w, p + "mlp.", c, out, l)
    x = out[f"hidden.{c['num_hidden_layers']}"] = rms(x, w["model.norm.weight"], eps)
    out["logits"] = x @ w["lm_head.weight"].T
    return out


def margins(out, c):
    """Smallest gap between the last chosen and the first refused expert, in standard deviations."""
    gaps = []
    for l in range(c["num_hidden_layers"]):
        s = np.sort(out[f"router.{l}"], -1)[:, ::-1]
        k = c["num_experts_per_tok"]
        gaps.append((s[:, k - 1] - s[:, k]).min() / out[f"router.{l}"].std())
    return min(gaps)


def greedy(ids, w, c, n=12):
    ids, gap, route = list(ids), 1e9, 1e9
    for _ in range(n):
        out = forward(np.array(ids), w, c)
        top = np.sort(out["logits"][-1])
        gap, route = min(gap, top[-1] - top[-2]), min(route, margins(out, c))
        ids.append(int(out["logits"][-1].argmax()))
    return ids[-n:], gap, route


# ---- files ----

def read_safetensors(path):
    raw = open(path, "rb").read()
    data = 8 + struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:data]).items():
        if name == "__metadata__":
            continue
        piece = raw[data + t["data_offsets"][0]:data + t["data_offsets"][1]]
        kinds = {"F32": np.float32, "I32": np.int32, "BF16": np.uint16}
        a = np.frombuffer(piece, kinds[t["dtype"]]).reshape(t["shape"])
        out[name] = from_bf16(a) if t["dtype"] == "BF16" else a
    return out


def write_expected(path, out, gap, margin):
    header, data = {"__metadata__": {"smallest_greedy_gap": f"{gap:.4f}", "smallest_route_margin": f"{margin:.4f}", "made_with": "numpy, float64"}}, b""
    for name, a in sorted(out.items()):
        ints = name.startswith(("topk", "input", "greedy"))
        raw = np.ascontiguousarray(a, np.int32 if ints else np.float32).tobytes()
        header[name] = {"dtype": "I32" if ints else "F32", "shape": list(np.shape(a)), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)  # numbers at multiples of their size
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)
    seeded.compress(path, path + ".seed", [])
    os.remove(path)


def write_case(folder, name):
    ffn, linear, *rest = CASES[name]
    c = config(ffn, *rest)
    os.makedirs(folder, exist_ok=True)
    for seed in range(1, 200):  # the first without near ties
        f = File(f"{name} {seed}")
        w = make_weights(f, c, linear)
        ids = np.frombuffer(seeded.stream(f"{name} {seed} ids", 20), np.uint8) % (c["vocab_size"] - 3) + 3
        out = forward(ids, w, c)
        if margins(out, c) < 0.02:
            continue
        text, gap, route = greedy(ids, w, c)
        if gap > 0.02 and route > 0.01:
            break
    else:
        raise SystemExit(f"{name}: no seed without near ties")
    f.write(os.path.join(folder, "model.safetensors"))
    write_expected(os.path.join(folder, "expected.safetensors"), {**out, "input_ids": ids, "greedy": text}, gap, min(route, margins(out, c)))
    json.dump(c, open(os.path.join(folder, "config.json"), "w"), indent=1)
    print(name, "seed", seed, "gap %.3f margin %.3f" % (gap, route), "logits' spread %.2f" % out["logits"].std())


def check(folder):
    c, w = json.load(open(os.path.join(folder, "config.json"))), {}
    for file in sorted(os.listdir(folder)):
        if file.startswith("model") and file.endswith(".safetensors"):
            w |= read_safetensors(os.path.join(folder, file))
    want = read_safetensors(os.path.join(folder, "expected.safetensors"))
    for p in [k.removesuffix("gate_up_proj") for k in w if k.endswith("experts.gate_up_proj")]:
        for e, (both, down) in enumerate(zip(w[p + "gate_up_proj"], w[p + "down_proj"])):
            w |= {f"{p}{e}.gate_proj.weight": both[:len(both) // 2], f"{p}{e}.up_proj.weight": both[len(both) // 2:], f"{p}{e}.down_proj.weight": down}
    got = forward(want["input_ids"], w, c)
    for name in sorted(set(got) & set(want)):
        error = abs(got[name] - want[name]).max() / max(1e-9, np.std(want[name]))
        print(f"{name}: {error:.1e}")
        assert error < 1e-5


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out", nargs="?")
    ap.add_argument("--check")
    ap.add_argument("--case", nargs="*", default=list(CASES))
    a = ap.parse_args()
    if a.check:
        check(a.check)
    for name in a.case if a.out else []:
        write_case(os.path.join(a.out, name), name)


if __name__ == "__main__":
    main()
