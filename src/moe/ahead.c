#include "moe/ahead.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "moe/likely.h"

#define RING_MAX 8          /* posts that wait */
#define FAILURES_TO_STOP 16 /* in a row: this predictor is not asked again */
#define FIRST_SHARE 0.9f    /* to begin with ranks are trusted: who attaches a predictor has chosen it */

typedef struct post {
    int layer;
    uint64_t number; /* of all posts */
    int64_t n;
    float *x;      /* [AHEAD_ROWS, hidden] */
    int32_t *topk; /* [AHEAD_ROWS, top_k] */
    float *topw;
} post;

struct ahead {
    ahead_options o;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows; never held while the predictor or the source runs */
    pthread_cond_t posted;
    bool stop, given_up;
    uint64_t taken, filled;   /* posts: ring[taken % ring_length] is being worked on, up to `filled` wait */
    uint64_t number;          /* of the latest post, dropped ones included */
    int failures;             /* in a row */
    uint64_t *asked, *failed; /* [layers] */
    int ring_length;
    post ring[RING_MAX];
    float *rows; /* memory behind the ring */
    /* the thread's own */
    int32_t *ids; /* [experts] */
    float *scores;
    likely ranks;      /* how often a guess of each rank has been right */
    int32_t *unproven; /* [most] the latest guess, what of it was not in memory, */
    int *rank;         /* [most] and at what rank it stood */
    int n_unproven;
    int guessed;    /* the layer that it was for */
    uint64_t proof; /* number of the post that tells whether it was right, if it is of that layer */
};

/* Keep the ids that exist, once each, by falling score (ties: as they came); at most `most`. */
static int sort_guess(const ahead *a, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        int32_t id = a->ids[i];
        float score = a->scores[i];
        bool usable = id >= 0 && id < a->o.experts && !isnan(score);
        for (int j = 0; usable && j < kept; j++)
            usable = a->ids[j] != id;
        if (!usable)
            continue;
        if (kept == a->o.most && !(score > a->scores[kept - 1]))
            continue;
        int at = kept < a->o.most ? kept++ : kept - 1;
        for (; at > 0 && score > a->scores[at - 1]; at--) {
            a->ids[at] = a->ids[at - 1];
            a->scores[at] = a->scores[at - 1];
        }
        a->ids[at] = id;
        a->scores[at] = score;
    }
    return kept;
}

/* When the router of the layer that was guessed has spoken: which ranks were right? Another chunk of the layer before
 * says nothing about that. */
static void judge(ahead *a, const post *p)
{
    bool tells = p->number == a->proof && p->layer == a->guessed;
    for (int i = 0; tells && i < a->n_unproven; i++) {
        bool right = false;
        for (int64_t at = 0; at < p->n * a->o.top_k && !right; at++)
            right = p->topk[at] == a->unproven[i];
        likely_judge(&a->ranks, a->rank[i], right);
    }
    a->n_unproven = 0;
}

/* The n best guesses for a layer, ids and scores: notes those that would have to be read, and keeps of them the ones
 * that are likely enough. How many. */
static int choose(ahead *a, int layer, int n, uint64_t number)
{
    int kept = 0;
    a->guessed = layer;
    a->proof = number + 1;
    for (int rank = 0; rank < n; rank++) {
        int32_t id = a->ids[rank];
        if (a->o.source.missing && !a->o.source.missing(a->o.source.ctx, layer, id))
            continue;
        a->unproven[a->n_unproven] = id;
        a->rank[a->n_unproven++] = rank;
        if (likely_share(&a->ranks, rank) < LIKELY_ENOUGH)
            continue;
        a->ids[kept] = id;
        a->scores[kept++] = a->scores[rank];
    }
    return kept;
}

/* Lock held on entry and exit. */
static void work_on(ahead *a, const post *p)
{
    const odmoe_predictor *predictor = &a->o.predictor;
    int next = p->layer + 1, n = 0;
    bool ask = next < a->o.layers;
    if (ask)
        a->asked[next]++;
    pthread_mutex_unlock(&a->lock);
    judge(a, p);
    odmoe_observation seen = {.size = sizeof seen, .n = p->n, .x = p->x, .topk = p->topk, .topw = p->topw};
    odmoe_status status = predictor->observe ? predictor->observe(predictor->ctx, p->layer, &seen, NULL) : ODMOE_OK;
    if (!status && ask)
        status = predictor->predict(predictor->ctx, next, a->ids, a->scores, a->o.experts, &n, NULL);
    bool bad = status || n < 0 || n > a->o.experts;
    pthread_mutex_lock(&a->lock);
    bool late = a->number != p->number;
    a->failures = bad ? a->failures + 1 : 0;
    a->given_up = a->failures >= FAILURES_TO_STOP;
    if (ask && (bad || late))
        a->failed[next]++;
    if (!ask || bad || late || a->stop)
        return;
    pthread_mutex_unlock(&a->lock);
    n = choose(a, next, sort_guess(a, n), p->number);
    if (n)
        a->o.source.prefetch(a->o.source.ctx, next, a->ids, a->scores, n, READ_SPECULATIVE);
    pthread_mutex_lock(&a->lock);
}

