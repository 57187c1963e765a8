#include "options.h"

#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_RAM = KEY_COMMON,
    KEY_CHUNK,
    KEY_KERNELS,
    KEY_KV,
    KEY_IO,
    KEY_POLICY,
    KEY_PREFETCH,
    KEY_EMBEDDINGS,
    KEY_JSON
};

/* The option that `arg` (as typed) names, in argp and its children; NULL when there is none. */
static const struct argp_option *find_option(const struct argp *argp, const char *arg)
{
    bool is_long = !strncmp(arg, "--", 2);
    size_t length = is_long ? strcspn(arg + 2, "=") : 1;
    for (const struct argp_option *o = argp->options; o && (o->name || o->key); o++)
        if (is_long ? o->name && !strncmp(o->name, arg + 2, length) && !o->name[length] : o->key == arg[1])
            return o;
    for (const struct argp_child *c = argp->children; c && c->argp; c++) {
        const struct argp_option *o = find_option(c->argp, arg);
        if (o)
            return o;
    }
    return NULL;
}

/* argp stopped at argv[next - 1], or within the letters of argv[next]. Its own messages take two lines, so it is kept
 * quiet and this one line is given instead. */
static noreturn void option_error(const struct argp_state *state)
{
    const struct argp *argp = state->root_argp;
    int next = state->next;
    const char *arg = next > 1 ? state->argv[next - 1] : "";
    const struct argp_option *o = *arg == '-' ? find_option(argp, arg) : NULL;
    bool blamed = *arg == '-' && (!o || o->arg || strchr(arg, '='));
    if (!blamed && next < state->argc) {
        arg = state->argv[next];
        o = NULL;
    }
    if (o && o->arg)
        usage_error("%s needs a value (%s); see %s --help", arg, o->arg, state->name);
    if (o && arg[1] == '-')
        usage_error("%s: this option takes no value; see %s --help", arg, state->name);
    usage_error("%s: no such option; see %s --help", arg, state->name);
}

