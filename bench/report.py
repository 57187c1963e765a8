#!/usr/bin/env python3
"""Turn what bench/run.sh measured into a table and a picture.

usage: report.py OUT [--results RESULTS.md --picture SPEED.svg]

OUT/runs.jsonl and OUT/model-*.json are read; OUT/summary.json and OUT/speed.svg are written, the table goes to standard
output. With --results it also replaces what lies between the two marks in that file.
"""
import argparse
import html
import json
import os
import statistics
import subprocess

Q4_K = 4.5 / 8  # bytes a weight: all matrices of the synthetic models but the routers'
MARKS = ("<!-- speed: bench/run.sh --record -->", "<!-- end of speed -->")


def median(results, key):
    """The median of a field over rounds; None when no round has it."""
    values = [r[key] for r in results if r is not None and r.get(key) is not None]
    return statistics.median(values) if values else None


def token_bytes(model):
    """Weights that the decoding of one token reads: all that is resident but the embedding table, and its experts."""
    embedding = model["vocab"] * model["hidden"] * Q4_K
    return model["resident_bytes"] - embedding + model["experts_bytes"] * model["top_k"] / model["experts"]


def phase_of(run, phase):
    """One phase ("prompt" or "gen") of one odmoe run; None when it wasn't run."""
    if run is None or run[f"{phase}_tokens"] == 0:
        return None
    out = {k: run[f"{phase}_{k}"] for k in ("tokens", "seconds", "tps", "bytes_read", "read_seconds", "stall_seconds")}
    out["compute_seconds"] = max(out["seconds"] - out["stall_seconds"], 0.0)
    return out


def limits_of(phase, row, capped, machine, model, resident_prompt_tps):
    """The bound on one run: its name, the part of it that was reached, and the same against a queue that never drains.

    A prompt under a cap has two bounds: its reads, and the time of a prompt in memory where that was measured before.
    """
    burst = row["bytes_read"] / (machine["disk_burst_gbps"] * 1e9)
    stream = row["bytes_read"] / (machine["disk_stream_gbps"] * 1e9)
    weights = token_bytes(model)
    if phase == "gen":
        bound, other = "memory", weights * row["tokens"] / (machine["memory_gbps"] * 1e9)
    elif capped:
        bound, other = "prompt in memory", row["tokens"] / resident_prompt_tps if resident_prompt_tps else 0.0
    else:
        # Every weight but the output's, which only the last token needs: a multiplication and an addition a token.
        flop = 2 * (weights / Q4_K - model["vocab"] * model["hidden"]) * row["tokens"]
        bound, other = "f32 peak", flop / (machine["gflops"] * 1e9)
    if burst > other:
        return {"bound": "disk", "reached": burst / row["seconds"], "reached_stream": stream / row["seconds"]}
    return {"bound": bound, "reached": other / row["seconds"], "reached_stream": None}


def rows_of(runs, models):
    """One row a case and phase, in the order of the runs. The rates of the machine are medians over the rounds."""
    cases = {}
    for run in runs:
        case = cases.setdefault(run["case"], {"model": run["model"], "cap": run["cap"], "disk": {}})
        if run["program"] == "disk":  # in the pattern of this round's run
            case["disk"][run["round"]] = run["result"]
            continue
        case.setdefault(run["program"], []).append(run["result"])
    measured = cases.pop("machine")["machine"]
    machine = {k: median(measured, k) for k in ("gflops", "memory_gbps", "disk_burst_gbps", "disk_stream_gbps")}
    rows, resident = [], {}
    for name, case in cases.items():
        model, capped = models[case["model"]], case["cap"] != "max"
        for phase in ("prompt", "gen"):
            samples = []
            for i, (run, limits) in enumerate(zip(case["odmoe"], measured)):
                sample = phase_of(run, phase)
                if sample:  # held against what the machine could do in the same round, the disk in the run's own pattern
                    limits = {**(limits or machine), **(case["disk"].get(i + 1) or {})}
                    sample.update({k: limits.get(k) for k in ("burst_reads", "read_bytes", "disk_burst_gbps")})
                    sample.update(limits_of(phase, sample, capped, limits, model, resident.get(case["model"])))
                    samples.append(sample)
            if not samples:
                continue
            row = {k: median(samples, k) for k in samples[0] if k != "bound"}
            row.update(case=name, phase="prompt" if phase == "prompt" else "decode", bound=samples[0]["bound"],
                       samples=[s["tps"] for s in samples], peer=median(case.get("llama.cpp", []), f"{phase}_tps"),
                       peer_samples=[r and r.get(f"{phase}_tps") for r in case.get("llama.cpp", [])])
            row["ratio"] = row["tps"] / row["peer"] if row["peer"] else None
            row["off"] = median(case.get("off", []), "gen_tps") if phase == "gen" else None
            row["oracle"] = median(case.get("oracle", []), "gen_tps") if phase == "gen" else None
            row["reuse"] = median(case.get("oracle", []), "reuse")
            row["hits"] = statistics.median([r["cache_hits"] / max(r["cache_hits"] + r["cache_misses"], 1)
                                             for r in case["odmoe"] if r])
            if phase == "prompt" and not capped:
                resident.setdefault(case["model"], row["tps"])
            rows.append(row)
    return machine, rows


def number(value):
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def percent(value):
    return "–" if value is None else f"{100 * value:.0f}%"


def machine_line(machine, about):
    return (f"{about}. Measured in the same rounds: {number(machine['gflops'])} GFLOP/s (f32), memory "
            f"{number(machine['memory_gbps'])} GB/s, disk {number(machine['disk_burst_gbps'])} GB/s in bursts of 24 reads of "
            f"1 MiB, {number(machine['disk_stream_gbps'])} GB/s with a queue that never drains.")


