/* POST /v1/completions: a text goes on. One choice for each prompt; they run at the same time, and are written in order. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "clock.h"
#include "fim.h"
#include "serve.h"

enum { PROMPTS_MOST = 16 };

typedef struct completion {
    struct server *server;
    ask ask;
    answer answers[PROMPTS_MOST];
    int count;
    int at; /* the one that is written */
    char id[48];
    json_int_t created;
    size_t characters; /* of its text so far, for text_offset */
    job_usage usage;   /* of those that have ended */
} completion;

static void completion_free(void *user)
{
    completion *c = user;
    for (int i = 0; i < c->count; i++)
        answer_free(&c->answers[i]);
    ask_free(&c->ask);
    free(c);
}

/* ---- the request ---- */

static bool check_refused(const json_t *body, problem *p)
{
    bool echo = false;
    int64_t n = 1, best_of = 1;
    if (!field_bool(body, "", "echo", &echo, p) || !field_int(body, "", "n", 0, INT32_MAX, &n, p) ||
        !field_int(body, "", "best_of", 0, INT32_MAX, &best_of, p))
        return false;
    if (echo)
        return problem_unsupported(p, "", "echo", "echo is not supported: the answer has only the new text");
    if (n != 1)
        return problem_unsupported(p, "", "n", "only 1 is supported: one choice for each prompt");
    return best_of == 1 || problem_unsupported(p, "", "best_of", "only 1 is supported: one choice for each prompt");
}

static bool read_completion(const struct server *s, ask *a, const json_t *body, problem *p)
{
    const char *model = NULL;
    int64_t logprobs = -1;
    if (!field_text(body, "", "model", &model, p) || !check_refused(body, p) || !ask_read_common(s, a, body, p) ||
        !ask_read_limit(a, body, "max_tokens", p) || !ask_read_stop(a, body, "stop", p) ||
        !field_int(body, "", "logprobs", 0, LOGPROBS_MOST, &logprobs, p) || !ask_read_stream(a, body, p) ||
        !ask_read_format(a, body, p))
        return false;
    a->prompt_param = "prompt";
    a->logprobs = (int)logprobs;
    return true;
}

/* ids of a prompt: a list of numbers. */
static bool prompt_of_ids(const struct server *s, const json_t *list, const char *where, prompt *out, problem *p)
{
    size_t n = json_array_size(list);
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(s->model, &info);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    bool done = ids || problem_memory(p);
    for (size_t i = 0; done && i < n; i++) {
        int64_t id = -1;
        if (!field_whole(json_array_get(list, i), &id) || id < 0 || id >= info.vocab)
            done = problem_value(p, field_index(where, i).text, NULL, "an id of a token, from 0 to %d, is wanted",
                                 info.vocab - 1);
        ids[i] = (int32_t)id;
    }
    done = done && prompt_from_tokens(s, ids, n, "prompt", out, p);
    free(ids);
    return done;
}

/* A text with a gap behind it. */
static bool prompt_of_gap(const struct server *s, const json_t *value, const char *suffix, prompt *out, problem *p)
{
    buffer text = {0};
    const fim_form *form = s->tokenizer ? fim_form_of(s->tokenizer) : NULL;
    if (!form)
        return problem_unsupported(p, "", "suffix", "this model has no fill-in-the-middle tokens");
    if (!json_is_string(value))
        return problem_value(p, "", "suffix", "it needs a prompt that is a text");
    fim_text(form, json_string_value(value), suffix, &text);
    bool done = text.failed ? problem_memory(p) : prompt_from_text(s, text.data, text.length, "prompt", out, p);
    buffer_free(&text);
    return done;
}

/* A text or a list of ids. */
static bool read_prompt(const struct server *s, const json_t *value, const char *suffix, const char *where, prompt *out,
                        problem *p)
{
    if (suffix && *suffix)
        return prompt_of_gap(s, value, suffix, out, p);
    if (json_is_string(value))
        return prompt_from_text(s, json_string_value(value), json_string_length(value), "prompt", out, p);
    if (json_is_array(value) && json_array_size(value))
        return prompt_of_ids(s, value, where, out, p);
    return problem_value(p, where, NULL, "a text or a list of ids is wanted");
}

