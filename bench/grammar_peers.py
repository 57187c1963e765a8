#!/usr/bin/env python3
"""Masks of a token beside those of llguidance and xgrammar (pip install llguidance xgrammar numpy), in one process, interleaved.

usage: grammar_peers.py build/libodmoe.so VOCABULARY.gguf SCHEMA.json TEXT.json [REPEATS]
For each token of the text, which meets the schema: the mask is computed, then the token accepted. Each repeat compiles anew in each
program; the programs take turns. One thread. Python's own share (a call through ctypes or the package's binding, some microseconds) is
in all figures. xgrammar imports torch and transformers; where they are missing stand-ins lend it the few names that its matcher uses."""
import ctypes as C
import json
import sys
import time
import types


class Odmoe:
    name = "odmoe"

    def __init__(self, library, vocabulary):
        self.lib = C.CDLL(library)
        self.lib.odmoe_grammar_vocab_bytes.restype = C.c_uint64
        self.err = C.create_string_buffer(600)
        self.tokenizer, self.vocab = C.c_void_p(), C.c_void_p()
        self.check(self.lib.odmoe_tokenizer_open(vocabulary.encode(), C.byref(self.tokenizer), self.err))
        start = time.perf_counter()
        self.check(self.lib.odmoe_grammar_vocab_create(self.tokenizer, C.byref(self.vocab), self.err))
        print(f"odmoe: tree of {self.lib.odmoe_grammar_vocab_bytes(self.vocab) / 1e6:.1f} MB in {time.perf_counter() - start:.2f} s")
        self.count = self.lib.odmoe_vocab_size(self.tokenizer)
        self.words = (self.count + 31) // 32
        self.mask = (C.c_uint32 * self.words)()

    def check(self, status):
        if status:
            raise RuntimeError(self.err.raw[4:].split(b"\0")[0].decode())

    def encode(self, text):
        data, n = text.encode(), C.c_size_t()
        ids = (C.c_int32 * len(data))()
        self.check(self.lib.odmoe_tokenize(self.tokenizer, data, C.c_size_t(len(data)), 0, ids, C.c_size_t(len(data)), C.byref(n), self.err))
        return list(ids[: n.value])

    def piece(self, i):
        n, out, one = C.c_size_t(), C.create_string_buffer(1024), C.c_int32(i)
        self.check(self.lib.odmoe_detokenize(self.tokenizer, C.byref(one), C.c_size_t(1), out, C.c_size_t(1024), C.byref(n), self.err))
        return out.raw[: n.value]

    def begin(self, schema):
        self.grammar, self.state = C.c_void_p(), C.c_void_p()
        data = schema.encode()
        self.check(self.lib.odmoe_grammar_compile(self.vocab, 1, data, C.c_size_t(len(data)), None, C.byref(self.grammar), None, self.err))
        self.check(self.lib.odmoe_grammar_state_create(self.grammar, C.byref(self.state), self.err))

    def fill(self):
        self.check(self.lib.odmoe_grammar_mask(self.state, self.mask, C.c_size_t(self.words), self.err))

    def accept(self, i):
        self.check(self.lib.odmoe_grammar_accept(self.state, C.c_int32(i), self.err))

    def allows(self, i):
        return self.mask[i // 32] >> i % 32 & 1

    def end(self):
        self.lib.odmoe_grammar_state_free(self.state)
        self.lib.odmoe_grammar_free(self.grammar)


class LlGuidance:
    name = "llguidance"

    def __init__(self, tokens, eos, encode):
        import llguidance
        import numpy
        self.ll = llguidance
        self.mask = numpy.zeros((len(tokens) + 31) // 32, dtype=numpy.uint32)

        class Source:
            eos_token_id, bos_token_id, special_token_ids = eos, None, [eos]

            def __call__(self, s):
                return encode(s.decode() if isinstance(s, bytes) else s)

        Source.tokens = tokens
        self.tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Source()), slices=llguidance.LLTokenizer.json_slices())

    def begin(self, schema):
        grammar = self.ll.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": " ?"})
        self.matcher = self.ll.LLMatcher(self.tokenizer, grammar)
        if self.matcher.is_error():
            raise RuntimeError(self.matcher.get_error())

    def fill(self):
        self.matcher.unsafe_compute_mask_ptr(self.mask.ctypes.data, self.mask.nbytes)

    def accept(self, i):
        if not self.matcher.consume_token(i):
            raise RuntimeError(f"token {i} is not accepted")

    def allows(self, i):
        return int(self.mask[i // 32]) >> i % 32 & 1

    def end(self):
        self.matcher = None


def stand_in(name, **members):
    """A module that is not installed, with the few names that xgrammar wants of it."""
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        for member, value in members.items():
            setattr(sys.modules[name], member, value)


class XGrammar:
    name = "xgrammar"

    def __init__(self, tokens, eos, encode):
        import numpy
        import tvm_ffi  # noqa: F401  # looks for torch itself, so that the stand-ins come behind it
        stand_in("torch", Tensor=numpy.ndarray, LongTensor=numpy.ndarray, FloatTensor=numpy.ndarray, int32=numpy.int32, tensor=lambda v, dtype=None: numpy.array(v, dtype),
                 full=lambda shape, v, dtype=None: numpy.full(shape, v, dtype))
        stand_in("transformers", PreTrainedTokenizerBase=type("Base", (), {}), PreTrainedTokenizerFast=type("Fast", (), {}),
                 LogitsProcessor=object)
        import xgrammar
        self.x = xgrammar
        self.info = xgrammar.TokenizerInfo([t if t else b"<none>" for t in tokens], vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[eos])
        self.mask = numpy.zeros((1, (len(tokens) + 31) // 32), dtype=numpy.int32)

    def begin(self, schema):
        compiler = self.x.GrammarCompiler(self.info, max_threads=1, cache_enabled=False)
        self.matcher = self.x.GrammarMatcher(compiler.compile_json_schema(schema, any_whitespace=True, max_whitespace_cnt=1))

    def fill(self):
        self.matcher.fill_next_token_bitmask(self.mask)

    def accept(self, i):
        if not self.matcher.accept_token(i):
            raise RuntimeError(f"token {i} is not accepted")

    def allows(self, i):
        return int(self.mask[0, i // 32]) >> i % 32 & 1

    def end(self):
        self.matcher = None


def shown(times):
    times = sorted(times)
    n = len(times)
    return f"median {1e6 * times[n // 2]:9.1f}  mean {1e6 * sum(times) / n:9.1f}  90% {1e6 * times[n * 9 // 10]:9.1f}  99% {1e6 * times[n * 99 // 100]:9.1f}  most {1e6 * times[-1]:9.1f}"


def main():
    library, vocabulary, schema, text = sys.argv[1:5]
    repeats = int(sys.argv[5]) if len(sys.argv) > 5 else 10
    schema, text = open(schema).read(), open(text).read().strip()
    ours = Odmoe(library, vocabulary)
    ids = ours.encode(text)
    tokens = [ours.piece(i) for i in range(ours.count)]
    eos = next(i for i in range(ours.count) if ours.lib.odmoe_token_is_end(ours.tokenizer, C.c_int32(i)))
    programs = [ours]
    for kind in (LlGuidance, XGrammar):
        try:
            programs.append(kind(tokens, eos, ours.encode))
        except Exception as e:  # whatever a package says when it does not run here
            print(f"{kind.name}: left out: {type(e).__name__}: {e}")
    masks, compiles = {p.name: [] for p in programs}, {p.name: [] for p in programs}
    clock = time.perf_counter
    for _ in range(repeats):
        for p in list(programs):
            try:
                start = clock()
                p.begin(schema)
                compiles[p.name].append(clock() - start)
                for i in ids:
                    start = clock()
                    p.fill()
                    masks[p.name].append(clock() - start)
                    if not p.allows(i):
                        raise RuntimeError(f"the mask lacks token {i}, {tokens[i]!r}")
                    p.accept(i)
                p.end()
            except Exception as e:
                print(f"{p.name}: left out: {type(e).__name__}: {e}")
                programs.remove(p)
    print(f"{len(ids)} tokens, {ours.count} in the vocabulary, {repeats} repeats; microseconds")
    for p in programs:
        print(f"{p.name:11} mask    {shown(masks[p.name])}")
        print(f"{'':11} compile {shown(compiles[p.name])}")


main()