static error_t parse_help(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case 'h':
    case '?':
        argp_help(state->root_argp, stdout, ARGP_HELP_STD_HELP, state->name);
        exit(output_done(STATUS_DONE));
    case ARGP_KEY_ERROR:
        option_error(state);
    case ARGP_KEY_ARG:
        usage_error("%s: this command takes options only; see %s --help", arg, state->name);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#define HELP_OPTIONS                              \
    {"help", 'h', NULL, 0, "show this text", -1}, \
    {                                             \
        NULL, '?', NULL, OPTION_HIDDEN, NULL, -1  \
    }

const struct argp help_argp = {
    .options = (const struct argp_option[]){HELP_OPTIONS, {0}},
    .parser = parse_help,
};

static error_t parse_path(int key, char *arg, struct argp_state *state)
{
    const char **path = state->input;
    switch (key) {
    case 'm':
        *path = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (*path)
            usage_error("%s: one model only; %s is given already", arg, *path);
        *path = arg;
        return 0;
    case ARGP_KEY_END:
        if (!*path)
            usage_error("which model? -m MODEL names a .gguf file or a Hugging Face folder");
        if (!**path)
            usage_error("-m '': the model's name is empty; -m MODEL names a .gguf file or a Hugging Face folder");
        return 0;
    default:
        return parse_help(key, arg, state);
    }
}

const struct argp path_argp = {
    .options =
        (const struct argp_option[]){
            {NULL, 'm', "MODEL", 0, "a .gguf file (the first part of a split one) or a Hugging Face folder", 0},
            HELP_OPTIONS,
            {0}},
    .parser = parse_path,
};

uint64_t parse_ram(const char *text, const char *without)
{
    uint64_t bytes = 0;
    odmoe_error err;
    if (odmoe_size_parse(text, &bytes, &err))
        usage_error("--ram: %s", err.message);
    if (bytes == 0)
        usage_error("--ram %s: %s", text, without);
    return bytes;
}

static error_t parse_budget(int key, char *arg, struct argp_state *state)
{
    model_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->path;
        return 0;
    case KEY_RAM:
        o->lib.ram_bytes =
            parse_ram(arg, "give a budget, or leave the option out for three quarters of what is available");
        return 0;
    case 'c':
        o->lib.context = (int32_t)parse_integer("-c", arg, 1, INT32_MAX);
        return 0;
    case 't':
        o->lib.threads = (int32_t)parse_integer("-t", arg, 1, THREADS_MOST);
        return 0;
    case KEY_CHUNK:
        o->lib.chunk = (int32_t)parse_integer("--chunk", arg, 1, INT32_MAX);
        return 0;
    case KEY_KERNELS:
        o->lib.kernels = arg;
        return 0;
    case KEY_KV:
        o->lib.kv = arg;
        return 0;
    case KEY_IO:
        o->lib.io = arg;
        return 0;
    case KEY_POLICY:
        o->lib.policy = arg;
        return 0;
    case KEY_PREFETCH:
        o->lib.prefetch = arg;
        return 0;
    case KEY_EMBEDDINGS:
        o->lib.embeddings = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp budget_argp = {
    .options =
        (const struct argp_option[]){
            {"ram", KEY_RAM, "SIZE", 0,
             "memory budget for everything: 800MiB, 12G (= GiB), bytes; "
             "default three quarters of what is available",
             0},
            {NULL, 'c', "N", 0, "tokens of context to reserve room for", 0},
            {NULL, 't', "N", 0, "threads; default the physical cores", 0},
            {"chunk", KEY_CHUNK, "N", 0, "most prompt tokens in one pass; default from the budget", 0},
            {"kernels", KEY_KERNELS, "NAME", 0, "auto, ref, avx2, avx512, neon or neon-dot", 0},
            {"kv", KEY_KV, "TYPE", 0, "type of the KV cache: f32, f16 or q8_0; default f16", 0},
            {"io", KEY_IO, "MODE", 0, "how experts are read: auto, uring, pread or buffered", 0},
            {"policy", KEY_POLICY, "NAME", 0, "which experts leave the cache first (odmoe --version lists them)", 0},
            {"prefetch", KEY_PREFETCH, "MODE", 0,
             "auto (the default): in decoding, read later layers' likely experts ahead where that pays; off: never", 0},
            {"embeddings", KEY_EMBEDDINGS, "PLACE", 0,
             "where the token embedding is kept: memory; disk: its rows are read when tokens name them; auto (the "
             "default): on the disk when the budget does not hold all experts",
             0},
            {"ahead", KEY_PREFETCH, "MODE", OPTION_HIDDEN, NULL, 0}, /* its name in earlier versions */
            {0}},
    .parser = parse_budget,
    .children = (const struct argp_child[]){{&path_argp, 0, NULL, 0}, {0}},
};

static error_t parse_model(int key, char *arg, struct argp_state *state)
{
    model_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = o;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case 'v':
        set_verbose();
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The two options that mean nothing to some commands are not in their help. They are still parsed: -v may be given to
 * every command, and chat says why it refuses --json. */
#define JSON_OPTION(flags)                                                     \
    {                                                                          \
        "json", KEY_JSON, NULL, flags, "one JSON object on standard output", 0 \
    }
#define VERBOSE_OPTION(flags)                                                                       \
    {                                                                                               \
        "verbose", 'v', NULL, flags, "print the summary on stderr even when that is no terminal", 0 \
    }

static const struct argp_child budget_child[] = {{&budget_argp, 0, NULL, 0}, {0}};

const struct argp model_argp = {
    .options = (const struct argp_option[]){JSON_OPTION(0), VERBOSE_OPTION(OPTION_HIDDEN), {0}},
    .parser = parse_model,
    .children = budget_child,
};
const struct argp run_model_argp = {
    .options = (const struct argp_option[]){JSON_OPTION(0), VERBOSE_OPTION(0), {0}},
    .parser = parse_model,
    .children = budget_child,
};
const struct argp chat_model_argp = {
    .options = (const struct argp_option[]){JSON_OPTION(OPTION_HIDDEN), VERBOSE_OPTION(0), {0}},
    .parser = parse_model,
    .children = budget_child,
};

void model_options_init(model_options *options)
{
    *options = (model_options){0};
    odmoe_options_init(&options->lib);
    options->lib.snapshots = 1; /* the fewest: the commands that run one session make none */
    options->lib.progress = progress_step;
}

enum { KEY_TEMP = KEY_SAMPLER, KEY_TOP_K, KEY_TOP_P, KEY_MIN_P, KEY_REPEAT, KEY_SEED };

static error_t parse_sampler(int key, char *arg, struct argp_state *state)
{
    odmoe_sampler_options *o = state->input;
    switch (key) {
    case KEY_TEMP:
        o->temperature = (float)parse_real("--temp", arg, 0, 100);
        return 0;
    case KEY_TOP_K:
        o->top_k = (int32_t)parse_integer("--top-k", arg, 0, INT32_MAX);
        return 0;
    case KEY_TOP_P:
        o->top_p = (float)parse_real("--top-p", arg, 0, 1);
        return 0;
    case KEY_MIN_P:
        o->min_p = (float)parse_real("--min-p", arg, 0, 1);
        return 0;
    case KEY_REPEAT:
        o->repeat_penalty = (float)parse_real("--repeat-penalty", arg, 0.01, 100);
        return 0;
    case KEY_SEED:
        o->seed = (uint64_t)parse_integer("--seed", arg, 0, INT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp sampler_argp = {
    .options =
        (const struct argp_option[]){
            {"temp", KEY_TEMP, "T", 0, "temperature; 0 always takes the likeliest token; default 0.8", 0},
            {"top-k", KEY_TOP_K, "K", 0, "only the K likeliest tokens; 0: all; default 40", 0},
            {"top-p", KEY_TOP_P, "P", 0, "only the likeliest tokens that make up P together; default 0.95", 0},
            {"min-p", KEY_MIN_P, "P", 0, "only tokens at least P times as likely as the likeliest; default 0.05", 0},
            {"repeat-penalty", KEY_REPEAT, "R", 0, "make the last 64 tokens R times less likely; default 1: off", 0},
            {"seed", KEY_SEED, "S", 0, "seed of the random choices: the same S gives the same text", 0},
            {0}},
    .parser = parse_sampler,
};

void parse_options(const struct argp *argp, int argc, char **argv, void *input)
{
    char name[64];
    snprintf(name, sizeof name, "odmoe %s", argv[0]);
    argv[0] = name;
    argp_parse(argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, input);
}
