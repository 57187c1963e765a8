#!/usr/bin/env python3
"""Print the rows of the table in src/text/unicode_versions.c: what properties of Unicode have in the version of PyPI's
`tokenizers` (Oniguruma) and lack in the PCRE2 of this system.

usage: make_unicode_classes.py    (needs PyPI `tokenizers`, and a libpcre2-8 with Unicode 14, as 10.40 to 10.42 have)
"""
import ctypes

from tokenizers import Regex, pre_tokenizers

UTF_UCP = 0x00080000 | 0x00020000
CATEGORIES = "L M N P S Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
BINARY = "Alphabetic Uppercase Lowercase Ideographic Emoji".split()
SCRIPTS = "Arabic Balinese Bengali Common Cyrillic Devanagari Greek Han Hangul Hebrew Hiragana Inherited Kannada Katakana Khmer Khojki Lao Latin Myanmar Tamil Telugu Thai".split()

POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, POINTS))

pcre = ctypes.CDLL("libpcre2-8.so.0")
pcre.pcre2_compile_8.restype = pcre.pcre2_match_data_create_8.restype = ctypes.c_void_p
pcre.pcre2_compile_8.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32] + [ctypes.c_void_p] * 3
pcre.pcre2_match_8.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint32] + [ctypes.c_void_p] * 2
pcre.pcre2_match_data_create_8.argtypes = [ctypes.c_uint32, ctypes.c_void_p]
match_data = pcre.pcre2_match_data_create_8(1, None)


def oniguruma(name):
    split = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed", invert=True)
    return {ord(c) for i in range(0, len(TEXT), 65536) for word, _ in split.pre_tokenize_str(TEXT[i : i + 65536]) for c in word}


def pcre2(name):
    fault, at, text = ctypes.c_int(), ctypes.c_size_t(), (r"\p{%s}" % name).encode()
    code = pcre.pcre2_compile_8(text, len(text), UTF_UCP, ctypes.byref(fault), ctypes.byref(at), None)
    found = lambda b: pcre.pcre2_match_8(code, b, len(b), 0, 0, match_data, None) >= 0
    return {c for c in POINTS if found(chr(c).encode())}


def row(name, shown):
    runs = []
    for c in sorted(oniguruma(name) - pcre2(shown)):
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    parts = [r"\\x{%X}" % a if a == b else r"\\x{%X}-\\x{%X}" % (a, b) for a, b in runs]
    lines, line = [], ""
    for p in parts:
        if len(line) + len(p) > 100:
            lines.append(line)
            line = ""
        line += p
    if parts:
        print('    {"%s",\n%s},' % (shown, "\n".join('     "%s"' % x for x in lines + [line])))


for n in CATEGORIES + BINARY:
    row(n, n)
for n in SCRIPTS:
    row(n, "sc:" + n)
