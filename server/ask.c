#include "ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "memory.h"
#include "serve.h"

enum { MORE_THAN_ANY_CONTEXT = INT32_MAX };

void ask_init(const struct server *s, ask *a)
{
    *a = (ask){.prompt_param = "messages",
               .sampling = s->options->sampler,
               .max_tokens = -1,
               .thinking_budget = -1,
               .logprobs = -1,
               .cache_prompt = true};
    a->keywords = json_object();
    if (s->options->random_seed && getrandom(&a->sampling.seed, sizeof a->sampling.seed, 0) < 0)
        a->sampling.seed = 0;
}

void ask_free(ask *a)
{
    json_decref(a->messages);
    json_decref(a->tools);
    json_decref(a->keywords);
    json_decref(a->schema);
    free(a->bias);
    *a = (ask){0};
}

void ask_forget(ask *a)
{
    json_decref(a->messages);
    json_decref(a->tools);
    json_decref(a->schema);
    a->messages = a->tools = a->schema = NULL;
    a->grammar = a->tool_name = NULL;
    a->stop_count = 0;
}

static bool read_float(const json_t *body, const char *key, double low, double high, float *out, problem *p)
{
    double number = *out;
    if (!field_real(body, "", key, low, high, &number, p))
        return false;
    *out = (float)number;
    return true;
}

static bool read_bias(const struct server *s, ask *a, const json_t *body, problem *p)
{
    json_t *map = NULL, *value;
    const char *key;
    if (!field_object(body, "", "logit_bias", &map, p))
        return false;
    if (!map || !json_object_size(map))
        return true;
    a->bias = calloc(json_object_size(map), sizeof *a->bias);
    if (!a->bias)
        return problem_memory(p);
    int32_t vocab = s->tokenizer ? odmoe_vocab_size(s->tokenizer) : 0;
    json_object_foreach(map, key, value)
    {
        if (json_is_null(value))
            continue;
        char *end;
        errno = 0;
        long id = strtol(key, &end, 10);
        if (!*key || *end || errno || key[0] < '0' || key[0] > '9' || id >= vocab)
            return problem_value(p, "", "logit_bias", "its keys are ids of tokens, from 0 to %d", vocab - 1);
        double bias = json_number_value(value);
        if (!json_is_number(value) || !(bias >= -100 && bias <= 100))
            return problem_value(p, "", "logit_bias", "its values are numbers from -100 to 100");
        a->bias[a->sampling.bias_count++] = (odmoe_logit_bias){(int32_t)id, (float)bias};
    }
    a->sampling.bias = a->bias;
    return true;
}

static bool read_sampling(const struct server *s, ask *a, const json_t *body, problem *p)
{
    odmoe_sampler_options *o = &a->sampling;
    int64_t top_k = o->top_k, seed = -1;
    if (!read_float(body, "temperature", 0, 1000, &o->temperature, p) ||
        !read_float(body, "top_p", 0, 1, &o->top_p, p) || !read_float(body, "min_p", 0, 1, &o->min_p, p) ||
        !field_int(body, "", "top_k", -1, INT32_MAX, &top_k, p) ||
        !read_float(body, "repetition_penalty", 1e-3, 1e3, &o->repeat_penalty, p) ||
        !read_float(body, "repeat_penalty", 1e-3, 1e3, &o->repeat_penalty, p) ||
        !read_float(body, "presence_penalty", -2, 2, &o->presence_penalty, p) ||
        !read_float(body, "frequency_penalty", -2, 2, &o->frequency_penalty, p) ||
        !field_int(body, "", "seed", INT64_MIN, INT64_MAX, &seed, p))
        return false;
    o->top_k = top_k < 0 ? 0 : (int32_t)top_k;
    if (seed != -1)
        o->seed = (uint64_t)seed;
    return read_bias(s, a, body, p);
}

/* Keywords of the template for an effort; one that the template does not know changes nothing. */
static void set_effort(const struct server *s, ask *a, effort e)
{
    json_t *keywords = s->efforts[e] ? json_loads(s->efforts[e], 0, NULL) : NULL;
    if (keywords)
        json_object_update(a->keywords, keywords);
    json_decref(keywords);
}

void ask_set_thinking(const struct server *s, ask *a, bool on)
{
    a->no_thinking = !on;
    set_effort(s, a, on ? EFFORT_ON : EFFORT_OFF);
}