/* Queue one answer a prompt. */
static bool start(completion *c, http_request *request, const json_t *body, problem *p)
{
    const json_t *prompt_field = field_get(body, "prompt");
    const char *suffix = NULL;
    if (!field_text(body, "", "suffix", &suffix, p))
        return false;
    if (!prompt_field)
        return problem_set(p, 400, "missing_required_parameter", "prompt", "prompt: the text to continue is missing");
    bool many = json_is_array(prompt_field) && !json_is_number(json_array_get(prompt_field, 0));
    size_t n = many ? json_array_size(prompt_field) : 1;
    if (n == 0 || n > PROMPTS_MOST)
        return problem_value(p, "", "prompt", "1 to %d prompts are wanted", PROMPTS_MOST);
    for (size_t i = 0; i < n; i++) {
        prompt r = {0};
        const json_t *one = many ? json_array_get(prompt_field, i) : prompt_field;
        field_path where = many ? field_index("prompt", i) : field_at("prompt", NULL);
        bool done = read_prompt(c->server, one, suffix, where.text, &r, p);
        if (done) {
            c->count++;
            done = answer_start(c->server, request, &c->ask, &r, &c->answers[i], p);
        }
        prompt_free(&r);
        if (!done)
            return false;
    }
    return true;
}

/* ---- replies ---- */

static json_t *head(const completion *c)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", c->id, "object", "text_completion", "created", c->created,
                     "model", c->server->name, "system_fingerprint", c->server->fingerprint);
}

static size_t characters_of(const char *text, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

/* The old form of log probabilities, grown token by token. */
typedef struct old_logprobs {
    json_t *tokens, *values, *best, *offsets;
} old_logprobs;

static void old_logprobs_begin(old_logprobs *l)
{
    *l = (old_logprobs){json_array(), json_array(), json_array(), json_array()};
}

static void old_logprobs_add(completion *c, old_logprobs *l, const job_logprob *entry)
{
    json_t *token = logprob_json(c->server, entry, c->ask.logprobs), *top = json_object(), *other;
    size_t i;
    json_array_append(l->tokens, json_object_get(token, "token"));
    json_array_append(l->values, json_object_get(token, "logprob"));
    json_array_foreach(json_object_get(token, "top_logprobs"), i, other)
        json_object_set(top, json_string_value(json_object_get(other, "token")), json_object_get(other, "logprob"));
    if (c->ask.logprobs > 0) /* the one that was sampled is among them */
        json_object_set(top, json_string_value(json_object_get(token, "token")), json_object_get(token, "logprob"));
    json_array_append_new(l->best, top);
    json_array_append_new(l->offsets, json_integer((json_int_t)c->characters));
    c->characters += characters_of(entry->bytes, entry->length);
    json_decref(token);
}

static json_t *old_logprobs_end(old_logprobs *l)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", l->tokens, "token_logprobs", l->values, "top_logprobs", l->best,
                     "text_offset", l->offsets);
}

static void add_usage(job_usage *sum, const job_usage *u)
{
    sum->prompt_tokens += u->prompt_tokens;
    sum->cached_tokens += u->cached_tokens;
    sum->sampled_tokens += u->sampled_tokens;
    sum->reasoning_tokens += u->reasoning_tokens;
    sum->prompt_seconds += u->prompt_seconds;
    sum->decode_seconds += u->decode_seconds;
    sum->expert_bytes_read += u->expert_bytes_read;
    sum->stall_seconds += u->stall_seconds;
    if (u->queue_seconds > sum->queue_seconds)
        sum->queue_seconds = u->queue_seconds;
}

static json_t *choice_json(int index, json_t *text, json_t *logprobs, const char *finish)
{
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", index, "text", text, "logprobs",
                     logprobs ? logprobs : json_null(), "finish_reason", finish);
}

/* Wait for one answer: a choice, or NULL with `p` filled or *gone. */
static json_t *collect(completion *c, answer *a, int index, bool *gone, problem *p)
{
    buffer text = {0};
    old_logprobs l = {0};
    job_event event;
    bool wants = c->ask.logprobs >= 0;
    c->characters = 0;
    if (wants)
        old_logprobs_begin(&l);
    while (!a->ended && !*gone && !text.failed) {
        a->written = clock_seconds();
        answer_step step = answer_next(a, &event);
        *gone = step == ANSWER_GONE;
        if (step != ANSWER_EVENT || event.kind != JOB_DELTA)
            continue;
        buffer_add(&text, event.delta.text, event.delta.length);
        for (size_t i = 0; i < event.logprob_count; i++)
            old_logprobs_add(c, &l, &event.logprobs[i]);
    }
    json_t *choice = NULL, *logprobs = wants ? old_logprobs_end(&l) : NULL;
    const char *finish = a->ended ? answer_finish(a, p) : NULL;
    if (text.failed)
        problem_memory(p);
    else if (finish)
        choice = choice_json(index, json_bytes_text(text.data, text.length), logprobs, finish);
    if (!choice)
        json_decref(logprobs);
    buffer_free(&text);
    return choice;
}

