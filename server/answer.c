#include "answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "serve.h"

enum {
    GRAMMAR_LEAST = 256 << 10, /* memory of a grammar */
    GRAMMAR_MOST = 8 << 20,
    JOB_BYTES = 64 << 10, /* of a job beside its prompt: events, sampler, parser */
    TOKEN_BYTES_MOST = 512
};

/* ---- grammars ---- */

/* Are calls looked for? */
static bool looks_for_calls(const ask *a)
{
    return a->tools && a->choice != TOOLS_NONE;
}

/* Objects of a tool's parameters that name their members have no others, unless they say so: clients leave
 * additionalProperties out and mean it, and a function cannot use members that it does not name. */
static void close_objects(json_t *schema)
{
    json_t *members = json_object_get(schema, "properties"), *items = json_object_get(schema, "items"), *one;
    const char *key;
    bool joined = json_object_get(schema, "allOf") || json_object_get(schema, "$ref") ||
                  json_object_get(schema, "anyOf") || json_object_get(schema, "oneOf");
    if (json_object_size(members) && !joined && !json_object_get(schema, "additionalProperties"))
        json_object_set_new(schema, "additionalProperties", json_false());
    json_object_foreach(members, key, one) close_objects(one);
    if (json_is_object(items))
        close_objects(items);
}

/* The tools that constrain calls. */
static void add_closed_tools(const json_t *tools, buffer *out)
{
    json_t *copy = json_deep_copy(tools), *tool;
    size_t i;
    json_array_foreach(copy, i, tool) close_objects(json_object_get(json_object_get(tool, "function"), "parameters"));
    buffer_json(out, copy);
    json_decref(copy);
}

/* What a grammar is made of; false: there is none. A constraint comes alone: calls are still looked for, not forced. */
static bool grammar_source(const ask *a, odmoe_grammar_kind *kind, buffer *text)
{
    if (a->constraint == CONSTRAINT_GRAMMAR) {
        *kind = ODMOE_GRAMMAR_GBNF;
        buffer_text(text, a->grammar);
    } else if (a->constraint == CONSTRAINT_SCHEMA) {
        *kind = ODMOE_GRAMMAR_SCHEMA;
        buffer_json(text, a->schema);
    } else if (looks_for_calls(a)) {
        *kind = ODMOE_GRAMMAR_CALLS;
        add_closed_tools(a->tools, text);
    } else {
        return false;
    }
    return true;
}

/* The error of a constraint or of tools that do not compile. */
static bool grammar_problem(const ask *a, const odmoe_error *err, const odmoe_grammar_fault *fault, problem *p)
{
    const char *where = a->constraint == CONSTRAINT_NONE ? "tools" : a->constraint_param.text;
    if (err->code == ODMOE_ERR_MEMORY)
        return problem_memory(p);
    if (a->constraint == CONSTRAINT_GRAMMAR)
        return problem_set(p, 400, "invalid_grammar", where, "%s: %s", where, err->message);
    /* Paths of tools begin with an index. */
    field_path path = field_at(where, *fault->path ? fault->path : NULL);
    if (*fault->path == '[')
        snprintf(path.text, sizeof path.text, "%.40s%.200s", where, fault->path);
    return problem_set(p, 400, "invalid_schema", path.text, "%s: %s", path.text, err->message);
}

/* Memory of the account for a grammar, as its options want it. 0: there is none. */
static uint64_t take_for_grammar(void)
{
    uint64_t most = memory_limit() / 8;
    most = most < GRAMMAR_LEAST ? GRAMMAR_LEAST : most > GRAMMAR_MOST ? GRAMMAR_MOST : most;
    return memory_take_up_to(GRAMMAR_LEAST, most);
}