bool ask_set_effort(const struct server *s, ask *a, const char *text, const char *where, problem *p)
{
    static const struct {
        const char *name;
        effort effort;
    } known[] = {{"minimal", EFFORT_LOW}, {"low", EFFORT_LOW},    {"medium", EFFORT_MEDIUM},
                 {"high", EFFORT_HIGH},   {"xhigh", EFFORT_HIGH}, {"max", EFFORT_HIGH}};
    if (!strcmp(text, "none")) {
        ask_set_thinking(s, a, false);
        return true;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(text, known[i].name)) {
            if (!a->no_thinking) /* an effort does not switch on what was switched off */
                set_effort(s, a, s->efforts[known[i].effort] ? known[i].effort : EFFORT_ON);
            return true;
        }
    return problem_value(p, where, NULL, "none, minimal, low, medium, high, xhigh or max is wanted");
}

/* Anthropic's switch, which clients of chat send too. */
static bool read_thinking_object(const struct server *s, ask *a, const json_t *body, int64_t *budget, problem *p)
{
    json_t *thinking = NULL;
    const char *type = NULL;
    if (!field_object(body, "", "thinking", &thinking, p))
        return false;
    if (!thinking)
        return true;
    if (!field_text(thinking, "thinking", "type", &type, p) ||
        !field_int(thinking, "thinking", "budget_tokens", 0, INT32_MAX, budget, p))
        return false;
    if (!type || (strcmp(type, "enabled") && strcmp(type, "disabled") && strcmp(type, "adaptive")))
        return problem_value(p, "thinking", "type", "enabled, adaptive or disabled is wanted");
    ask_set_thinking(s, a, strcmp(type, "disabled"));
    return true;
}

static bool read_thinking(const struct server *s, ask *a, const json_t *body, problem *p)
{
    const char *level = NULL;
    bool on = true;
    int64_t budget = a->thinking_budget;
    json_t *keywords = NULL;
    if (!field_text(body, "", "reasoning_effort", &level, p) || !field_bool(body, "", "enable_thinking", &on, p) ||
        !read_thinking_object(s, a, body, &budget, p) ||
        !field_int(body, "", "thinking_budget_tokens", -1, INT32_MAX, &budget, p) ||
        !field_object(body, "", "chat_template_kwargs", &keywords, p))
        return false;
    a->thinking_budget = (int32_t)budget;
    if (level && !ask_set_effort(s, a, level, "reasoning_effort", p))
        return false;
    if (field_get(body, "enable_thinking"))
        ask_set_thinking(s, a, on);
    if (json_is_false(json_object_get(keywords, "enable_thinking")))
        a->no_thinking = true;
    return !keywords || !json_object_update(a->keywords, keywords) || problem_memory(p);
}

static bool set_constraint(ask *a, constraint kind, const char *where, problem *p)
{
    if (a->constraint != CONSTRAINT_NONE) {
        field_path field = field_at("", where); /* the request's own field */
        field.text[strcspn(field.text, ".")] = 0;
        return problem_value(p, field.text, NULL, "the answer is already constrained by %s; give only one of the two",
                             a->constraint_param.text);
    }
    a->constraint = kind;
    a->constraint_param = field_at("", where);
    return true;
}

bool ask_set_schema(ask *a, json_t *schema, const char *where, problem *p)
{
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return problem_value(p, where, NULL, "a JSON Schema is wanted: an object");
    if (!set_constraint(a, CONSTRAINT_SCHEMA, where, p))
        return false;
    a->schema = json_incref(schema);
    return true;
}

bool ask_set_object(ask *a, const char *where, problem *p)
{
    json_t *schema = json_pack("{s:s}", "type", "object");
    bool done = schema ? ask_set_schema(a, schema, where, p) : problem_memory(p);
    json_decref(schema);
    return done;
}

