#!/usr/bin/env python3
"""Check that folders include only what the design allows (docs/architecture.md, "Folders"). Prints each offence."""
import pathlib
import re
import sys

SRC = {
    "base": set(),
    "format": {"base"},
    "kernels": {"base"},
    "compute": {"base", "kernels"},
    "store": {"base", "format"},
    "moe": {"base", "format", "compute", "store"},
    "prefetch": {"base", "compute", "moe", "store"},
    "layer": {"base", "format", "compute", "store", "moe", "prefetch"},
    "model": {"base", "format", "compute", "store", "moe", "prefetch"},
    "text": {"base", "format"},
    "api": {"base", "format", "compute", "store", "moe", "prefetch", "layer", "model", "text"},
}
FRONT_ENDS = ["cli", "server", "train", "examples"]  # the public headers and their own files only
PUBLIC = {"odmoe.h", "odmoe_layer.h", "odmoe_tensors.h", "odmoe_train.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def offence(top, path, name):
    """Why `path` (relative to the project) may not include "name"; None when it may."""
    if name in PUBLIC:
        return None
    folder = pathlib.PurePath(name).parts[0] if "/" in name else None
    if path.parts[0] != "src":
        folders = [(top / path).parent] + ([top / "train"] if path.parts[0] == "examples" else [])
        own = ".." not in name and any((f / name).is_file() for f in folders)
        return None if own else "a front end includes include/ and its own folder only (examples: train/, too)"
    home = path.parts[1]
    if folder is None or ".." in name:
        return "write includes from src/ on (\"folder/file.h\")"
    if folder == home or folder in SRC[home]:
        return None
    return f"src/{home} may include {', '.join(sorted(SRC[home])) or 'nothing else'}"


def main(top):
    bad = 0
    for root in ["src", *FRONT_ENDS]:
        for file in sorted((top / root).rglob("*.[ch]")):
            path = file.relative_to(top)
            if root == "src" and (len(path.parts) < 3 or path.parts[1] not in SRC):
                print(f"{path}: not in one of the folders of src/")
                bad += 1
                continue
            for name in INCLUDE.findall(file.read_text()):
                why = offence(top, path, name)
                if why:
                    print(f'{path}: "{name}": {why}')
                    bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
