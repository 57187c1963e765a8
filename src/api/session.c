#include <stdlib.h>

#include "api/handles.h"
#include "base/mem.h"
#include "model/forward.h"

odmoe_status odmoe_session_create(odmoe_model *handle, int32_t context, odmoe_session **out, odmoe_error *err)
{
    if (context < 0)
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens makes no sense", context);
    odmoe_session *s = mem_calloc(1, sizeof *s, "a session's handle", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->model = handle;
    context = context ? context : handle->m.plan.context;
    if (context > handle->m.config.context) {
        free(s);
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens was asked for; this model was made for %d",
                       context, handle->m.config.context);
    }
    odmoe_status status = session_create(&handle->m.pool, &handle->m.sessions, context, &s->state, err);
    if (status)
        free(s);
    else
        *out = s;
    return status;
}

void odmoe_session_free(odmoe_session *session)
{
    if (!session)
        return;
    session_free(&session->state);
    free(session);
}

int32_t odmoe_session_length(const odmoe_session *session)
{
    return session->state.length;
}

int32_t odmoe_session_context(const odmoe_session *session)
{
    return session->state.context;
}

const int32_t *odmoe_session_tokens(const odmoe_session *session)
{
    return session->state.tokens;
}

void odmoe_session_reset(odmoe_session *session)
{
    session_truncate(&session->state, 0, NULL, NULL); /* which 0 always can */
}

odmoe_status odmoe_session_truncate(odmoe_session *session, int32_t length, int32_t *reached, odmoe_error *err)
{
    return session_truncate(&session->state, length, reached, err);
}

odmoe_status odmoe_session_snapshot(odmoe_session *session, odmoe_error *err)
{
    return session_snapshot(&session->state, err);
}

int odmoe_session_needs_snapshots(const odmoe_session *session)
{
    return session_needs_snapshots(&session->state);
}

int odmoe_session_snapshots(const odmoe_session *session, int32_t *positions, int room)
{
    const session_state *s = &session->state;
    int count = 0;
    for (int32_t last = 0, next;; last = next, count++) { /* ascending, of at most eight */
        next = INT32_MAX;
        for (int i = 0; i < s->layout->snapshots; i++)
            if (s->snapshots[i].position > last && s->snapshots[i].position < next)
                next = s->snapshots[i].position;
        if (next == INT32_MAX)
            return count;
        if (count < room)
            positions[count] = next;
    }
}

void odmoe_session_forget(odmoe_session *session, int32_t position)
{
    session_forget(&session->state, position);
}

odmoe_status odmoe_session_fork(const odmoe_session *session, int32_t context, odmoe_session **out, odmoe_error *err)
{
    const model *m = &session->model->m;
    if (context < 0 || context > m->config.context)
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens was asked for; this model was made for %d",
                       context, m->config.context);
    odmoe_session *fork = mem_calloc(1, sizeof *fork, "a session's handle", err);
    if (!fork)
        return ODMOE_ERR_MEMORY;
    fork->model = session->model;
    odmoe_status status = session_fork(&session->state, context, &fork->state, err);
    if (status)
        free(fork);
    else
        *out = fork;
    return status;
}

odmoe_status odmoe_session_fork_at(const odmoe_session *session, int32_t length, int32_t context, odmoe_session **out,
                                   int32_t *reached, odmoe_error *err)
{
    if (length < 0 || length > session->state.length)
        return err_set(err, ODMOE_ERR_RANGE, "a session of %d tokens has no first %d", session->state.length, length);
    odmoe_status status = odmoe_session_fork(session, context, out, err);
    return status ? status : session_truncate(&(*out)->state, length, reached, err);
}

odmoe_status odmoe_session_save(const odmoe_session *session, const char *path, odmoe_error *err)
{
    return session_save(&session->model->m, &session->state, path, err);
}

odmoe_status odmoe_session_load(odmoe_session *session, const char *path, odmoe_error *err)
{
    return session_load(&session->model->m, &session->state, path, err);
}

odmoe_status odmoe_session_peek(const odmoe_model *handle, const char *path, int32_t *tokens, size_t capacity,
                                size_t *n, odmoe_error *err)
{
    return session_peek(&handle->m, path, tokens, capacity, n, err);
}

uint64_t odmoe_model_fingerprint(const odmoe_model *handle)
{
    return handle->m.fingerprint;
}

/* ---- forward calls ---- */

void odmoe_batch_init(odmoe_batch *batch)
{
    *batch = (odmoe_batch){.size = sizeof *batch};
}

odmoe_status odmoe_forward(odmoe_model *handle, odmoe_batch *source, odmoe_error *err)
{
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    odmoe_status status = copy_in(&batch, source, sizeof batch, "odmoe_batch_init", err);
    if (status)
        return status;
    if (batch.n < 1)
        return err_set(err, ODMOE_ERR_RANGE, "a forward call needs at least one sequence");
    forward_sequence *sequences = mem_calloc((size_t)batch.n, sizeof *sequences, "the sequences of a call", err);
    if (!sequences)
        return ODMOE_ERR_MEMORY;
    for (int32_t i = 0; i < batch.n && !status; i++) {
        odmoe_sequence *s = &batch.sequences[i];
        if (!s->session)
            status = err_set(err, ODMOE_ERR_ARG, "sequence %d has no session", i);
        else
            sequences[i] = (forward_sequence){.session = &s->session->state,
                                              .tokens = s->tokens,
                                              .n = s->n,
                                              .phase = s->phase,
                                              .want = s->want_logits,
                                              .error = &s->error};
    }
    forward_call call = {.sequences = sequences,
                         .n = batch.n,
                         .logits = batch.logits,
                         .on_logits = batch.on_logits,
                         .on_tap = batch.on_tap,
                         .progress = batch.progress,
                         .cancelled = batch.cancelled,
                         .user = batch.user};
    if (!status) {
        status = forward_run(&handle->m, &call, err);
        for (int32_t i = 0; i < batch.n; i++)
            batch.sequences[i].status = sequences[i].status;
    }
    free(sequences);
    return status;
}

odmoe_status odmoe_eval(odmoe_session *session, const int32_t *tokens, int64_t n, float *logits, odmoe_error *err)
{
    model *m = &session->model->m;
    if (n < 1)
        return err_set(err, ODMOE_ERR_RANGE, "at least one token is needed");
    if (n > session->state.context - session->state.length)
        return err_set(err, ODMOE_ERR_RANGE, "%lld tokens do not fit: the session holds %d of its %d", (long long)n,
                       session->state.length, session->state.context);
    odmoe_error why;
    forward_sequence sequence = {.session = &session->state,
                                 .tokens = tokens,
                                 .n = (int32_t)n,
                                 .phase = n > 1 ? ODMOE_PHASE_PROMPT : ODMOE_PHASE_DECODE,
                                 .want = logits ? ODMOE_LOGITS_LAST : ODMOE_LOGITS_NONE,
                                 .error = &why};
    forward_call call = {
        .sequences = &sequence, .n = 1, .logits = logits, .progress = m->settings.progress, .user = m->settings.user};
    return forward_run(m, &call, err);
}
