#!/usr/bin/env python3
"""Draw where one token's time goes: layers, waiting, and the disk.

usage: timeline.py TRACE READS TOKEN OUT.svg

TRACE  from bench_prefetch --modes always --trace TRACE
READS  of the same run with LD_PRELOAD=slow_disk.so SLOW_DISK_TRACE=READS and --io pread (SLOW_DISK_GBPS may be unset)
TOKEN  which token; the last run in the file is taken
"""
import html
import sys


def layers_of(path, token):
    """[(layer, its fetch begins at, seconds waited so far)], and the token's start and end."""
    events = [line.split() for line in open(path)]
    ends = [i for i, e in enumerate(events) if e[1] == "end" and int(e[0]) == token]
    begin = max((i for i, e in enumerate(events[:ends[-1]]) if e[1] == "end"), default=-1)
    mine = events[begin + 1:ends[-1] + 1]
    out, last = [], None
    for _, what, layer, at, waited in mine:
        if what == "look" and (last is None or int(layer) <= last):  # the first look of a layer: at the layer after it
            out.append((int(layer) - 1, float(at), float(waited)))
        last = int(layer)
    end = mine[-1]
    out.append((None, float(end[3]), float(end[4])))
    return out


def main():
    trace, reads, token, svg = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    layers = layers_of(trace, token)
    start, end = layers[0][1], layers[-1][1]
    busy = sorted((float(a), float(b), int(n)) for a, b, n in (line.split() for line in open(reads))
                  if float(b) > start and float(a) < end)
    width, left, scale = 1000, 90, 1000 / (end - start)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1120 250" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="#fff"/>']

    def text(x, y, s, anchor="start"):
        out.append(f'<text x="{x:.1f}" y="{y}" fill="#222" text-anchor="{anchor}">{html.escape(s)}</text>')

    def rect(a, b, y, h, fill, opacity=1.0):
        a, b = max(a, start), min(b, end)
        out.append(f'<rect x="{left + (a - start) * scale:.1f}" y="{y}" width="{max((b - a) * scale, 0.3):.1f}" height="{h}" '
                   f'fill="{fill}" fill-opacity="{opacity:.2f}"/>')

    waited_all = layers[-1][2] - layers[0][2]
    text(left, 20, f"one token: {1e3 * (end - start):.1f} ms, of which {1e3 * waited_all:.1f} ms waiting for the disk; "
                   f"{sum(n for _, _, n in busy) / 1e6:.0f} MB read")
    text(left - 8, 62, "layers", "end")
    text(left - 8, 102, "waiting", "end")
    text(left - 8, 160, "reads", "end")
    for (layer, at, waited), (_, until, later) in zip(layers, layers[1:]):
        rect(at, until, 46, 24, "#4c9a6a" if (layer or 0) % 2 else "#7fbf98")
        rect(until - (later - waited), until, 86, 24, "#d98b2b")  # how much, not when within the layer
        if layer is not None and layer >= 0:
            text(left + (at - start) * scale + 2, 62, str(layer))
    rows = []
    for a, b, _ in busy:  # the first row that is free
        row = next((i for i, free in enumerate(rows) if free <= a), len(rows))
        rows[row:row + 1] = [b]
        if row < 12:
            rect(a, b, 124 + 7 * row, 5, "#1f6fb2")
    for ms in range(0, int(1e3 * (end - start)) + 1, 5):
        x = left + ms * 1e-3 * scale
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="216" y2="220" stroke="#222"/>')
        text(x, 234, f"{ms} ms", "middle")
    with open(svg, "w") as f:
        f.write("\n".join(out) + "\n</svg>\n")


main()
