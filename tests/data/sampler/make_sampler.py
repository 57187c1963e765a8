#!/usr/bin/env python3
"""Write expected.txt: what the sampler must pick, computed here on its own (plain Python, whole lists, no heap).

usage: make_sampler.py > expected.txt; make_sampler.py penalties > penalties.txt
A line: temperature top_k top_p min_p repeat_penalty seed vocab | the ids picked, each accepted before the next.
In penalties.txt: temperature top_k top_p min_p repeat_penalty presence frequency seed vocab mask bias | ids: at step s the
tokens i with (i + s) % mask == 0 are forbidden (0: none), and token 7 k has a bias of `bias` times k % 5 - 2.
Logit i of step s is a hash of (vocab, s, i) as a multiple of 2^-16 in [-16, 16): exact in float32.
"""
import math
import struct
import sys

MASK = (1 << 64) - 1


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


class Xoshiro256StarStar:
    def __init__(self, seed):
        self.s = []
        for _ in range(4):
            seed = seed + 0x9E3779B97F4A7C15 & MASK
            self.s.append(mix(seed))

    def next(self):
        s, rotl = self.s, lambda x, k: (x << k | x >> 64 - k) & MASK
        result, t = rotl(s[1] * 5 & MASK, 7) * 9 & MASK, s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 45)
        return result

    def uniform(self):
        return (self.next() >> 11) * 2.0**-53


def logits(vocab, step):
    return [((mix((vocab << 40 ^ step << 24 ^ i) + 1 & MASK) >> 43) - (1 << 20)) / 65536 for i in range(vocab)]


def pick(o, rng, history, values, allowed=lambda i: True):
    values = [f32(v + f32(o.get("bias", 0) * (i // 7 % 5 - 2))) if i % 7 == 0 else v for i, v in enumerate(values)]
    for i in set(history[-64:]):
        values[i] = f32(values[i] / o["penalty"]) if values[i] > 0 else f32(values[i] * o["penalty"])
    for i in set(history):
        values[i] = f32(values[i] - f32(f32(history.count(i) * o.get("frequency", 0)) + o.get("presence", 0)))
    order = sorted(filter(allowed, range(len(values))), key=lambda i: (-values[i], i))
    if o["temp"] == 0:
        return order[0]
    if o["top_k"] > 0:
        order = order[: o["top_k"]]
    top = values[order[0]]
    if o["top_p"] < 1:
        shares, total, upto = [math.exp(values[i] - top) for i in order], 0.0, 0
        whole = sum(shares)
        for s in shares:
            total += s
            upto += 1
            if total >= o["top_p"] * whole:
                break
        order = order[:upto]
    if o["min_p"] > 0:
        order = [i for i in order if i == order[0] or values[i] - top >= math.log(o["min_p"])]
    shares = [math.exp((values[i] - top) / o["temp"]) for i in order]
    point = rng.uniform() * sum(shares)
    for i, s in zip(order, shares):
        point -= s
        if point < 0:
            return i
    return order[-1]


CASES = [
    (0.8, 40, 0.95, 0.05, 1.0, 1, 1000),
    (0.8, 40, 0.95, 0.05, 1.0, 2, 1000),
    (0.8, 40, 0.95, 0.05, 1.1, 12345678901234567890, 1000),
    (0, 40, 0.95, 0.05, 1.0, 7, 500),
    (0, 0, 1, 0, 1.5, 7, 40),
    (1.0, 0, 1, 0, 1.0, 3, 300),
    (1.5, 0, 0.9, 0, 1.0, 4, 5000),
    (2.0, 0, 1, 0.02, 1.3, 5, 800),
    (1.0, 1, 1, 0, 1.0, 6, 100),
    (5.0, 3, 1, 0, 1.0, 0, 100),
    (0.1, 100, 0.5, 0.5, 1.0, 8, 64),
    (1.0, 7, 0.999, 0, 0.5, 9, 20),
]
PENALTIES = [
    (0.8, 40, 0.95, 0.05, 1.0, 0.6, 0.4, 1, 300, 0, 0),
    (0, 0, 1, 0, 1.0, 2.0, 1.5, 2, 20, 0, 0),
    (1.0, 0, 1, 0, 1.0, -1.5, 0, 3, 30, 0, 0),
    (1.2, 10, 0.9, 0.01, 1.3, 0.5, 0.25, 4, 100, 3, 0),
    (0, 0, 1, 0, 1.0, 0, 0, 5, 200, 2, 0),
    (1.0, 50, 1, 0, 1.0, 0, 0, 6, 500, 5, 4.5),
    (0, 5, 1, 0, 1.1, 0.1, 0.9, 7, 64, 7, 10),
    (2.0, 0, 0.99, 0, 1.0, 0, 2.0, 8, 40, 4, -100),
]
if sys.argv[1:] == ["penalties"]:
    for case in PENALTIES:
        temp, top_k, top_p, min_p, penalty, presence, frequency, seed, vocab, mask, bias = case
        o = dict(temp=f32(temp), top_k=top_k, top_p=f32(top_p), min_p=f32(min_p), penalty=f32(penalty), presence=f32(presence),
                 frequency=f32(frequency), bias=f32(bias))
        rng, history = Xoshiro256StarStar(seed), []
        for step in range(100):
            history.append(pick(o, rng, history, logits(vocab, step), lambda i: not mask or (i + step) % mask))
        print(*case, "|", *history)
    sys.exit()
for case in CASES:
    temp, top_k, top_p, min_p, penalty, seed, vocab = case
    o = dict(temp=f32(temp), top_k=top_k, top_p=f32(top_p), min_p=f32(min_p), penalty=f32(penalty))
    rng, history = Xoshiro256StarStar(seed), []
    for step in range(100):
        history.append(pick(o, rng, history, logits(vocab, step)))
    print(*case, "|", *history)