bool ask_read_format(ask *a, const json_t *body, problem *p)
{
    json_t *format = NULL, *inner = NULL, *schema;
    const char *type = NULL;
    if (!field_object(body, "", "response_format", &format, p))
        return false;
    if (!format)
        return true;
    if (!field_text(format, "response_format", "type", &type, p))
        return false;
    if (type && !strcmp(type, "text"))
        return true;
    if (type && !strcmp(type, "json_object")) {
        schema = field_get(format, "schema");
        if (schema)
            return ask_set_schema(a, schema, "response_format.schema", p);
        return ask_set_object(a, "response_format", p);
    }
    if (!type || strcmp(type, "json_schema"))
        return problem_value(p, "response_format", "type", "text, json_object or json_schema is wanted");
    if (!field_object(format, "response_format", "json_schema", &inner, p))
        return false;
    schema = inner ? field_get(inner, "schema") : NULL;
    if (!schema)
        return problem_set(p, 400, "missing_required_parameter", "response_format.json_schema.schema",
                           "response_format.json_schema.schema: the schema is missing");
    return ask_set_schema(a, schema, "response_format.json_schema.schema", p);
}

bool ask_read_common(const struct server *s, ask *a, const json_t *body, problem *p)
{
    const char *grammar = NULL;
    json_t *schema = field_get(body, "json_schema");
    if (!a->keywords)
        return problem_memory(p);
    if (!read_sampling(s, a, body, p) || !read_thinking(s, a, body, p) ||
        !field_bool(body, "", "cache_prompt", &a->cache_prompt, p) ||
        !field_bool(body, "", "ignore_eos", &a->ignore_eos, p) || !field_bool(body, "", "stream", &a->stream, p) ||
        !field_text(body, "", "grammar", &grammar, p))
        return false;
    if (schema && !ask_set_schema(a, schema, "json_schema", p))
        return false;
    if (grammar) {
        if (!set_constraint(a, CONSTRAINT_GRAMMAR, "grammar", p))
            return false;
        a->grammar = grammar;
    }
    return true;
}

bool ask_read_limit(ask *a, const json_t *body, const char *key, problem *p)
{
    int64_t limit = -1;
    if (!field_int(body, "", key, -1, INT64_MAX, &limit, p))
        return false;
    if (limit < 0)
        return true;
    int32_t tokens = limit > MORE_THAN_ANY_CONTEXT ? MORE_THAN_ANY_CONTEXT : (int32_t)limit;
    if (a->max_tokens < 0 || tokens < a->max_tokens)
        a->max_tokens = tokens;
    return true;
}

bool ask_read_stop(ask *a, const json_t *body, const char *key, problem *p)
{
    json_t *stop = field_get(body, key), *one;
    size_t i;
    if (!stop)
        return true;
    if (json_is_array(stop) && json_array_size(stop) > STOPS_MOST)
        return problem_value(p, "", key, "at most %d strings", STOPS_MOST);
    if (!json_is_array(stop) && !json_is_string(stop))
        return problem_value(p, "", key, "a string or a list of strings is wanted");
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    for (i = 0; i < n; i++) {
        one = json_is_array(stop) ? json_array_get(stop, i) : stop;
        if (!json_is_string(one))
            return problem_value(p, "", key, "a string or a list of strings is wanted");
        if (json_string_length(one) > STOP_BYTES_MOST)
            return problem_value(p, "", key, "a string may have %d bytes", STOP_BYTES_MOST);
        if (json_string_length(one))
            a->stop[a->stop_count++] = json_string_value(one);
    }
    return true;
}

bool ask_read_stream(ask *a, const json_t *body, problem *p)
{
    json_t *options = NULL;
    return field_object(body, "", "stream_options", &options, p) &&
           (!options || field_bool(options, "stream_options", "include_usage", &a->include_usage, p));
}

/* ---- tools ---- */

enum { TOOLS_MOST = 256, TOOL_NAME_MOST = 128 };

static bool check_tool(const json_t *tool, const char *where, problem *p)
{
    const char *type = NULL, *name = NULL;
    json_t *function = NULL, *parameters = NULL;
    bool strict = false;
    if (!json_is_object(tool))
        return problem_value(p, where, NULL, "a tool is an object");
    if (!field_text(tool, where, "type", &type, p))
        return false;
    if (!type || strcmp(type, "function"))
        return problem_value(p, where, "type", "only tools of \"type\": \"function\" are supported");
    if (!field_object(tool, where, "function", &function, p))
        return false;
    if (!function)
        return problem_set(p, 400, "missing_required_parameter", field_at(where, "function").text,
                           "%s.function: the function is missing", where);
    field_path at = field_at(where, "function");
    if (!field_text(function, at.text, "name", &name, p) ||
        !field_object(function, at.text, "parameters", &parameters, p) ||
        !field_bool(function, at.text, "strict", &strict, p))
        return false;
    if (!name || !*name || strlen(name) > TOOL_NAME_MOST)
        return problem_value(p, at.text, "name", "a function needs a name of at most %d bytes", TOOL_NAME_MOST);
    return true;
}

