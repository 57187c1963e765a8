#!/usr/bin/env python3
"""Streams from a running server: how many tokens a second all of them get, what lies between two tokens of one, and what was
read for it. Prints one line of JSON for each number of streams. Standard library only.

usage: serve_load.py URL [--case NAME] [--streams 1 2 4 8 16] [--tokens 64] [--prompt 16] [--vocab 30000]
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
    """One answer of `tokens` tokens to a prompt of random ids."""

    def __init__(self, address, ids, tokens):
        super().__init__()
        self.address, self.times, self.last, self.failure = address, [], {}, None
        self.body = json.dumps({"prompt": ids, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
                                "cache_prompt": False, "logprobs": 0, "stream_options": {"include_usage": True}})

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

    def event(self, event):
        if "error" in event:
            raise RuntimeError(event["error"])
        if event.get("usage"):
            self.last = event
        for choice in event["choices"]:
            # with log probabilities a chunk says how many tokens it brings: some bring none, some several
            tokens = len((choice.get("logprobs") or {}).get("tokens") or [])
            if tokens:
                self.times += [time.monotonic()] * tokens


def counters(address):
    """The counters of /metrics; {} where there is none."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        return {}
    return {name: float(value) for name, value in re.findall(r"^(odmoe_\w+) ([0-9.eE+-]+)$", text, re.M)}


def quantile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))] if values else None


def measure(address, n, options):
    random.seed(n)
    streams = [Stream(address, [random.randrange(300, options.vocab) for _ in range(options.prompt)], options.tokens)
               for _ in range(n)]
    before = counters(address)
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    after = counters(address)
    for stream in streams:
        if stream.failure:
            sys.exit(f"serve_load.py: {n} streams: {stream.failure}")

    # From the moment that all are decoding to the moment that the first one ends: all n are in every pass.
    first, last = max(s.times[0] for s in streams), min(s.times[-1] for s in streams)
    during = [t for s in streams for t in s.times if first < t <= last]
    gaps = [b - a for s in streams for a, b in zip(s.times, s.times[1:]) if first <= a and b <= last and b > a]
    sampled = sum(s.last["usage"]["completion_tokens"] for s in streams)
    read = sum(s.last.get("timings", {}).get("expert_bytes_read", 0) for s in streams)
    change = {name: after[name] - before.get(name, 0) for name in after}
    hits, misses = change.get("odmoe_expert_hits_total"), change.get("odmoe_expert_misses_total")
    return {"case": options.case, "streams": n, "tokens": sampled,
            "tokens_per_second": round(len(during) / (last - first), 3) if last > first else None,
            "gap_median_ms": round(1000 * statistics.median(gaps), 2) if gaps else None,
            "gap_p95_ms": round(1000 * quantile(gaps, 0.95), 2) if gaps else None,
            "bytes_per_token": round(read / sampled),
            "hit_rate": round(hits / (hits + misses), 4) if hits is not None and hits + misses else None,
            "misses_per_pass": round(misses / change["odmoe_passes_total"], 1) if change.get("odmoe_passes_total") else None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--case", default="")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=30000)
    options = parser.parse_args()
    url = urllib.parse.urlparse(options.url)
    measure((url.hostname, url.port), 1, options)  # what the cache can hold is there from now on
    for n in options.streams:
        print(json.dumps(measure((url.hostname, url.port), n, options)), flush=True)


main()
