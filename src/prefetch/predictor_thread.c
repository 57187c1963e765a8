#include "prefetch/predictor_thread.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "prefetch/prefetch.h"

/* A call of the layer. */
typedef struct call {
    int layer;
    uint64_t number; /* of all calls */
    int64_t n;
    float *x;      /* [OBSERVED_TOKENS_MAX, hidden] */
    int32_t *topk; /* [OBSERVED_TOKENS_MAX, top_k] */
    float *topw;
} call;

struct predictor_thread {
    predictor_thread_options o;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows; never held while the predictor or the source runs */
    pthread_cond_t posted;
    bool stop, given_up;
    uint64_t taken, filled;   /* calls: ring[taken % ring_length] is being worked on, up to `filled` wait */
    uint64_t number;          /* of the latest call, dropped ones included */
    int failures;             /* in a row */
    uint64_t *asked, *failed; /* [layers] */
    int ring_length;
    call ring[PREDICTOR_CALLS_WAITING];
    float *rows; /* memory behind the ring */
    /* the thread's own */
    prefetch_engine engine;
    void *engine_memory;
    uint64_t engine_number; /* of the call that the engine has seen last */
    int32_t *ids;           /* [experts] what the predictor names */
    float *scores;
    uint8_t *ranks;
};

/* Keep the ids that exist, once each, by falling score (ties: as they came); at most `most`. */
static int sort_by_score(const predictor_thread *t, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        int32_t id = t->ids[i];
        float score = t->scores[i];
        bool usable = id >= 0 && id < t->o.experts && !isnan(score);
        for (int j = 0; usable && j < kept; j++)
            usable = t->ids[j] != id;
        if (!usable)
            continue;
        if (kept == t->o.most && !(score > t->scores[kept - 1]))
            continue;
        int at = kept < t->o.most ? kept++ : kept - 1;
        for (; at > 0 && score > t->scores[at - 1]; at--) {
            t->ids[at] = t->ids[at - 1];
            t->scores[at] = t->scores[at - 1];
        }
        t->ids[at] = id;
        t->scores[at] = score;
    }
    return kept;
}

/* The engine judges what was named for the call's layer. When calls have been dropped in between, candidates belong to
 * other tokens than this call, and are forgotten instead. */
static void judge(predictor_thread *t, const call *c)
{
    if (c->number != t->engine_number + 1)
        prefetch_forget(&t->engine);
    t->engine_number = c->number;
    prefetch_layer_begins(&t->engine, c->layer, c->topk, c->n * t->o.top_k);
}

/* Lock held on entry and exit. */
static void work_on(predictor_thread *t, const call *c)
{
    const odmoe_predictor *predictor = &t->o.predictor;
    int next = c->layer + 1, n = 0;
    bool ask = next < t->o.layers;
    if (ask)
        t->asked[next]++;
    pthread_mutex_unlock(&t->lock);
    judge(t, c);
    odmoe_observation seen = {.size = sizeof seen, .n = c->n, .x = c->x, .topk = c->topk, .topw = c->topw};
    odmoe_status status = predictor->observe ? predictor->observe(predictor->ctx, c->layer, &seen, NULL) : ODMOE_OK;
    if (!status && ask)
        status = predictor->predict(predictor->ctx, next, t->ids, t->scores, t->o.experts, &n, NULL);
    bool bad = status || n < 0 || n > t->o.experts;
    pthread_mutex_lock(&t->lock);
    bool late = t->number != c->number;
    t->failures = bad ? t->failures + 1 : 0;
    t->given_up = t->failures >= PREDICTOR_FAILURES_TO_STOP;
    if (ask && (bad || late))
        t->failed[next]++;
    if (!ask || bad || late || t->stop)
        return;
    pthread_mutex_unlock(&t->lock);
    prefetch_offer(&t->engine, next, 1, t->ids, t->ranks, sort_by_score(t, n));
    pthread_mutex_lock(&t->lock);
}

