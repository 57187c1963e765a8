#!/usr/bin/env python3
"""Keep the inputs of a fuzz target in one file, its corpus (tests/data/fuzz/TARGET.corpus).

usage: corpus.py list   CORPUS                    name and size of each input
       corpus.py add    CORPUS FILE...            a file's name becomes the input's; a corpus that is not there is made
       corpus.py unpack CORPUS FOLDER             each input into a file of FOLDER
       corpus.py merge  CORPUS FUZZER FOLDER...   what FOLDERs cover beyond the corpus; FUZZER is a libFuzzer program

A corpus is the line "odmoe-corpus 1", then for each input two 32-bit numbers, little-endian: length of the name and of the data, and then
name and data. An input that a fuzzer found has no name: unpacked it is called by the SHA-1 of its data, as libFuzzer does. An input that
stands for a bug that was fixed has a name that says which. Inputs are sorted by the names that they have unpacked.
"""
import argparse, hashlib, os, pathlib, struct, subprocess, sys, tempfile

MAGIC = b"odmoe-corpus 1\n"
INPUT_MAX = 65536  # tests/fuzz/driver.c


def shown(name, data):
    return name or hashlib.sha1(data).hexdigest()


def load(path):
    """[(name, data)] of a corpus; raises ValueError where the file is none."""
    raw = pathlib.Path(path).read_bytes()
    if not raw.startswith(MAGIC):
        raise ValueError(f"{path}: no corpus: its first line is not {MAGIC.decode().strip()!r}")
    at, inputs = len(MAGIC), []
    while at < len(raw):
        if len(raw) - at < 8:
            raise ValueError(f"{path}: cut off at byte {at}")
        n, m = struct.unpack_from("<II", raw, at)
        at += 8
        if len(raw) - at < n + m:
            raise ValueError(f"{path}: cut off at byte {at}: an input of {n} + {m} bytes was announced")
        inputs.append((raw[at:at + n].decode(), raw[at + n:at + n + m]))
        at += n + m
    return inputs


def save(path, inputs):
    out = MAGIC
    for name, data in sorted(inputs, key=lambda x: shown(*x)):
        out += struct.pack("<II", len(name.encode()), len(data)) + name.encode() + data
    part = pathlib.Path(f"{path}.part")
    part.write_bytes(out)
    part.replace(path)


def put(path, new):
    """Add [(name, data)]; an input of the same name is replaced, one of the same data that has no name gets it."""
    old = load(path) if os.path.exists(path) else []
    for name, data in new:
        if len(data) > INPUT_MAX:
            raise ValueError(f"{shown(name, data)}: {len(data)} bytes, the driver takes at most {INPUT_MAX}")
        if not name and any(d == data for _, d in old):
            continue
        old = [(n, d) for n, d in old if not (name and n == name) and not (not n and d == data)] + [(name, data)]
    save(path, old)


def read_files(files):
    found = []
    for f in files:
        data = f.read_bytes()
        found.append(("" if f.name == hashlib.sha1(data).hexdigest() else f.name, data))
    return found


def unpack(path, folder):
    os.makedirs(folder, exist_ok=True)
    for name, data in load(path):
        pathlib.Path(folder, shown(name, data)).write_bytes(data)


def merge(path, fuzzer, folders):
    with tempfile.TemporaryDirectory() as have:
        unpack(path, have)
        before = set(os.listdir(have))
        subprocess.run([fuzzer, "-merge=1", have, *folders], check=True)
        put(path, read_files(pathlib.Path(have, f) for f in sorted(set(os.listdir(have)) - before)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    for command, rest in {"list": [], "add": ["files+"], "unpack": ["folder"], "merge": ["fuzzer", "folders+"]}.items():
        p = sub.add_parser(command)
        p.add_argument("corpus")
        for r in rest:
            p.add_argument(r.rstrip("+"), **({"nargs": "+"} if r.endswith("+") else {}))
    a = ap.parse_args()
    try:
        if a.command == "list":
            for name, data in load(a.corpus):
                print(shown(name, data), len(data))
        elif a.command == "add":
            put(a.corpus, read_files(map(pathlib.Path, a.files)))
        elif a.command == "unpack":
            unpack(a.corpus, a.folder)
        else:
            merge(a.corpus, a.fuzzer, a.folders)
    except (OSError, ValueError, subprocess.CalledProcessError) as e:
        sys.exit(f"corpus.py: {e}")


if __name__ == "__main__":
    main()
