#include "engine_gate.h"

#include <pthread.h>
#include <stdbool.h>

#include "api/handles.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    odmoe_status (*begin)(void *ctx, const fetch_request *request, void **batch, odmoe_error *err);
    int left;   /* fetches that go through before one is held; negative: all do */
    bool holds; /* one is held */
    int prompt_passes, shared_passes;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .left = -1};

static odmoe_status gated_begin(void *ctx, const fetch_request *request, void **batch, odmoe_error *err)
{
    pthread_mutex_lock(&gate.lock);
    while (!gate.left) {
        gate.holds = true;
        pthread_cond_broadcast(&gate.changed);
        pthread_cond_wait(&gate.changed, &gate.lock);
    }
    gate.left -= gate.left > 0;
    bool prompt = request->layer == 0 && request->size.phase == FETCH_PROMPT;
    gate.prompt_passes += prompt;
    gate.shared_passes += prompt && request->size.n_sequences > 1;
    pthread_mutex_unlock(&gate.lock);
    return gate.begin(ctx, request, batch, err);
}

void gate_close_after(odmoe_model *m, int passes)
{
    int layers = m->m.config.moe_layers;
    if (m->m.source.begin != gated_begin)
        gate.begin = m->m.source.begin;
    m->m.source.begin = gated_begin;
    pthread_mutex_lock(&gate.lock);
    gate.left = passes * layers + layers / 2;
    pthread_mutex_unlock(&gate.lock);
}

void gate_await(void)
{
    pthread_mutex_lock(&gate.lock);
    while (!gate.holds)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

void gate_open(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.left = -1;
    gate.holds = false;
    gate.prompt_passes = gate.shared_passes = 0;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

int gate_prompt_passes(int *shared)
{
    pthread_mutex_lock(&gate.lock);
    int passes = gate.prompt_passes;
    *shared = gate.shared_passes;
    pthread_mutex_unlock(&gate.lock);
    return passes;
}
