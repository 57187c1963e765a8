#!/usr/bin/env python3
"""What prefetching is worth on disks of other speeds: a table and a picture, by bench/slow_disk and bench/bench_prefetch.

usage: disks.py BUILD MODEL [--ram SIZE] [--tokens N] [--rounds N] [--gbps X ...] [--ms X ...] [--svg FILE] [--json FILE]
       disks.py --draw FILE.json --svg FILE        (draw what was measured before)

Prints a table in Markdown: tok/s with prefetching off, auto and with perfect candidates, and the limit max(time to
compute, bytes missed with prefetching off / the disk's rate), all medians over the rounds, which take the modes in turn.
"""
import argparse
import html
import json
import os
import statistics
import subprocess

MODES = ("off", "auto", "oracle")


def measure(a, gbps, ms):
    """Medians of one disk: {mode: {field: value}}."""
    env = {**os.environ, "SLOW_DISK_GBPS": str(gbps), "SLOW_DISK_MS": str(ms), "LD_PRELOAD": f"{a.build}/bench/slow_disk.so"}
    command = [f"{a.build}/bench/bench_prefetch", "--io", "pread", "--ram", a.ram, "-n", str(a.tokens), "-r", str(a.rounds),
               "--modes", ",".join(MODES), a.model]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    runs = [json.loads(line) for line in out.splitlines()]
    return {m: {k: statistics.median(r[k] for r in runs if r["mode"] == m) for k in runs[0] if k not in ("mode", "round")}
            for m in MODES}


def limit_of(disk):
    off = disk["result"]["off"]
    return 1e3 / max(off["compute_ms"], off["mb_read"] / disk["gbps"])


def table(disks):
    out = ["| disk, GB/s | latency, ms | off | auto | oracle | limit | auto / limit | of what auto read ahead, used |",
           "|---|---|---|---|---|---|---|---|"]
    for d in disks:
        r, limit = d["result"], limit_of(d)
        used = f"{100 * r['auto']['mb_ahead_used'] / r['auto']['mb_ahead']:.0f}%" if r["auto"]["mb_ahead"] else "–"
        out.append(f"| {d['gbps']:g} | {d['ms']:g} | " + " | ".join(f"{r[m]['gen_tps']:.2f}" for m in MODES) +
                   f" | {limit:.2f} | {100 * r['auto']['gen_tps'] / limit:.0f}% | {used} |")
    return "\n".join(out)


def picture(disks):
    """Curves of tok/s over the disk's rate, one panel a latency, both axes in powers of two."""
    colours = {"off": "#b9bec4", "auto": "#1f6fb2", "oracle": "#4c9a6a", "limit": "#d98b2b"}
    panels = sorted({d["ms"] for d in disks})
    rates = sorted({d["gbps"] for d in disks})
    most = max(max(limit_of(d), *(d["result"][m]["gen_tps"] for m in MODES)) for d in disks)
    width, height, left, top = 360, 240, 60, 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + (width + 60) * len(panels)} {height + 110}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="#fff"/>']

    def text(x, y, s, anchor="start"):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="#222" text-anchor="{anchor}">{html.escape(s)}</text>')

    for p, ms in enumerate(panels):
        x0 = left + p * (width + 60)
        mine = sorted((d for d in disks if d["ms"] == ms), key=lambda d: d["gbps"])

        def at(d, value):
            return x0 + width * rates.index(d["gbps"]) / max(len(rates) - 1, 1), top + height * (1 - value / (1.05 * most))

        text(x0, top - 14, f"tokens a second; {ms:g} ms of latency")
        for value in range(0, int(most) + 1, max(1, int(most / 5))):
            y = top + height * (1 - value / (1.05 * most))
            out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>')
            text(x0 - 8, y + 4, str(value), "end")
        for d in mine:
            text(at(d, 0)[0], top + height + 18, f"{d['gbps']:g}", "middle")
        text(x0 + width / 2, top + height + 36, "GB/s of the disk", "middle")
        for name in ("limit",) + MODES:
            points = [at(d, limit_of(d) if name == "limit" else d["result"][name]["gen_tps"]) for d in mine]
            dash = ' stroke-dasharray="5 4"' if name == "limit" else ""
            out.append(f'<polyline fill="none" stroke="{colours[name]}" stroke-width="2"{dash} points="' +
                       " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
    for i, name in enumerate(("limit",) + MODES):
        out.append(f'<rect x="{left + 110 * i}" y="{top + height + 46}" width="11" height="11" fill="{colours[name]}"/>')
        text(left + 110 * i + 16, top + height + 56, {"limit": "the limit", "oracle": "perfect"}.get(name, name))
    return "\n".join(out) + "\n</svg>\n"


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("build", nargs="?")
    ap.add_argument("model", nargs="?")
    ap.add_argument("--ram", default="800MiB")
    ap.add_argument("--tokens", type=int, default=24)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--gbps", type=float, nargs="*", default=[0.25, 0.5, 1, 2, 4])
    ap.add_argument("--ms", type=float, nargs="*", default=[0.1, 1])
    ap.add_argument("--svg")
    ap.add_argument("--json")
    ap.add_argument("--draw")
    a = ap.parse_args()
    if a.draw:
        with open(a.draw) as f:
            disks = json.load(f)
    elif a.build and a.model:
        disks = [{"gbps": g, "ms": ms, "result": measure(a, g, ms)} for ms in a.ms for g in a.gbps]
    else:
        ap.error("BUILD and MODEL are needed")
    if a.json:
        with open(a.json, "w") as f:
            json.dump(disks, f, indent=1)
    if a.svg:
        with open(a.svg, "w") as f:
            f.write(picture(disks))
    print(table(disks))


main()