static void *run(void *arg)
{
    ahead *a = arg;
    pthread_mutex_lock(&a->lock);
    while (!a->stop) {
        if (a->taken == a->filled) {
            pthread_cond_wait(&a->posted, &a->lock);
            continue;
        }
        work_on(a, &a->ring[a->taken % (uint64_t)a->ring_length]);
        a->taken++;
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

static odmoe_status allocate(ahead *a, odmoe_error *err)
{
    size_t hidden = (size_t)a->o.hidden, k = (size_t)a->o.top_k, row = hidden + 2 * k;
    a->asked = mem_calloc((size_t)a->o.layers, sizeof *a->asked, "the predictor's counters", err);
    a->failed = mem_calloc((size_t)a->o.layers, sizeof *a->failed, "the predictor's counters", err);
    a->ids = mem_calloc((size_t)a->o.experts, sizeof *a->ids, "the predictor's lists", err);
    a->scores = mem_calloc((size_t)a->o.experts, sizeof *a->scores, "the predictor's lists", err);
    a->rows = mem_calloc((size_t)a->ring_length * AHEAD_ROWS, row * sizeof(float), "the predictor's rows", err);
    a->unproven = mem_calloc((size_t)a->o.most, sizeof *a->unproven, "the predictor's lists", err);
    a->rank = mem_calloc((size_t)a->o.most, sizeof *a->rank, "the predictor's lists", err);
    if (!a->asked || !a->failed || !a->ids || !a->scores || !a->rows || !a->unproven || !a->rank)
        return ODMOE_ERR_MEMORY;
    for (int i = 0; i < a->ring_length; i++) {
        float *at = a->rows + (size_t)i * AHEAD_ROWS * row;
        a->ring[i] = (post){.x = at, .topw = at + AHEAD_ROWS * hidden};
        a->ring[i].topk = (int32_t *)(a->ring[i].topw + AHEAD_ROWS * k);
    }
    return ODMOE_OK;
}

odmoe_status ahead_create(const ahead_options *options, ahead **out, odmoe_error *err)
{
    ahead *a = mem_calloc(1, sizeof *a, "the predictor's thread", err);
    if (!a)
        return ODMOE_ERR_MEMORY;
    a->o = *options;
    likely_init(&a->ranks, FIRST_SHARE);
    a->ring_length = options->layers < RING_MAX ? options->layers : RING_MAX;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->posted, NULL);
    odmoe_status status = allocate(a, err);
    a->stop = status != ODMOE_OK;
    if (!status && thread_start(&a->thread, NULL, run, a)) {
        a->stop = true;
        status = err_set(err, ODMOE_ERR_MEMORY, "the predictor's thread could not be started");
    }
    if (status)
        ahead_free(a);
    else
        *out = a;
    return status;
}

void ahead_free(ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    bool running = !a->stop;
    a->stop = true;
    pthread_cond_signal(&a->posted);
    pthread_mutex_unlock(&a->lock);
    if (running)
        pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->posted);
    pthread_mutex_destroy(&a->lock);
    free(a->asked);
    free(a->failed);
    free(a->ids);
    free(a->scores);
    free(a->rows);
    free(a->unproven);
    free(a->rank);
    free(a);
}

void ahead_post(ahead *a, int layer, const float *x, const int32_t *topk, const float *topw, int64_t n)
{
    pthread_mutex_lock(&a->lock);
    a->number++;
    if (a->given_up || a->filled - a->taken >= (uint64_t)a->ring_length) {
        if (layer + 1 < a->o.layers)
            a->failed[layer + 1]++;
        pthread_mutex_unlock(&a->lock);
        return;
    }
    post *p = &a->ring[a->filled % (uint64_t)a->ring_length];
    size_t k = (size_t)a->o.top_k, hidden = (size_t)a->o.hidden;
    int64_t skip = n > AHEAD_ROWS ? n - AHEAD_ROWS : 0;
    p->n = n - skip;
    p->layer = layer;
    p->number = a->number;
    memcpy(p->x, x + (size_t)skip * hidden, (size_t)p->n * hidden * sizeof *x);
    memcpy(p->topk, topk + (size_t)skip * k, (size_t)p->n * k * sizeof *topk);
    memcpy(p->topw, topw + (size_t)skip * k, (size_t)p->n * k * sizeof *topw);
    a->filled++;
    pthread_cond_signal(&a->posted);
    pthread_mutex_unlock(&a->lock);
}

void ahead_counts(ahead *a, int layer, uint64_t *asked, uint64_t *failed)
{
    pthread_mutex_lock(&a->lock);
    *asked = a->asked[layer];
    *failed = a->failed[layer];
    pthread_mutex_unlock(&a->lock);
}

void ahead_reset(ahead *a)
{
    pthread_mutex_lock(&a->lock);
    memset(a->asked, 0, (size_t)a->o.layers * sizeof *a->asked);
    memset(a->failed, 0, (size_t)a->o.layers * sizeof *a->failed);
    pthread_mutex_unlock(&a->lock);
}
