#!/usr/bin/env python3
"""Write pre.json: what the `tokenizers` package makes of texts that are cut by the patterns which models publish, under the
names that tokenizer.ggml.pre gives them. The vocabulary is trained on the same texts without any cut, so that its merges
go across the places where a pattern cuts, and show each cut.

usage: make_pre.py      (needs PyPI `tokenizers` 0.23; reads json/texts.json, writes beside itself)
pre.json  {"tokens": [text by id...], "merges": ["left right"...], "texts": [text...], "ids": {name: [ids...] one a text}}
"""
import json
import os

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN = CASES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?%s*%s+%s|[^\r\n\p{L}\p{N}]?%s+%s*%s|%s| ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = CASED % (UPPER, LOWER, CASES + "?", UPPER, LOWER, CASES + "?", r"\p{N}{1,3}", "/")
NO_HAN = lambda members: members[:-1] + r"&&[^\p{Han}]]"
KIMI = r"[\p{Han}]+|" + CASED % (NO_HAN(UPPER), NO_HAN(LOWER), CASES + "?", NO_HAN(UPPER), NO_HAN(LOWER), CASES + "?", r"\p{N}{1,3}", "")
DEEPSEEK3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]
ASIAN = "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
DIGITS, BYTES = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)

# name: patterns, or steps of the package; normaliser; pieces that are tokens are taken without merging
KINDS = {
    "gpt-2": ([BYTES], False, False),
    "olmo": ([BYTES], True, False),
    "starcoder": ([DIGITS, BYTES], False, False),
    "command-r": ([DIGITS, BYTES], True, False),
    "qwen2": ([QWEN], True, False),
    "deepseek-r1-qwen": ([QWEN], False, False),
    "hunyuan": ([QWEN], True, False),
    "qwen35": ([CASES + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"], True, False),
    "llama-bpe": ([LLAMA3], False, True),
    "lfm2": ([LLAMA3], False, True),
    "dbrx": ([LLAMA3], False, False),
    "glm4": ([LLAMA3], False, True),
    "gpt-4o": ([GPT4O], False, False),
    "llama4": ([GPT4O], False, False),
    "minimax-m2": ([GPT4O], False, False),
    "tekken": ([CASED % (UPPER, LOWER, "", UPPER, LOWER, "", r"\p{N}", "/")], False, True),
    "kimi-k2": ([KIMI], False, False),
    "deepseek-v3": (DEEPSEEK3, False, False),
    "afmoe": ([r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", ASIAN, DEEPSEEK3[2]], False, False),
    "bailingmoe2": ([r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"], False, False),
    "seed-coder": ([CASES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"], False, False),
    "exaone-moe": ([CASES + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"], False, False),
    "minicpm5": ([r"\p{N}{1,3}", QWEN.replace(r"|\p{N}|", r"|\p{N}+|")], False, True),
    "cohere2moe": ([r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O], False, False),
}


def assemble(vocab, merges, steps, nfc, whole):
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
    if nfc:
        t.normalizer = normalizers.NFC()
    steps = [pre_tokenizers.Split(Regex(s), "isolated") if isinstance(s, str) else s for s in steps]
    if steps[-1] is not BYTES:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    t.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return t


def main():
    with open(f"{HERE}/json/texts.json", encoding="utf8") as f:
        texts = json.load(f)
    texts = texts[:1] + texts[101::3] + ["1234567 12345 123456", "x1234567y 12,345.6789", "中文abc汉字 漢é字's", "I'M HERE'S WE'LLs don'T", "e\u0301te\u0301 \u1112\u1161\u11ab", "a b  c d\n\n e", "??\r\n!!/\n\n//", "～｡「カナ」。\n"]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    model = json.loads(t.to_str())["model"]
    merges = [tuple(m) for m in model["merges"]]
    ids = {}
    for name, (steps, nfc, whole) in KINDS.items():
        t = assemble(model["vocab"], merges, steps, nfc, whole)
        ids[name] = [t.encode(x, add_special_tokens=False).ids for x in texts]
    with open(f"{HERE}/pre.json", "w", encoding="utf8") as f:
        json.dump(dict(tokens=sorted(model["vocab"], key=model["vocab"].get), merges=[" ".join(m) for m in merges], texts=texts, ids=ids), f, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
