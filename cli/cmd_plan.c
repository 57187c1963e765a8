#include <stdio.h>

#include "measure.h"
#include "options.h"
#include "serve.h"

enum { KEY_SERVE = KEY_COMMAND, KEY_PARALLEL, PARALLEL_MOST = 256 };

typedef struct plan_options {
    model_options model;
    bool serve;
    int32_t parallel;
} plan_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    plan_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->model;
        return 0;
    case KEY_SERVE:
        o->serve = true;
        return 0;
    case KEY_PARALLEL:
        o->parallel = (int32_t)parse_integer("--parallel", arg, 1, PARALLEL_MOST);
        return 0;
    case ARGP_KEY_END:
        if (o->parallel && !o->serve)
            usage_error("--parallel: needs --serve");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp plan_argp = {
    .options =
        (const struct argp_option[]){{"serve", KEY_SERVE, NULL, 0, "as `odmoe serve` would divide it", 0},
                                     {"parallel", KEY_PARALLEL, "N", 0, "with --serve: answers at the same time", 0},
                                     {0}},
    .parser = parse,
    .args_doc = "-m MODEL",
    .doc = "Show how a budget would be divided, without loading anything. Ends with 3 when the budget is too small.\v"
           "Example: odmoe plan -m models/demo.gguf --ram 16MiB",
    .children = (const struct argp_child[]){{&model_argp, 0, NULL, 0}, {0}},
};

static void line(const char *name, uint64_t bytes, const char *note)
{
    char size[ODMOE_SIZE_TEXT_MAX];
    printf("  %-14s %10s   %s\n", name, odmoe_size_format(bytes, size), note);
}

/* server_bytes is a part of the plan's other_bytes; 0: nothing is served. */
static void print_plan(const odmoe_plan *p, const odmoe_info *info, uint64_t server_bytes)
{
    char a[ODMOE_SIZE_TEXT_MAX], b[ODMOE_SIZE_TEXT_MAX], note[128];
    printf("Budget %s, ", odmoe_size_format(p->ram_bytes, a));
    if (server_bytes)
        printf("%d %s of %d tokens, %d threads\n", p->sessions, p->sessions == 1 ? "sequence" : "sequences", p->context,
               p->threads);
    else
        printf("context %d, %d threads\n", p->context, p->threads);
    line("weights", p->resident_bytes, "needed by every token, always in memory");
    snprintf(note, sizeof note, "keys and values of %lld tokens", (long long)p->context * p->sessions);
    line("context", p->kv_bytes, note);
    snprintf(note, sizeof note, "work space for %d tokens at a time", p->chunk);
    line("activations", p->activation_bytes, note);
    line("other", p->other_bytes - server_bytes, "tokenizer, indexes, reading");
    if (server_bytes) {
        line("server", server_bytes, "requests, grammars, replies");
        line("prefixes", p->prefix_bytes, "prompts that are kept");
    }
    snprintf(note, sizeof note, "%lld of %lld experts", (long long)p->cache_experts,
             (long long)info->moe_layers * info->experts);
    line("expert cache", p->cache_bytes, note);
    uint64_t used =
        p->resident_bytes + p->kv_bytes + p->activation_bytes + p->other_bytes + p->prefix_bytes + p->cache_bytes;
    if (used < p->ram_bytes)
        line("not needed", p->ram_bytes - used, "");
    if (p->embedding_bytes)
        printf("The token embedding, %s, stays on the disk; its rows are read when tokens name them.\n",
               odmoe_size_format(p->embedding_bytes, a));
    printf("One token uses %s of experts%s; all experts are %s.\n", odmoe_size_format(p->token_working_set_bytes, a),
           p->cache_bytes < p->token_working_set_bytes ? ", more than the cache holds: expect to wait for the disk"
                                                       : "",
           odmoe_size_format(p->experts_bytes, b));
    printf("The smallest budget that works here is %s.\n", odmoe_size_format(p->floor_bytes, a));
    budget_warning(p, stdout);
}

static json_t *plan_json(const odmoe_plan *p)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:i,s:i,s:i,s:i,s:I}", "ram_bytes",
                     (json_int_t)p->ram_bytes, "resident_bytes", (json_int_t)p->resident_bytes, "kv_bytes",
                     (json_int_t)p->kv_bytes, "activation_bytes", (json_int_t)p->activation_bytes, "other_bytes",
                     (json_int_t)p->other_bytes, "prefix_bytes", (json_int_t)p->prefix_bytes, "cache_bytes",
                     (json_int_t)p->cache_bytes, "cache_experts", (json_int_t)p->cache_experts,
                     "token_working_set_bytes", (json_int_t)p->token_working_set_bytes, "experts_bytes",
                     (json_int_t)p->experts_bytes, "floor_bytes", (json_int_t)p->floor_bytes, "fits", p->fits, "chunk",
                     p->chunk, "context", p->context, "sessions", p->sessions, "threads", p->threads, "embedding_bytes",
                     (json_int_t)p->embedding_bytes);
}

/* The options as `serve` would have them. */
static odmoe_status as_server(plan_options *o, odmoe_error *err)
{
    serve_options serve;
    serve_options_init(&serve);
    serve.model = o->model.path;
    serve.lib = o->model.lib;
    serve.lib.sessions = o->parallel;
    odmoe_status status = serve_sizes(&serve, err);
    o->model.lib = serve.lib;
    return status;
}

int command_plan(int argc, char **argv)
{
    plan_options all = {0};
    model_options_init(&all.model);
    parse_options(&plan_argp, argc, argv, &all);
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_info info = {.size = sizeof info};
    odmoe_error err;
    if (all.serve && as_server(&all, &err))
        return fail(&err);
    const model_options o = all.model;
    odmoe_status status = odmoe_plan_make(o.path, &o.lib, &plan, &err);
    if (status != ODMOE_OK && status != ODMOE_ERR_BUDGET)
        return fail(&err);
    if (o.json) {
        json_t *object = plan_json(&plan);
        if (all.serve)
            json_object_set_new(object, "server_bytes", json_integer((json_int_t)o.lib.reserve_bytes));
        json_print(object, stdout);
    } else if (status == ODMOE_OK) {
        odmoe_error inspected;
        if (odmoe_inspect(o.path, &info, &inspected))
            return fail(&inspected);
        print_plan(&plan, &info, o.lib.reserve_bytes);
    }
    return status == ODMOE_OK ? STATUS_DONE : fail(&err);
}
