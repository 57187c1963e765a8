#include "text/tokenizer.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "text/tokenizer_state.h"

odmoe_status tokenizer_open(const char *path, tokenizer **out, odmoe_error *err)
{
    struct stat info;
    if (stat(path, &info))
        return err_set(err, ODMOE_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    odmoe_status st;
    if (S_ISDIR(info.st_mode)) {
        st = tokenizer_from_folder(path, out, err);
    } else {
        gguf *g = NULL;
        st = gguf_open(path, &g, err);
        if (!st)
            st = tokenizer_from_gguf(g, path, out, err);
        gguf_free(g);
    }
    malloc_trim(0); /* a parsed tokenizer.json is many times what is kept; the budget wants it back */
    return st;
}

void tokenizer_free(tokenizer *t)
{
    if (!t)
        return;
    vocab_free(&t->model.vocab);
    unigram_free(&t->unigram);
    added_free(&t->added);
    added_free(&t->added_normalized);
    for (size_t i = 0; i < t->normalize_count; i++)
        normalize_step_free(&t->normalize[i]);
    for (size_t i = 0; i < t->split_count; i++)
        pretokenize_step_free(&t->split[i]);
    free(t);
}

/* ---- encoding ---------------------------------------------------------------------------------------------- */

typedef struct encoder {
    const tokenizer *t;
    const added_range *ranges; /* where special tokens count, in the text as given */
    size_t range_count;
    bool parts; /* the ranges come from tokenizer_encode_parts */
    pretokenize_scratch split;
    merge_scratch merge;
    unigram_scratch unigram;
    normal_scratch normal;
    token_list *out;
    odmoe_error *err;
} encoder;

static odmoe_status encode_piece(void *ctx, const char *piece, size_t length, odmoe_error *err)
{
    encoder *e = ctx;
    const merge_model *m = &e->t->model;
    const unigram_unknown unknown = {m->byte_fallback ? m->bytes : NULL, m->unknown};
    if (e->t->unigram.scores)
        return unigram_piece(&e->t->unigram, &m->vocab, &unknown, &e->unigram, piece, length, e->out, err);
    return merge_piece(&e->t->model, &e->merge, piece, length, e->out, err);
}

static odmoe_status encode_words(encoder *e, const char *text, size_t length, bool first)
{
    return pretokenize_text(e->t->split, e->t->split_count, &e->split, text, length, first, encode_piece, e, e->err);
}

/* A stretch without added tokens: normalise, then look for the tokens that are written as the normaliser writes them.
 * In tokenizer_encode_parts no special token is looked for here: positions no longer say which part they are from. */
static odmoe_status encode_stretch(encoder *e, const char *text, size_t length, bool first)
{
    const char *normal;
    size_t n, at = 0;
    if (!length)
        return ODMOE_OK;
    odmoe_status st = normalize(e->t->normalize, e->t->normalize_count, &e->normal, text, length, &normal, &n, e->err);
    if (st)
        return st;
    added_range all = {0, n};
    size_t range_count = e->range_count && !e->parts;
    added_walk walk = {0};
    added_match match;
    while (added_next(&e->t->added_normalized, normal, n, &all, range_count, e->parts, &walk, &match)) {
        if (match.start > at)
            st = encode_words(e, normal + at, match.start - at, first && at == 0);
        if (!st)
            st = token_list_add(e->out, match.id, e->err);
        if (st)
            return st;
        at = match.end;
    }
    return encode_words(e, normal + at, n - at, first && at == 0);
}

static odmoe_status encode_text(encoder *e, const char *text, size_t length)
{
    size_t at = 0;
    added_walk walk = {0};
    added_match match;
    while (added_next(&e->t->added, text, length, e->ranges, e->range_count, e->parts, &walk, &match)) {
        odmoe_status st = ODMOE_OK;
        if (match.start > at)
            st = encode_stretch(e, text + at, match.start - at, at == 0);
        if (!st)
            st = token_list_add(e->out, match.id, e->err);
        if (st)
            return st;
        at = match.end;
    }
    return encode_stretch(e, text + at, length - at, at == 0);
}

static odmoe_status encode(encoder *e, const char *text, size_t length, unsigned flags, odmoe_error *err)
{
    if (length > TEXT_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "a text of %zu bytes cannot be tokenised at once; at most 2 GiB", length);
    odmoe_status st = pattern_scratch_create(&e->split.patterns, err);
    if (!st)
        pattern_scratch_begin(e->split.patterns, length);
    e->normal.patterns = e->split.patterns;
    e->normal.room = normalize_room(length);
    for (size_t i = 0; !st && (flags & TOKENIZER_START) && i < e->t->start_count; i++)
        st = token_list_add(e->out, e->t->starts[i], err);
    if (!st)
        st = encode_text(e, text, length);
    pretokenize_scratch_free(&e->split);
    merge_scratch_free(&e->merge);
    unigram_scratch_free(&e->unigram);
    normal_scratch_free(&e->normal);
    return st;
}

odmoe_status tokenizer_encode(const tokenizer *t, const char *text, size_t length, unsigned flags, token_list *out,
                              odmoe_error *err)
{
    added_range all = {0, length};
    encoder e = {.t = t, .ranges = &all, .range_count = (flags & TOKENIZER_SPECIAL) != 0, .out = out, .err = err};
    return encode(&e, text, length, flags, err);
}

odmoe_status tokenizer_encode_parts(const tokenizer *t, const text_part *parts, size_t count, unsigned flags,
                                    token_list *out, odmoe_error *err)
{
    text_buffer text = {0};
    added_range *ranges = mem_calloc(count, sizeof *ranges, "the parts of a text", err);
    if (!ranges)
        return ODMOE_ERR_MEMORY;
    encoder e = {.t = t, .ranges = ranges, .parts = true, .out = out, .err = err};
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; !st && i < count; i++) {
        if (parts[i].special)
            ranges[e.range_count++] = (added_range){text.length, text.length + parts[i].length};
        st = text_append(&text, parts[i].text, parts[i].length, err);
    }
    if (!st)
        st = encode(&e, text.at ? text.at : "", text.length, flags & TOKENIZER_START, err);
    free(text.at);
    free(ranges);
    return st;
}

