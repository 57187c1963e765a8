#include "moe/local_executor.h"

#define GROUP_PAIRS 256 /* pairs that are computed at a time: bounds the workspace */

static int64_t group_pairs(const experts_shape *shape, int64_t max_tokens)
{
    int64_t pairs = max_tokens * shape->top_k, few = pairs < EXPERTS_FEW ? pairs : EXPERTS_FEW;
    int64_t most = max_tokens < GROUP_PAIRS ? max_tokens : GROUP_PAIRS;
    return most < few ? few : most;
}

static experts_layout_info layout_info(const experts_shape *shape, int64_t max_tokens)
{
    return (experts_layout_info){.hidden = shape->hidden,
                                 .ffn = shape->ffn,
                                 .glu = shape->glu,
                                 .weight_on_input = shape->weight_on_input,
                                 .in_types = shape->in_types,
                                 .mid_types = shape->mid_types,
                                 .pairs_most = group_pairs(shape, max_tokens)};
}

void local_executor_layout(const compute *c, arena *a, const experts_shape *shape, int64_t max_tokens,
                           compute_work *out)
{
    experts_layout_info info = layout_info(shape, max_tokens);
    c->op->experts_layout(c, a, &info, out);
}

static void bind_biases(const local_executor *e, int layer, int expert, expert_weights *w)
{
    if (!e->biases)
        return;
    const expert_biases *b = &e->biases[layer];
    w->gate_bias = b->gate ? b->gate + expert * e->shape->ffn : NULL;
    w->up_bias = b->up ? b->up + expert * e->shape->ffn : NULL;
    w->down_bias = b->down ? b->down + expert * e->shape->hidden : NULL;
}

/* A read has failed: note the expert, and keep the first error for the end. */
static void note_failure(local_executor *e, expert_task *task, const odmoe_error *failure)
{
    if (!task->n_failed++)
        e->failure = *failure;
    task->failed[e->current.pinned.expert] = 1;
}

/* Ask the source until there is an expert, or none is left, or the fetch cannot go on. */
static odmoe_status next_expert(local_executor *e, expert_task *task, odmoe_error *err)
{
    for (;;) {
        odmoe_error failure = {0};
        e->current.pinned.expert = -1;
        odmoe_status status = e->source->next(e->source->ctx, e->fetch, &e->current.pinned, &failure);
        if (status != ODMOE_ERR_IO || e->current.pinned.expert < 0)
            return status ? err_set(err, status, "%s", failure.message) : ODMOE_OK;
        note_failure(e, task, &failure); /* this expert alone: the fetch goes on */
    }
}

/* Take the next expert as the current one: wait for it, or only look whether it is there. False: none to be had now. */
static bool take_expert(local_executor *e, expert_task *task, bool wait, odmoe_status *status, odmoe_error *err)
{
    const expert_source *source = e->source;
    local_expert *x = &e->current;
    if (wait)
        *status = next_expert(e, task, err);
    else if (!source->poll || source->poll(source->ctx, e->fetch, &x->pinned, NULL))
        return false; /* a failure shows again in next */
    if (*status || x->pinned.expert < 0)
        return false;
    x->pair = task->pairs->offsets[x->pinned.expert];
    x->pairs = task->pairs->offsets[x->pinned.expert + 1] - x->pair;
    expert_tensors_bind(e->shape, source->tensors, &x->pinned, e->scales ? &e->scales[task->layer] : NULL, &x->weights);
    bind_biases(e, task->layer, x->pinned.expert, &x->weights);
    return true;
}

/* Fill a group with what is there, at least one segment. An empty group: all experts are through, or *status says why
 * not. Waits only while the group holds no expert, so that room for one is enough. */
static void fill_group(local_executor *e, expert_task *task, odmoe_status *status, odmoe_error *err)
{
    e->count = e->n_done = 0;
    e->pairs = 0;
    while (e->count < EXPERT_SEGMENTS_MAX && e->pairs < e->info.pairs_most) {
        local_expert *x = &e->current;
        if (!x->pairs && !take_expert(e, task, e->count == 0, status, err))
            return;
        int64_t room = e->info.pairs_most - e->pairs, pairs = x->pairs < room ? x->pairs : room;
        e->segments[e->count++] = (expert_segment){.w = x->weights, .pair = x->pair, .pairs = pairs};
        e->pairs += pairs;
        x->pair += pairs;
        x->pairs -= pairs;
        if (!x->pairs)
            e->done[e->n_done++] = x->pinned;
    }
}

static void run_group(local_executor *e, const expert_task *task)
{
    experts_group_call call = {.info = &e->info,
                               .x = task->x,
                               .pair_token = task->pairs->token,
                               .pair_weight = task->pairs->weight,
                               .segments = e->segments,
                               .count = e->count,
                               .pair_out = task->pair_out,
                               .y = task->y,
                               .keep_gate = task->keep_gate,
                               .keep_up = task->keep_up,
                               .pair_choice = task->pairs->choice,
                               .keep_top_k = e->shape->top_k,
                               .work = e->work};
    e->c->op->experts(e->c, &call);
    for (int i = 0; i < e->n_done; i++)
        e->source->release(e->source->ctx, e->fetch, &e->done[i]);
}

static odmoe_status start(void *ctx, expert_task *task, odmoe_error *err)
{
    local_executor *e = ctx;
    const expert_source *source = e->source;
    const expert_pairs *pairs = task->pairs;
    e->current.pairs = 0;
    fetch_request request = {.layer = task->layer,
                             .n = pairs->n_needed,
                             .experts = pairs->needed,
                             .order = task->pair_out ? FETCH_ARRIVAL : FETCH_LISTED,
                             .size = task->size};
    odmoe_status status = source->begin(source->ctx, &request, &e->fetch, err);
    for (int i = 0; i < pairs->n_needed && !status && source->note_uses; i++)
        source->note_uses(source->ctx, task->layer, pairs->needed[i], (uint64_t)pairs->counts[pairs->needed[i]]);
    return status;
}

static odmoe_status finish(void *ctx, expert_task *task, odmoe_error *err)
{
    local_executor *e = ctx;
    odmoe_status status = ODMOE_OK;
    for (;;) {
        fill_group(e, task, &status, err);
        if (!e->count)
            break;
        run_group(e, task);
    }
    e->source->end(e->source->ctx, e->fetch);
    if (status)
        task->n_failed = 0; /* not only single experts are missing */
    return !status && task->n_failed ? err_set(err, e->failure.code, "%s", e->failure.message) : status;
}

expert_executor local_executor_init(local_executor *e, const compute *c, const experts_shape *shape,
                                    const expert_source *source, const expert_biases *biases,
                                    const expert_scales *scales, const experts_work *work)
{
    *e = (local_executor){
        .c = c, .shape = shape, .source = source, .biases = biases, .scales = scales, .work = &work->local};
    e->info = layout_info(shape, work->max_tokens);
    return (expert_executor){.ctx = e, .adds = true, .start = start, .finish = finish};
}
