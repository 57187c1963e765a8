#!/usr/bin/env python3
"""Models of random numbers, kept as what they are made of: a seed.

usage: seeded.py assemble SOURCE TARGET [STAMP DEPFILE]   SOURCE's tree in TARGET: FILE.seed as the FILE that it stands for, the others as links
       seeded.py expand FILE.seed FILE
       seeded.py compress FILE FILE.seed [MODEL.safetensors.seed]      a file that other programs made: compressed, as there is no seed;
                                              what Q8_0 makes of the model's BF16 tensors is kept as that

A seed file is one line of JSON, then bytes:  {"crc32": of the file, "tables": [...], "parts": [...]}  with the file's parts in order:
  ["literal", N]                      the next N bytes after the line, as they are
  ["xz", N]                           what the next N bytes after the line are when decompressed
  ["q8_0", FILE, OFFSET, N]           N BF16 numbers at an offset of what FILE (a seed beside this one) stands for, as blocks of Q8_0
  ["copy", FILE, OFFSET, N]           N bytes at an offset of what FILE stands for
  ["values", SEED, N, WIDTH, TABLE]   N numbers of WIDTH bytes: number i is entry r[i] of tables[TABLE] (256 numbers, in hexadecimal)
  ["blocks", SEED, N, BYTES, FIELDS]  N blocks of BYTES bytes r[block * (BYTES + 1) ...], in which each of FIELDS is overwritten:
                                      [OFFSET, WIDTH, TABLE]: entry b % 16 of tables[TABLE], b being the byte after the block's
r is SHAKE-128 (FIPS 202) of the text SEED. Nothing but Python's own library is needed, so that every build can make the files.
"""
import array, functools, hashlib, json, lzma, os, struct, sys, zlib


def stream(seed, n):
    return hashlib.shake_128(seed.encode()).digest(n)


def values(seed, n, width, table):
    """table: bytes of 256 numbers."""
    entries = [table[i * width:(i + 1) * width] for i in range(256)]
    return b"".join(map(entries.__getitem__, stream(seed, n)))


def blocks(seed, n, size, fields):
    """fields: [(offset, width, bytes of 16 numbers)]"""
    raw = bytearray(stream(seed, n * (size + 1)))
    for i in range(n):
        at = i * (size + 1)
        b = raw[at + size] % 16
        for offset, width, choice in fields:
            raw[at + offset:at + offset + width] = choice[b * width:(b + 1) * width]
    return b"".join(raw[i * (size + 1):i * (size + 1) + size] for i in range(n))


def q8_0(raw):
    """BF16 numbers as blocks of 32: the scale (largest / 127) in half precision, then numbers / scale, rounded away from 0."""
    floats = array.array("f", b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2)))
    out = bytearray()
    for i in range(0, len(floats), 32):
        block = floats[i:i + 32]
        scale, inverse = array.array("f", [max(map(abs, block)) / 127]), array.array("f", [0])
        if scale[0]:
            inverse[0] = 1 / scale[0]
        scaled = array.array("f", [x * inverse[0] for x in block])
        out += struct.pack("<e", scale[0]) + bytes(int(x + 0.5 if x >= 0 else x - 0.5) & 255 for x in scaled)
    return bytes(out)


@functools.lru_cache(4)
def expanded(path):
    return expand(path)


def part_bytes(part, tables, literals=None, folder=""):
    """tables: number of a table -> its bytes."""
    kind = part[0]
    if kind == "literal":
        return literals(part[1])
    if kind == "q8_0":
        return q8_0(expanded(os.path.join(folder, part[1]))[part[2]:part[2] + 2 * part[3]])
    if kind == "copy":
        return expanded(os.path.join(folder, part[1]))[part[2]:part[2] + part[3]]
    if kind == "xz":
        return lzma.decompress(literals(part[1]))
    if kind == "values":
        return values(part[1], part[2], part[3], tables[part[4]])
    if kind == "blocks":
        return blocks(part[1], part[2], part[3], [(o, w, tables[t]) for o, w, t in part[4]])
    raise ValueError(f"no such part: {kind}")


def expand(path):
    with open(path, "rb") as f:
        head = json.loads(f.readline())
        tables = [bytes.fromhex(t) for t in head["tables"]]
        out = b"".join(part_bytes(p, tables, f.read, os.path.dirname(path)) for p in head["parts"])
    if zlib.crc32(out) != head["crc32"]:
        raise SystemExit(f"{path}: the file that it stands for comes out wrong")
    return out


