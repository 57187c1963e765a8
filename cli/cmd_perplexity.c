#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "generate.h"
#include "measure.h"
#include "options.h"
#include "progress.h"

enum { KEY_CHUNKS = KEY_COMMAND, DEFAULT_CHUNK = 512 };

typedef struct perplexity_options {
    model_options model;
    const char *file;
    int64_t chunks; /* at most; 0: all */
} perplexity_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    perplexity_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->model;
        return 0;
    case 'f':
        o->file = arg;
        return 0;
    case KEY_CHUNKS:
        o->chunks = parse_integer("--chunks", arg, 1, INT64_MAX);
        return 0;
    case ARGP_KEY_END:
        if (!o->file)
            usage_error("a text is needed: -f FILE");
        if (o->model.lib.context == 0)
            o->model.lib.context = DEFAULT_CHUNK;
        if (o->model.lib.context < 4)
            usage_error("-c %d: chunks of at least 4 tokens are needed", o->model.lib.context);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp perplexity_argp = {
    .options = (const struct argp_option[]){{NULL, 'f', "FILE", 0, "the text", 0},
                                            {"chunks", KEY_CHUNKS, "N", 0, "only the first N chunks", 0},
                                            {0}},
    .parser = parse,
    .args_doc = "-m MODEL -f FILE",
    .doc =
        "Perplexity of a text: whole chunks of -c tokens (default 512), each from an empty context, the second half of "
        "each scored. A chunk begins with the model's start token where it wants one.\v"
        "Example: odmoe perplexity -m models/demo.gguf -f tests/data/heldout/bible.txt --chunks 4",
    .children = (const struct argp_child[]){{&model_argp, 0, NULL, 0}, {0}},
};

/* One chunk's sum of -log p(next token); on_logits adds to it. */
typedef struct score {
    const int32_t *ids; /* [n] the chunk */
    int32_t first;      /* first scored position */
    int32_t vocab;
    int64_t rows; /* rows seen */
    double sum;
} score;

static void on_logits(void *user, int32_t sequence, int32_t token, const float *logits)
{
    score *s = user;
    int64_t position = s->first + s->rows++; /* rows that want logits come in order */
    double top = logits[0], total = 0;
    for (int32_t i = 1; i < s->vocab; i++)
        top = logits[i] > top ? logits[i] : top;
    for (int32_t i = 0; i < s->vocab; i++)
        total += exp(logits[i] - top);
    s->sum += log(total) - (logits[s->ids[position + 1]] - top);
}

/* Tokens [from, to) of the chunk. */
static odmoe_status forward(odmoe_model *model, odmoe_session *session, score *s, int32_t from, int32_t to,
                            odmoe_logits_wanted want, odmoe_error *err)
{
    odmoe_sequence part = {
        .session = session, .tokens = s->ids + from, .n = to - from, .phase = ODMOE_PHASE_PROMPT, .want_logits = want};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = &part;
    batch.n = 1;
    batch.on_logits = on_logits;
    batch.user = s;
    return odmoe_forward(model, &batch, err);
}

static odmoe_status score_chunk(odmoe_model *model, odmoe_session *session, int32_t n, score *s, odmoe_error *err)
{
    odmoe_session_reset(session);
    odmoe_status status = s->first ? forward(model, session, s, 0, s->first, ODMOE_LOGITS_NONE, err) : ODMOE_OK;
    if (!status && s->first < n - 1)
        status = forward(model, session, s, s->first, n - 1, ODMOE_LOGITS_ALL, err);
    return status;
}

/* ids: the text's, which the first of each chunk are replaced in by the model's start tokens: scoring begins from the
 * state that the model was trained to begin with, as in llama.cpp's perplexity tool. */
static int score_text(const perplexity_options *o, odmoe_model *model, const id_list *ids, const id_list *starts)
{
    int32_t n = o->model.lib.context;
    int64_t chunks = (int64_t)ids->n / n;
    odmoe_info info = {.size = sizeof info};
    odmoe_session *session = NULL;
    odmoe_error err;
    double sum = 0;
    int64_t scored = 0;
    int status = STATUS_FAILED;
    if (o->chunks && o->chunks < chunks)
        chunks = o->chunks;
    if (starts->n > (size_t)n / 2) {
        complain("-c %d: the model's %zu start tokens leave nothing to score", n, starts->n);
        return STATUS_FAILED;
    }
    if (chunks == 0) {
        complain("%s: has %zu tokens, fewer than one chunk of %d; -c N makes chunks smaller", o->file, ids->n, n);
        return STATUS_FAILED;
    }
    odmoe_model_info(model, &info);
    if (odmoe_session_create(model, n, &session, &err)) {
        status = fail(&err);
        goto done;
    }
    for (int64_t c = 0; c < chunks; c++) {
        score s = {.ids = ids->ids + c * n, .first = n / 2, .vocab = info.vocab};
        memcpy(ids->ids + c * n, starts->ids, starts->n * sizeof *starts->ids);
        if (score_chunk(model, session, n, &s, &err)) {
            status = fail(&err);
            goto done;
        }
        sum += s.sum;
        scored += s.rows;
        progress_draw("%lld of %lld chunks: %.4f", (long long)c + 1, (long long)chunks, exp(sum / (double)scored));
    }
    progress_clear();
    if (o->model.json)
        json_print(json_pack("{s:f,s:I,s:I,s:i}", "ppl", exp(sum / (double)scored), "tokens", (json_int_t)scored,
                             "chunks", (json_int_t)chunks, "context", n),
                   stdout);
    else
        printf("perplexity %.4f over %lld tokens in %lld chunks of %d\n", exp(sum / (double)scored), (long long)scored,
               (long long)chunks, n);
    status = STATUS_DONE;
done:
    odmoe_session_free(session);
    return status;
}

int command_perplexity(int argc, char **argv)
{
    perplexity_options o = {0};
    model_options_init(&o.model);
    parse_options(&perplexity_argp, argc, argv, &o);
    size_t length;
    char *text = read_whole(o.file, &length);
    if (!text)
        return STATUS_FAILED;
    odmoe_model *model;
    odmoe_error err;
    int status = STATUS_FAILED;
    if (odmoe_model_open(o.model.path, &o.model.lib, &model, &err)) {
        status = fail(&err);
    } else {
        progress_clear();
        id_list ids = {0}, starts = {0};
        const odmoe_tokenizer *tokenizer = odmoe_model_tokenizer(model);
        if (!tokenizer)
            complain_no_tokenizer(model);
        else if (tokenize_all(tokenizer, "", 0, ODMOE_TOKENIZE_START, &starts) &&
                 tokenize_all(tokenizer, text, length, ODMOE_TOKENIZE_SPECIAL | ODMOE_TOKENIZE_START, &ids) &&
                 ids_fit(model, o.model.path, &ids))
            status = score_text(&o, model, &ids, &starts);
        free(ids.ids);
        free(starts.ids);
        odmoe_model_close(model);
    }
    free(text);
    return status;
}
