#!/usr/bin/env python3
"""Write the first inputs of the fuzz targets vocab, tokenizer_json, encode and chat: small files that reach far.
usage: make_text.py  (puts them into the corpora beside itself)"""
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tools"))
import corpus
MARK = "\u2581"


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(v):
    """A metadata value with its type's number."""
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    kind = {str: 8, int: 5, float: 6}[type(v[0])]
    return struct.pack("<IIQ", 9, kind, len(v)) + b"".join(text(x) if kind == 8 else struct.pack("<i" if kind == 5 else "<f", x) for x in v)


def gguf(name, **pairs):
    body = b"".join(text(k if "." in k else "tokenizer.ggml." + k) + value(v) for k, v in pairs.items())
    write("vocab/" + name, b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body)


def write(path, data):
    target, name = path.split("/")
    corpus.put(f"{HERE}/{target}.corpus", [(name, data)])


letters = list("helo wrd,ab12<s>|n")
gguf("bpe", model="gpt2", pre="qwen2", tokens=[*dict.fromkeys(letters), "\u0120", "he", "ll", "hell", "hello", "<|end|>", "<s>", "<t>"],
     token_type=[1] * (len(dict.fromkeys(letters)) + 5) + [3, 3, 4], merges=["h e", "l l", "he ll", "hell o"], bos_token_id=3, eos_token_id=4, add_bos_token=True,
     **{"tokenizer.chat_template": "{{ bos_token }}{% for message in messages %}{% if message['role'] != 'system' %}<|im_start|>system\nBe.<|im_end|>\n{% endif %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"})
for pre in ("default", "deepseek-llm", "gpt-4o"):
    gguf(pre, model="gpt2", pre=pre, tokens=["h", "e", "he", "1"], merges=["h e"])
pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in b"\xff\xc3\xe2"), MARK, "h", "e", "l", "o", "he", "ll", MARK + "hello", "hell"]
gguf("scored", model="llama", tokens=pieces, scores=[-float(i) for i in range(len(pieces))], token_type=[2, 3, 3, 6, 6, 6] + [1] * 9, bos_token_id=1, eos_token_id=2,
     eot_token_id=7, **{"general.name": "phi-3", "tokenizer.chat_template": "[INST] <<SYS>> bos_token"})

BACKWARDS = "(?(DEFINE)(\\K[a-z]))(?<=(?1))"
adds = [dict(id=4, content="<s>", special=True, lstrip=True), dict(id=5, content="</s>", normalized=True, rstrip=True), dict(id=6, content="ab", single_word=True)]
bpe = dict(type="BPE", unk_token="a", vocab={"a": 0, "b": 1, "ab": 2, MARK: 3, "<0xFF>": 7, "h": 8, "e": 9, "he": 10}, merges=["a b", ["h", "e"]], byte_fallback=True)
for name, root in {
    "metaspace": dict(added_tokens=adds, normalizer=dict(type="NFC"), pre_tokenizer=dict(type="Metaspace", replacement=MARK, prepend_scheme="first", split=True),
                      decoder=dict(type="Metaspace", replacement=MARK), model=bpe),
    "sequence": dict(added_tokens=adds, normalizer=dict(type="Sequence", normalizers=[dict(type="Prepend", prepend=MARK), dict(type="Replace", pattern=dict(String=" "), content=MARK)]),
                     pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(type="Split", pattern=dict(Regex="\\s+(?!\\S)|\\p{L}+"), behavior="MergedWithNext", invert=False), dict(type="Digits")]),
                     post_processor=dict(type="TemplateProcessing", single=[dict(SpecialToken=dict(id="x"))], special_tokens=dict(x=dict(ids=[4]))),
                     decoder=dict(type="Strip", content=" ", start=1), model=dict(bpe, fuse_unk=True)),
    # The matches of these patterns begin before the place where the search did.
    "backwards-split": dict(added_tokens=adds, pre_tokenizer=dict(type="Sequence", pretokenizers=[
        dict(type="Split", pattern=dict(Regex=BACKWARDS), behavior="MergedWithPrevious", invert=False), dict(type="ByteLevel", add_prefix_space=True, use_regex=True)]), model=bpe),
    "backwards-replace": dict(added_tokens=[dict(id=5, content="aaaa", normalized=True)], normalizer=dict(type="Replace", pattern=dict(Regex=BACKWARDS), content="x"), model=bpe),
    "bytes": dict(added_tokens=adds, pre_tokenizer=dict(type="ByteLevel", add_prefix_space=True, use_regex=True), decoder=dict(type="ByteLevel"), model=dict(bpe, ignore_merges=True)),
}.items():
    write("tokenizer_json/" + name, json.dumps(root, ensure_ascii=False).encode())

write("encode/words", "hello hellll <s>o<|end|> 12345 He's e\u0301 \U0001f999\n\n  \t\u2028x".encode())
write("encode/bytes", bytes(range(256)))
write("encode/blanks", b" \xe2\x96\x81hello" * 9 + b"\r\n" * 5 + b" " * 70 + b"\xf0\x9f")

for name, one in json.load(open(f"{HERE}/../templates/more.json", encoding="utf8")).items():
    write("chat/" + name, one["template"].encode())
write("chat/default", b"{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}")
