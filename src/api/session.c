#include <stdlib.h>

#include "api/handles.h"
#include "base/mem.h"

odmoe_status odmoe_session_create(odmoe_model *handle, int32_t context, odmoe_session **out, odmoe_error *err)
{
    if (context < 0)
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens makes no sense", context);
    odmoe_session *s = mem_calloc(1, sizeof *s, "a session's handle", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->model = handle;
    odmoe_status status = sequence_create(&handle->m, context, &s->seq, err);
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
    sequence_free(&session->seq);
    free(session);
}

int32_t odmoe_session_length(const odmoe_session *session)
{
    return session->seq.length;
}

int32_t odmoe_session_context(const odmoe_session *session)
{
    return session->seq.context;
}

const int32_t *odmoe_session_tokens(const odmoe_session *session)
{
    return session->seq.tokens;
}

void odmoe_session_reset(odmoe_session *session)
{
    session->seq.length = 0;
}

odmoe_status odmoe_session_truncate(odmoe_session *session, int32_t length, odmoe_error *err)
{
    return sequence_truncate(&session->seq, length, err);
}

odmoe_status odmoe_session_save(const odmoe_session *session, const char *path, odmoe_error *err)
{
    return sequence_save(&session->seq, path, err);
}

odmoe_status odmoe_session_load(odmoe_session *session, const char *path, odmoe_error *err)
{
    return sequence_load(&session->seq, path, err);
}

void odmoe_pass_init(odmoe_pass *pass)
{
    *pass = (odmoe_pass){.size = sizeof *pass};
}

odmoe_status odmoe_pass_run(odmoe_model *handle, const odmoe_pass *source, odmoe_error *err)
{
    odmoe_pass pass;
    odmoe_pass_init(&pass);
    odmoe_status status = copy_in(&pass, source, sizeof pass, "odmoe_pass_init", err);
    if (status)
        return status;
    stack_row *rows = pass.n > 0 ? mem_calloc((size_t)pass.n, sizeof *rows, "the rows of a pass", err) : NULL;
    if (pass.n > 0 && !rows)
        return ODMOE_ERR_MEMORY;
    for (int64_t i = 0; i < pass.n && !status; i++) {
        const odmoe_row *r = &pass.rows[i];
        if (r->session)
            rows[i] = (stack_row){&r->session->seq, r->position, r->token, r->want_logits != 0};
        else
            status = err_set(err, ODMOE_ERR_ARG, "row %lld has no session", (long long)i);
    }
    stack_pass stack = {rows, pass.n, pass.logits, pass.on_logits, pass.on_tap, pass.user};
    if (!status)
        status = pass_run(&handle->m, &stack, err);
    free(rows);
    return status;
}

odmoe_status odmoe_eval(odmoe_session *session, const int32_t *tokens, int64_t n, float *logits, odmoe_error *err)
{
    if (n < 1)
        return err_set(err, ODMOE_ERR_RANGE, "a pass needs at least one token");
    if (n > session->seq.context - session->seq.length)
        return err_set(err, ODMOE_ERR_RANGE, "%lld tokens do not fit: the session holds %d of its %d", (long long)n,
                       session->seq.length, session->seq.context);
    stack_row *rows = mem_calloc((size_t)n, sizeof *rows, "the rows of a pass", err);
    if (!rows)
        return ODMOE_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        rows[i] = (stack_row){&session->seq, (int32_t)(session->seq.length + i), tokens[i], logits && i == n - 1};
    stack_pass stack = {.rows = rows, .n = n, .logits = logits};
    odmoe_status status = pass_run(&session->model->m, &stack, err);
    free(rows);
    return status;
}