class Maker:
    """Collects what of a file is made of seeds, then writes the seed file."""

    def __init__(self):
        self.tables, self.parts = [], []

    def table(self, data):
        if data not in self.tables:
            self.tables.append(data)
        return self.tables.index(data)

    def values(self, seed, n, width, table):
        """A part and its bytes; give the part its place with `put`."""
        part = ["values", seed, n, width, self.table(table)]
        return part, part_bytes(part, self.tables)

    def blocks(self, seed, n, size, fields):
        part = ["blocks", seed, n, size, [[o, w, self.table(c)] for o, w, c in fields]]
        return part, part_bytes(part, self.tables)

    def put(self, offset, part):
        self.parts.append((offset, part))

    def pack(self, file, path):
        """Write `path`, the seed of `file`, in which what has no part is literal."""
        raw = open(file, "rb").read()
        made, kept, at = [], b"", 0
        for offset, part in sorted(self.parts, key=lambda p: p[0]) + [(len(raw), None)]:
            if offset > at:
                made.append(["literal", offset - at])
                kept += raw[at:offset]
            if part:
                made.append(part)
                at = offset + len(part_bytes(part, self.tables))
        head = {"crc32": zlib.crc32(raw), "tables": [t.hex() for t in self.tables], "parts": made}
        with open(path, "wb") as f:
            f.write(json.dumps(head, separators=(",", ":")).encode() + b"\n" + kept)
        assert expand(path) == raw


def tensors_bf16(raw):
    """(offset, bytes) of each tensor of a safetensors file."""
    length = struct.unpack("<Q", raw[:8])[0]
    for name, t in json.loads(raw[8:8 + length]).items():
        if name != "__metadata__" and t["dtype"] == "BF16":
            yield 8 + length + t["data_offsets"][0], t["data_offsets"][1] - t["data_offsets"][0]


def quantised(raw, model, path):
    """Places in raw that hold tensors of `model`, as they are or as Q8_0: [(place, length, part)]."""
    found, whole = [], expanded(model)
    for offset, size in tensors_bf16(whole):
        if size < 1024 or size % 64:
            continue
        same, from_folder = whole[offset:offset + size], os.path.relpath(model, os.path.dirname(path))
        blocks = q8_0(same)
        if same in raw:
            found.append((raw.find(same), size, ["copy", from_folder, offset, size]))
        elif blocks in raw:
            found.append((raw.find(blocks), len(blocks), ["q8_0", from_folder, offset, size // 2]))
    return sorted(found)


def compress(file, path, models):
    """Write `path`, the seed of `file`, compressed."""
    with open(file, "rb") as f:
        raw = f.read()
    kept, made, at = b"", [], 0
    for place, length, part in sorted(p for m in models for p in quantised(raw, m, path)) + [(len(raw), 0, None)]:
        if place > at:
            packed = lzma.compress(raw[at:place], preset=9)
            made.append(["xz", len(packed)])
            kept += packed
        if part and place >= at:
            made.append(part)
        at = max(at, place + length)
    head = {"crc32": zlib.crc32(raw), "tables": [], "parts": made}
    with open(path, "wb") as f:
        f.write(json.dumps(head, separators=(",", ":")).encode() + b"\n" + kept)
    assert expand(path) == raw


def place(source, target):
    """One file of the tree; what is there is replaced."""
    seeded = source.endswith(".seed")
    target = target.removesuffix(".seed")
    if os.path.lexists(target):
        os.remove(target)
    if seeded:
        with open(target, "wb") as f:
            f.write(expand(source))
    else:
        os.symlink(source, target)
    return target


def assemble(source, target):
    """Returns the files that were read, and the folders."""
    read, placed = [], set()
    for folder, folders, files in os.walk(source):
        folders[:] = [f for f in folders if f != "__pycache__"]
        here = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(here, exist_ok=True)
        read.append(folder)
        for name in files:
            placed.add(os.path.normpath(place(os.path.join(folder, name), os.path.join(here, name))))
            read.append(os.path.join(folder, name))
    for folder, _, files in os.walk(target):  # of files that are gone from the source
        for name in files:
            if os.path.normpath(os.path.join(folder, name)) not in placed:
                os.remove(os.path.join(folder, name))
    return read


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "expand":
        with open(sys.argv[3], "wb") as f:
            f.write(expand(sys.argv[2]))
    elif len(sys.argv) >= 4 and sys.argv[1] == "compress":
        compress(sys.argv[2], sys.argv[3], sys.argv[4:])
    elif len(sys.argv) in (4, 6) and sys.argv[1] == "assemble":
        read = assemble(os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3]))
        if len(sys.argv) == 6:
            open(sys.argv[4], "w").close()
            with open(sys.argv[5], "w") as f:
                f.write(f"{sys.argv[4]}: " + " ".join(r.replace(" ", "\\ ") for r in sorted(read)) + "\n")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
