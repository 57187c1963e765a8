/* predictor_thread.h - candidates from a program's predictor, asked on a thread of its own.
 *
 *   layer l's router has chosen -> predictor_thread_post copies its tokens
 *       -> [thread] the engine judges l's candidates; observe(l), predict(l + 1); the engine takes up what was named
 *
 * The layer never waits for the thread: calls wait in a ring, and when the ring is full (the predictor is slow, or
 * hangs) a call is dropped and counted. Candidates that come when a later call has been posted are of no use any more
 * and read nothing.
 *
 *   a call's states: free -> waiting (posted) -> being worked on -> free
 */
#ifndef ODMOE_PREFETCH_PREDICTOR_THREAD_H
#define ODMOE_PREFETCH_PREDICTOR_THREAD_H

#include "moe/source.h"
#include "odmoe_layer.h"
#include "prefetch/limits.h"

typedef struct predictor_thread predictor_thread;

typedef struct predictor_thread_options {
    odmoe_predictor predictor; /* its ctx is borrowed */
    expert_source source;      /* has prefetch; prefetch, missing and cancel are called from the thread as well */
    int layers, experts, top_k;
    int64_t hidden;
    int most; /* experts to read ahead for a layer, 1 <= most */
} predictor_thread_options;

/* predictor_thread_create - starts the thread. ERR_MEMORY. predictor_thread_free - waits for a call of the predictor
 * that is under way; NULL is fine. */
odmoe_status predictor_thread_create(const predictor_thread_options *options, predictor_thread **out, odmoe_error *err);
void predictor_thread_free(predictor_thread *t);

/* predictor_thread_post - layer's router has chosen for x [n, hidden]: topk, topw [n, top_k]; its reads have begun.
 * Cancels what was read ahead for the layer and is not needed. Copies; returns at once. */
void predictor_thread_post(predictor_thread *t, int layer, const float *x, const int32_t *topk, const float *topw,
                           int64_t n);

/* predictor_thread_counts - predictions asked for a layer, and those that failed or were dropped. _reset: all layers to
 * zero. Threads: any. */
void predictor_thread_counts(predictor_thread *t, int layer, uint64_t *asked, uint64_t *failed);
void predictor_thread_reset(predictor_thread *t);

#endif
