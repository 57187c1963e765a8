#!/usr/bin/env python3
"""Draw the hit rates of every cache policy, and of Belady's optimum, over the size of the cache.

usage: plot_cache.py [ODMOE [PICTURE]]     build/odmoe, docs/cache.svg

Runs `odmoe replay` on the traces in tests/data/traces (some are kept compressed). Exact: the same picture comes out on every machine.
"""
import gzip
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

from picture import Picture

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# trace, title, MiB or experts (traces without sizes count 1 MiB an expert), one token's working set, sizes
PANELS = (
    ("qwen.route.csv", "Qwen3-30B-A3B", "MiB", 48 * 6 * 2.72, (250, 375, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000)),
    ("gemma.route.csv", "Gemma 4 26B-A4B", "MiB", 30 * 6 * 3.76, (250, 375, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000)),
    ("gptoss.route.csv", "gpt-oss-120b", "MiB", 36 * 2 * 12.61, (500, 750, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 16000)),
    ("olmoe_1b7b_299tok.jsonl", "OLMoE-1B-7B", "experts", 16 * 8, (64, 80, 100, 150, 200, 300, 400, 500, 700)),
    ("kimi_linear_48b_300tok.jsonl", "Kimi-Linear-48B", "experts", 26 * 8, (100, 150, 200, 300, 400, 800, 1600, 3200)),
)
COLOURS = {"next": "#1f6fb2", "layers-lrfu": "#4c9a6a", "lrfu": "#8a63b5", "layers": "#8cbf3f", "lfu": "#d98b2b",
           "lru": "#c33d3d", "twice": "#9aa0a6", "belady": "#222222"}
WIDTH, HEIGHT, LEFT, TOP, STEP_X, STEP_Y = 250, 190, 52, 66, 320, 262


def unpacked(trace, folder):
    """The path of a trace; those that are kept compressed are unpacked into folder first."""
    kept = os.path.join(ROOT, "tests", "data", "traces", trace)
    if os.path.exists(kept):
        return kept
    path = os.path.join(folder, trace)
    if not os.path.exists(path):
        with gzip.open(kept + ".gz") as packed, open(path, "wb") as out:
            shutil.copyfileobj(packed, out)
    return path


def replay(odmoe, path, size):
    out = subprocess.run([odmoe, "replay", path, "--ram", f"{size}MiB", "--json"], check=True, capture_output=True, text=True)
    return {name: r["hit_pct_decode"] for name, r in json.loads(out.stdout).items()}


def main():
    odmoe = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "odmoe")
    path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "docs", "cache.svg")
    picture = Picture("Hit rate in decoding, by size of the expert cache", LEFT, LEFT + 3 * STEP_X - 20, TOP + 2 * STEP_Y - 20)
    text, line = picture.text, picture.line
    folder = tempfile.TemporaryDirectory()

    def panel(left, top, trace, title, unit, token, sizes):
        curves = {}
        readable = unpacked(trace, folder.name)
        for size in sizes:
            for name, hit in replay(odmoe, readable, size).items():
                curves.setdefault(name, []).append(hit)
        low, high = sizes[0], sizes[-1]

        def at(size, hit):  # each doubling of the cache takes the same width
            return left + WIDTH * math.log(size / low, high / low), top + HEIGHT * (1 - hit / 100)

        text(left, top - 8, title, 'font-weight="bold"')
        for hit in (0, 25, 50, 75, 100):
            line([at(low, hit), at(high, hit)], "#e3e6e9")
            text(left - 6, at(low, hit)[1] + 4, f"{hit}%", 'text-anchor="end"')
        last = -99.0
        for size in sizes:
            x = at(size, 0)[0]
            if x - last > 38:
                text(x, top + HEIGHT + 16, f"{size:,}", 'text-anchor="middle"')
                last = x
        text(left + WIDTH / 2, top + HEIGHT + 33, f"cache, {unit}", 'text-anchor="middle"')
        if low < token < high:
            x = at(token, 0)[0]
            line([(x, top), (x, top + HEIGHT)], "#666", 'stroke-dasharray="2 3"')
            text(x + 4, top + 12, "one token", 'font-size="11"')
        for name, hits in sorted(curves.items(), key=lambda c: c[0] == "next"):
            strong = 'stroke-width="2.6"' if name == "next" else 'stroke-width="1.4"'
            dashed = ' stroke-dasharray="6 3"' if name == "belady" else ""
            line([at(s, h) for s, h in zip(sizes, hits)], COLOURS.get(name, "#00aaaa"), strong + dashed)
        return list(curves)

    for i, p in enumerate(PANELS):
        names = panel(LEFT + i % 3 * STEP_X, TOP + i // 3 * STEP_Y, *p)
    left, top = LEFT + 2 * STEP_X, TOP + STEP_Y
    for i, name in enumerate(names):
        y = top + 22 * i
        dashed = ' stroke-dasharray="6 3"' if name == "belady" else ""
        line([(left, y), (left + 30, y)], COLOURS.get(name, "#00aaaa"), f'stroke-width="{2.6 if name == "next" else 1.6}"{dashed}')
        text(left + 40, y + 4, {"next": "next (default)", "belady": "optimum (Belady)"}.get(name, name))
    text(left, top + 22 * len(names) + 8, "dotted: what one token uses", 'font-size="11"')
    picture.write(path)


main()
