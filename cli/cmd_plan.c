#include <stdio.h>

#include "measure.h"
#include "options.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key != ARGP_KEY_INIT)
        return ARGP_ERR_UNKNOWN;
    state->child_inputs[0] = state->input;
    return 0;
}

static const struct argp plan_argp = {
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

static void print_plan(const odmoe_plan *p, const odmoe_info *info)
{
    char a[ODMOE_SIZE_TEXT_MAX], b[ODMOE_SIZE_TEXT_MAX], note[128];
    printf("Budget %s, context %d, %d threads\n", odmoe_size_format(p->ram_bytes, a), p->context, p->threads);
    line("weights", p->resident_bytes, "needed by every token, always in memory");
    snprintf(note, sizeof note, "keys and values of %d tokens", p->context);
    line("context", p->kv_bytes, note);
    snprintf(note, sizeof note, "work space for %d tokens at a time", p->chunk);
    line("activations", p->activation_bytes, note);
    line("other", p->other_bytes, "tokenizer, indexes, reading");
    snprintf(note, sizeof note, "%lld of %lld experts", (long long)p->cache_experts,
             (long long)info->moe_layers * info->experts);
    line("expert cache", p->cache_bytes, note);
    uint64_t used = p->resident_bytes + p->kv_bytes + p->activation_bytes + p->other_bytes + p->cache_bytes;
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
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:i,s:i,s:i,s:I}", "ram_bytes",
                     (json_int_t)p->ram_bytes, "resident_bytes", (json_int_t)p->resident_bytes, "kv_bytes",
                     (json_int_t)p->kv_bytes, "activation_bytes", (json_int_t)p->activation_bytes, "other_bytes",
                     (json_int_t)p->other_bytes, "cache_bytes", (json_int_t)p->cache_bytes, "cache_experts",
                     (json_int_t)p->cache_experts, "token_working_set_bytes", (json_int_t)p->token_working_set_bytes,
                     "experts_bytes", (json_int_t)p->experts_bytes, "floor_bytes", (json_int_t)p->floor_bytes, "fits",
                     p->fits, "chunk", p->chunk, "context", p->context, "threads", p->threads, "embedding_bytes",
                     (json_int_t)p->embedding_bytes);
}

int command_plan(int argc, char **argv)
{
    model_options o;
    model_options_init(&o);
    parse_options(&plan_argp, argc, argv, &o);
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_info info = {.size = sizeof info};
    odmoe_error err;
    odmoe_status status = odmoe_plan_make(o.path, &o.lib, &plan, &err);
    if (status != ODMOE_OK && status != ODMOE_ERR_BUDGET)
        return fail(&err);
    if (o.json)
        json_print(plan_json(&plan), stdout);
    else if (status == ODMOE_OK) {
        odmoe_error inspected;
        if (odmoe_inspect(o.path, &info, &inspected))
            return fail(&inspected);
        print_plan(&plan, &info);
    }
    return status == ODMOE_OK ? STATUS_DONE : fail(&err);
}
