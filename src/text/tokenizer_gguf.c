/* The tokenizer of a GGUF file: metadata keys tokenizer.ggml.*. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/file.h"
#include "text/tokenizer_state.h"

#define KEY(name) "tokenizer.ggml." name

/* Values of tokenizer.ggml.token_type. */
enum { TYPE_UNDEFINED, TYPE_NORMAL, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

/* ---- pre-tokenizers: the published patterns, by the name in tokenizer.ggml.pre -------------------------------------
 * The expressions define the formats (they stand in the models' tokenizer.json): data, not code. */

#define CONTRACTIONS "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])"
#define WORDS_DIGITS(digits)                                                                               \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" \
                 "\\s+(?!\\S)|\\s+"
#define CASED_WORDS(ending, digits)                                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" ending             \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" ending "|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DEEPSEEK_CJK "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define DEEPSEEK_LETTERS                                                                                   \
    "\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"   \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}" \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"        \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"      \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"      \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-"       \
    "\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}"       \
    "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}"      \
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"         \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}"       \
    "\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}"        \
    "\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}"      \
    "\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"      \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-"      \
    "\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"

typedef struct pre_type {
    const char *names;       /* separated by blanks */
    const char *patterns[7]; /* one inside the other; up to NULL */
    bool whole_words, adds_bos;
    bool nfc; /* the model's own tokenizer.json begins with that; GGUF has no place for it */
} pre_type;

static const pre_type pre_types[] = {
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}, .whole_words = false},
    {"gpt-2 phi-2 mpt", {GPT2_PATTERN}, .whole_words = false},
    {"olmo", {GPT2_PATTERN}, .nfc = true},
    {"qwen2", {WORDS_DIGITS("\\p{N}")}, .nfc = true},
    {"deepseek-r1-qwen stablelm2 megrez", {WORDS_DIGITS("\\p{N}")}, .whole_words = false},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
     {WORDS_DIGITS("\\p{N}{1,3}")},
     .whole_words = true,
     .adds_bos = true},
    {"dbrx smaug-bpe glm4 chatglm-bpe", {WORDS_DIGITS("\\p{N}{1,3}")}, .whole_words = false},
    {"deepseek-llm",
     {"[\\r\\n]", DEEPSEEK_LETTERS,
      "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", "\\s+$",
      DEEPSEEK_CJK, "\\p{N}"},
     .whole_words = false},
    {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"}, .whole_words = false},
    {"deepseek-v3 hunyuan-dense",
     {"\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
      " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     .whole_words = false},
    {"gpt-4o llama4", {CASED_WORDS("(?:" CONTRACTIONS ")?", "\\p{N}{1,3}")}, .whole_words = false},
    {"tekken", {CASED_WORDS("", "\\p{N}")}, .whole_words = true, .adds_bos = true},
};

static bool names_contain(const char *names, gguf_text name)
{
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, " ");
        if (n == name.length && !memcmp(at, name.at, n))
            return true;
        at += n + (at[n] == ' ');
    }
    return false;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

typedef struct reader {
    const gguf *g;
    const char *path;
    tokenizer *t;
    odmoe_error *err;
} reader;

/* An optional id; `fallback` where the key is missing or names no token of the vocabulary. */
static odmoe_status read_id(const reader *r, const char *key, int64_t fallback, int64_t *out)
{
    *out = fallback;
    odmoe_status st = ODMOE_OK;
    if (gguf_has(r->g, key))
        st = gguf_get_int(r->g, key, INT32_MIN, UINT32_MAX, out, r->err);
    if (!st && (*out < 0 || *out >= (int64_t)r->t->model.vocab.count))
        *out = fallback < (int64_t)r->t->model.vocab.count ? fallback : -1;
    return st;
}

static odmoe_status read_flag(const reader *r, const char *key, bool fallback, bool *out)
{
    *out = fallback;
    return gguf_has(r->g, key) ? gguf_get_bool(r->g, key, out, r->err) : ODMOE_OK;
}

static odmoe_status read_text(const reader *r, const char *key, gguf_text *out)
{
    *out = (gguf_text){"", 0};
    return gguf_has(r->g, key) ? gguf_get_text(r->g, key, out, r->err) : ODMOE_OK;
}

/* The array `key` with exactly `count` elements. */
static odmoe_status check_array(const reader *r, const char *key, uint64_t count)
{
    gguf_type type;
    uint64_t n;
    odmoe_status st = gguf_get_array(r->g, key, &type, &n, r->err);
    if (!st && n != count)
        st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: %s has %llu elements for %llu tokens", r->path, key,
                     (unsigned long long)n, (unsigned long long)count);
    return st;
}

