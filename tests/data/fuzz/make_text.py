#!/usr/bin/env python3
"""Write the first inputs of the fuzz targets vocab, tokenizer_json, tokenizer_config, tiktoken, encode and chat: small files that reach far.
usage: make_text.py  (puts them into the corpora beside itself)"""
import base64
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
gguf("bytes-again", model="gpt2", pre="qwen35", tokens=["h", "\u00e4", "\u0142\u0143", "\u200d", "h\u00e4"], token_type=[1, 4, 4, 1, 1], merges=["h \u00e4"])
gguf("no-merges", model="gpt2", pre="kimi-k2", tokens=["h", "e", "he", "\u0120", "\u0120he", "[EOT]"], token_type=[1, 1, 1, 1, 1, 3])
gguf("gemma4", model="gemma4", tokens=["<pad>", MARK, "h", "e", "he", MARK + "he", "\n", "\n\n", "<0xE2>", "<0x96>", "<turn|>"], token_type=[3, 1, 1, 1, 1, 1, 1, 1, 6, 6, 3],
     merges=["h e", MARK + " he", "\n \n"], add_space_prefix=False, fim_pad_token_id=4)
for pre in ("afmoe", "exaone-moe", "bailingmoe2", "command-r", "youtu", "cohere2moe", "chameleon", "bloom"):
    gguf(pre, model="gpt2", pre=pre, tokens=["h", "e", "he", "1", "2", "12", "'", "'S"], merges=["h e", "1 2"])
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
    "unigram": dict(added_tokens=adds, pre_tokenizer=dict(type="Metaspace", replacement=MARK), decoder=dict(type="Metaspace", replacement=MARK),
                    model=dict(type="Unigram", unk_id=0, byte_fallback=True, vocab=[["<unk>", 0], ["a", -1.25], ["ab", -2.1234567890123457], [MARK, -3e-9], ["<0xE4>", 0.0], ["l", -1], ["ll", -2]])),
    "properties": dict(added_tokens=adds, pre_tokenizer=dict(type="Sequence", pretokenizers=[
        dict(type="Split", pattern=dict(Regex=r"[\p{Lu}\p{M}&&[^\p{Han}]]+|\p{^Greek}|[\P{L}]|\b\w\B"), behavior="Isolated"), dict(type="ByteLevel", use_regex=False)]), model=bpe),
    "nul": dict(added_tokens=[dict(id=11, content="\0<"), dict(id=2, content=" ", rstrip=True)], model=dict(bpe, vocab={**bpe["vocab"], "\0": 12, "a\0": 13, "\ufdd0": 14}, merges=[["a", "\0"]])),
    "bytes": dict(added_tokens=adds, pre_tokenizer=dict(type="ByteLevel", add_prefix_space=True, use_regex=True), decoder=dict(type="ByteLevel"), model=dict(bpe, ignore_merges=True)),
}.items():
    write("tokenizer_json/" + name, json.dumps(root, ensure_ascii=False).encode())

named = {str(i): dict(content=c, special=i < 8, rstrip=i == 6) for i, c in ((6, "<x>"), (8, "<y>"), (1, "b"))}
write("tokenizer_config/decoder", json.dumps(dict(added_tokens_decoder=named, eos_token=dict(content="<x>"), add_bos_token=True, eos_token_id=[1, 2])).encode())
write("tokenizer_config/pairs", json.dumps({"<x>": 6, "b": 9, "eos_token": "<x>", "additional_special_tokens": ["<y>"]}).encode())
write("tokenizer_config/numbers", json.dumps({"<x>": 6, "<y>": 7, "a": 8}).encode())
write("tiktoken/small", b"YQ== 0\nYg== 1\nYWI= 2\n")
write("tiktoken/lines", b"aGVsbG8= 1\r\nIA== 0\r\n\r\n")
write("tiktoken/words", b"".join(b"%s %d\n" % (base64.b64encode(t), i) for i, t in enumerate([b"h", b"e", b"l", b"he", b"hel", b"\xe4", b"\xb8", b"\xe4\xb8", b" ", b"1", b"12"])))

write("encode/words", "hello hellll <s>o<|end|> 12345 He's e\u0301 \U0001f999\n\n  \t\u2028x".encode())
write("encode/bytes", bytes(range(256)))
write("encode/blanks", b" \xe2\x96\x81hello" * 9 + b"\r\n" * 5 + b" " * 70 + b"\xf0\x9f")

for name, one in json.load(open(f"{HERE}/../templates/more.json", encoding="utf8")).items():
    write("chat/" + name, one["template"].encode())
write("chat/default", b"{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}")
