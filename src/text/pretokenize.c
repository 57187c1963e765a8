#include "text/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Each step hands its pieces to the next one before it makes another: no list of pieces is ever held. */
typedef struct splitter {
    const pretokenize_step *steps;
    size_t count;
    pretokenize_scratch *scratch;
    pretokenize_fn fn;
    void *ctx;
    odmoe_error *err;
} splitter;

static odmoe_status run(const splitter *s, size_t step, const char *text, size_t length, bool first);

void pretokenize_step_free(pretokenize_step *step)
{
    pattern_free(step->pattern);
    free(step->text);
    *step = (pretokenize_step){0};
}

void pretokenize_scratch_free(pretokenize_scratch *s)
{
    pattern_scratch_free(s->patterns);
    for (size_t i = 0; i < SPLIT_STEPS_MAX; i++)
        free(s->buffers[i].at);
    *s = (pretokenize_scratch){0};
}

/* Pieces on their way out of a step: one is held back, because the next may have to be joined to it. */
typedef struct joiner {
    const splitter *splitter;
    size_t step;
    const char *text;
    bool first;
    pretokenize_matches matches;
    size_t start, end; /* the piece held back; start == end: none */
    bool is_match;
} joiner;

static odmoe_status joiner_flush(joiner *j)
{
    if (j->start == j->end || (j->matches == SPLIT_REMOVED && j->is_match))
        return ODMOE_OK;
    return run(j->splitter, j->step + 1, j->text + j->start, j->end - j->start, j->first && j->start == 0);
}

static odmoe_status joiner_add(joiner *j, size_t start, size_t end, bool is_match)
{
    if (start == end)
        return ODMOE_OK;
    bool join = false;
    if (j->start != j->end) {
        if (j->matches == SPLIT_CONTIGUOUS)
            join = j->is_match == is_match;
        else if (j->matches == SPLIT_WITH_PREVIOUS)
            join = is_match && !j->is_match;
        else if (j->matches == SPLIT_WITH_NEXT)
            join = j->is_match && !is_match;
    }
    if (join) {
        j->end = end;
        j->is_match = is_match;
        return ODMOE_OK;
    }
    odmoe_status st = joiner_flush(j);
    j->start = start;
    j->end = end;
    j->is_match = is_match;
    return st;
}

static odmoe_status by_pattern(const splitter *s, size_t step, const char *text, size_t length, bool first)
{
    const pretokenize_step *p = &s->steps[step];
    joiner j = {.splitter = s, .step = step, .text = text, .first = first, .matches = p->matches};
    pattern_walk walk = PATTERN_WALK_START;
    size_t done = 0;
    for (;;) {
        odmoe_status st = pattern_next(p->pattern, s->scratch->patterns, text, length, &walk, s->err);
        size_t start = walk.found ? walk.start : length;
        if (!st)
            st = joiner_add(&j, done, start, p->invert);
        if (!st && walk.found)
            st = joiner_add(&j, walk.start, walk.end, !p->invert);
        if (st)
            return st;
        if (!walk.found)
            return joiner_flush(&j);
        done = walk.end;
    }
}

static bool begins_with(const char *text, size_t length, const char *with, size_t n)
{
    return length >= n && !memcmp(text, with, n);
}

static odmoe_status with_prefix(const splitter *s, size_t step, const char *text, size_t length, bool first)
{
    if (begins_with(text, length, " ", 1))
        return run(s, step + 1, text, length, first);
    text_buffer *b = &s->scratch->buffers[step];
    b->length = 0;
    odmoe_status st = text_append(b, " ", 1, s->err);
    if (!st)
        st = text_append(b, text, length, s->err);
    return st ? st : run(s, step + 1, b->at, b->length, first);
}

/* Hand on the pieces of text that begin at `with`; runs: a run of it is not cut. */
static odmoe_status cut_before(const splitter *s, size_t step, const char *text, size_t length, const char *with,
                               size_t n, bool runs, bool first)
{
    odmoe_status st = ODMOE_OK;
    size_t start = 0, at = 0;
    while (!st && at < length) {
        if (!begins_with(text + at, length - at, with, n)) {
            at++;
            continue;
        }
        if (at > start) {
            st = run(s, step + 1, text + start, at - start, first && start == 0);
            start = at;
        }
        do
            at += n;
        while (runs && begins_with(text + at, length - at, with, n));
    }
    return st || start == length ? st : run(s, step + 1, text + start, length - start, first && start == 0);
}

static odmoe_status by_meta(const splitter *s, size_t step, const char *text, size_t length, bool first)
{
    const pretokenize_step *p = &s->steps[step];
    text_buffer *b = &s->scratch->buffers[step];
    b->length = 0;
    odmoe_status st = ODMOE_OK;
    bool prepend = p->prepend == SPLIT_PREPEND_ALWAYS || (p->prepend == SPLIT_PREPEND_FIRST && first);
    if (prepend && text[0] != ' ' && !begins_with(text, length, p->text, p->length))
        st = text_append(b, p->text, p->length, s->err);
    for (size_t at = 0; !st && at < length;) {
        const char *blank = memchr(text + at, ' ', length - at);
        size_t end = blank ? (size_t)(blank - text) : length;
        st = text_append(b, text + at, end - at, s->err);
        if (!st && blank)
            st = text_append(b, p->text, p->length, s->err);
        at = end + (blank != NULL);
    }
    if (st)
        return st;
    return p->cut ? cut_before(s, step, b->at, b->length, p->text, p->length, false, first)
                  : run(s, step + 1, b->at, b->length, first);
}

static odmoe_status run(const splitter *s, size_t step, const char *text, size_t length, bool first)
{
    if (!length)
        return ODMOE_OK;
    if (step == s->count)
        return s->fn(s->ctx, text, length, s->err);
    const pretokenize_step *p = &s->steps[step];
    switch (p->kind) {
    case SPLIT_PATTERN:
        return by_pattern(s, step, text, length, first);
    case SPLIT_PREFIX:
        return with_prefix(s, step, text, length, first);
    case SPLIT_META:
        return by_meta(s, step, text, length, first);
    default:
        return cut_before(s, step, text, length, p->text, p->length, true, first);
    }
}

odmoe_status pretokenize_text(const pretokenize_step *steps, size_t count, pretokenize_scratch *scratch,
                              const char *text, size_t length, bool first, pretokenize_fn fn, void *ctx,
                              odmoe_error *err)
{
    splitter s = {steps, count, scratch, fn, ctx, err};
    odmoe_status st = ODMOE_OK;
    for (size_t at = 0; !st && at < length;) {
        size_t valid = utf8_run(text + at, length - at);
        st = run(&s, 0, text + at, valid, first && at == 0);
        size_t junk = utf8_junk(text + at + valid, length - at - valid);
        if (!st && junk)
            st = fn(ctx, text + at + valid, junk, err);
        at += valid + junk;
    }
    return st;
}