/* A byte stays a byte, whatever type a file gives it: without it the byte would vanish from every text. A byte of a
 * byte-level vocabulary is a word like any other. Some files call tokens that control the model user tokens, or words;
 * they are special all the same, or any text could hold them. */
static token_kind kind_of(int64_t type, gguf_text text, bool byte_level)
{
    if (!text.length)
        return TOKEN_MISSING;
    if (byte_level && vocab_is_byte_sign(text.at, text.length))
        return TOKEN_WORD;
    if (!byte_level && type != TYPE_NORMAL && vocab_byte_token(text.at, text.length) >= 0)
        return TOKEN_BYTE;
    if (tokenizer_ends_turn(text.at, text.length) || (type == TYPE_USER && names_contain("<s> </s>", text)))
        return TOKEN_SPECIAL;
    switch (type) {
    case TYPE_UNKNOWN:
    case TYPE_CONTROL:
        return TOKEN_SPECIAL;
    case TYPE_USER:
        return TOKEN_NAME;
    case TYPE_BYTE:
        return byte_level ? TOKEN_WORD : TOKEN_BYTE;
    default:
        return TOKEN_WORD;
    }
}

static odmoe_status read_tokens(const reader *r, bool byte_level)
{
    vocab *v = &r->t->model.vocab;
    gguf_type type;
    uint64_t count;
    odmoe_status st = gguf_get_array(r->g, KEY("tokens"), &type, &count, r->err);
    if (!st && !count)
        st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: %s is empty", r->path, KEY("tokens"));
    bool typed = gguf_has(r->g, KEY("token_type"));
    if (!st && typed)
        st = check_array(r, KEY("token_type"), count);
    char where[ODMOE_ERROR_MESSAGE_MAX / 2];
    snprintf(where, sizeof where, "%s: %s", r->path, KEY("tokens"));
    for (uint64_t i = 0; !st && i < count; i++) {
        gguf_text text;
        int64_t number = TYPE_NORMAL;
        st = gguf_array_text(r->g, KEY("tokens"), i, &text, r->err);
        if (!st && typed)
            st = gguf_array_int(r->g, KEY("token_type"), i, &number, r->err);
        if (st)
            break;
        token_kind kind = kind_of(number, text, byte_level);
        bool alphabet = byte_level && (kind != TOKEN_NAME || vocab_spells_text(text.at, text.length));
        st = vocab_add(v, text.at, text.length, kind, alphabet, where, r->err);
    }
    return st ? st : vocab_seal(v, r->err);
}

static odmoe_status read_scores(const reader *r)
{
    vocab *v = &r->t->model.vocab;
    odmoe_status st = check_array(r, KEY("scores"), v->count);
    if (!st && !(v->scores = mem_calloc(v->count, sizeof *v->scores, "token scores", r->err)))
        st = ODMOE_ERR_MEMORY;
    for (uint32_t i = 0; !st && i < v->count; i++) {
        double score;
        st = gguf_array_float(r->g, KEY("scores"), i, &score, r->err);
        if (!st && isnan(score))
            st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: %s: token %u has no number", r->path, KEY("scores"), i);
        if (!st)
            v->scores[i] = (float)score;
    }
    return st;
}

