#!/usr/bin/env python3
"""The example's text, with room for half of the experts, is what `odmoe run` gives with room for all, and starts as the
golden continuation does (which was computed without quantised activations: it may part after some tokens)."""
import json, os, pathlib, struct, subprocess, sys

source = pathlib.Path(os.environ["ODMOE_SOURCE"])
model = str(source / "models" / "demo.gguf")
golden = (source / "tests" / "data" / "demo" / "demo-Q4_K_M.expected.safetensors").read_bytes()
length = struct.unpack("<Q", golden[:8])[0]
header = json.loads(golden[8:8 + length])


def ids(name):
    start, end = header[name]["data_offsets"]
    return [str(i) for i in struct.unpack(f"<{(end - start) // 4}i", golden[8 + length + start:8 + length + end])]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def text(name, count=None):
    return run(os.environ["ODMOE"], "detokenize", "-m", model, *ids(name)[:count])


prompt = text("input_ids")
got = run(os.environ["GENERATE"], model, "16MiB", prompt).strip()
want = run(os.environ["ODMOE"], "run", "-m", model, "-p", prompt, "-n", "50", "--temp", "0", "--ram", "128MiB").strip()
if got != want or not got.startswith(text("greedy", 12).strip()):
    sys.exit(f"expected: {want!r}\ngot:      {got!r}")