/* ---- decoding and questions ---------------------------------------------------------------------------------- */

size_t tokenizer_piece(const tokenizer *t, int32_t id, char *out, size_t room)
{
    if (id < 0 || (uint32_t)id >= t->model.vocab.count)
        return 0;
    size_t length, n = 0;
    const char *text = vocab_text(&t->model.vocab, (uint32_t)id, &length);
    bool marks =
        t->marks_are_blanks && (t->model.vocab.kinds[id] == TOKEN_WORD || t->model.vocab.kinds[id] == TOKEN_NAME);
    for (size_t at = 0; at < length; n++) {
        bool blank = marks && length - at >= 3 && !memcmp(text + at, BLANK_MARK, 3);
        if (n < room)
            out[n] = blank ? ' ' : text[at];
        at += blank ? 3 : 1;
    }
    return n;
}

size_t tokenizer_longest_piece(const tokenizer *t)
{
    return t->longest_piece;
}

int32_t tokenizer_size(const tokenizer *t)
{
    return (int32_t)t->model.vocab.count;
}

int32_t tokenizer_bos(const tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const tokenizer *t)
{
    return t->end_count ? t->ends[0] : -1;
}

size_t tokenizer_ends(const tokenizer *t, const int32_t **ids)
{
    *ids = t->ends;
    return t->end_count;
}

bool tokenizer_is_end(const tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->end_count; i++)
        if (t->ends[i] == id)
            return true;
    return false;
}

