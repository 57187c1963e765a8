#!/usr/bin/env python3
"""What published models need: file size, smallest budget, one token's experts, and how fast odmoe plans and refuses them.

usage: floors.py ODMOE [--dir DIR] [--tokens N] [MODEL...]      ODMOE: the program; MODELs: names of shapes.py's MODELS (default: the published)

Prints the table of README.md. The files have the published shapes and no weights (make_big_gguf.py --sparse), so they take a few MB of disk. With
--tokens, also generates N tokens where the smallest budget fits this machine's memory. Needs numpy and gguf (PyPI).
"""
import argparse, json, os, subprocess, sys, time
import shapes

HERE = os.path.dirname(os.path.abspath(__file__))
CONTEXT = 4096


def size(n):
    unit = 1 << 30
    return f"{n / unit:.1f} GiB" if n >= unit else f"{n / (1 << 20):.0f} MiB"


def run(*command):
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    return done, (time.monotonic() - begin) * 1000


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("odmoe")
    ap.add_argument("--dir", default="/var/tmp/odmoe-shapes")
    ap.add_argument("--tokens", type=int, default=0)
    ap.add_argument("models", nargs="*", default=[m for m in shapes.MODELS if not m.endswith("-4gib")])
    a = ap.parse_intermixed_args()
    os.makedirs(a.dir, exist_ok=True)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    print(f"| model | file | smallest `--ram` (context {CONTEXT}) | one token's experts | plan, refuse (ms) | {a.tokens} tokens |\n|---|---|---|---|---|---|")
    for name in a.models:
        path = os.path.join(a.dir, name + ".gguf")
        if not os.path.exists(path):
            subprocess.run([sys.executable, os.path.join(HERE, "make_big_gguf.py"), path + ".part", "--preset", name, "--sparse"], check=True)
            os.rename(path + ".part", path)
        model = ["-m", path, "-c", str(CONTEXT)]
        planned, plan_ms = run(a.odmoe, "plan", *model, "--ram", "1TiB", "--json")
        if planned.returncode:
            print(f"| {name} | {size(os.path.getsize(path))} | {planned.stderr.strip()} | | | |")
            continue
        plan = json.loads(planned.stdout)
        refused, refuse_ms = run(a.odmoe, "run", *model, "--ram", "64MiB", "-p", "a")
        if refused.returncode != 3:
            sys.exit(f"{name}: a budget of 64 MiB was not refused (status {refused.returncode})")
        made = "–"
        if a.tokens and plan["floor_bytes"] < memory * 0.8:
            made, seconds = run(a.odmoe, "run", *model, "--ram", str(plan["floor_bytes"]), "-p", "a", "-n", str(a.tokens), "--temp", "0", "--ignore-eos")
            made = f"{seconds / 1000:.1f} s" if made.returncode == 0 else made.stderr.strip().splitlines()[-1]
        print(f"| {name} | {size(os.path.getsize(path))} | {size(plan['floor_bytes'])} | {size(plan['token_working_set_bytes'])} | "
              f"{plan_ms:.0f}, {refuse_ms:.0f} | {made} |", flush=True)


main()
