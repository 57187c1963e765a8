#!/usr/bin/env python3
"""Write small tokenizer.json files of many kinds and what the `tokenizers` package makes of hostile texts with them.

usage: make_json.py       (needs PyPI `tokenizers`; reads ../../heldout/*.txt to train on; writes beside itself)
texts.json          the texts
KIND/tokenizer.json a tokenizer (KIND demo-hf is ../../demo-hf)
KIND/expected.json  {"plain": ids without special tokens, "special": ids with special tokens recognised and start tokens,
                     "text": what "plain" decodes to}, one entry a text
"""
import glob
import json
import os
import random

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "wx", "<|user|>", "<think>", "word", "[MASK]", "<0x0A>", " ,x"]


def texts():
    r = random.Random(1)
    parts = [" ", "  ", "\n", "\r\n", "\t", "a", "B", "the", " The", "ing", "'s", "'S", "'ſ", "'LL", "'re", "1", "22", "333", "½", "²", "Ⅷ"]
    parts += ["٣", "é", "e\u0301", "Å", "\u212b", "ﬁ", "ß", "İ", "中", "文字", "ひら", "カタ", "한국", "\u1112\u1161\u11ab", "🦙", "👨\u200d👩\u200d👧"]
    parts += ["\u200b", "\u180e", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\u2581", "_", "-", "--", "!", "?!", "...", "<", "|", ">", "$", "+"]
    parts += ["^", "~", "`", "«", "»", "。", "，", "й", "Ж", "ѐ", "ا", "ك", "ि", "क", "\u0300", "\u0345", "\u0301\u0327", "\U0001d400", "ǅ", "ʰ", "ª"]
    parts += ["µ", "\x00", "\x01", "\x7f", "\ufeff", "\ufffd", "def f(x):", "http://a.b/c?d=e", "\\", '"', "(", ")", "[", "]", "{", "}", "#", "@"]
    out = ["", *parts, *SPECIALS]
    for i in range(260):
        n = r.choice([1, 2, 3, 5, 8, 13])
        pool = parts + SPECIALS * (i % 3)
        out.append("".join(r.choice(pool) if r.random() < 0.8 else chr(r.choice([r.randrange(32, 127), r.randrange(0xA0, 0x600), r.randrange(0x800, 0xD7FF), r.randrange(0x1F300, 0x1FA00)])) for _ in range(n)))
    out += [" " * k for k in (2, 3, 4, 7, 8, 16, 17)] + ["\n" * k for k in (2, 3, 5)] + ["a" * 100, " a" * 20, "\n \n" * 7, "=" * 40, "\u0327\u0301" * 20]
    # Assigned after Unicode 13: older tables of letters and marks than the package's may see them differently.
    return [t for t in out if not any(0x1DFA <= ord(c) <= 0x1DFF or 0x1C80 <= ord(c) <= 0x1C8A or 0x061D <= ord(c) <= 0x061D for c in t)]


def added(content, special=True, **kw):
    return dict(content=content, special=special, **{k: kw.get(k, False) for k in ("single_word", "lstrip", "rstrip", "normalized")})


def trained(pre, vocab, alphabet=()):
    """vocab and merges of a BPE trained behind the pre-tokenizer `pre`."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    lines = [line for f in sorted(glob.glob(HERE + "/../../heldout/*.txt")) for line in open(f, encoding="utf8")][::7]
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=list(alphabet), show_progress=False))
    model = json.loads(t.to_str())["model"]
    return model["vocab"], model["merges"]


def write(kind, model, adds, normalizer=None, pre=None, post=None, decoder=None, merges="pairs"):
    """Assemble tokenizer.json and let the package run it."""
    vocab, next_id = model["vocab"], 1 + max(model["vocab"].values())
    rows = []
    for a in adds:
        id = vocab.get(a["content"], next_id)
        next_id += id == next_id
        rows.append(dict(id=id, **a))
    state = lambda x: json.loads(x.__getstate__()) if x is not None else None
    if merges == "strings":
        model = dict(model, merges=[" ".join(m) for m in model["merges"]])
    base = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False)
    root = dict(version="1.0", truncation=None, padding=None, added_tokens=rows, normalizer=state(normalizer), pre_tokenizer=state(pre), post_processor=post, decoder=state(decoder), model=dict(base, **model))
    os.makedirs(f"{HERE}/{kind}", exist_ok=True)
    with open(f"{HERE}/{kind}/tokenizer.json", "w", encoding="utf8") as f:
        json.dump(root, f, ensure_ascii=False, separators=(",", ":"))
    expect(kind, f"{HERE}/{kind}/tokenizer.json")


def expect(kind, path, without=None):
    """The ids of all texts; null for those that hold `without`."""
    t = Tokenizer.from_file(path)
    rows = dict(plain=[], special=[], text=[])
    for text in TEXTS:
        t.encode_special_tokens = True
        plain = t.encode(text, add_special_tokens=False).ids
        t.encode_special_tokens = False
        rows["plain"].append(plain)
        rows["special"].append(t.encode(text, add_special_tokens=True).ids)
        rows["text"].append(t.decode(plain, skip_special_tokens=False))
        if without and without in text:
            for row in rows.values():
                row[-1] = None
    os.makedirs(f"{HERE}/{kind}", exist_ok=True)
    with open(f"{HERE}/{kind}/expected.json", "w", encoding="utf8") as f:
        json.dump(rows, f, ensure_ascii=False, separators=(",", ":"))
    print(kind, t.get_vocab_size(), sum(len(ids or []) for ids in rows["plain"]))


def template(*ids):
    """The post-processor that puts these (token, id) first."""
    return dict(
        type="TemplateProcessing",
        single=[{"SpecialToken": {"id": n, "type_id": 0}} for n, _ in ids] + [{"Sequence": {"id": "A", "type_id": 0}}],
        pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        special_tokens={n: {"id": n, "ids": [i], "tokens": [n]} for n, i in ids},
    )


def byte_fallback(vocab, merges, first=()):
    """The same vocabulary behind `first` and the 256 byte tokens."""
    names = [*first, *(f"<0x{i:02X}>" for i in range(256)), *sorted(vocab, key=vocab.get)]
    return dict(vocab={n: i for i, n in enumerate(dict.fromkeys(names))}, merges=merges)


TEXTS = texts()
with open(HERE + "/texts.json", "w", encoding="utf8") as f:
    json.dump(TEXTS, f, ensure_ascii=False, indent=0)

byte_level = lambda prefix, regex: pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
split = lambda p, behavior="isolated", invert=False: pre_tokenizers.Split(Regex(p), behavior, invert)
alphabet = pre_tokenizers.ByteLevel.alphabet()
vocab, merges = trained(pre_tokenizers.Sequence([split(LLAMA3), byte_level(False, False)]), 800, alphabet)
bytes_model = lambda **kw: dict(vocab=dict(vocab), merges=merges, **kw)
chat = [added("<|im_start|>"), added("<|im_end|>"), added("<s>"), added("</s>")]

expect("demo-hf", HERE + "/../../demo-hf/tokenizer.json")
write("gpt2", bytes_model(), chat, pre=byte_level(True, True), decoder=decoders.ByteLevel(), merges="strings")
write(
    "qwen3", bytes_model(), chat + [added("<think>", special=False)], normalizer=normalizers.NFC(),
    pre=pre_tokenizers.Sequence([split(QWEN2), byte_level(False, False)]), decoder=decoders.ByteLevel(),
)
write(
    "llama3", bytes_model(ignore_merges=True), chat, pre=pre_tokenizers.Sequence([split(LLAMA3), byte_level(False, False)]),
    post=dict(type="Sequence", processors=[dict(type="ByteLevel", add_prefix_space=True, trim_offsets=False, use_regex=True), template(("<s>", len(vocab) + 2))]),
    decoder=decoders.ByteLevel(),
)
write("gpt-4o", bytes_model(), chat, pre=pre_tokenizers.Sequence([split(GPT4O), byte_level(False, False)]), decoder=decoders.ByteLevel())
write(
    "deepseek-llm", bytes_model(), chat,
    pre=pre_tokenizers.Sequence(
        [split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(r"\s+$"), split("[一-龥ࠀ-一가-퟿]+"), pre_tokenizers.Digits(individual_digits=True), byte_level(False, False)]
    ),
    decoder=decoders.ByteLevel(), merges="strings",
)
write(
    "deepseek-v3", bytes_model(), chat + [added("<think>", special=False, normalized=True)], normalizer=normalizers.Sequence([]),
    pre=pre_tokenizers.Sequence(
        [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
         split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
         byte_level(False, False)]
    ),
    decoder=decoders.ByteLevel(),
)
write(
    "behaviors", bytes_model(), [],
    pre=pre_tokenizers.Sequence(
        [split(r"\p{N}+", "merged_with_previous"), split(r"\p{P}", "merged_with_next"), split(r"\p{Lu}", "contiguous"), split(r"[^\n]", "contiguous", True), split(r"_", "removed"), split(r"x*"), byte_level(False, True)]
    ),
    decoder=decoders.ByteLevel(),
)
write(
    "added", bytes_model(),
    [added("<s>", lstrip=True), added("</s>", rstrip=True), added("word", single_word=True), added("[MASK]", lstrip=True, rstrip=True, single_word=True),
     added("<think>", special=False, normalized=True), added("<|im", special=False), added("<|im_start|>"), added("<|im_end|>", normalized=True), added(" ,x", special=False), added("wx", special=False, normalized=True)],
    normalizer=normalizers.NFKC(), pre=pre_tokenizers.Sequence([split(QWEN2), byte_level(False, False)]), decoder=decoders.ByteLevel(),
)

mark = "\u2581"
sp_vocab, sp_merges = trained(pre_tokenizers.Metaspace(prepend_scheme="always"), 700)
llama = byte_fallback(sp_vocab, sp_merges, ["<unk>", "<s>", "</s>"])
llama_adds = [added("<unk>"), added("<s>"), added("</s>")]
sp_decoder = decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
prepend = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
write("llama2", dict(llama, byte_fallback=True, fuse_unk=True, unk_token="<unk>"), llama_adds, normalizer=prepend, post=template(("<s>", 1)), decoder=sp_decoder)
write(
    "phi3", dict(llama, byte_fallback=True, unk_token="<unk>"), [added("<unk>"), added("<s>"), added("</s>", special=False, rstrip=True), added("<|user|>", rstrip=True)],
    normalizer=prepend, decoder=sp_decoder, merges="strings",
)
write(
    "mistral", dict(llama, byte_fallback=True, fuse_unk=True, unk_token="<unk>"), llama_adds, pre=pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
    post=template(("<s>", 1)), decoder=sp_decoder,
)
write(
    "gemma", dict(llama, byte_fallback=True, fuse_unk=True, unk_token="<unk>"), llama_adds + [added("  ", special=False), added(mark * 3, special=False)], normalizer=normalizers.Replace(" ", mark),
    pre=split(" ", "merged_with_previous"), post=template(("<s>", 1)), decoder=decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse()]),
)
write(
    "normalized-specials", dict(llama, byte_fallback=True, unk_token="<unk>"), [added("<unk>", normalized=True), added("<s>", normalized=True), added("</s>", normalized=True), added("word", special=False, normalized=True)],
    normalizer=prepend, decoder=sp_decoder,
)
plain = dict(vocab={"<unk>": 0, **{w: i + 1 for w, i in sp_vocab.items()}}, merges=sp_merges, unk_token="<unk>")
write("metaspace-unknown", plain, [added("<unk>")], pre=pre_tokenizers.Metaspace(prepend_scheme="always"), decoder=decoders.Metaspace(prepend_scheme="always"))
write("metaspace-fused", dict(plain, fuse_unk=True), [added("<unk>")], normalizer=normalizers.NFD(), pre=pre_tokenizers.Metaspace(prepend_scheme="never", split=False), decoder=decoders.Metaspace(prepend_scheme="never"))
write("characters", dict(plain, unk_token=None), [], normalizer=normalizers.Replace(Regex(r"\s+"), " "), pre=pre_tokenizers.Sequence([]), decoder=decoders.Fuse())


def unigram(kind, adds, fallback, **steps):
    """A Unigram model, trained behind Metaspace; with `fallback` the bytes are tokens too, and unknown characters fall to them.

    The package makes control tokens of the vocabulary, and bytes, from their plain texts ("<s>", "<0x0A>"); odmoe never does. So the
    control tokens are none of the vocabulary here, the unknown token has a name that no text has, and no text with "<0x0A>" is compared."""
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    lines = [line for f in sorted(glob.glob(HERE + "/../../heldout/*.txt")) for line in open(f, encoding="utf8")][::7]
    t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=700, unk_token="<unknown>", special_tokens=["<unknown>"], show_progress=False))
    vocab = json.loads(t.to_str())["model"]["vocab"]
    if fallback:
        vocab = vocab[:1] + [[f"<0x{i:02X}>", 0.0] for i in range(256)] + vocab[1:]
    ids = {piece: i for i, (piece, _) in enumerate(vocab)}
    rows = [dict(id=ids.get(a["content"], len(ids) + n), **a) for n, a in enumerate(adds)]
    state = lambda x: json.loads(x.__getstate__()) if x is not None else None
    root = dict(version="1.0", truncation=None, padding=None, added_tokens=rows, normalizer=state(steps.get("normalizer")), pre_tokenizer=state(steps.get("pre")), post_processor=None, decoder=state(steps["decoder"]), model=dict(type="Unigram", unk_id=0, vocab=vocab, byte_fallback=fallback))
    os.makedirs(f"{HERE}/{kind}", exist_ok=True)
    with open(f"{HERE}/{kind}/tokenizer.json", "w", encoding="utf8") as f:
        json.dump(root, f, ensure_ascii=False, separators=(",", ":"))
    expect(kind, f"{HERE}/{kind}/tokenizer.json", "<0x0A>" if fallback else None)


unigram("unigram", [added("<s>"), added("</s>")], False, pre=pre_tokenizers.Metaspace(prepend_scheme="always"), decoder=decoders.Metaspace(prepend_scheme="always"))
unigram("unigram-bytes", [added("<s>"), added("</s>"), added("word", special=False)], True, normalizer=prepend, decoder=sp_decoder)