size_t tokenizer_starts(const tokenizer *t, const int32_t **ids)
{
    *ids = t->starts;
    return t->start_count;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->model.vocab.count && t->model.vocab.kinds[id] == TOKEN_SPECIAL;
}

static int32_t find_added(const added_set *set, const char *text, size_t length)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->tokens[i].length == length && !memcmp(set->tokens[i].text, text, length))
            return set->tokens[i].id;
    return -1;
}

static int32_t find_any_added(const tokenizer *t, const char *text, size_t length)
{
    int32_t id = find_added(&t->added, text, length);
    return id >= 0 ? id : find_added(&t->added_normalized, text, length);
}

int32_t tokenizer_find(const tokenizer *t, const char *text, size_t length)
{
    int32_t id = find_any_added(t, text, length);
    return id >= 0 ? id : vocab_word(&t->model.vocab, text, length);
}

bool tokenizer_strips_space(const tokenizer *t)
{
    return t->strips_space;
}

size_t tokenizer_bytes(const tokenizer *t)
{
    size_t bytes = sizeof *t + vocab_bytes(&t->model.vocab) + unigram_bytes(&t->unigram, &t->model.vocab) +
                   added_bytes(&t->added) + added_bytes(&t->added_normalized);
    for (size_t i = 0; i < t->normalize_count; i++)
        bytes += t->normalize[i].length + (t->normalize[i].pattern ? pattern_bytes(t->normalize[i].pattern) : 0);
    for (size_t i = 0; i < t->split_count; i++)
        bytes += t->split[i].length + (t->split[i].pattern ? pattern_bytes(t->split[i].pattern) : 0);
    return bytes;
}

/* ---- shared by the two ways of opening -------------------------------------------------------------------------- */

void tokenizer_add_end(tokenizer *t, int64_t id)
{
    if (id >= 0 && id < t->model.vocab.count && t->end_count < END_TOKENS_MAX && !tokenizer_is_end(t, (int32_t)id))
        t->ends[t->end_count++] = (int32_t)id;
}

odmoe_status tokenizer_add_pattern(tokenizer *t, const char *expression, const char *where, odmoe_error *err)
{
    if (t->split_count == SPLIT_STEPS_MAX)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: more than %d steps", where, SPLIT_STEPS_MAX);
    pretokenize_step *step = &t->split[t->split_count];
    odmoe_status st = pattern_compile(expression, strlen(expression), false, where, &step->pattern, err);
    t->split_count += !st;
    return st;
}

odmoe_status tokenizer_split_at_marks(tokenizer *t, odmoe_error *err)
{
    const vocab *v = &t->model.vocab;
    if (vocab_word(v, BLANK_MARK, 3) < 0 || t->split_count == SPLIT_STEPS_MAX)
        return ODMOE_OK;
    for (uint32_t id = 0; id < v->count; id++) {
        size_t length, at = 0;
        const char *text = vocab_text(v, id, &length);
        if (v->kinds[id] == TOKEN_SPECIAL)
            continue;
        while (length - at >= 3 && !memcmp(text + at, BLANK_MARK, 3))
            at += 3;
        if (memmem(text + at, length - at, BLANK_MARK, 3))
            return ODMOE_OK;
    }
    pretokenize_step step = {.kind = SPLIT_RUNS, .text = mem_strdup(BLANK_MARK, 3, err), .length = 3};
    if (!step.text)
        return ODMOE_ERR_MEMORY;
    t->split[t->split_count++] = step;
    return ODMOE_OK;
}

void tokenizer_find_bytes(tokenizer *t, bool byte_level)
{
    const vocab *v = &t->model.vocab;
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        t->model.bytes[i] = byte_level ? vocab_word(v, &byte, 1) : -1;
    }
    for (uint32_t id = 0; !byte_level && id < v->count; id++)
        if (v->kinds[id] == TOKEN_BYTE)
            t->model.bytes[(unsigned char)v->texts[v->starts[id]]] = (int32_t)id;
}

