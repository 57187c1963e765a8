#!/usr/bin/env python3
"""Check that folders include only what the design allows (docs/architecture.md, "Folders"), that no files of two folders
include one another in a circle, and that docs/architecture.md draws the dependencies as they are. Prints each offence.

    tools/check_includes.py [TOP]            check
    tools/check_includes.py [TOP] --graph    print the drawing"""
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
BESIDE = [("examples", "train"), ("cli", "server")]  # and who may also include another's
DRAWN = "<!-- tools/check_includes.py --graph -->\n```\n{}\n```\n"
PUBLIC = {"odmoe.h", "odmoe_layer.h", "odmoe_tensors.h", "odmoe_train.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def offence(top, path, name):
    """Why `path` (relative to the project) may not include "name"; None when it may."""
    if name in PUBLIC:
        return None
    folder = pathlib.PurePath(name).parts[0] if "/" in name else None
    if path.parts[0] != "src":
        folders = [(top / path).parent]
        folders += [top / more for front, more in BESIDE if path.parts[0] == front]
        own = ".." not in name and any((f / name).is_file() for f in folders)
        return None if own else "a front end includes include/ and its own folder only (examples: train/, cli: server/, too)"
    home = path.parts[1]
    if folder is None or ".." in name:
        return "write includes from src/ on (\"folder/file.h\")"
    if folder == home or folder in SRC[home]:
        return None
    return f"src/{home} may include {', '.join(sorted(SRC[home])) or 'nothing else'}"


def sources(top):
    """All files of src/, as paths below src/."""
    return [f.relative_to(top / "src") for f in sorted((top / "src").rglob("*.[ch]"))]


def edges(top):
    """{file: files that it includes}, both below src/."""
    files = set(sources(top))
    return {f: [g for g in map(pathlib.PurePath, INCLUDE.findall((top / "src" / f).read_text())) if g in files]
            for f in files}


def cycles(graph):
    """Groups of files that include one another in a circle, where they are of two folders (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for to in graph.get(node, []):
            if to not in index:
                visit(to)
            if to in stack:
                low[node] = min(low[node], low[to])
        if low[node] == index[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len({f.parts[0] for f in group}) > 1:
                found.append(sorted(map(str, group)))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def drawing(top):
    """The dependencies between folders as text: each folder with those it includes, behind all of them."""
    uses = {folder: set() for folder in SRC}
    for file, targets in edges(top).items():
        uses[file.parts[0]] |= {target.parts[0] for target in targets} - {file.parts[0]}
    order = []
    while len(order) < len(SRC):
        order += sorted(f for f in SRC if f not in order and uses[f] <= set(order))
    return "\n".join(f"{f:9}" + (" -> " + ", ".join(sorted(uses[f], key=order.index)) if uses[f] else "")
                     for f in order)


def stale_drawing(top):
    """Does docs/architecture.md show the dependencies as they are?"""
    page = (top / "docs" / "architecture.md").read_text()
    return DRAWN.format(drawing(top)) not in page


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
    for group in cycles(edges(top)):
        print("files that include one another in a circle: " + ", ".join(group))
        bad += 1
    if stale_drawing(top):
        print("docs/architecture.md does not show the dependencies as they are: tools/check_includes.py --graph")
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--graph"]
    root = pathlib.Path(arguments[0] if arguments else ".").resolve()
    if "--graph" in sys.argv:
        print(drawing(root))
        sys.exit(0)
    sys.exit(main(root))
