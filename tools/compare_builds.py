#!/usr/bin/env python3
"""Compare what two builds compute: `odmoe logits --layers` on every model of a data folder, byte for byte.

    tools/compare_builds.py OLD/build/odmoe build/odmoe [build/tests/data/tree] [--kernels auto,ref]

For changes that must not change a bit. A model that the old build cannot open is named and skipped."""
import argparse
import pathlib
import subprocess
import sys
import tempfile


def models(data):
    """Every GGUF file (of split ones the first part) and every folder with a config.json and weights."""
    for file in sorted(data.rglob("*.gguf")):
        if "-of-" not in file.name or "-00001-of-" in file.name:
            yield file
    for config in sorted(data.rglob("config.json")):
        if any(config.parent.glob("*.safetensors")):
            yield config.parent


def logits(program, model, kernels, out):
    """None and the bytes of the file, or the error."""
    tokens = ",".join(str(3 + i * 37 % 500) for i in range(24))
    run = subprocess.run(
        [program, "logits", "-m", str(model), "--tokens", tokens, "--out", str(out), "--layers", "--kernels", kernels],
        capture_output=True, text=True, check=False)
    return run.stderr.strip() if run.returncode else None, out.read_bytes() if not run.returncode else b""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("data", nargs="?", default="build/tests/data/tree")
    parser.add_argument("--kernels", default="auto,ref")
    options = parser.parse_args()
    same = differ = skipped = 0
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "logits.safetensors"
        for model in models(pathlib.Path(options.data)):
            for kernels in options.kernels.split(","):
                error, want = logits(options.old, model, kernels, out)
                if error:
                    print(f"skipped: {model}: {error}")
                    skipped += 1
                    continue
                error, got = logits(options.new, model, kernels, out)
                if error or got != want:
                    print(f"differs: {model} ({kernels}) {error or ''}")
                    differ += 1
                else:
                    same += 1
    print(f"{same} the same, {differ} differ, {skipped} skipped")
    return 1 if differ or not same else 0


if __name__ == "__main__":
    sys.exit(main())
