/* trace_together.c - several copies of a trace that decode at the same time. */
#include "store/trace.h"

#include <stdlib.h>

#include "base/mem.h"

/* A decoding step of the trace: fetch[prompt, first) are the prompts before it, fetch[first, end) its layers. */
typedef struct decode_step {
    size_t prompt, first, end;
} decode_step;

typedef struct builder {
    const trace *t;
    trace *out;
    size_t fetch_room, use_room, token_room;
    int32_t *place; /* [experts] where trace.expert last got this expert; may be a place of an earlier fetch */
} builder;

/* The steps of t; the caller frees *out. */
static odmoe_status find_steps(const trace *t, decode_step **out, size_t *n, odmoe_error *err)
{
    *n = 0;
    *out = mem_calloc(t->fetches, sizeof **out, "the trace", err);
    if (!*out)
        return ODMOE_ERR_MEMORY;
    size_t done = 0; /* fetches that belong to a step */
    for (size_t i = 0; i < t->fetches; i++) {
        const trace_fetch *f = &t->fetch[i];
        if (f->size.phase != FETCH_DECODE)
            continue;
        bool goes_on = i && f[-1].size.phase == FETCH_DECODE && f[-1].layer < f->layer;
        if (!goes_on)
            (*out)[(*n)++] = (decode_step){.prompt = done, .first = i};
        done = (*out)[*n - 1].end = i + 1;
    }
    return *n ? ODMOE_OK
              : err_set(err, ODMOE_ERR_FORMAT,
                        "the trace has prompts only: there is no decoding that sequences could share");
}

static odmoe_status add_fetch(builder *b, int32_t layer, fetch_size size, odmoe_error *err)
{
    trace *o = b->out;
    odmoe_status status =
        mem_grow((void **)&o->fetch, &b->fetch_room, o->fetches + 1, sizeof *o->fetch, "the trace", err);
    if (!status)
        o->fetch[o->fetches++] = (trace_fetch){layer, size, (int32_t)o->uses, 0};
    return status;
}

/* Add what `from` needs to the last fetch. */
static odmoe_status add_uses(builder *b, const trace_fetch *from, odmoe_error *err)
{
    trace *o = b->out;
    size_t room = o->uses + (size_t)from->n;
    if (room > INT32_MAX)
        return err_set(err, ODMOE_ERR_RANGE,
                       "sequences that decode together would use experts more than %d times: take fewer sequences, or "
                       "a shorter trace",
                       INT32_MAX);
    odmoe_status status = mem_grow((void **)&o->expert, &b->use_room, room, sizeof *o->expert, "the trace", err);
    if (!status)
        status = mem_grow((void **)&o->tokens, &b->token_room, room, sizeof *o->tokens, "the trace", err);
    if (status)
        return status;
    trace_fetch *f = &o->fetch[o->fetches - 1];
    for (int32_t i = from->first; i < from->first + from->n; i++) {
        int32_t expert = b->t->expert[i], at = b->place[expert];
        if (at < f->first || at >= f->first + f->n || o->expert[at] != expert) {
            at = b->place[expert] = (int32_t)o->uses++;
            o->expert[at] = expert;
            o->tokens[at] = 0;
            f->n++;
        }
        o->tokens[at] += b->t->tokens[i];
    }
    return ODMOE_OK;
}

static odmoe_status add_prompts(builder *b, const decode_step *step, odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    for (size_t i = step->prompt; i < step->first && !status; i++) {
        status = add_fetch(b, b->t->fetch[i].layer, b->t->fetch[i].size, err);
        if (!status)
            status = add_uses(b, &b->t->fetch[i], err);
    }
    return status;
}

/* One decoding pass of n sequences; sequence k is at at[k]. */
static odmoe_status add_pass(builder *b, const decode_step *const *at, int32_t n, odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    for (int32_t layer = 0; layer < b->t->layers; layer++) {
        bool begun = false;
        for (int32_t k = 0; k < n; k++)
            for (size_t i = at[k]->first; i < at[k]->end; i++) {
                const trace_fetch *f = &b->t->fetch[i];
                if (f->layer != layer)
                    continue;
                if (!begun)
                    status = add_fetch(b, layer, (fetch_size){FETCH_DECODE, n, n}, err);
                begun = true;
                if (!status)
                    status = add_uses(b, f, err);
                if (status)
                    return status;
            }
    }
    return ODMOE_OK;
}

odmoe_status trace_decode_together(const trace *t, int32_t n, trace *out, odmoe_error *err)
{
    builder b = {.t = t, .out = out};
    decode_step *step = NULL;
    const decode_step **at = NULL;
    size_t steps;
    *out = (trace){.layers = t->layers, .experts = t->experts};
    if (n < 1 || n > TRACE_SEQUENCES_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "%d sequences cannot decode together; 1 to %d can", n,
                       TRACE_SEQUENCES_MAX);
    odmoe_status status = find_steps(t, &step, &steps, err);
    b.place = mem_calloc((size_t)t->experts, sizeof *b.place, "the trace", err);
    at = mem_calloc((size_t)n, sizeof *at, "the trace", err);
    out->expert_bytes = mem_calloc((size_t)t->layers, sizeof *out->expert_bytes, "the trace", err);
    if (!status && (!b.place || !at || !out->expert_bytes))
        status = ODMOE_ERR_MEMORY;
    for (int32_t l = 0; l < t->layers && !status; l++)
        out->expert_bytes[l] = t->expert_bytes[l];
    for (size_t i = 0; i < steps && !status; i++) {
        for (int32_t k = 0; k < n && !status; k++) {
            at[k] = &step[(i + (size_t)k * steps / (size_t)n) % steps];
            status = add_prompts(&b, at[k], err);
        }
        if (!status)
            status = add_pass(&b, at, n, err);
    }
    free(step);
    free(b.place);
    free((void *)at);
    if (status)
        trace_clear(out);
    return status;
}
