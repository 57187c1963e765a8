#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "base/mem.h"
#include "text/grammar/grammar.h"
#include "text/output/call_grammar.h"

/* The public grammars and states are the internal ones. */

struct odmoe_grammar_vocab {
    vocab_tree tree;
    const tokenizer *t; /* borrowed: tokens by their text */
};

odmoe_status odmoe_grammar_vocab_create(const odmoe_tokenizer *handle, odmoe_grammar_vocab **out, odmoe_error *err)
{
    odmoe_grammar_vocab *v = mem_calloc(1, sizeof *v, "a vocabulary's tree", err);
    if (!v)
        return ODMOE_ERR_MEMORY;
    v->t = handle->t;
    odmoe_status st = vocab_tree_from_tokenizer(v->t, &v->tree, err);
    if (st)
        free(v);
    else
        *out = v;
    return st;
}

void odmoe_grammar_vocab_free(odmoe_grammar_vocab *v)
{
    if (!v)
        return;
    vocab_tree_free(&v->tree);
    free(v);
}

uint64_t odmoe_grammar_vocab_bytes(const odmoe_grammar_vocab *v)
{
    return sizeof *v + vocab_tree_bytes(&v->tree);
}

void odmoe_grammar_options_init(odmoe_grammar_options *options)
{
    *options = (odmoe_grammar_options){.size = sizeof *options};
}

static int32_t find_token(const void *user, const char *text, size_t length)
{
    return tokenizer_find(user, text, length);
}

static int32_t find_special(const void *user, const char *text, size_t length)
{
    int32_t id = tokenizer_find(user, text, length);
    return id >= 0 && tokenizer_is_special(user, id) ? id : -1;
}

/* Each text is a trigger, and where it is a special token's, that token is one, too. out [TRIGGERS_MAX] */
static size_t list_triggers(const odmoe_grammar_options *o, const tokenizer *t, grammar_trigger *out)
{
    size_t n = 0;
    for (size_t i = 0; i < o->trigger_count; i++) {
        size_t length = strlen(o->triggers[i]);
        int32_t token = t ? tokenizer_find(t, o->triggers[i], length) : -1;
        out[n++] = (grammar_trigger){o->triggers[i], length, -1};
        if (token >= 0 && tokenizer_is_special(t, token))
            out[n++] = (grammar_trigger){NULL, 0, token};
    }
    return n;
}

static_assert(sizeof(grammar_schema) == sizeof(odmoe_grammar_schema) &&
                  offsetof(grammar_schema, length) == offsetof(odmoe_grammar_schema, length),
              "the public struct is the internal one");

static void give_fault(odmoe_grammar_fault *to, const grammar_fault *from)
{
    odmoe_grammar_fault all = {
        .offset = from->offset, .line = (int)from->line, .column = (int)from->column, .schema = (int)from->schema};
    snprintf(all.path, sizeof all.path, "%s", from->path);
    copy_out(to, &all, sizeof all);
}

static odmoe_status check_options(const odmoe_grammar_options *o, odmoe_grammar_kind kind, odmoe_error *err)
{
    if ((int)kind < ODMOE_GRAMMAR_GBNF || kind > ODMOE_GRAMMAR_CALLS)
        return err_set(err, ODMOE_ERR_ARG, "a grammar of kind %d is not known", (int)kind);
    if (o->trigger_count > TRIGGERS_MAX / 2)
        return err_set(err, ODMOE_ERR_RANGE, "%zu triggers; at most %d are possible", o->trigger_count,
                       TRIGGERS_MAX / 2);
    if (o->memory > SIZE_MAX / 4)
        return err_set(err, ODMOE_ERR_RANGE, "a grammar's memory is too large");
    if (o->format && o->trigger_count)
        return err_set(err, ODMOE_ERR_ARG, "a grammar has triggers or the format of an output, not both");
    if (o->format ? !output_format_find(o->format) : kind == ODMOE_GRAMMAR_CALLS)
        return err_set(err, ODMOE_ERR_ARG, "%.40s: no such format of output; odmoe_output_format_at lists them",
                       o->format ? o->format : "NULL");
    return ODMOE_OK;
}

/* What an output of a format is like, around the grammar; *tools is for the caller to free. */
static odmoe_status read_calls(const odmoe_grammar_options *o, odmoe_grammar_kind kind, const char *text, size_t length,
                               call_grammar *calls, json_t **tools, odmoe_error *err)
{
    json_error_t fault;
    *calls = (call_grammar){.f = output_format_find(o->format),
                            .prompt = o->prompt,
                            .only = o->tool,
                            .required = o->calls_required,
                            .one = o->calls_single};
    if (kind != ODMOE_GRAMMAR_CALLS)
        return ODMOE_OK;
    *tools = json_loadb(text, length, 0, &fault);
    if (!*tools && json_error_code(&fault) == json_error_out_of_memory)
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for tools of %zu bytes", length);
    if (!json_is_array(*tools))
        return err_set(err, ODMOE_ERR_FORMAT, "tools: must be a JSON list");
    calls->tools = *tools;
    return ODMOE_OK;
}

