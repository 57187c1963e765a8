#include <stdlib.h>

#include "measure.h"
#include "options.h"
#include "progress.h"

typedef struct bench_options {
    model_options model;
    int32_t prompt, generate;
} bench_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bench_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->model;
        return 0;
    case 'p':
        o->prompt = (int32_t)parse_integer("-p", arg, 0, INT32_MAX / 2);
        return 0;
    case 'n':
        o->generate = (int32_t)parse_integer("-n", arg, 0, INT32_MAX / 2);
        return 0;
    case ARGP_KEY_END:
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
                                            {0}},
    .parser = parse,
    .args_doc = "-m MODEL",
    .doc = "Measure the speed on random tokens.\v"
           "Example: odmoe bench -m models/demo.gguf --ram 16MiB -p 128 -n 32 --json",
    .children = (const struct argp_child[]){{&model_argp, 0, NULL, 0}, {0}},
};

/* A fixed sequence: every run measures the same tokens. */
static int32_t random_token(uint64_t *state, int32_t vocab)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((*state >> 33) % (uint64_t)vocab);
}

static int measure_model(const bench_options *o, odmoe_model *model, measure *m)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    uint64_t random = 1;
    odmoe_session *session = NULL;
    odmoe_error err;
    int status = STATUS_FAILED;
    int32_t *prompt = must_alloc((size_t)o->prompt, sizeof *prompt);
    float *logits = must_alloc((size_t)info.vocab, sizeof *logits);
    for (int32_t i = 0; i < o->prompt; i++)
        prompt[i] = random_token(&random, info.vocab);
    if (odmoe_session_create(model, o->prompt + o->generate, &session, &err)) {
        status = fail(&err);
        goto done;
    }
    measure_start(m, model);
    progress_prompt(true);
    odmoe_status failed = o->prompt ? odmoe_eval(session, prompt, o->prompt, logits, &err) : ODMOE_OK;
    progress_prompt(false);
    measure_prompt_done(m, o->prompt);
    measure_first_token(m);
    int32_t done = 0;
    for (; !failed && done < o->generate; done++) {
        int32_t token = random_token(&random, info.vocab);
        failed = odmoe_eval(session, &token, 1, logits, &err);
    }
    measure_end(m, done, done);
    status = failed ? fail(&err) : STATUS_DONE;
done:
    odmoe_session_free(session);
    free(prompt);
    free(logits);
    return status;
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
    int status = measure_model(&o, model, &m);
    if (status == STATUS_DONE && o.model.json)
        json_print(measure_json(&m), stdout);
    else if (status == STATUS_DONE)
        measure_summary(&m, true, stdout);
    odmoe_model_close(model);
    return status;
}
