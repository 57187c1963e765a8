/* From a model's file to a server that can answer. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "serve.h"

void serve_warn(const serve_options *o, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (o->warn)
        o->warn(line);
}

/* The model's name without its folder and ending. */
static void name_model(server *s)
{
    const serve_options *o = s->options;
    char *whole = realpath(o->model, NULL);
    const char *path = whole ? whole : o->model, *slash = strrchr(path, '/');
    snprintf(s->name, sizeof s->name, "%s", o->alias ? o->alias : slash ? slash + 1 : path);
    size_t n = strlen(s->name);
    if (!o->alias && n > 5 && !strcmp(s->name + n - 5, ".gguf"))
        s->name[n - 5] = 0;
    free(whole);
}

static void make_fingerprint(server *s)
{
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_stats_get(s->model, &stats);
    snprintf(s->fingerprint, sizeof s->fingerprint, "odmoe-%s-%s-%016llx", odmoe_version(), stats.kernels,
             (unsigned long long)odmoe_model_fingerprint(s->model));
}

static void engine_log(void *user, const char *line)
{
    log_line("%s", line);
}

static void find_efforts(server *s)
{
    static const char *const levels[EFFORTS] = {"off", "on", "low", "medium", "high"};
    for (int i = 0; i < EFFORTS; i++)
        if (odmoe_template_reasoning(s->template, levels[i], &s->efforts[i], NULL))
            s->efforts[i] = NULL;
}

/* Does the template hold the mark of reasoning in any place? */
static bool knows_reasoning(const server *s)
{
    odmoe_reasoning reasoning = {.size = sizeof reasoning};
    char mark[64];
    if (odmoe_output_reasoning(s->format, NULL, &reasoning, NULL) || !reasoning.open)
        return false;
    size_t n = strlen(reasoning.open);
    while (n && strchr(" \n", reasoning.open[n - 1]))
        n--;
    snprintf(mark, sizeof mark, "%.*s", (int)n, reasoning.open);
    return strstr(s->template_source, mark);
}

odmoe_status server_load(server *s, odmoe_error *err)
{
    const serve_options *o = s->options;
    odmoe_error why;
    odmoe_status status = odmoe_model_open(o->model, &o->lib, &s->model, err);
    if (status)
        return status;
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model_plan(s->model, &plan);
    s->context = plan.context;
    s->sequences = plan.sessions;
    s->tokenizer = odmoe_model_tokenizer(s->model);
    s->template = odmoe_model_template(s->model, &why);
    if (!s->tokenizer)
        serve_warn(o, "%s: %s: only prompts of token ids can be answered", o->model,
                   odmoe_model_no_tokenizer(s->model));
    else if (!s->template)
        serve_warn(o, "%s: %s: only /v1/completions can be answered", o->model, why.message);
    s->format = s->template ? odmoe_template_output(s->template) : NULL;
    s->template_source = s->template ? odmoe_template_source(s->template) : NULL;
    s->thinks = s->template && knows_reasoning(s);
    if (s->template)
        find_efforts(s);
    memory_hold(serve_bytes(o->lib.ram_bytes));
    if (s->tokenizer && odmoe_grammar_vocab_create(s->tokenizer, &s->vocab, err))
        return err->code;
    if (s->vocab && !memory_take(odmoe_grammar_vocab_bytes(s->vocab))) {
        err->code = ODMOE_ERR_BUDGET;
        snprintf(err->message, sizeof err->message,
                 "%.200s: the vocabulary for grammars does not fit into what this budget leaves for requests; a larger "
                 "--ram is needed",
                 o->model);
        return err->code;
    }
    name_model(s);
    make_fingerprint(s);
    engine_options e = {.sequences = s->sequences,
                        .context = s->context,
                        .queue = o->queue,
                        .cache_dir = o->cache_dir,
                        .cache_disk_bytes = o->cache_disk_bytes,
                        .cache_ram_bytes = o->cache_ram_bytes,
                        .log = engine_log};
    return engine_open(s->model, &e, &s->engine, err);
}

void server_unload(server *s)
{
    engine_close(s->engine);
    for (int i = 0; i < EFFORTS; i++)
        odmoe_string_free(s->efforts[i]);
    odmoe_grammar_vocab_free(s->vocab);
    odmoe_model_close(s->model);
}
