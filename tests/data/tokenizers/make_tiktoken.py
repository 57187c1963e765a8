#!/usr/bin/env python3
"""Write json/kimi/: a small tiktoken.model with its tokenizer_config.json as Kimi's models ship them, and what PyPI's `tiktoken`
makes of json/texts.json with it.

usage: make_tiktoken.py      (needs PyPI `tiktoken`; reads pre.json and json/texts.json, writes beside itself)
json/kimi/expected.json  {"plain": [ids without special tokens], "special": [ids with them]}, one entry a text
"""
import base64
import json
import os

import tiktoken

HERE = os.path.dirname(os.path.abspath(__file__))
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join([r"[\p{Han}]+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+" + CASES, r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*" + CASES, r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
NAMED = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>", 3: "<|im_start|>", 4: "[EOT]", 5: "<think>", 255: "[PAD]"}


def main():
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte = {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in visible)}
    with open(f"{HERE}/pre.json", encoding="utf8") as f:
        tokens = [bytes(byte[c] for c in t) for t in json.load(f)["tokens"]]
    ranks = {t: i for i, t in enumerate(tokens)}
    assert len(ranks) == len(tokens)
    special = {NAMED.get(i, f"<|reserved_token_{len(ranks) + i}|>"): len(ranks) + i for i in range(256)}
    with open(f"{HERE}/json/texts.json", encoding="utf8") as f:
        texts = json.load(f)
    e = tiktoken.Encoding("kimi", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)
    os.makedirs(f"{HERE}/json/kimi", exist_ok=True)
    with open(f"{HERE}/json/kimi/tiktoken.model", "w") as f:
        f.write("".join(f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(tokens)))
    decoder = {str(len(ranks) + i): dict(content=n, special=n != "<think>", lstrip=False, rstrip=False, normalized=False, single_word=False) for i, n in NAMED.items()}
    with open(f"{HERE}/json/kimi/tokenizer_config.json", "w") as f:
        json.dump(dict(tokenizer_class="TikTokenTokenizer", bos_token="[BOS]", eos_token="[EOS]", pad_token="[PAD]", added_tokens_decoder=decoder), f)
    plain = [e.encode(t, allowed_special={"<think>"}, disallowed_special=()) for t in texts]
    with open(f"{HERE}/json/kimi/expected.json", "w") as f:
        json.dump(dict(plain=plain, special=[e.encode(t, allowed_special="all") for t in texts], text=texts), f, ensure_ascii=False, separators=(",", ":"))


main()
