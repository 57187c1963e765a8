#include <stdlib.h>

#include "generate.h"
#include "measure.h"
#include "options.h"
#include "progress.h"

typedef struct bench_options {
    model_options model;
    const char *file; /* whose tokens are measured; NULL: random ones */
    int32_t prompt, generate;
    bool warm; /* run the prompt once before it is measured */
} bench_options;

enum { KEY_WARM = KEY_COMMAND };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bench_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->model;
        return 0;
    case 'f':
        o->file = arg;
        return 0;
    case 'p':
        o->prompt = (int32_t)parse_integer("-p", arg, 0, INT32_MAX / 2);
        return 0;
    case 'n':
        o->generate = (int32_t)parse_integer("-n", arg, 0, INT32_MAX / 2);
        return 0;
    case KEY_WARM:
        o->warm = true;
        return 0;
    case ARGP_KEY_END:
        if (o->warm && o->prompt == 0)
            usage_error("--warm -p 0: there is no prompt that could be run before");
        if (o->prompt + o->generate == 0)
            usage_error("-p 0 -n 0: there is nothing to measure");
        if (o->model.lib.context && o->model.lib.context < o->prompt + o->generate)
            usage_error("-c %d: -p %d and -n %d need room for %d tokens", o->model.lib.context, o->prompt, o->generate,
                        o->prompt + o->generate);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp bench_argp = {
    .options = (const struct argp_option[]){{NULL, 'p', "N", 0, "prompt tokens; default 512", 0},
                                            {NULL, 'n', "N", 0, "generated tokens, one pass each; default 64", 0},
                                            {NULL, 'f', "FILE", 0,
                                             "take the tokens of this text: routing and caching as in use", 0},
                                            {"warm", KEY_WARM, NULL, 0,
                                             "run the prompt once before it is measured: what fits in the budget is in "
                                             "memory then",
                                             0},
                                            {0}},
    .parser = parse,
    .args_doc = "-m MODEL",
    .doc = "Measure the speed on random tokens, or on a text: first a prompt, then token by token.\v"
           "Example: odmoe bench -m models/demo.gguf --ram 16MiB -p 128 -n 32 --json",
    .children = (const struct argp_child[]){{&model_argp, 0, NULL, 0}, {0}},
};

/* A fixed sequence: every run measures the same tokens. */
static int32_t random_token(uint64_t *state, int32_t vocab)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((*state >> 33) % (uint64_t)vocab);
}

static bool random_tokens(const odmoe_model *model, size_t n, id_list *ids)
{
    odmoe_info info = {.size = sizeof info};
    uint64_t random = 1;
    odmoe_model_info(model, &info);
    ids->ids = must_alloc(n, sizeof *ids->ids);
    for (ids->n = 0; ids->n < n; ids->n++)
        ids->ids[ids->n] = random_token(&random, info.vocab);
    return true;
}

/* The first n tokens of the file's text; false: complained. */
static bool text_tokens(const char *path, const odmoe_model *model, size_t n, id_list *ids)
{
    const odmoe_tokenizer *tokenizer = odmoe_model_tokenizer(model);
    size_t length;
    if (!tokenizer) {
        complain_no_tokenizer(model);
        return false;
    }
    char *text = read_whole(path, &length);
    bool done = text && tokenize_all(tokenizer, text, length, ODMOE_TOKENIZE_START, ids);
    free(text);
    if (done && ids->n < n) {
        complain("%s: has %zu tokens, -p and -n need %zu; take fewer, or a longer text", path, ids->n, n);
        done = false;
    }
    return done;
}

static int measure_model(const bench_options *o, odmoe_model *model, const int32_t *ids, measure *m)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_session *session = NULL;
    odmoe_error err;
    odmoe_model_info(model, &info);
    if (odmoe_session_create(model, o->prompt + o->generate, &session, &err))
        return fail(&err);
    float *logits = must_alloc((size_t)info.vocab, sizeof *logits);
    odmoe_status failed = ODMOE_OK;
    if (o->warm) {
        failed = odmoe_eval(session, ids, o->prompt, logits, &err);
        odmoe_session_reset(session);
    }
    measure_start(m, model);
    progress_prompt(true);
    if (!failed && o->prompt)
        failed = odmoe_eval(session, ids, o->prompt, logits, &err);
    progress_prompt(false);
    measure_prompt_done(m, o->prompt);
    measure_first_token(m);
    int32_t done = 0;
    for (; !failed && done < o->generate; done++)
        failed = odmoe_eval(session, ids + o->prompt + done, 1, logits, &err);
    measure_end(m, done, done);
    odmoe_session_free(session);
    free(logits);
    return failed ? fail(&err) : STATUS_DONE;
}

static void print(const bench_options *o, const measure *m)
{
    if (!o->model.json) {
        measure_summary(m, true, stdout);
        return;
    }
    json_t *object = measure_json(m);
    json_object_set_new(object, "tokens", json_string(o->file ? "text" : "random"));
    json_print(object, stdout);
}

int command_bench(int argc, char **argv)
{
    bench_options o = {.prompt = 512, .generate = 64};
    model_options_init(&o.model);
    parse_options(&bench_argp, argc, argv, &o);
    if (o.model.lib.context == 0)
        o.model.lib.context = o.prompt + o.generate;
    odmoe_model *model;
    odmoe_error err;
    if (odmoe_model_open(o.model.path, &o.model.lib, &model, &err))
        return fail(&err);
    progress_clear();
    model_warning(model);
    measure m;
    id_list ids = {0};
    size_t n = (size_t)(o.prompt + o.generate);
    int status = STATUS_FAILED;
    if (o.file ? text_tokens(o.file, model, n, &ids) : random_tokens(model, n, &ids))
        status = measure_model(&o, model, ids.ids, &m);
    if (status == STATUS_DONE)
        print(&o, &m);
    free(ids.ids);
    odmoe_model_close(model);
    return status;
}