static odmoe_status compile(const odmoe_grammar_vocab *vocab, odmoe_grammar_kind kind, const char *text, size_t length,
                            const odmoe_grammar_options *o, grammar **out, grammar_fault *fault, odmoe_error *err)
{
    static const grammar_kind kinds[] = {[ODMOE_GRAMMAR_GBNF] = GRAMMAR_GBNF,
                                         [ODMOE_GRAMMAR_SCHEMA] = GRAMMAR_SCHEMA,
                                         [ODMOE_GRAMMAR_CALLS] = GRAMMAR_WRITTEN};
    grammar_trigger triggers[TRIGGERS_MAX];
    const tokenizer *t = vocab ? vocab->t : NULL;
    call_grammar calls;
    json_t *tools = NULL;
    grammar_options all = {.triggers = triggers,
                           .trigger_count = list_triggers(o, t, triggers),
                           .again = o->again,
                           .memory = (size_t)o->memory,
                           .lookup = t ? find_token : NULL,
                           .user = t,
                           .schemas = (const grammar_schema *)o->schemas,
                           .schema_count = o->schema_count,
                           .special = {t ? find_special : NULL, t},
                           .write_user = &calls};
    odmoe_status st = o->format ? read_calls(o, kind, text, length, &calls, &tools, err) : ODMOE_OK;
    if (o->format)
        all.write = kind == ODMOE_GRAMMAR_CALLS ? call_grammar_write : answer_grammar_write;
    *fault = (grammar_fault){0};
    if (!st)
        st = grammar_compile(kinds[kind], text, length, vocab ? &vocab->tree : NULL, &all, out, fault, err);
    json_decref(tools);
    return st;
}

odmoe_status odmoe_grammar_compile(const odmoe_grammar_vocab *vocab, odmoe_grammar_kind kind, const char *text,
                                   size_t length, const odmoe_grammar_options *options, odmoe_grammar **out,
                                   odmoe_grammar_fault *fault, odmoe_error *err)
{
    odmoe_grammar_options o;
    odmoe_grammar_options_init(&o);
    odmoe_status st = options ? copy_in(&o, options, sizeof o, "odmoe_grammar_options_init", err) : ODMOE_OK;
    if (!st)
        st = check_options(&o, kind, err);
    if (st)
        return st;
    grammar_fault place;
    grammar *g;
    st = compile(vocab, kind, text, length, &o, &g, &place, err);
    if (!st)
        *out = (odmoe_grammar *)g;
    else if (fault)
        give_fault(fault, &place);
    return st;
}

void odmoe_grammar_free(odmoe_grammar *handle)
{
    grammar_free((grammar *)handle);
}

uint64_t odmoe_grammar_bytes(const odmoe_grammar *handle)
{
    return grammar_bytes((const grammar *)handle);
}

odmoe_status odmoe_grammar_print(const odmoe_grammar *handle, char *text, size_t capacity, size_t *length,
                                 odmoe_error *err)
{
    char *all = grammar_print((const grammar *)handle, err);
    if (!all)
        return ODMOE_ERR_MEMORY;
    *length = strlen(all);
    if (capacity)
        memcpy(text, all, *length < capacity ? *length : capacity);
    free(all);
    return ODMOE_OK;
}

odmoe_status odmoe_grammar_state_create(odmoe_grammar *handle, odmoe_grammar_state **out, odmoe_error *err)
{
    return grammar_state_create((grammar *)handle, (grammar_state **)out, err);
}

odmoe_status odmoe_grammar_state_copy(const odmoe_grammar_state *handle, odmoe_grammar_state **out, odmoe_error *err)
{
    return grammar_state_copy((const grammar_state *)handle, (grammar_state **)out, err);
}

void odmoe_grammar_state_free(odmoe_grammar_state *handle)
{
    grammar_state_free((grammar_state *)handle);
}

odmoe_status odmoe_grammar_mask(odmoe_grammar_state *handle, uint32_t *mask, size_t words, odmoe_error *err)
{
    return grammar_mask((grammar_state *)handle, mask, words, err);
}

odmoe_status odmoe_grammar_accept(odmoe_grammar_state *handle, int32_t token, odmoe_error *err)
{
    return grammar_accept((grammar_state *)handle, token, err);
}

odmoe_status odmoe_grammar_accept_text(odmoe_grammar_state *handle, const char *text, size_t length, size_t *taken,
                                       odmoe_error *err)
{
    return grammar_accept_text((grammar_state *)handle, text, length, taken, err);
}

int odmoe_grammar_may_end(const odmoe_grammar_state *handle)
{
    return grammar_may_end((const grammar_state *)handle);
}

int odmoe_grammar_must_end(const odmoe_grammar_state *handle)
{
    return grammar_must_end((const grammar_state *)handle);
}