def bursts(row):
    """The pattern of a run's reads, and what the disk gave in it."""
    if not row["burst_reads"]:
        return "–"
    return f"{row['burst_reads']:.0f} x {row['read_bytes'] / 1e6:.2f} MB: {number(row['disk_burst_gbps'])} GB/s"


def table(machine, rows, about):
    out = [machine_line(machine, about), "",
           "| case | tokens | odmoe tok/s | prefetch off | perfect | hits | reuse | llama.cpp tok/s | ratio | bound | reached | "
           "queue full | bursts | GB read | read s | stall s | compute s |", "|---" * 17 + "|"]
    for r in rows:
        peer = "failed" if r["peer"] is None and r["peer_samples"] else number(r["peer"])
        cells = [f"{r['case']}, {r['phase']}", f"{r['tokens']:.0f}", number(r["tps"]), number(r["off"]), number(r["oracle"]),
                 percent(r["hits"]), percent(r["reuse"]), peer,
                 "–" if r["ratio"] is None else number(r["ratio"]) + " x", r["bound"], percent(r["reached"]),
                 percent(r["reached_stream"]), bursts(r), number(r["bytes_read"] / 1e9)]
        cells += [number(r[k]) for k in ("read_seconds", "stall_seconds", "compute_seconds")]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def picture(rows):
    """Left: both programs' speeds, each case on its own scale. Right: how odmoe's time divides."""
    left, bar, right, split, step, top = 150, 300, 600, 220, 44, 62
    height = top + step * len(rows) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="#fff"/>']

    def text(x, y, s, extra=""):
        out.append(f'<text x="{x}" y="{y}" fill="#222" {extra}>{html.escape(s)}</text>')

    def rect(x, y, w, h, fill):
        out.append(f'<rect x="{x:.1f}" y="{y}" width="{max(w, 0):.1f}" height="{h}" fill="{fill}"/>')

    odmoe, peer, stall, compute = "#1f6fb2", "#b9bec4", "#d98b2b", "#4c9a6a"
    bold = 'font-weight="bold"'
    text(left, 20, "tokens a second (each case on its own scale)", bold)
    text(right, 20, "where odmoe's time went", bold)
    for x, fill, name in ((left, odmoe, "odmoe"), (left + 80, peer, "llama.cpp"), (right, stall, "waiting for the disk"),
                          (right + 150, compute, "computing")):
        rect(x, 32, 11, 11, fill)
        text(x + 16, 42, name)
    for i, r in enumerate(rows):
        y = top + i * step
        most = max(r["tps"], r["peer"] or 0)
        text(left - 8, y + 12, r["case"], 'text-anchor="end"')
        text(left - 8, y + 27, r["phase"], 'text-anchor="end" font-size="11"')
        rect(left, y, bar * r["tps"] / most, 14, odmoe)
        text(left + bar * r["tps"] / most + 5, y + 11, number(r["tps"]) + (f"  ({number(r['ratio'])} x)" if r["ratio"] else ""))
        if r["peer"]:
            rect(left, y + 16, bar * r["peer"] / most, 14, peer)
            text(left + bar * r["peer"] / most + 5, y + 27, number(r["peer"]))
        waited = split * min(r["stall_seconds"] / r["seconds"], 1)
        rect(right, y + 4, waited, 20, stall)
        rect(right + waited, y + 4, split - waited, 20, compute)
        text(right + split + 6, y + 19, number(r["seconds"]) + " s")
    return "\n".join(out) + "\n</svg>\n"


def about_machine():
    name = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    here = os.path.dirname(os.path.abspath(__file__))
    commit = subprocess.run(["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} x {name}, Linux {os.uname().release.split('-')[0]}, commit {commit or 'unknown'}"


def replace_between(path, text):
    with open(path) as f:
        old = f.read()
    head, begin, rest = old.partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    if not begin or not end:
        raise SystemExit(f"report.py: {path}: the marks {MARKS[0]} and {MARKS[1]} are missing")
    with open(path, "w") as f:
        f.write(f"{head}{MARKS[0]}\n{text}{MARKS[1]}{tail}")


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("out")
    ap.add_argument("--results")
    ap.add_argument("--picture")
    a = ap.parse_args()
    with open(os.path.join(a.out, "runs.jsonl")) as f:
        runs = [json.loads(line) for line in f]
    models = {}
    for name in {r["model"] for r in runs} - {"-"}:
        with open(os.path.join(a.out, f"model-{name}.json")) as f:
            models[name] = json.load(f)
    machine, rows = rows_of(runs, models)
    about = f"{about_machine()}; medians of {max(r['round'] for r in runs)} rounds"
    odmoe = next((r["result"] for r in runs if r["program"] == "odmoe" and r["result"]), {})
    about += f"; kernels {odmoe.get('kernels')}, {odmoe.get('threads')} threads, policy {odmoe.get('policy')}"
    with open(os.path.join(a.out, "summary.json"), "w") as f:
        json.dump({"about": about, "machine": machine, "rows": rows}, f, indent=1)
    result, svg = table(machine, rows, about), picture(rows)
    for path in [os.path.join(a.out, "speed.svg")] + ([a.picture] if a.picture else []):
        with open(path, "w") as f:
            f.write(svg)
    if a.results:
        link = os.path.relpath(a.picture, os.path.dirname(os.path.abspath(a.results))) if a.picture else None
        replace_between(a.results, "\n" + result + (f"\n![speeds and where the time went]({link})\n\n" if link else "\n"))
    print(result, end="")


main()