/* The grammar of an ask; *out NULL: it has none. format: NULL where the text is all content. What it holds is in *taken. */
static bool compile(const struct server *s, const ask *a, const char *format, const char *tail, odmoe_grammar **out,
                    uint64_t *taken, problem *p)
{
    buffer text = {0};
    odmoe_error err;
    odmoe_grammar_kind kind;
    odmoe_grammar_fault fault = {.size = sizeof fault};
    odmoe_grammar_options options;
    *out = NULL;
    if (!grammar_source(a, &kind, &text))
        return true;
    uint64_t bytes = text.failed ? 0 : take_for_grammar();
    if (!bytes) {
        buffer_free(&text);
        return problem_memory(p);
    }
    odmoe_grammar_options_init(&options);
    options.memory = bytes;
    options.format = format;
    options.prompt = tail;
    options.calls_required = a->choice == TOOLS_REQUIRED || a->choice == TOOLS_NAMED;
    options.calls_single = a->one_call || a->choice == TOOLS_NAMED;
    options.tool = a->tool_name;
    odmoe_status status =
        odmoe_grammar_compile(s->vocab, kind, text.data ? text.data : "", text.length, &options, out, &fault, &err);
    buffer_free(&text);
    memory_give(bytes);
    if (status)
        return grammar_problem(a, &err, &fault, p);
    bytes = odmoe_grammar_bytes(*out);
    if (!memory_take(bytes)) {
        odmoe_grammar_free(*out);
        *out = NULL;
        return problem_memory(p);
    }
    *taken += bytes;
    return true;
}

/* ---- start and end ---- */

static bool submit(answer *out, problem *p)
{
    int retry_after = 1;
    switch (engine_submit(out->server->engine, out->job, &retry_after)) {
    case ENGINE_TAKEN:
        return true;
    case ENGINE_QUEUE_FULL:
        problem_set(p, 429, "queue_full", NULL, "all sequences are busy and the queue is full; try again in %d s",
                    retry_after);
        p->retry_after = retry_after;
        return false;
    default:
        problem_set(p, 503, "shutting_down", NULL, "the server is about to end");
        p->retry_after = 10;
        return false;
    }
}

bool answer_start(struct server *s, http_request *request, const ask *a, const prompt *r, answer *out, problem *p)
{
    odmoe_error err;
    buffer tools = {0};
    *out = (answer){.server = s, .request = request, .written = clock_seconds(), .usage = {.prompt_tokens = r->n}};
    bool looks = looks_for_calls(a);
    /* A text, and an answer that is gone on with, are content from the first byte. */
    const char *format = a->messages && (!r->goes_on || looks) ? s->format : NULL;
    odmoe_reasoning reasoning = {.size = sizeof reasoning};
    if (!format || odmoe_output_reasoning(format, r->tail, &reasoning, NULL))
        reasoning.end = NULL;
    if (looks)
        buffer_json(&tools, a->tools);
    uint64_t bytes = JOB_BYTES + (uint64_t)r->n * sizeof *r->tokens;
    if (tools.failed || !memory_take(bytes)) {
        buffer_free(&tools);
        return problem_memory(p);
    }
    out->taken = bytes;
    job_request j = {.id = request->id,
                     .tokens = r->tokens,
                     .n = r->n,
                     .max_tokens = a->max_tokens,
                     .sampling = a->sampling,
                     .stop = a->stop,
                     .stop_count = a->stop_count,
                     .format = format,
                     .prompt_tail = r->tail,
                     .tools = looks ? tools.data : NULL,
                     .one_call = a->one_call || a->choice == TOOLS_NAMED,
                     .thinking_budget = a->thinking_budget,
                     .thinking_end = reasoning.end,
                     .logprobs = a->logprobs,
                     .ignore_eos = a->ignore_eos,
                     .cache_prompt = a->cache_prompt,
                     .checkpoints = r->checkpoints,
                     .checkpoint_count = r->checkpoint_count};
    /* The grammar leaves room for reasoning only where the model knows it: others would be led into it. */
    const char *before = !format                                              ? NULL
                         : reasoning.inside || (s->thinks && !a->no_thinking) ? r->tail
                                                                              : reasoning.close;
    bool done = compile(s, a, format, before, &j.grammar, &out->taken, p);
    if (done && job_create(s->model, &j, &out->job, &err)) {
        if (err.code == ODMOE_ERR_RANGE || err.code == ODMOE_ERR_ARG)
            done = problem_set(p, 400, "invalid_value", NULL, "%s", err.message);
        else
            problem_of_library(p, &err), done = false;
    }
    buffer_free(&tools);
    return done && submit(out, p);
}

bool answer_ask(struct server *s, http_request *request, const ask *a, answer *out, problem *p)
{
    prompt r = {0};
    *out = (answer){0};
    bool done = conversation_tokens(s, a, &r, p) && answer_start(s, request, a, &r, out, p);
    prompt_free(&r);
    return done;
}

void answer_free(answer *a)
{
    job_free(a->job);
    memory_give(a->taken);
    *a = (answer){0};
}

/* ---- events ---- */