static bool reply_whole(completion *c, http_reply *reply, problem *p)
{
    json_t *choices = json_array(), *out;
    bool gone = false;
    for (int i = 0; i < c->count; i++) {
        json_t *choice = collect(c, &c->answers[i], i, &gone, p);
        if (!choice) {
            json_decref(choices);
            reply->gone = gone;
            return gone;
        }
        json_array_append_new(choices, choice);
        add_usage(&c->usage, &c->answers[i].usage);
    }
    out = head(c);
    json_object_set_new(out, "choices", choices);
    json_object_set_new(out, "usage", usage_json(&c->usage));
    json_object_set_new(out, "timings", timings_json(&c->usage));
    reply_json(reply, 200, out);
    return true;
}

/* ---- streamed ---- */

static void chunk(completion *c, buffer *out, json_t *text, json_t *logprobs, const char *finish, bool last)
{
    json_t *value = head(c);
    json_object_set_new(value, "choices", json_pack("[o]", choice_json(c->at, text, logprobs, finish)));
    if (c->ask.include_usage)
        json_object_set_new(value, "usage", json_null());
    else if (last)
        json_object_set_new(value, "timings", timings_json(&c->usage));
    sse_json(out, NULL, value);
}

static void write_delta(completion *c, const job_event *event, buffer *out)
{
    json_t *logprobs = NULL;
    old_logprobs l;
    if (event->logprob_count) {
        old_logprobs_begin(&l);
        for (size_t i = 0; i < event->logprob_count; i++)
            old_logprobs_add(c, &l, &event->logprobs[i]);
        logprobs = old_logprobs_end(&l);
    }
    chunk(c, out, json_bytes_text(event->delta.text, event->delta.length), logprobs, NULL, false);
}

static void write_end(completion *c, buffer *out)
{
    problem p;
    answer *a = &c->answers[c->at];
    const char *finish = answer_finish(a, &p);
    bool last = c->at + 1 == c->count;
    if (!finish) {
        sse_json(out, NULL, problem_json(&p, ERRORS_OPENAI, c->id));
        c->at = c->count;
        return;
    }
    add_usage(&c->usage, &a->usage);
    chunk(c, out, json_string(""), NULL, finish, last);
    c->characters = 0;
    c->at++;
    if (!last) {
        c->answers[c->at].written = clock_seconds();
        return;
    }
    if (c->ask.include_usage) {
        json_t *value = head(c);
        json_object_set_new(value, "choices", json_array());
        json_object_set_new(value, "usage", usage_json(&c->usage));
        json_object_set_new(value, "timings", timings_json(&c->usage));
        sse_json(out, NULL, value);
    }
    buffer_text(out, "data: [DONE]\n\n");
}

static stream_step next(void *user, buffer *out)
{
    completion *c = user;
    job_event event;
    while (!out->length && !out->failed && c->at < c->count) {
        switch (answer_next(&c->answers[c->at], &event)) {
        case ANSWER_GONE:
            return STREAM_BROKEN;
        case ANSWER_QUIET:
            sse_comment(out, "keep-alive");
            break;
        default:
            if (event.kind == JOB_DELTA)
                write_delta(c, &event, out);
            else if (event.kind == JOB_END)
                write_end(c, out);
        }
    }
    if (c->at < c->count)
        c->answers[c->at].written = clock_seconds();
    return out->failed ? STREAM_BROKEN : c->at == c->count ? STREAM_END : STREAM_MORE;
}

static bool handle(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    completion *c = calloc(1, sizeof *c);
    if (!c)
        return problem_memory(p);
    c->server = s;
    c->created = (json_int_t)time(NULL);
    random_id(c->id, sizeof c->id, "cmpl-");
    ask_init(s, &c->ask);
    bool done = read_completion(s, &c->ask, request->json, p) && start(c, request, request->json, p);
    if (done) {
        ask_forget(&c->ask);
        http_request_done(request);
    }
    if (done && c->ask.stream) {
        reply_stream(reply, (http_stream){next, completion_free, c});
        return true;
    }
    done = done && reply_whole(c, reply, p);
    completion_free(c);
    return done;
}

const route completion_routes[] = {{"POST", "/v1/completions", "completions", handle, 0, ERRORS_OPENAI}, {0}};