static void *run(void *arg)
{
    predictor_thread *t = arg;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (t->taken == t->filled) {
            pthread_cond_wait(&t->posted, &t->lock);
            continue;
        }
        work_on(t, &t->ring[t->taken % (uint64_t)t->ring_length]);
        t->taken++;
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static odmoe_status allocate_engine(predictor_thread *t, odmoe_error *err)
{
    arena a = {0};
    prefetch_layout(&a, t->o.layers, t->o.experts, &t->engine);
    t->engine_memory = mem_calloc(1, a.used, "the predictor's candidates", err);
    if (!t->engine_memory)
        return ODMOE_ERR_MEMORY;
    a = (arena){.base = t->engine_memory};
    prefetch_layout(&a, t->o.layers, t->o.experts, &t->engine);
    prefetch_init(&t->engine, &t->o.source, t->o.layers, t->o.experts, ACCURACY_FIRST_PREDICTOR,
                  ACCURACY_FIRST_PREDICTOR);
    return ODMOE_OK;
}

static odmoe_status allocate(predictor_thread *t, odmoe_error *err)
{
    size_t hidden = (size_t)t->o.hidden, k = (size_t)t->o.top_k, row = hidden + 2 * k, experts = (size_t)t->o.experts;
    t->asked = mem_calloc((size_t)t->o.layers, sizeof *t->asked, "the predictor's counters", err);
    t->failed = mem_calloc((size_t)t->o.layers, sizeof *t->failed, "the predictor's counters", err);
    t->ids = mem_calloc(experts, sizeof *t->ids, "the predictor's lists", err);
    t->scores = mem_calloc(experts, sizeof *t->scores, "the predictor's lists", err);
    t->ranks = mem_calloc(experts, sizeof *t->ranks, "the predictor's lists", err);
    t->rows =
        mem_calloc((size_t)t->ring_length * OBSERVED_TOKENS_MAX, row * sizeof(float), "the predictor's rows", err);
    if (!t->asked || !t->failed || !t->ids || !t->scores || !t->ranks || !t->rows)
        return ODMOE_ERR_MEMORY;
    for (size_t i = 0; i < experts; i++)
        t->ranks[i] = (uint8_t)(i < ACCURACY_RANKS ? i : ACCURACY_RANKS - 1);
    for (int i = 0; i < t->ring_length; i++) {
        float *at = t->rows + (size_t)i * OBSERVED_TOKENS_MAX * row;
        t->ring[i] = (call){.x = at, .topw = at + OBSERVED_TOKENS_MAX * hidden};
        t->ring[i].topk = (int32_t *)(t->ring[i].topw + OBSERVED_TOKENS_MAX * k);
    }
    return allocate_engine(t, err);
}

odmoe_status predictor_thread_create(const predictor_thread_options *options, predictor_thread **out, odmoe_error *err)
{
    predictor_thread *t = mem_calloc(1, sizeof *t, "the predictor's thread", err);
    if (!t)
        return ODMOE_ERR_MEMORY;
    t->o = *options;
    t->ring_length = options->layers < PREDICTOR_CALLS_WAITING ? options->layers : PREDICTOR_CALLS_WAITING;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->posted, NULL);
    odmoe_status status = allocate(t, err);
    t->stop = status != ODMOE_OK;
    if (!status && thread_start(&t->thread, NULL, run, t)) {
        t->stop = true;
        status = err_set(err, ODMOE_ERR_MEMORY, "the predictor's thread could not be started");
    }
    if (status)
        predictor_thread_free(t);
    else
        *out = t;
    return status;
}

void predictor_thread_free(predictor_thread *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    bool running = !t->stop;
    t->stop = true;
    pthread_cond_signal(&t->posted);
    pthread_mutex_unlock(&t->lock);
    if (running)
        pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->posted);
    pthread_mutex_destroy(&t->lock);
    free(t->asked);
    free(t->failed);
    free(t->ids);
    free(t->scores);
    free(t->ranks);
    free(t->rows);
    free(t->engine_memory);
    free(t);
}

/* Copy the last tokens of a call into a free place of the ring. */
static void copy_call(predictor_thread *t, call *c, const float *x, const int32_t *topk, const float *topw, int64_t n)
{
    size_t k = (size_t)t->o.top_k, hidden = (size_t)t->o.hidden;
    int64_t skip = n > OBSERVED_TOKENS_MAX ? n - OBSERVED_TOKENS_MAX : 0;
    c->n = n - skip;
    memcpy(c->x, x + (size_t)skip * hidden, (size_t)c->n * hidden * sizeof *x);
    memcpy(c->topk, topk + (size_t)skip * k, (size_t)c->n * k * sizeof *topk);
    memcpy(c->topw, topw + (size_t)skip * k, (size_t)c->n * k * sizeof *topw);
}

void predictor_thread_post(predictor_thread *t, int layer, const float *x, const int32_t *topk, const float *topw,
                           int64_t n)
{
    if (t->o.source.cancel) /* at once: the thread may be busy */
        t->o.source.cancel(t->o.source.ctx, layer, READ_SPECULATIVE);
    pthread_mutex_lock(&t->lock);
    t->number++;
    if (t->given_up || t->filled - t->taken >= (uint64_t)t->ring_length) {
        if (layer + 1 < t->o.layers)
            t->failed[layer + 1]++;
        pthread_mutex_unlock(&t->lock);
        return;
    }
    call *c = &t->ring[t->filled % (uint64_t)t->ring_length];
    c->layer = layer;
    c->number = t->number;
    copy_call(t, c, x, topk, topw, n);
    t->filled++;
    pthread_cond_signal(&t->posted);
    pthread_mutex_unlock(&t->lock);
}

void predictor_thread_counts(predictor_thread *t, int layer, uint64_t *asked, uint64_t *failed)
{
    pthread_mutex_lock(&t->lock);
    *asked = t->asked[layer];
    *failed = t->failed[layer];
    pthread_mutex_unlock(&t->lock);
}

void predictor_thread_reset(predictor_thread *t)
{
    pthread_mutex_lock(&t->lock);
    memset(t->asked, 0, (size_t)t->o.layers * sizeof *t->asked);
    memset(t->failed, 0, (size_t)t->o.layers * sizeof *t->failed);
    pthread_mutex_unlock(&t->lock);
}
