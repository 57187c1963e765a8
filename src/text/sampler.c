#include "text/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct sampler {
    odmoe_sampler_options options;
    int32_t vocab;
    uint64_t state[4];
    int32_t window[SAMPLER_WINDOW]; /* the last tokens, a ring */
    uint64_t accepted;
    int32_t repeated[SAMPLER_WINDOW]; /* the window's different tokens in ascending order, for one pick */
    int32_t repeated_count;
    odmoe_logit_bias *bias; /* [options.bias_count] in ascending order of tokens */
    uint32_t *picks;        /* [vocab] how often a token was picked, where a penalty wants it; else NULL */
    int32_t capacity;       /* of candidates: top_k where that is on, else vocab */
    int32_t count;
    candidate candidates[];
};

/* ---- the generator ----------------------------------------------------------------------------------------- */

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static uint64_t xoshiro256(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* In [0, 1), 53 bits. */
static double draw(sampler *s)
{
    return (double)(xoshiro256(s->state) >> 11) * 0x1p-53;
}

/* ---- creation ---------------------------------------------------------------------------------------------- */

/* `what` must lie in [min, max]; NaN lies nowhere. */
static odmoe_status check(double value, double min, double max, const char *what, odmoe_error *err)
{
    if (value >= min && value <= max)
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_RANGE, "%s is %g; it must be between %g and %g", what, value, min, max);
}

static odmoe_status check_options(const odmoe_sampler_options *o, int32_t vocab, odmoe_error *err)
{
    odmoe_status st = check(o->temperature, 0, 1e6, "temperature", err);
    if (!st)
        st = check(o->top_p, 0, 1, "top-p", err);
    if (!st)
        st = check(o->min_p, 0, 1, "min-p", err);
    if (!st)
        st = check(o->repeat_penalty, 1e-3, 1e3, "repeat penalty", err);
    if (!st)
        st = check(o->presence_penalty, -1e3, 1e3, "presence penalty", err);
    if (!st)
        st = check(o->frequency_penalty, -1e3, 1e3, "frequency penalty", err);
    if (!st)
        st = check(vocab, 1, 1 << 30, "the vocabulary's size", err);
    for (size_t i = 0; i < o->bias_count && !st; i++) {
        st = check(o->bias[i].bias, -1e6, 1e6, "a logit bias", err);
        if (!st && (o->bias[i].token < 0 || o->bias[i].token >= vocab))
            st = err_set(err, ODMOE_ERR_RANGE, "logit bias: token %d is not in the vocabulary of %d", o->bias[i].token,
                         vocab);
    }
    return st;
}

static int by_token(const void *a, const void *b)
{
    const odmoe_logit_bias *x = a, *y = b;
    return x->token < y->token ? -1 : x->token > y->token;
}

static odmoe_status copy_bias(sampler *s, const odmoe_sampler_options *o, odmoe_error *err)
{
    if (!o->bias_count)
        return ODMOE_OK;
    s->bias = mem_calloc(o->bias_count, sizeof *s->bias, "logit biases", err);
    if (!s->bias)
        return ODMOE_ERR_MEMORY;
    memcpy(s->bias, o->bias, o->bias_count * sizeof *s->bias);
    qsort(s->bias, o->bias_count, sizeof *s->bias, by_token);
    return ODMOE_OK;
}

