/* The tokenizer of a GGUF file: metadata keys tokenizer.ggml.*. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/file.h"
#include "text/gguf_pretokenizers.h"
#include "text/tokenizer_state.h"

#define KEY(name) "tokenizer.ggml." name

/* Values of tokenizer.ggml.token_type. */
enum { TYPE_UNDEFINED, TYPE_NORMAL, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

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

/* Look for the token in the text as it stands, where it is the user's or the model's control. */
static odmoe_status add_named(const reader *r, uint32_t id, gguf_text text, token_kind kind, int64_t type, bool phi3)
{
    added_token token = {.id = (int32_t)id,
                         .special = kind == TOKEN_SPECIAL || type == TYPE_CONTROL || type == TYPE_UNKNOWN,
                         .strip_right = phi3 && !names_contain("<unk> <s> <|endoftext|>", text)};
    if (!token.special && type != TYPE_USER)
        return ODMOE_OK;
    odmoe_status st = added_add(&r->t->added, &token, text.at, text.length, r->err);
    if (st)
        err_context(r->err, "%s: %s", r->path, KEY("tokens"));
    return st;
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
    bool phi3 = false;
    if (!st)
        st = is_phi3(r, &phi3);
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
        if (byte_level && kind == TOKEN_NAME && !vocab_spells_text(text.at, text.length))
            kind = TOKEN_ADDED;
        st = vocab_add(v, text.at, text.length, kind, byte_level, where, r->err);
        if (!st)
            st = add_named(r, (uint32_t)i, text, kind, number, phi3);
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

static odmoe_status read_merges(const reader *r, bool byte_level)
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
        st = vocab_add_merge(&r->t->model.vocab, text.at, left, blank + 1, text.length - left - 1, byte_level, where,
                             r->err);
    }
    return st ? st : vocab_seal_merges(&r->t->model.vocab, r->err);
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

/* Blanks become U+2581, one of them before the text where the file asks for it. */
static odmoe_status add_marks(const reader *r, bool prefix)
{
    odmoe_status st = read_flag(r, KEY("add_space_prefix"), prefix, &prefix);
    if (!st && prefix)
        st = add_normalize(r->t, NORMALIZE_PREPEND, NULL, BLANK_MARK, r->err);
    if (!st)
        st = add_normalize(r->t, NORMALIZE_REPLACE, " ", BLANK_MARK, r->err);
    r->t->model.byte_fallback = true;
    r->t->marks_are_blanks = true;
    r->t->strips_space = prefix;
    return st;
}

/* BPE: of bytes, or of the characters of SentencePiece's texts. */
static odmoe_status read_bpe(const reader *r, const gguf_pretokenizer *pre)
{
    merge_model *m = &r->t->model;
    bool byte_level = !pre->marks;
    odmoe_status st = read_tokens(r, byte_level);
    m->by_id = pre->by_id && !gguf_has(r->g, KEY("merges"));
    if (!st && !m->by_id)
        st = read_merges(r, byte_level);
    if (!st && pre->marks)
        st = add_marks(r, false);
    for (size_t i = 0; !st && i < sizeof pre->patterns / sizeof *pre->patterns && pre->patterns[i]; i++)
        st = tokenizer_add_pattern(r->t, pre->patterns[i], KEY("pre"), r->err);
    if (st)
        return st;
    if (pre->nfc)
        r->t->normalize[r->t->normalize_count++].kind = NORMALIZE_NFC;
    m->byte_symbols = byte_level;
    m->whole_words = pre->whole_words;
    tokenizer_find_bytes(r->t, byte_level);
    return read_special_ids(r, false, pre->adds_bos);
}

/* tokenizer.ggml.model "gpt2": what tokenizer.ggml.pre says. */
static odmoe_status read_gpt2(const reader *r)
{
    gguf_text name;
    odmoe_status st = read_text(r, KEY("pre"), &name);
    if (st)
        return st;
    if (!name.length)
        name = (gguf_text){"default", 7};
    const gguf_pretokenizer *pre = gguf_pretokenizer_find(name.at, name.length);
    return pre ? read_bpe(r, pre)
               : err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: %s \"%.*s\" is not known", r->path, KEY("pre"),
                         (int)(name.length < 100 ? name.length : 100), name.at);
}

/* tokenizer.ggml.model "llama": SentencePiece's pieces and scores. */
static odmoe_status read_scored(const reader *r)
{
    tokenizer *t = r->t;
    odmoe_status st = read_tokens(r, false);
    if (!st)
        st = read_scores(r);
    if (!st)
        st = add_marks(r, true);
    if (!st)
        st = tokenizer_split_at_marks(t, r->err);
    if (st)
        return st;
    t->model.scored = true;
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
        st = read_gpt2(&r);
    else if (!st && names_contain("gemma4", model))
        st = read_bpe(&r, gguf_pretokenizer_find("gemma4", 6));
    else if (!st && names_contain("llama", model))
        st = read_scored(&r);
    else if (!st)
        st = err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s \"%.*s\" is not known; gpt2, llama and gemma4 are", r.path,
                     KEY("model"), (int)(model.length < 100 ? model.length : 100), model.at);
    if (st) {
        tokenizer_free(t);
        return st;
    }
    tokenizer_finish(t);
    *out = t;
    return ODMOE_OK;
}
