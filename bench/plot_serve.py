#!/usr/bin/env python3
"""The table and the picture of bench/serve.sh: throughput, time between tokens, bytes a token over the number of streams.

usage: plot_serve.py RUNS.jsonl [PICTURE]      medians over the rounds; docs/serve.svg
"""
import collections
import json
import math
import statistics
import sys

from picture import Picture

COLOURS = ["#1f6fb2", "#d98b2b", "#4c9a6a", "#8e5bb5"]
WIDTH, HEIGHT, LEFT, TOP, STEP = 230, 200, 56, 62, 310
PANELS = [("tokens_per_second", "Tokens a second, all streams", 1), ("gap_median_ms", "Between two tokens of one stream, ms", 1),
          ("bytes_per_token", "Read for a token, MB", 1e-6)]


def medians(path):
    """{case: {streams: {figure: median over rounds}}}"""
    rows = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in open(path):
        row = json.loads(line)
        rows[row["case"]][row["streams"]].append(row)

    def middle(values):
        values = [v for v in values if v is not None]
        return statistics.median(values) if values else None

    return {case: {n: {key: middle([r.get(key) for r in several]) for key in several[0] if key not in ("case", "streams")}
                   for n, several in sorted(by_streams.items())} for case, by_streams in rows.items()}


def cell(value, factor=1, digits=1):
    return "–" if value is None else f"{value * factor:.{digits}f}"


def table(cases):
    print("| case | streams | tok/s | times one | between tokens, ms: median | p95 | MB read a token | GB/s | sequences a pass | "
          "experts a pass: needed | not in memory |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case, by_streams in cases.items():
        one = by_streams.get(1, {}).get("tokens_per_second")
        for n, r in by_streams.items():
            times = r["tokens_per_second"] / one if one and r["tokens_per_second"] else None
            print(f"| {case} | {n} | {cell(r['tokens_per_second'], digits=2)} | {cell(times, digits=2)} | {cell(r['gap_median_ms'])} | "
                  f"{cell(r['gap_p95_ms'])} | {cell(r['bytes_per_token'], 1e-6)} | {cell(r['disk_gb_per_second'], digits=2)} | "
                  f"{cell(r['rows_per_pass'], digits=2)} | {cell(r['experts_per_pass'])} | {cell(r['misses_per_pass'])} |")


def draw(cases, path):
    picture = Picture("Streams that decode together share what is read and computed", LEFT, LEFT + 3 * STEP, TOP + HEIGHT + 50 + 20)
    streams = sorted({n for by_streams in cases.values() for n in by_streams})
    right = math.log2(max(streams)) or 1
    for number, (key, title, factor) in enumerate(PANELS):
        left = LEFT + number * STEP
        values = [r[key] * factor for by_streams in cases.values() for r in by_streams.values() if r[key] is not None]
        top = max(values, default=0) * 1.1 or 1

        def at(n, value):
            return left + WIDTH * math.log2(n) / right, TOP + HEIGHT * (1 - value / top)

        picture.text(left, TOP - 10, title, 'font-weight="bold"')
        for part in range(5):
            value = top * part / 4
            picture.line([at(1, value), at(2 ** right, value)], "#e3e6e9")
            picture.text(left - 6, at(1, value)[1] + 4, f"{value:.3g}", 'text-anchor="end"')
        for n in streams:
            picture.text(at(n, 0)[0], TOP + HEIGHT + 16, str(n), 'text-anchor="middle"')
        picture.text(left + WIDTH / 2, TOP + HEIGHT + 34, "streams", 'text-anchor="middle"')
        for colour, by_streams in zip(COLOURS, cases.values()):
            points = [at(n, r[key] * factor) for n, r in by_streams.items() if r[key] is not None]
            if len(points) > 1:
                picture.line(points, colour, 'stroke-width="2"')
            for x, y in points:
                picture.dot(x, y, colour)
    for i, (colour, case) in enumerate(zip(COLOURS, cases)):
        x = LEFT + 160 * i
        picture.line([(x, TOP + HEIGHT + 54), (x + 30, TOP + HEIGHT + 54)], colour, 'stroke-width="2"')
        picture.text(x + 38, TOP + HEIGHT + 58, case)
    picture.write(path)


cases = medians(sys.argv[1])
table(cases)
if len(sys.argv) > 2:
    draw(cases, sys.argv[2])