bool ask_add_tool(ask *a, const json_t *tool, const char *schema_key, const char *where, problem *p)
{
    const char *name = NULL, *description = NULL;
    json_t *schema = NULL, *function = json_object();
    bool strict = false;
    bool done = field_text(tool, where, "name", &name, p) && field_text(tool, where, "description", &description, p) &&
                field_object(tool, where, schema_key, &schema, p) && field_bool(tool, where, "strict", &strict, p);
    if (done && (!name || !*name || strlen(name) > TOOL_NAME_MOST))
        done = problem_value(p, where, "name", "a function needs a name of at most %d bytes", TOOL_NAME_MOST);
    if (done && json_array_size(a->tools) >= TOOLS_MOST)
        done = problem_value(p, "", "tools", "at most %d tools", TOOLS_MOST);
    if (!done) {
        json_decref(function);
        return false;
    }
    json_object_set_new(function, "name", json_string(name));
    if (description)
        json_object_set_new(function, "description", json_string(description));
    if (schema)
        json_object_set(function, "parameters", schema);
    if (strict)
        json_object_set_new(function, "strict", json_true());
    if (!a->tools)
        a->tools = json_array();
    return !json_array_append_new(a->tools, json_pack("{s:s, s:o}", "type", "function", "function", function)) ||
           problem_memory(p);
}

static bool read_choice(ask *a, const json_t *body, problem *p)
{
    static const char *const names[] = {[TOOLS_AUTO] = "auto", [TOOLS_NONE] = "none", [TOOLS_REQUIRED] = "required"};
    json_t *choice = field_get(body, "tool_choice"), *function = NULL;
    if (!choice)
        return true;
    if (json_is_string(choice))
        for (int i = 0; i <= TOOLS_REQUIRED; i++)
            if (!strcmp(json_string_value(choice), names[i])) {
                a->choice = (tool_choice)i;
                return true;
            }
    if (json_is_object(choice)) {
        if (!field_object(choice, "tool_choice", "function", &function, p) ||
            !field_text(function ? function : choice, "tool_choice.function", "name", &a->tool_name, p))
            return false;
        a->choice = TOOLS_NAMED;
        if (a->tool_name)
            return true;
    }
    return problem_value(p, "", "tool_choice",
                         "none, auto, required or {\"type\": \"function\", \"function\": {\"name\": ...}} is wanted");
}

bool ask_check_tools(const ask *a, const char *where, problem *p)
{
    json_t *tool;
    size_t i;
    if (a->choice != TOOLS_REQUIRED && a->choice != TOOLS_NAMED)
        return true;
    if (!a->tools)
        return problem_value(p, where, NULL, "a call is asked for, but the request has no tools");
    if (a->constraint != CONSTRAINT_NONE)
        return problem_value(p, where, NULL, "a forced call does not go with %s; give only one of the two",
                             a->constraint_param.text);
    if (a->choice == TOOLS_REQUIRED)
        return true;
    json_array_foreach(a->tools, i, tool)
    {
        const char *name = json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (name && !strcmp(name, a->tool_name))
            return true;
    }
    return problem_value(p, where, NULL, "no tool of the request has this name");
}

bool ask_read_tools(ask *a, const json_t *body, problem *p)
{
    json_t *tools = NULL, *tool;
    size_t i;
    bool many = true;
    if (!field_array(body, "", "tools", &tools, p) || !field_bool(body, "", "parallel_tool_calls", &many, p))
        return false;
    if (json_array_size(tools) > TOOLS_MOST)
        return problem_value(p, "", "tools", "at most %d tools", TOOLS_MOST);
    json_array_foreach(tools, i, tool) if (!check_tool(tool, field_index("tools", i).text, p)) return false;
    a->one_call = !many;
    if (json_array_size(tools))
        a->tools = json_incref(tools);
    return read_choice(a, body, p) && ask_check_tools(a, "tool_choice", p);
}
