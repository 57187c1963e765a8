#!/usr/bin/env python3
"""Check that a document shows a program as it is. usage: check_example.py DOCUMENT PROGRAM"""
import sys

document, program = (open(path, encoding="utf-8").read() for path in sys.argv[1:3])
if f"```c\n{program}```" not in document:
    sys.exit(f"{sys.argv[1]}: its copy of {sys.argv[2]} is another than the file; put the file between ```c and ```")