static odmoe_status read_merges(const reader *r)
{
    gguf_type type;
    uint64_t count;
    odmoe_status st = gguf_get_array(r->g, KEY("merges"), &type, &count, r->err);
    char where[ODMOE_ERROR_MESSAGE_MAX / 2];
    snprintf(where, sizeof where, "%s: %s", r->path, KEY("merges"));
    for (uint64_t i = 0; !st && i < count; i++) {
        gguf_text text;
        st = gguf_array_text(r->g, KEY("merges"), i, &text, r->err);
        if (st)
            break;
        /* "left right"; a blank as the very first byte belongs to the left one */
        const char *blank = text.length > 2 ? memchr(text.at + 1, ' ', text.length - 1) : NULL;
        if (!blank)
            return err_set(r->err, ODMOE_ERR_FORMAT, "%s: merge %llu is not a pair", where, (unsigned long long)i);
        size_t left = (size_t)(blank - text.at);
        st = vocab_add_merge(&r->t->model.vocab, text.at, left, blank + 1, text.length - left - 1, true, where, r->err);
    }
    return st ? st : vocab_seal_merges(&r->t->model.vocab, r->err);
}

/* GGUF has no place for "takes white space along", which Phi-3's tokens do: the names llama.cpp goes by. */
static odmoe_status is_phi3(const reader *r, bool *out)
{
    gguf_text name;
    odmoe_status st = read_text(r, "general.name", &name);
    *out = false;
    for (size_t i = 0; !st && i + 4 <= name.length; i++)
        *out |= !strncasecmp(name.at + i, "phi3", 4) || (i + 5 <= name.length && !strncasecmp(name.at + i, "phi-3", 5));
    return st;
}

/* Is token `id` looked for in the text as it stands? Those of the user and of the model's control are. */
static odmoe_status is_added(const reader *r, uint32_t id, bool *added, bool *special)
{
    int64_t type = TYPE_NORMAL;
    odmoe_status st = ODMOE_OK;
    if (gguf_has(r->g, KEY("token_type")))
        st = gguf_array_int(r->g, KEY("token_type"), id, &type, r->err);
    *special = r->t->model.vocab.kinds[id] == TOKEN_SPECIAL || type == TYPE_CONTROL || type == TYPE_UNKNOWN;
    *added = *special || type == TYPE_USER;
    return st;
}

static odmoe_status read_added(const reader *r)
{
    const vocab *v = &r->t->model.vocab;
    bool phi3;
    odmoe_status st = is_phi3(r, &phi3);
    for (uint32_t id = 0; !st && id < v->count; id++) {
        bool added, special;
        gguf_text text;
        st = is_added(r, id, &added, &special);
        if (!st && added)
            st = gguf_array_text(r->g, KEY("tokens"), id, &text, r->err);
        if (st || !added)
            continue;
        added_token token = {.id = (int32_t)id,
                             .special = special,
                             .strip_right = phi3 && !names_contain("<unk> <s> <|endoftext|>", text)};
        st = added_add(&r->t->added, &token, text.at, text.length, r->err);
        if (st)
            err_context(r->err, "%s: %s", r->path, KEY("tokens"));
    }
    return st;
}

static odmoe_status read_special_ids(const reader *r, bool scored, bool adds_bos)
{
    static const char *const end_keys[] = {KEY("eos_token_id"),     KEY("eot_token_id"),     KEY("eom_token_id"),
                                           KEY("fim_pad_token_id"), KEY("fim_rep_token_id"), KEY("fim_sep_token_id")};
    int64_t id;
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; !st && i < sizeof end_keys / sizeof *end_keys; i++) {
        st = read_id(r, end_keys[i], scored && i == 0 ? 2 : -1, &id);
        if (!st)
            tokenizer_add_end(r->t, id);
    }
    if (!st)
        st = read_id(r, KEY("bos_token_id"), scored ? 1 : -1, &id);
    if (st)
        return st;
    r->t->bos = (int32_t)id;
    st = read_flag(r, KEY("add_bos_token"), adds_bos, &adds_bos);
    if (!st && adds_bos && r->t->bos >= 0)
        r->t->starts[r->t->start_count++] = r->t->bos;
    if (!st)
        st = read_id(r, KEY("unknown_token_id"), scored ? 0 : -1, &id);
    r->t->model.unknown = (int32_t)id;
    return st;
}

