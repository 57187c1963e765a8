#!/usr/bin/env python3
"""Draw how often predictors are right: by layers ahead on held-out text, and while they learn.

usage: bench_predictors MODEL TEXT... | plot_predictors.py [PICTURE]      docs/predictors.svg
"""
import os
import sys

from picture import Picture

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLOURS = {"network": "#1f6fb2", "router_low_rank": "#4c9a6a", "router": "#8cbf3f", "previous": "#d98b2b", "frequency": "#9aa0a6"}
WIDTH, HEIGHT, LEFT, TOP, STEP = 270, 210, 52, 62, 350


def tables(lines):
    """The Markdown tables in `lines`, each a list of rows of cells, without the line below the head."""
    out, rows = [], []
    for line in list(lines) + [""]:
        if line.startswith("|"):
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if not set(cells[0]) <= {"-"}:
                rows.append(cells)
        elif rows:
            out.append(rows)
            rows = []
    return out


def share(cell):
    return float(cell.rstrip("%")) if cell.endswith("%") else None


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "docs", "predictors.svg")
    held_out, learning = tables(sys.stdin)
    picture = Picture("Of a layer's experts, the share among a predictor's best k", LEFT, LEFT + 2 * STEP + 120, TOP + HEIGHT + 50)
    text, line = picture.text, picture.line

    def panel(number, title, below, ticks, curves):
        left, most = LEFT + number * STEP, max(x for x, _ in ticks)

        def at(x, y):
            return left + WIDTH * x / most, TOP + HEIGHT * (1 - y / 100)

        text(left, TOP - 10, title, 'font-weight="bold"')
        for y in (0, 25, 50, 75, 100):
            line([at(0, y), at(most, y)], "#e3e6e9")
            text(left - 6, at(0, y)[1] + 4, f"{y}%", 'text-anchor="end"')
        for x, label in ticks:
            text(at(x, 0)[0], TOP + HEIGHT + 16, label, 'text-anchor="middle"')
        text(left + WIDTH / 2, TOP + HEIGHT + 34, below, 'text-anchor="middle"')
        for kind, points in curves:
            points = [at(x, y) for x, y in points if y is not None]
            line(points, COLOURS.get(kind, "#00aaaa"), 'stroke-width="2"')
            for x, y in points:
                picture.dot(x, y, COLOURS.get(kind, "#00aaaa"))

    ahead = range(1, 5)
    panel(0, "Held-out text", "layers ahead", [(d, str(d)) for d in ahead],
          [(r[0], [(d, share(r[2 * d - 1])) for d in ahead]) for r in held_out[1:]])
    seen = [int(c) for c in learning[0][1:]]
    panel(1, "While learning", "tokens seen (next layer)", [(s, f"{s // 1000}k") for s in seen[1::2]],
          [(r[0], list(zip(seen, map(share, r[1:])))) for r in learning[1:]])
    left = LEFT + 2 * STEP - 30
    for i, r in enumerate(held_out[1:]):
        line([(left, TOP + 22 * i), (left + 30, TOP + 22 * i)], COLOURS.get(r[0], "#00aaaa"), 'stroke-width="2"')
        text(left + 40, TOP + 22 * i + 4, r[0])
    picture.write(path)


main()
