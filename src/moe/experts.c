#include "moe/experts.h"

#include <string.h>

#include "moe/local_executor.h"

void experts_layout(const compute *c, arena *a, const experts_shape *shape, int64_t max_tokens, bool all_apart,
                    experts_work *out)
{
    int64_t pairs = max_tokens * shape->top_k, apart = all_apart || pairs < EXPERTS_FEW ? pairs : EXPERTS_FEW;
    out->max_tokens = max_tokens;
    pairs_layout(a, shape->experts, shape->top_k, max_tokens, &out->pairs);
    out->failed = arena_take(a, (size_t)shape->experts, 1);
    c->op->buffer_layout(c, a, &out->pair_out, apart, shape->hidden, 0, true);
    local_executor_layout(c, a, shape, max_tokens, &out->local);
}

odmoe_status experts_start(experts_call *call, const compute *c, const expert_executor *executor,
                           const experts_shape *shape, experts_work *work, int layer, buffer *x, fetch_size size,
                           const int32_t *topk, const float *topw, odmoe_error *err)
{
    *call = (experts_call){.c = c, .shape = shape, .work = work, .executor = executor};
    pairs_group(&work->pairs, shape->experts, shape->top_k, x->n, topk, topw);
    call->few = work->pairs.n <= EXPERTS_FEW;
    call->task = (expert_task){.layer = layer,
                               .size = size,
                               .x = x,
                               .pairs = &work->pairs,
                               .failed = work->failed,
                               .pair_out = call->few || !executor->adds ? &work->pair_out : NULL};
    memset(work->failed, 0, (size_t)shape->experts);
    odmoe_status status = executor->start(executor->ctx, &call->task, err);
    call->all_failed = status != ODMOE_OK;
    return status;
}

odmoe_status experts_finish(experts_call *call, buffer *y, odmoe_error *err)
{
    const expert_pairs *pairs = &call->work->pairs;
    expert_task *task = &call->task;
    token_op zero = {.kind = TOKEN_ZERO, .y = y};
    task->y = y;
    if (!task->pair_out)
        call->c->op->tokens(call->c, &zero, 1, task->x->n);
    odmoe_status status = call->executor->finish(call->executor->ctx, task, err);
    call->all_failed = status && !task->n_failed;
    if (call->all_failed || !task->pair_out)
        return status;
    combine_call combine = {.pair_out = task->pair_out,
                            .pair_token = pairs->token,
                            .pair_weight = call->shape->weight_on_input ? NULL : pairs->weight,
                            .pairs = pairs->n,
                            .y = y,
                            .n = task->x->n};
    call->c->op->combine(call->c, &combine);
    return status;
}

bool experts_failed(const experts_call *call, const int32_t *topk)
{
    bool failed = call->all_failed;
    for (int k = 0; k < call->shape->top_k; k++)
        failed |= call->task.failed[topk[k]];
    return failed;
}