static odmoe_status add_normalize(tokenizer *t, normalize_kind kind, const char *from, const char *to, odmoe_error *err)
{
    normalize_step *step = &t->normalize[t->normalize_count++];
    step->kind = kind;
    step->length = strlen(to);
    step->text = mem_strdup(to, step->length, err);
    if (!step->text)
        return ODMOE_ERR_MEMORY;
    return from ? pattern_compile(from, strlen(from), true, "blanks", &step->pattern, err) : ODMOE_OK;
}

/* tokenizer.ggml.model "gpt2": byte-level BPE. */
static odmoe_status read_bpe(const reader *r)
{
    gguf_text pre;
    const pre_type *type = NULL;
    odmoe_status st = read_text(r, KEY("pre"), &pre);
    if (st)
        return st;
    if (!pre.length)
        pre = (gguf_text){"default", 7};
    for (size_t i = 0; i < sizeof pre_types / sizeof *pre_types; i++)
        if (names_contain(pre_types[i].names, pre))
            type = &pre_types[i];
    if (!type)
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: %s \"%.*s\" is not known", r->path, KEY("pre"),
                       (int)(pre.length < 100 ? pre.length : 100), pre.at);
    st = read_tokens(r, true);
    if (!st)
        st = read_merges(r);
    for (size_t i = 0; !st && i < sizeof type->patterns / sizeof *type->patterns && type->patterns[i]; i++)
        st = tokenizer_add_pattern(r->t, type->patterns[i], KEY("pre"), r->err);
    if (st)
        return st;
    if (type->nfc)
        r->t->normalize[r->t->normalize_count++].kind = NORMALIZE_NFC;
    r->t->model.byte_symbols = true;
    r->t->model.whole_words = type->whole_words;
    tokenizer_find_bytes(r->t, true);
    return read_special_ids(r, false, type->adds_bos);
}

/* tokenizer.ggml.model "llama": SentencePiece's pieces and scores. */
static odmoe_status read_scored(const reader *r)
{
    tokenizer *t = r->t;
    odmoe_status st = read_tokens(r, false);
    if (!st)
        st = read_scores(r);
    bool prefix = true;
    if (!st)
        st = read_flag(r, KEY("add_space_prefix"), true, &prefix);
    if (!st && prefix)
        st = add_normalize(t, NORMALIZE_PREPEND, NULL, BLANK_MARK, r->err);
    if (!st)
        st = add_normalize(t, NORMALIZE_REPLACE, " ", BLANK_MARK, r->err);
    if (!st)
        st = tokenizer_split_at_marks(t, r->err);
    if (st)
        return st;
    t->model.scored = true;
    t->model.byte_fallback = true;
    t->marks_are_blanks = true;
    t->strips_space = prefix;
    tokenizer_find_bytes(t, false);
    return read_special_ids(r, true, true);
}

odmoe_status tokenizer_from_gguf(const gguf *g, const char *path, tokenizer **out, odmoe_error *err)
{
    tokenizer *t = mem_calloc(1, sizeof *t, "a tokenizer", err);
    if (!t)
        return ODMOE_ERR_MEMORY;
    t->bos = t->model.unknown = -1;
    reader r = {g, file_label(path), t, err};
    gguf_text model = {0};
    odmoe_status st = ODMOE_OK;
    if (!gguf_has(g, KEY("model")))
        st = err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: has no tokenizer (%s is missing)", r.path, KEY("model"));
    if (!st)
        st = gguf_get_text(g, KEY("model"), &model, err);
    if (!st && names_contain("none", model))
        st = err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: has no tokenizer (%s is \"none\")", r.path, KEY("model"));
    else if (!st && names_contain("gpt2", model))
        st = read_bpe(&r);
    else if (!st && names_contain("llama", model))
        st = read_scored(&r);
    else if (!st)
        st = err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s \"%.*s\" is not known; gpt2 and llama are", r.path,
                     KEY("model"), (int)(model.length < 100 ? model.length : 100), model.at);
    if (!st)
        st = read_added(&r);
    if (st) {
        tokenizer_free(t);
        return st;
    }
    tokenizer_finish(t);
    *out = t;
    return ODMOE_OK;
}
