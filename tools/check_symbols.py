#!/usr/bin/env python3
"""Check that a library shows exactly the functions that the public headers declare.
usage: check_symbols.py HEADER... -- LIBRARY...      (.so or .a)"""
import re
import subprocess
import sys

DECLARATION = re.compile(r"^ODMOE_API\b[^;]*?\b(odmoe_\w+)\(", re.M)


def exported(library):
    dynamic = ["-D"] if ".so" in library else ["-g"]
    lines = subprocess.run(["nm", *dynamic, "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = set()
    for line in lines.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] != "A":  # A: the version's own name
            names.add(fields[2].split("@")[0])
    return names


def main(arguments):
    split = arguments.index("--")
    declared = set()
    for header in arguments[:split]:
        with open(header) as file:
            declared |= set(DECLARATION.findall(file.read()))
    bad = 0
    for library in arguments[split + 1:]:
        found = exported(library)
        for what, names in (("shown but not declared", found - declared), ("declared but missing", declared - found)):
            for name in sorted(names):
                print(f"{library}: {name} is {what}")
                bad += 1
    return 1 if bad else 0


sys.exit(main(sys.argv[1:]))
