#!/usr/bin/env python3
"""Cut llama.cpp's test vocabularies to the tokens that their test texts need.

usage: cut_vocabularies.py FOLDER     (llama.cpp's models/, of PyPI's llama-cpp-python source archive; needs PyPI `gguf`)
Writes cut/NAME.gguf, NAME.inp (the texts) and NAME.out (their published ids, renumbered) beside itself.

What stays: tokens of the published ids, what merging makes them from, and those of less than two characters (all bytes).
Other merges never win in these texts, so that leaving them out changes nothing. qwen35's decomposed texts are left out:
llama.cpp does not normalise, which Qwen's own tokenizer does.
"""
import os
import sys
import unicodedata

import gguf

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = "falcon gemma-4 mpt qwen35".split()  # the others have licences that ask for more than a notice
SEPARATOR = "\n__ggml_vocab_test__\n"
KEY = "tokenizer.ggml."


def derivation(text, ranks):
    """The merges that make `text` from its characters, lowest rank first and then from the left."""
    parts, used = list(text), []
    while len(parts) > 1:
        rank, i = min((ranks.get((parts[i], parts[i + 1]), 1 << 60), i) for i in range(len(parts) - 1))
        if rank == 1 << 60:
            break
        used.append((parts[i], parts[i + 1]))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return used


def cut(folder, name):
    fields = gguf.GGUFReader(f"{folder}/ggml-vocab-{name}.gguf").fields
    get = lambda k, other=None: fields[KEY + k].contents() if KEY + k in fields else other
    tokens, types, merges = get("tokens"), get("token_type"), get("merges")
    with open(f"{folder}/ggml-vocab-{name}.gguf.inp", encoding="utf8", newline="") as f:
        texts = f.read().split(SEPARATOR)[:-1]
    with open(f"{folder}/ggml-vocab-{name}.gguf.out") as f:
        outputs = [[int(i) for i in line.split()] for line in f.read().split("\n")[: len(texts)]]
    pairs = [(t, o) for t, o in zip(texts, outputs) if unicodedata.normalize("NFC", t) == t]
    ranks = {tuple(m.split(" ", 1)): i for i, m in enumerate(merges)}
    wanted = {tokens[i] for _, o in pairs for i in o} | {t for i, t in enumerate(tokens) if len(t) < 2 and i < 70000}
    wanted |= {t for i, t in enumerate(tokens) if types[i] in (2, 6) or (types[i] == 3 and i < 8)}
    used = set()
    for t in list(wanted):
        steps = derivation(t, ranks)
        used.update(steps)
        wanted.update(x for a, b in steps for x in (a, b, a + b))
    for k in ("bos", "eos", "unknown"):
        i = get(k + "_token_id")
        if i is not None and i < len(tokens):
            wanted.add(tokens[i])
    keep = [i for i, t in enumerate(tokens) if t in wanted]
    new = {old: i for i, old in enumerate(keep)}
    path = f"{HERE}/cut/{name}.gguf"
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(get("model"))
    if get("pre"):
        w.add_tokenizer_pre(get("pre"))
    w.add_token_list([tokens[i] for i in keep])
    w.add_token_types([types[i] for i in keep])
    w.add_token_merges([m for m in merges if tuple(m.split(" ", 1)) in used])
    for k in ("bos", "eos", "unknown"):
        i = get(k + "_token_id")
        if i in new:
            w.add_uint32(f"{KEY}{k}_token_id", new[i])
    for k in ("add_bos_token", "add_space_prefix"):
        if get(k) is not None:
            w.add_bool(KEY + k, bool(get(k)))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    with open(f"{HERE}/cut/{name}.inp", "w", encoding="utf8", newline="") as f:
        f.write("".join(t + SEPARATOR for t, _ in pairs))
    with open(f"{HERE}/cut/{name}.out", "w") as f:
        f.write("".join("".join(f" {new[i]}" for i in o) + "\n" for _, o in pairs))
    print(name, len(keep), "tokens,", os.path.getsize(path), "bytes,", len(pairs), "texts")


os.makedirs(f"{HERE}/cut", exist_ok=True)
for n in NAMES:
    cut(sys.argv[1], n)
