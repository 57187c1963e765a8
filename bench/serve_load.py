#!/usr/bin/env python3
"""Streams from a running server: how many tokens a second all of them get, what lies between two tokens of one, and what was
read for it, from when all have a quarter of their tokens to the end of the first one. Prints one line of JSON for each number of streams.
Standard library only.

usage: serve_load.py URL [--case NAME] [--streams 1 2 4 8 16] [--tokens 64] [--prompt 16] [--alike] [--vocab 30000]

Each stream has a prompt of random ids of its own and its likeliest tokens; with --alike all have one prompt, and draw their
tokens at temperature 1.
"""
import argparse
import http.client
import json
import random
import re
import statistics
import sys
import threading
import time
import urllib.parse


class Stream(threading.Thread):
    """One answer of `tokens` tokens to a prompt of ids. `on_change` is called when tokens come, and at the end."""

    def __init__(self, address, ids, tokens, temperature, seed, on_change):
        super().__init__()
        self.address, self.on_change, self.times, self.failure, self.ended = address, on_change, [], None, False
        self.body = json.dumps({"prompt": ids, "max_tokens": tokens, "temperature": temperature, "seed": seed, "ignore_eos": True,
                                "stream": True, "cache_prompt": False, "logprobs": 0})

    def run(self):
        try:
            connection = http.client.HTTPConnection(*self.address, timeout=3600)
            connection.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {answer.read(300)!r}")
            for line in answer:
                if line.startswith(b"data: {"):
                    self.event(json.loads(line[6:]))
        except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
            self.failure = error
        self.ended = True
        self.on_change()

    def event(self, event):
        if "error" in event:
            raise RuntimeError(event["error"])
        for choice in event["choices"]:
            # with log probabilities a chunk says how many tokens it brings: some bring none, some several
            tokens = len((choice.get("logprobs") or {}).get("tokens") or [])
            if tokens:
                self.times += [time.monotonic()] * tokens
                self.on_change()


def counters(address):
    """The counters of /metrics, and when they were asked for."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = {name: float(value) for name, value in re.findall(r"^odmoe_(\w+?)(?:_total)? ([0-9.eE+-]+)$", text, re.M)}
    return time.monotonic(), found


def quantile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))] if values else None


def measure(address, n, options):
    random.seed(n)
    changed = threading.Condition()

    def on_change():
        with changed:
            changed.notify()

    def prompt():
        return [random.randrange(300, options.vocab) for _ in range(options.prompt)]

    shared = prompt()
    streams = [Stream(address, shared if options.alike else prompt(), options.tokens, 1 if options.alike else 0, seed, on_change)
               for seed in range(n)]
    for stream in streams:
        stream.start()
    with changed:
        changed.wait_for(lambda: all(len(s.times) > options.tokens / 4 or s.ended for s in streams))
    first, before = counters(address)
    with changed:
        changed.wait_for(lambda: any(s.ended for s in streams))
    last, after = counters(address)
    for stream in streams:
        stream.join()
    for stream in streams:
        if stream.failure:
            sys.exit(f"serve_load.py: {n} streams: {stream.failure}")

    # In between all decode and nothing else happens.
    change = {name: after[name] - before.get(name, 0) for name in after}
    gaps = [b - a for s in streams for a, b in zip(s.times, s.times[1:]) if first <= a and b <= last and b > a]
    tokens, passes = change["generated_tokens"], change["passes"]
    hits, misses = change["expert_hits"], change["expert_misses"]
    return {"case": options.case, "streams": n, "tokens": tokens, "passes": passes,
            "tokens_per_second": round(tokens / (last - first), 3),
            "gap_mean_ms": round(1000 * statistics.mean(gaps), 2) if gaps else None,
            "gap_median_ms": round(1000 * statistics.median(gaps), 2) if gaps else None,
            "gap_p95_ms": round(1000 * quantile(gaps, 0.95), 2) if gaps else None,
            "rows_per_pass": round(tokens / passes, 2) if passes else None,
            "bytes_per_token": round(change["expert_read_bytes"] / tokens) if tokens else None,
            "disk_gb_per_second": round(change["expert_read_bytes"] / (last - first) / 1e9, 3),
            "hit_rate": round(hits / (hits + misses), 4) if hits + misses else None,
            "experts_per_pass": round((hits + misses) / passes, 1) if passes else None,
            "misses_per_pass": round(misses / passes, 1) if passes else None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--case", default="")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--alike", action="store_true")
    parser.add_argument("--vocab", type=int, default=30000)
    options = parser.parse_args()
    url = urllib.parse.urlparse(options.url)
    measure((url.hostname, url.port), 1, options)  # what the cache can hold is there from now on
    for n in options.streams:
        print(json.dumps(measure((url.hostname, url.port), n, options)), flush=True)


main()
