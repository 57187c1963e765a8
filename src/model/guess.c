#include "model/guess.h"

#include "moe/experts.h"

/* To begin with a rank is taken for just too seldom right: it proves itself before it reads a byte. */
#define FIRST_SHARE 0.45f

#define WARM_UP 8       /* passes that fill the cache and let ranks prove themselves; their time says nothing */
#define SEEN_TO_TELL 24 /* passes of a kind before the kinds are compared */
#define SEEN_MOST 128
#define OTHER_EVERY 16 /* then every so many passes are of the slower kind: things change */

void guess_layout(arena *a, const model_config *c, unsigned mask, int64_t max_rows, guess_work *out)
{
    int64_t few = EXPERTS_FEW / c->router.top_k;
    out->max_rows = max_rows < few ? max_rows : few;
    size_t rows = (size_t)out->max_rows, choices = rows * (size_t)c->router.top_k;
    out->norm = arena_take(a, rows * (size_t)c->hidden, sizeof *out->norm);
    activations_layout(a, &out->in, mask, out->max_rows, c->hidden);
    out->said.logits = arena_take(a, rows * (size_t)c->router.experts, sizeof(float));
    out->said.topk = arena_take(a, choices, sizeof(int32_t));
    out->said.topw = arena_take(a, choices, sizeof(float));
    out->experts = arena_take(a, choices, sizeof *out->experts);
    out->rank = arena_take(a, choices, sizeof *out->rank);
    out->scores = arena_take(a, choices, sizeof *out->scores);
}

void guess_init(guess_state *g, bool possible)
{
    *g = (guess_state){.possible = possible, .layer = -1, .running = true};
    likely_init(&g->ranks, FIRST_SHARE);
}

bool guess_wanted(const guess_state *g, const guess_work *w, int64_t n)
{
    return g->possible && g->running && n <= w->max_rows;
}

typedef struct norm_job {
    const guess_call *call;
    const float *x;
    float *out;
} norm_job;

static void norm_row(void *ctx, int64_t row, int worker)
{
    const norm_job *job = ctx;
    int64_t hidden = job->call->config->hidden;
    job->call->c->kernels->rms_norm(job->x + row * hidden, job->call->weights->frame[W_FFN_NORM].w.data,
                                    job->call->config->rms_eps, job->out + row * hidden, hidden);
}

/* All rows' choices that would have to be read, the likeliest first. */
static void list_missing(guess_state *g, guess_work *w, const guess_call *call, int64_t n)
{
    const router_config *rc = &call->config->router;
    const int32_t *topk = w->said.topk;
    int count = 0;
    for (int rank = 0; rank < rc->top_k; rank++) /* first choices of all rows, then second ones, ... */
        for (int64_t row = 0; row < n; row++) {
            int32_t e = topk[row * rc->top_k + rank];
            bool there = !call->source->missing(call->source->ctx, call->layer, e);
            for (int i = 0; i < count && !there; i++)
                there = w->experts[i] == e;
            if (there)
                continue;
            float score = likely_share(&g->ranks, rank);
            int at = count++;
            for (; at > 0 && w->scores[at - 1] < score; at--) {
                w->experts[at] = w->experts[at - 1];
                w->scores[at] = w->scores[at - 1];
                w->rank[at] = w->rank[at - 1];
            }
            w->experts[at] = e;
            w->scores[at] = score;
            w->rank[at] = (uint8_t)rank;
        }
    g->n = count;
}

void guess_next(guess_state *g, guess_work *w, const guess_call *call, const float *x, int64_t n)
{
    norm_job job = {call, x, w->norm};
    rows_run(call->c, n, norm_row, &job);
    unsigned mask = activation_mask(call->c->kernels, call->weights->frame[W_ROUTER].w.type);
    activations_fill(call->c, &w->in, mask, w->norm, n);
    route_run(call->c, &call->config->router, call->weights, &w->in, n, call->probs, &w->said);
    list_missing(g, w, call, n);
    g->layer = call->layer;
    g->asked = 0;
    while (g->asked < g->n && w->scores[g->asked] >= LIKELY_ENOUGH)
        g->asked++;
    if (g->asked)
        call->source->prefetch(call->source->ctx, call->layer, w->experts, w->scores, g->asked, READ_SPECULATIVE);
}

void guess_judge(guess_state *g, const guess_work *w, const expert_source *source, int layer, const int32_t *counts)
{
    if (g->layer != layer)
        return;
    if (g->asked && source->cancel)
        source->cancel(source->ctx, layer, READ_SPECULATIVE);
    for (int i = 0; i < g->n; i++)
        likely_judge(&g->ranks, w->rank[i], counts[w->experts[i]] > 0);
    g->layer = -1;
}

/* A pass that takes very long (the first after a prompt, a busy machine) counts as twice the mean. */
static void mean_add(guess_mean *m, double ns)
{
    if (m->seen >= SEEN_TO_TELL / 2 && ns > 2 * m->ns)
        ns = 2 * m->ns;
    m->seen += m->seen < SEEN_MOST;
    m->ns += (ns - m->ns) / m->seen;
}

void guess_settle(guess_state *g, double ns)
{
    g->layer = -1; /* a pass that failed left its last guess unjudged */
    if (!g->possible)
        return;
    if (++g->passes <= WARM_UP)
        return;
    mean_add(g->running ? &g->with : &g->without, ns);
    if (g->with.seen >= SEEN_TO_TELL && g->without.seen >= SEEN_TO_TELL)
        g->running = (g->with.ns < g->without.ns) != (g->passes % OTHER_EVERY == 0);
    else
        g->running = (g->passes & 3) == 1 || (g->passes & 3) == 2; /* two with, two without: a drift meets both */
}
