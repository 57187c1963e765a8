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
# figure, title, factor, logarithmic: everything in memory is far faster than under a cap
PANELS = [("tokens_per_second", "Tokens a second, all streams", 1, True), ("gap_mean_ms", "Between two tokens of one, mean, ms", 1, True),
          ("bytes_per_token", "Read for a token, MB", 1e-6, False)]


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
    print("| case | streams | tok/s | times one | between tokens, ms: mean | median | p95 | MB read a token | GB/s | sequences a pass | "
          "experts a pass: needed | not in memory |")
    print("|---" * 12 + "|")
    for case, by_streams in cases.items():
        one = by_streams.get(1, {}).get("tokens_per_second")
        for n, r in by_streams.items():
            times = r["tokens_per_second"] / one if one and r["tokens_per_second"] else None
            print(f"| {case} | {n} | {cell(r['tokens_per_second'], digits=2)} | {cell(times, digits=2)} | {cell(r['gap_mean_ms'])} | "
                  f"{cell(r['gap_median_ms'])} | {cell(r['gap_p95_ms'])} | {cell(r['bytes_per_token'], 1e-6)} | {cell(r['disk_gb_per_second'], digits=2)} | "
                  f"{cell(r['rows_per_pass'], digits=2)} | {cell(r['experts_per_pass'])} | {cell(r['misses_per_pass'])} |")


def round_numbers(low, high):
    """1, 2, 5, 10, 20 ... from low to high."""
    first = math.floor(math.log10(low))
    return [n for n in (m * 10.0 ** e for e in range(first, first + 12) for m in (1, 2, 5)) if low <= n <= high]


def axis(values, logarithmic):
    """(height of a value, from 0 to 1; the values that are marked)"""
    high = max(values, default=0) * 1.1 or 1
    if logarithmic and values:
        low = min(values) / 1.1
        return lambda v: math.log(v / low) / math.log(high / low), round_numbers(low, high)
    step = next(n for n in round_numbers(high / 50, high * 10) if high / n <= 6)
    return lambda v: v / high, [step * i for i in range(int(high / step) + 1)]


def draw(cases, path):
    picture = Picture("Streams that decode together share what is read and computed", LEFT, LEFT + 3 * STEP, TOP + HEIGHT + 50 + 20)
    streams = sorted({n for by_streams in cases.values() for n in by_streams})
    right = math.log2(max(streams)) or 1
    for number, (key, title, factor, logarithmic) in enumerate(PANELS):
        left = LEFT + number * STEP
        values = [r[key] * factor for by_streams in cases.values() for r in by_streams.values() if r[key] is not None]
        height, marks = axis(values, logarithmic)

        def at(n, value):
            return left + WIDTH * math.log2(n) / right, TOP + HEIGHT * (1 - height(value))

        picture.text(left, TOP - 10, title, 'font-weight="bold"')
        for value in marks:
            picture.line([at(1, value), at(2 ** right, value)], "#e3e6e9")
            picture.text(left - 6, at(1, value)[1] + 4, f"{value:g}", 'text-anchor="end"')
        for n in streams:
            picture.text(left + WIDTH * math.log2(n) / right, TOP + HEIGHT + 16, str(n), 'text-anchor="middle"')
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