/* What the log says: the sum over the answers of a request. */
static void account_for(answer *a)
{
    problem p;
    http_account *account = &a->request->account;
    const char *finish = answer_finish(a, &p);
    account->finish = finish ? finish : a->finish == JOB_CANCELLED ? "cancelled" : p.code;
    if (!account->generated || a->usage.first_token_seconds < account->first_token_seconds)
        account->first_token_seconds = a->usage.first_token_seconds;
    if (a->usage.queue_seconds > account->queue_seconds)
        account->queue_seconds = a->usage.queue_seconds;
    account->generated = true;
    account->prompt_tokens += a->usage.prompt_tokens;
    account->cached_tokens += a->usage.cached_tokens;
    account->generated_tokens += a->usage.sampled_tokens;
    account->expert_bytes += a->usage.expert_bytes_read;
}

answer_step answer_next(answer *a, job_event *event)
{
    double left = a->written + a->server->options->keepalive - clock_seconds();
    int wait = left <= 0 ? 0 : left > 3600 ? 3600000 : (int)(left * 1000) + 1;
    switch (job_next(a->job, a->request->socket, wait, event)) {
    case JOB_TIMEOUT:
        return ANSWER_QUIET;
    case JOB_HUNG_UP:
        a->request->account.generated = true;
        a->request->account.finish = "cancelled";
        return ANSWER_GONE;
    default:
        break;
    }
    if (event->kind == JOB_ADMITTED) {
        a->usage = event->usage;
    } else if (event->kind == JOB_DELTA) {
        if (event->delta.kind == ODMOE_DELTA_CALL && event->delta.call >= a->calls)
            a->calls = event->delta.call + 1;
    } else {
        a->ended = true;
        a->finish = event->finish;
        a->stop_index = event->stop_index;
        a->error = event->error;
        a->usage = event->usage;
        account_for(a);
    }
    return ANSWER_EVENT;
}

const char *answer_finish(const answer *a, problem *p)
{
    bool whole = a->usage.calls > 0 && (size_t)a->usage.calls == a->calls;
    switch (a->finish) {
    case JOB_STOPPED_AT_END:
    case JOB_STOPPED_AT_STRING:
        return a->usage.calls > 0 ? "tool_calls" : "stop";
    case JOB_LENGTH:
        return whole ? "tool_calls" : "length";
    case JOB_SHUT_DOWN:
        problem_set(p, 503, "shutting_down", NULL, "the server ended before the answer did");
        p->retry_after = 10;
        return NULL;
    case JOB_CANCELLED:
        problem_set(p, 500, "internal", NULL, "the answer was cancelled");
        return NULL;
    default:
        problem_of_library(p, &a->error);
        return NULL;
    }
}

/* ---- a whole answer ---- */

void message_free(message *m)
{
    buffer_free(&m->content);
    buffer_free(&m->reasoning);
    for (size_t i = 0; i < m->call_count; i++) {
        buffer_free(&m->calls[i].name);
        buffer_free(&m->calls[i].arguments);
    }
    free(m->calls);
    json_decref(m->logprobs);
    *m = (message){0};
}

static message_call *call_at(message *m, size_t index, const odmoe_delta *delta, const char *prefix)
{
    while (m->call_count <= index) {
        message_call *calls = realloc(m->calls, (m->call_count + 1) * sizeof *calls);
        if (!calls)
            return NULL;
        m->calls = calls;
        calls[m->call_count] = (message_call){0};
        random_id(calls[m->call_count].id, sizeof calls->id, prefix);
        buffer_text(&calls[m->call_count].name, delta->name ? delta->name : "");
        m->call_count++;
    }
    return &m->calls[index];
}

bool message_add(message *m, const struct server *s, const job_event *event, const char *call_prefix)
{
    const odmoe_delta *delta = &event->delta;
    for (size_t i = 0; delta->kind == ODMOE_DELTA_CONTENT && i < event->logprob_count; i++) {
        if (!m->logprobs)
            m->logprobs = json_array();
        if (json_array_append_new(m->logprobs, logprob_json(s, &event->logprobs[i], m->best)))
            return false;
    }
    buffer *to = delta->kind == ODMOE_DELTA_REASONING ? &m->reasoning : &m->content;
    if (delta->kind == ODMOE_DELTA_CALL) {
        message_call *call = call_at(m, delta->call, delta, call_prefix);
        if (!call || call->name.failed)
            return false;
        to = &call->arguments;
    }
    buffer_add(to, delta->text, delta->length);
    return !to->failed;
}

