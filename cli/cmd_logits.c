#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "odmoe_tensors.h"
#include "options.h"
#include "progress.h"
#include "unfinished.h"

enum { KEY_TOKENS = KEY_COMMAND, KEY_TOKENS_FILE, KEY_OUT, KEY_LAYERS, KEY_GREEDY };

typedef struct logits_options {
    model_options model;
    id_list ids;
    const char *out;
    bool layers;
    int32_t greedy;
} logits_options;

static void check_first(const id_list *ids)
{
    if (ids->n > 0)
        usage_error("the tokens are given twice: one of --tokens and --tokens-file, once");
}

static void read_ids(const char *path, id_list *ids)
{
    size_t length;
    char *text = read_whole(path, &length);
    if (!text || !parse_ids(text, path, ids))
        exit(STATUS_FAILED);
    free(text);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    logits_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->model;
        return 0;
    case KEY_TOKENS:
        check_first(&o->ids);
        if (!parse_ids(arg, "--tokens", &o->ids))
            exit(STATUS_USAGE);
        return 0;
    case KEY_TOKENS_FILE:
        check_first(&o->ids);
        read_ids(arg, &o->ids);
        return 0;
    case KEY_OUT:
        o->out = arg;
        return 0;
    case KEY_LAYERS:
        o->layers = true;
        return 0;
    case KEY_GREEDY:
        o->greedy = (int32_t)parse_integer("--greedy", arg, 0, INT32_MAX / 2);
        return 0;
    case ARGP_KEY_END:
        if (o->ids.n == 0)
            usage_error("no tokens are given: --tokens 1,2,3 or --tokens-file FILE names them");
        if (!o->out)
            usage_error("--out FILE.safetensors is needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp logits_argp = {
    .options =
        (const struct argp_option[]){
            {"tokens", KEY_TOKENS, "IDS", 0, "token ids: 1,2,3", 0},
            {"tokens-file", KEY_TOKENS_FILE, "FILE", 0, "read the ids from FILE", 0},
            {"out", KEY_OUT, "FILE", 0, "the safetensors file to write", 0},
            {"layers", KEY_LAYERS, NULL, 0, "hidden states and the routers' output of each layer too", 0},
            {"greedy", KEY_GREEDY, "N", 0, "also the N likeliest tokens that follow, end tokens ignored", 0},
            {0}},
    .parser = parse,
    .args_doc = "-m MODEL (--tokens IDS | --tokens-file FILE) --out FILE",
    .doc = "Write the logits after each token to a safetensors file.\v"
           "Example: odmoe logits -m models/demo.gguf --tokens 1,2,3 --out /tmp/logits.safetensors --layers",
    .children = (const struct argp_child[]){{&model_argp, 0, NULL, 0}, {0}},
};

/* The tensors that may come: input_ids, logits and greedy; then, where --layers asks for them, the kinds below for each
 * layer, and the state behind the last. Layers without a router give no more than their hidden state. */
enum { INPUT_IDS, LOGITS, GREEDY, LAYERS, KINDS = 4, TENSOR_NAME_MAX = 32 };

typedef struct writer {
    odmoe_tensor_writer *file; /* keeps the first error for finish */
    const odmoe_info *info;
    int64_t n;   /* tokens */
    float *last; /* [vocab] of the last token, where greedy begins */
} writer;

static void write_rows(writer *w, int32_t tensor, int64_t first, int64_t n, int64_t columns, const void *data)
{
    if (data)
        odmoe_tensors_write(w->file, tensor, first * columns, n * columns, data, NULL);
}

static void on_logits(void *user, int32_t sequence, int32_t row, const float *logits)
{
    writer *w = user;
    write_rows(w, LOGITS, row, 1, w->info->vocab, logits);
    if (row == w->n - 1)
        memcpy(w->last, logits, (size_t)w->info->vocab * sizeof *logits);
}

static void on_tap(void *user, const odmoe_tap *tap)
{
    writer *w = user;
    int32_t first = LAYERS + KINDS * tap->layer;
    write_rows(w, first, tap->first, tap->n, w->info->hidden, tap->hidden);
    write_rows(w, first + 1, tap->first, tap->n, w->info->experts, tap->router);
    write_rows(w, first + 2, tap->first, tap->n, w->info->top_k, tap->topk);
    write_rows(w, first + 3, tap->first, tap->n, w->info->top_k, tap->topw);
}

static odmoe_status begin_file(const logits_options *o, writer *w, odmoe_error *err)
{
    static const char *const kinds[KINDS] = {"hidden", "router", "topk", "topw"};
    const int32_t count = LAYERS + KINDS * (w->info->layers + 1);
    const int64_t columns[KINDS] = {w->info->hidden, w->info->experts, w->info->top_k, w->info->top_k};
    odmoe_tensor *tensors = must_alloc((size_t)count, sizeof *tensors);
    char(*names)[TENSOR_NAME_MAX] = must_alloc((size_t)count, sizeof *names);
    tensors[INPUT_IDS] = (odmoe_tensor){"input_ids", "I32", 1, {w->n}, NULL};
    tensors[LOGITS] = (odmoe_tensor){"logits", "F32", 2, {w->n, w->info->vocab}, NULL};
    tensors[GREEDY] = (odmoe_tensor){"greedy", "I32", 1, {o->greedy}, NULL};
    for (int32_t i = 0; i < count - LAYERS; i++) {
        int kind = i % KINDS;
        snprintf(names[i], sizeof names[i], "%s.%d", kinds[kind], i / KINDS);
        tensors[LAYERS + i] =
            (odmoe_tensor){names[i], strcmp(kinds[kind], "topk") ? "F32" : "I32", 2, {w->n, columns[kind]}, NULL};
    }
    odmoe_status status = odmoe_tensors_begin(o->out, tensors, count, &w->file, err);
    free(tensors);
    free(names);
    if (!status)
        unfinished_begin(odmoe_tensors_partial(w->file));
    return status;
}

/* All tokens in one forward call, logits after each. */
static odmoe_status write_tokens(const logits_options *o, odmoe_model *model, odmoe_session *session, writer *w,
                                 odmoe_error *err)
{
    odmoe_sequence all = {.session = session,
                          .tokens = o->ids.ids,
                          .n = (int32_t)o->ids.n,
                          .phase = ODMOE_PHASE_PROMPT,
                          .want_logits = ODMOE_LOGITS_ALL};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = &all;
    batch.n = 1;
    batch.on_logits = on_logits;
    batch.on_tap = o->layers ? on_tap : NULL;
    batch.user = w;
    return odmoe_forward(model, &batch, err);
}

/* w->last begins with the logits after the last token. */
static odmoe_status write_greedy(const logits_options *o, odmoe_session *session, writer *w, odmoe_error *err)
{
    odmoe_sampler *sampler = NULL;
    odmoe_sampler_options options;
    odmoe_sampler_options_init(&options);
    options.temperature = 0;
    odmoe_status status = odmoe_sampler_create(&options, w->info->vocab, &sampler, err);
    for (int32_t i = 0; !status && i < o->greedy; i++) {
        int32_t token;
        status = odmoe_sample(sampler, w->last, NULL, &token, err);
        if (status)
            break;
        write_rows(w, GREEDY, i, 1, 1, &token);
        if (i + 1 < o->greedy)
            status = odmoe_eval(session, &token, 1, w->last, err);
    }
    odmoe_sampler_free(sampler);
    return status;
}

/* The object of --json. */
static void print_object(const logits_options *o)
{
    json_t *object = json_object();
    json_object_set_new(object, "tokens", json_integer((json_int_t)o->ids.n));
    json_object_set_new(object, "out", json_text(o->out, strlen(o->out)));
    if (o->greedy)
        json_object_set_new(object, "greedy", json_integer(o->greedy));
    json_print(object, stdout);
}

static int write_file(const logits_options *o, odmoe_model *model)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    odmoe_session *session = NULL;
    odmoe_error err;
    if (odmoe_session_create(model, 0, &session, &err))
        return fail(&err);
    writer w = {.info = &info, .n = (int64_t)o->ids.n};
    w.last = must_alloc((size_t)info.vocab, sizeof *w.last);
    odmoe_status failed = begin_file(o, &w, &err);
    if (!failed) {
        write_rows(&w, INPUT_IDS, 0, w.n, 1, o->ids.ids);
        odmoe_tensors_write(w.file, LOGITS, 0, 0, NULL, NULL); /* second in the file, though the layers come first */
        failed = write_tokens(o, model, session, &w, &err);
        if (!failed && o->greedy)
            failed = write_greedy(o, session, &w, &err);
        if (failed)
            odmoe_tensors_abort(w.file);
        else
            failed = odmoe_tensors_finish(w.file, &err);
        unfinished_end();
    }
    int status = failed ? fail(&err) : STATUS_DONE;
    if (!failed && o->model.json)
        print_object(o);
    free(w.last);
    odmoe_session_free(session);
    return status;
}

int command_logits(int argc, char **argv)
{
    logits_options o = {0};
    model_options_init(&o.model);
    parse_options(&logits_argp, argc, argv, &o);
    if (o.model.lib.context == 0)
        o.model.lib.context = (int32_t)(o.ids.n + (size_t)o.greedy);
    odmoe_model *model;
    odmoe_error err;
    int status;
    if (odmoe_model_open(o.model.path, &o.model.lib, &model, &err)) {
        status = fail(&err);
    } else {
        progress_clear();
        status = write_file(&o, model);
        odmoe_model_close(model);
    }
    free(o.ids.ids);
    return status;
}
