#!/usr/bin/env python3
"""The page's files as C arrays.   usage: embed.py OUT.c FILE...      of index.html: const unsigned char page_index_html[], const size_t page_index_html_length"""
import os, re, sys

with open(sys.argv[1], "w") as out:
    out.write("/* Made by embed.py. */\n#include \"page_files.h\"\n")
    for path in sys.argv[2:]:
        name = "page_" + re.sub(r"\W", "_", os.path.basename(path))
        data = open(path, "rb").read()
        rows = [", ".join(str(b) for b in data[i:i + 32]) for i in range(0, len(data), 32)]
        out.write(f"const unsigned char {name}[] = {{\n" + ",\n".join(rows) + f"\n}};\nconst size_t {name}_length = sizeof {name};\n")