answer_step answer_collect(answer *a, message *m, const char *call_prefix, problem *p)
{
    job_event event;
    while (!a->ended) {
        a->written = clock_seconds();
        answer_step step = answer_next(a, &event);
        if (step == ANSWER_GONE)
            return step;
        if (step == ANSWER_EVENT && event.kind == JOB_DELTA && !message_add(m, a->server, &event, call_prefix)) {
            problem_memory(p);
            return ANSWER_QUIET;
        }
    }
    return answer_finish(a, p) ? ANSWER_EVENT : ANSWER_QUIET;
}

/* ---- a stream ---- */

typedef struct answer_flow {
    answer *answer;
    const answer_writer *writer;
    void *user;
} answer_flow;

static stream_step flow_next(void *user, buffer *out)
{
    answer_flow *f = user;
    job_event event;
    while (!out->length && !out->failed) {
        if (f->answer->ended)
            return STREAM_END;
        switch (answer_next(f->answer, &event)) {
        case ANSWER_GONE:
            return STREAM_BROKEN;
        case ANSWER_QUIET:
            if (f->writer->quiet)
                f->writer->quiet(f->user, out);
            else
                sse_comment(out, "keep-alive");
            break;
        default:
            f->writer->event(f->user, &event, out);
        }
    }
    f->answer->written = clock_seconds();
    return out->failed ? STREAM_BROKEN : f->answer->ended ? STREAM_END : STREAM_MORE;
}

static void flow_free(void *user)
{
    answer_flow *f = user;
    f->writer->free(f->user);
    free(f);
}

bool answer_stream(http_reply *reply, answer *a, const answer_writer *writer, void *user, problem *p)
{
    answer_flow *f = malloc(sizeof *f);
    if (!f) {
        writer->free(user);
        return problem_memory(p);
    }
    *f = (answer_flow){a, writer, user};
    reply_stream(reply, (http_stream){flow_next, flow_free, f});
    return true;
}

/* ---- pieces of replies ---- */

json_t *usage_json(const job_usage *u)
{
    return json_pack("{s:i, s:i, s:i, s:{s:i}, s:{s:i}}", "prompt_tokens", u->prompt_tokens, "completion_tokens",
                     u->sampled_tokens, "total_tokens", u->prompt_tokens + u->sampled_tokens, "prompt_tokens_details",
                     "cached_tokens", u->cached_tokens, "completion_tokens_details", "reasoning_tokens",
                     u->reasoning_tokens);
}

json_t *timings_json(const job_usage *u)
{
    return json_pack("{s:i, s:i, s:f, s:i, s:f, s:f, s:I, s:f}", "prompt_n", u->prompt_tokens - u->cached_tokens,
                     "cache_n", u->cached_tokens, "prompt_ms", u->prompt_seconds * 1e3, "predicted_n",
                     u->sampled_tokens, "predicted_ms", u->decode_seconds * 1e3, "queue_ms", u->queue_seconds * 1e3,
                     "expert_bytes_read", (json_int_t)u->expert_bytes_read, "stall_ms", u->stall_seconds * 1e3);
}

size_t token_bytes(const struct server *s, int32_t token, char *bytes, size_t room)
{
    size_t length = 0;
    if (odmoe_token_text(s->tokenizer, token, bytes, room, &length, NULL))
        return 0;
    return length < room ? length : room;
}

static json_t *byte_list(const char *bytes, size_t length)
{
    json_t *list = json_array();
    for (size_t i = 0; i < length; i++)
        json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    return list;
}

/* JSON has no infinity: a token that is impossible gets what OpenAI writes. */
static double finite_logprob(float logprob)
{
    return logprob > -9999.0f ? (double)logprob : -9999.0;
}

json_t *logprob_json(const struct server *s, const job_logprob *l, int best)
{
    char bytes[TOKEN_BYTES_MOST];
    json_t *top = json_array();
    for (int i = 0; i < best; i++) {
        if (l->best[i].token < 0)
            continue;
        size_t n = token_bytes(s, l->best[i].token, bytes, sizeof bytes);
        json_array_append_new(top, json_pack("{s:o, s:f, s:o}", "token", json_bytes_text(bytes, n), "logprob",
                                             finite_logprob(l->best[i].logprob), "bytes", byte_list(bytes, n)));
    }
    return json_pack("{s:o, s:f, s:o, s:o}", "token", json_bytes_text(l->bytes, l->length), "logprob",
                     finite_logprob(l->logprob), "bytes", byte_list(l->bytes, l->length), "top_logprobs", top);
}
