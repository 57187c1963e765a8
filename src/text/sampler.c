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
    int32_t capacity; /* of candidates: top_k where that is on, else vocab */
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

odmoe_status sampler_create(const odmoe_sampler_options *options, int32_t vocab, sampler **out, odmoe_error *err)
{
    odmoe_status st = check(options->temperature, 0, 1e6, "temperature", err);
    if (!st)
        st = check(options->top_p, 0, 1, "top-p", err);
    if (!st)
        st = check(options->min_p, 0, 1, "min-p", err);
    if (!st)
        st = check(options->repeat_penalty, 1e-3, 1e3, "repeat penalty", err);
    if (!st)
        st = check(vocab, 1, 1 << 30, "the vocabulary's size", err);
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
    *out = s;
    return ODMOE_OK;
}

void sampler_free(sampler *s)
{
    free(s);
}

void sampler_accept(sampler *s, int32_t token)
{
    s->window[s->accepted++ % SAMPLER_WINDOW] = token;
}

/* ---- collecting: penalty and top-k --------------------------------------------------------------------------- */

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

/* Logits after the penalty, asked for in ascending order of ids; *next is the place in `repeated`. */
static float penalised(const sampler *s, const float *logits, int32_t id, int32_t *next)
{
    while (*next < s->repeated_count && s->repeated[*next] < id)
        ++*next;
    float logit = logits[id], penalty = s->options.repeat_penalty;
    if (*next == s->repeated_count || s->repeated[*next] != id)
        return logit;
    return logit > 0 ? logit / penalty : logit * penalty;
}

static int32_t greedy(const sampler *s, const float *logits)
{
    candidate best = {-INFINITY, s->vocab};
    for (int32_t id = 0, next = 0; id < s->vocab; id++) {
        candidate c = {penalised(s, logits, id, &next), id};
        if (better(c, best)) /* false where c is no number */
            best = c;
    }
    return best.id < s->vocab ? best.id : 0;
}

/* Collect the candidates, the best `capacity` of them (top-k), as a heap with the best at the root. */
static void collect(sampler *s, const float *logits)
{
    candidate *heap = s->candidates;
    bool bounded = s->capacity < s->vocab;
    s->count = 0;
    for (int32_t id = 0, next = 0; id < s->vocab; id++) {
        candidate c = {penalised(s, logits, id, &next), id};
        if (isnan(c.logit))
            continue;
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

int32_t sampler_pick(sampler *s, const float *logits)
{
    note_repeated(s);
    if (s->options.temperature == 0)
        return greedy(s, logits);
    double point = draw(s);
    collect(s, logits);
    if (!s->count)
        return 0;
    int32_t collected = s->count;
    float highest = s->candidates[0].logit;
    point *= keep_best(s);
    for (int32_t i = collected - 1; i > s->count; i--) {
        point -= weight(s->candidates[i].logit, highest, s->options.temperature);
        if (point < 0)
            return s->candidates[i].id;
    }
    return s->candidates[s->count].id;
}