/* Tokens that end a text wherever they are in use, by name: many files forget to list them. END_CONTROL: the name is
 * the model's control even where a file calls it a word. END_SPECIAL: only where the file calls it special. END_ADDED:
 * what a model writes behind a completion where the next file would begin (fill-in-the-middle); llama.cpp ends there
 * too. */
typedef enum end_kind { END_CONTROL, END_SPECIAL, END_ADDED } end_kind;

static const struct {
    const char *text;
    end_kind kind;
} ends[] = {
    {"<|eot_id|>", END_CONTROL},
    {"<|im_end|>", END_CONTROL},
    {"<|end|>", END_CONTROL},
    {"<end_of_turn>", END_CONTROL},
    {"<|endoftext|>", END_CONTROL},
    {"<|eom_id|>", END_CONTROL},
    {"<EOT>", END_CONTROL},
    {"_<EOT>", END_CONTROL},
    {"<|end_of_text|>", END_CONTROL},
    {"<end_of_utterance>", END_CONTROL},
    {"<|return|>", END_CONTROL},
    {"<|call|>", END_CONTROL},
    {"<|calls|>", END_CONTROL},
    {"<|flush|>", END_CONTROL},
    {"<turn|>", END_CONTROL},
    {"<|tool_response>", END_CONTROL},
    {"<\uFF5Cend\u2581of\u2581sentence\uFF5C>", END_CONTROL},
    {"[e~[", END_CONTROL},
    {"[EOT]", END_SPECIAL},
    {"[EOS]", END_SPECIAL},
    {"<eos>", END_SPECIAL},
    {"</s>", END_SPECIAL},
    {"<|fim_pad|>", END_ADDED},
    {"<fim-pad>", END_ADDED},
    {"<fim_pad>", END_ADDED},
    {"<PAD>", END_ADDED},
    {"[PAD]", END_ADDED},
    {"<|fim_repo|>", END_ADDED},
    {"<|repo_name|>", END_ADDED},
    {"<fim-repo>", END_ADDED},
    {"<REPO>", END_ADDED},
    {"<reponame>", END_ADDED},
    {"<|file_sep|>", END_ADDED},
};
#define ENDS (sizeof ends / sizeof *ends)

bool tokenizer_ends_turn(const char *text, size_t length)
{
    if (!length || !memchr("<_[", text[0], 3)) /* asked of each token of a file */
        return false;
    for (size_t i = 0; i < ENDS; i++)
        if (ends[i].kind == END_CONTROL && strlen(ends[i].text) == length && !memcmp(ends[i].text, text, length))
            return true;
    return false;
}

/* No text of a user may end a generation: special tokens only. */
static bool has_special(const tokenizer *t, const char *text)
{
    return tokenizer_is_special(t, tokenizer_find(t, text, strlen(text)));
}

static void add_known_ends(tokenizer *t)
{
    /* There <|end|> ends a message, and the answer goes on with the next one. */
    bool channels = (has_special(t, "<|return|>") && has_special(t, "<|call|>")) ||
                    (has_special(t, "<|calls|>") && has_special(t, "<|flush|>"));
    for (size_t i = 0; i < ENDS; i++) {
        const char *text = ends[i].text;
        if (ends[i].kind == END_ADDED)
            tokenizer_add_end(t, find_any_added(t, text, strlen(text)));
        else if (has_special(t, text) && !(channels && !strcmp(text, "<|end|>")))
            tokenizer_add_end(t, tokenizer_find(t, text, strlen(text)));
    }
}

void tokenizer_finish(tokenizer *t)
{
    added_seal(&t->added);
    added_seal(&t->added_normalized);
    add_known_ends(t);
    for (uint32_t id = 0; id < t->model.vocab.count; id++) {
        size_t n = tokenizer_piece(t, (int32_t)id, NULL, 0);
        if (n > t->longest_piece)
            t->longest_piece = n;
    }
}
