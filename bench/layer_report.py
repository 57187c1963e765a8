#!/usr/bin/env python3
"""One line of bench/layer.sh's table: layer_report.py SHAPE, the runs on standard input ("memory JSON" or "cold JSON").

A time that is less than the arithmetic takes at the measured peak is out of reach; the line says so."""
import json
import statistics
import sys

# shape: longest time in seconds; least share of the peak; bytes of all experts (each is to be read once)
AIMS = {"a-256": (2e-3, 0.50, 0), "a-4096": (None, 0.65, 0), "b": (1.0, None, 0), "c": (None, None, 0),
        "d-8192": (None, None, 16 * 3 * 128 * 256 * 4), "d-32768": (0.25, None, 16 * 3 * 128 * 256 * 4),
        "e-q4_k": (None, None, 0), "e-bf16": (None, 0.50, 0)}
DISK_SHARE = 0.90  # of c
SLOWER = 1.15      # of e: than the longer of disk and arithmetic


def time_text(seconds):
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def verdict(aim, met, why=""):
    return f"{aim}: {'yes' if met else 'no' + why}"


def main():
    shape = sys.argv[1]
    runs = {"memory": [], "cold": []}
    for line in sys.stdin:
        kind, text = line.split(None, 1)
        runs[kind].append(json.loads(text))
    longest, share_aim, bytes_once = AIMS[shape]
    memory, cold = runs["memory"], runs["cold"][0] if runs["cold"] else None
    shown = cold or sorted(memory, key=lambda r: r["seconds"])[len(memory) // 2]
    share = statistics.median(r["gflops"] / r["peak_gflops"] for r in memory)
    flops = shown["gflops"] * shown["seconds"] * 1e9
    limits, results, aims = [], [], []

    limits.append(f"peak {shown['peak_gflops']:.1f} GFLOP/s, memory {shown['memory_gbps']:.1f} GB/s")
    samples = ", ".join(time_text(r["seconds"]) for r in memory)
    results.append(f"in memory {samples}: {statistics.median(r['gflops'] for r in memory):.1f} GFLOP/s, {share:.0%} of peak")
    if cold:
        disk_seconds = cold["bytes_read"] / cold["disk_gbps"] * 1e-9
        compute_seconds = flops / statistics.median(r["gflops"] for r in memory) * 1e-9
        floor = max(disk_seconds, compute_seconds)
        rate = cold["bytes_read"] / cold["seconds"] * 1e-9
        limits.append(f"disk {cold['disk_gbps']:.2f} GB/s: {time_text(disk_seconds)}; as in memory: {time_text(compute_seconds)}")
        results.append(f"cold {time_text(cold['seconds'])}: {cold['seconds'] / floor:.2f} x the longer of the two, "
                       f"{cold['bytes_read'] / 1e6:.1f} MB, stalled {time_text(cold['stall_seconds'])}")
        if shape == "c":
            why = f" ({rate / cold['disk_gbps']:.0%})"
            if compute_seconds > disk_seconds:
                why += ", the computation is longer than the reading here"
            aims.append(verdict(f"{DISK_SHARE:.0%} of the disk", rate >= DISK_SHARE * cold["disk_gbps"], why))
        if shape.startswith("e"):
            aims.append(verdict(f"{SLOWER} x", cold["seconds"] <= SLOWER * floor))
        if bytes_once:
            aims.append(verdict("each expert read once", cold["bytes_read"] == bytes_once))
    if longest:
        least = flops / shown["peak_gflops"] * 1e-9
        why = f", the peak alone takes {time_text(least)}" if least > longest and shown["distinct_experts"] == shown["experts"] else ""
        aims.append(verdict(time_text(longest), shown["seconds"] <= longest, why))
    if share_aim:
        aims.append(verdict(f"{share_aim:.0%} of peak", share >= share_aim))
    print(f"| {shape} | {'; '.join(results)} | {'; '.join(limits)} | {'; '.join(aims)} |", flush=True)


main()