odmoe_status sampler_create(const odmoe_sampler_options *options, int32_t vocab, sampler **out, odmoe_error *err)
{
    odmoe_status st = check_options(options, vocab, err);
    if (st)
        return st;
    int32_t capacity = options->top_k > 0 && options->top_k < vocab ? options->top_k : vocab;
    sampler *s = mem_calloc(1, sizeof *s + (size_t)capacity * sizeof *s->candidates, "a sampler", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->options = *options;
    s->vocab = vocab;
    s->capacity = capacity;
    uint64_t seed = options->seed;
    for (int i = 0; i < 4; i++)
        s->state[i] = splitmix64(&seed);
    st = copy_bias(s, options, err);
    if (!st && (options->presence_penalty != 0 || options->frequency_penalty != 0)) {
        s->picks = mem_calloc((size_t)vocab, sizeof *s->picks, "a sampler", err);
        st = s->picks ? ODMOE_OK : ODMOE_ERR_MEMORY;
    }
    if (st)
        sampler_free(s);
    else
        *out = s;
    return st;
}

void sampler_free(sampler *s)
{
    if (!s)
        return;
    free(s->bias);
    free(s->picks);
    free(s);
}

void sampler_accept(sampler *s, int32_t token)
{
    s->window[s->accepted++ % SAMPLER_WINDOW] = token;
}

/* ---- collecting: bias, penalties, mask and top-k --------------------------------------------------------------------------- */

static bool better(candidate a, candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Let heap[at] sink; the root is the worst candidate (worst_first) or the best one. */
static void sink(candidate *heap, int32_t count, int32_t at, bool worst_first)
{
    candidate c = heap[at];
    for (int64_t child; (child = 2 * (int64_t)at + 1) < count; at = (int32_t)child) {
        if (child + 1 < count && better(heap[child], heap[child + 1]) == worst_first)
            child++;
        if (better(c, heap[child]) != worst_first)
            break;
        heap[at] = heap[child];
    }
    heap[at] = c;
}

static void heapify(candidate *heap, int32_t count, bool worst_first)
{
    for (int32_t at = count / 2; at-- > 0;)
        sink(heap, count, at, worst_first);
}

static void note_repeated(sampler *s)
{
    int32_t n = (int32_t)(s->accepted < SAMPLER_WINDOW ? s->accepted : SAMPLER_WINDOW);
    s->repeated_count = 0;
    for (int32_t i = 0; i < n && s->options.repeat_penalty != 1; i++) {
        int32_t token = s->window[i], at = s->repeated_count;
        while (at > 0 && s->repeated[at - 1] > token)
            at--;
        if (at > 0 && s->repeated[at - 1] == token)
            continue;
        memmove(s->repeated + at + 1, s->repeated + at, (size_t)(s->repeated_count - at) * sizeof *s->repeated);
        s->repeated[at] = token;
        s->repeated_count++;
    }
}

/* The walk over all tokens in ascending order, with the places in the sorted lists of exceptions. */
typedef struct scan {
    const sampler *s;
    const float *logits;
    const uint32_t *mask; /* or NULL */
    int32_t next_repeated;
    size_t next_bias;
} scan;

/* A token's logit after bias and penalties. */
static float adjusted(scan *w, int32_t id)
{
    const sampler *s = w->s;
    const odmoe_sampler_options *o = &s->options;
    float logit = w->logits[id];
    for (; w->next_bias < o->bias_count && s->bias[w->next_bias].token <= id; w->next_bias++)
        if (s->bias[w->next_bias].token == id)
            logit += s->bias[w->next_bias].bias;
    while (w->next_repeated < s->repeated_count && s->repeated[w->next_repeated] < id)
        w->next_repeated++;
    if (w->next_repeated < s->repeated_count && s->repeated[w->next_repeated] == id)
        logit = logit > 0 ? logit / o->repeat_penalty : logit * o->repeat_penalty;
    if (s->picks && s->picks[id])
        logit -= (float)s->picks[id] * o->frequency_penalty + o->presence_penalty;
    return logit;
}

/* The next token from *id on that may be picked, as a candidate; false at the end. */
static bool next_candidate(scan *w, int32_t *id, candidate *c)
{
    for (; *id < w->s->vocab; ++*id) {
        if (w->mask && !(w->mask[*id / 32] >> *id % 32 & 1)) {
            if (!w->mask[*id / 32])
                *id |= 31; /* nothing in this word */
            continue;
        }
        *c = (candidate){adjusted(w, *id), *id};
        if (c->logit > -INFINITY) { /* false where it is no number */
            ++*id;
            return true;
        }
    }
    return false;
}

static int32_t greedy(scan *w)
{
    candidate best = {-INFINITY, -1}, c;
    for (int32_t id = 0; next_candidate(w, &id, &c);)
        if (best.id < 0 || better(c, best))
            best = c;
    return best.id;
}

/* Collect the candidates, the best `capacity` of them (top-k), as a heap with the best at the root. */
static void collect(sampler *s, scan *w)
{
    candidate *heap = s->candidates, c;
    bool bounded = s->capacity < s->vocab;
    s->count = 0;
    for (int32_t id = 0; next_candidate(w, &id, &c);) {
        if (s->count < s->capacity) {
            heap[s->count++] = c;
            if (bounded && s->count == s->capacity)
                heapify(heap, s->count, true);
        } else if (better(c, heap[0])) {
            heap[0] = c;
            sink(heap, s->count, 0, true);
        }
    }
    heapify(heap, s->count, false);
}

/* ---- choosing ------------------------------------------------------------------------------------------------ */

/* e^((logit - highest) / temperature), where both may be infinite. */
static double weight(float logit, float highest, double temperature)
{
    return logit == highest ? 1 : exp(((double)logit - highest) / temperature);
}

/* Move candidates from the heap in [0, count) to the place behind it, best first, until top-p or min-p ends it;
 * afterwards they stand in [count, collected) in rising order. Returns the sum of their weights at the temperature. */
static double keep_best(sampler *s)
{
    candidate *heap = s->candidates;
    const odmoe_sampler_options *o = &s->options;
    float highest = heap[0].logit;
    double all = 0, before = 0, mass = 0;
    for (int32_t i = 0; o->top_p < 1 && i < s->count; i++)
        all += weight(heap[i].logit, highest, 1);
    for (bool first = true; s->count > 0; first = false) {
        candidate best = heap[0];
        double share = weight(best.logit, highest, o->temperature);
        if (!first && (share == 0 || (o->min_p > 0 && (double)best.logit - highest < log(o->min_p))))
            break;
        heap[0] = heap[--s->count];
        sink(heap, s->count, 0, false);
        heap[s->count] = best;
        mass += share;
        before += weight(best.logit, highest, 1);
        if (o->top_p < 1 && before >= o->top_p * all)
            break;
    }
    return mass;
}

/* One of the candidates collected, by chance. */
static int32_t draw_one(sampler *s)
{
    int32_t collected = s->count;
    float highest = s->candidates[0].logit;
    double point = draw(s) * keep_best(s);
    for (int32_t i = collected - 1; i > s->count; i--) {
        point -= weight(s->candidates[i].logit, highest, s->options.temperature);
        if (point < 0)
            return s->candidates[i].id;
    }
    return s->candidates[s->count].id;
}

odmoe_status sampler_pick(sampler *s, const float *logits, const uint32_t *mask, int32_t *token, odmoe_error *err)
{
    scan w = {.s = s, .logits = logits, .mask = mask};
    int32_t picked = -1;
    note_repeated(s);
    if (s->options.temperature == 0) {
        picked = greedy(&w);
    } else {
        collect(s, &w);
        if (s->count)
            picked = draw_one(s);
    }
    if (picked < 0)
        return err_set(err, ODMOE_ERR_RANGE,
                       "no token can be picked: the logits of all %s%d are -infinity or no number%s",
                       mask ? "that the grammar allows of " : "", s->vocab, mask ? "" : "; is the model file sound?");
    if (s->picks)
        s->picks[picked]++;
    *token = picked;
    return ODMOE_OK;
}
