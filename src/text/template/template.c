#include "text/template/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/template/print.h"
#include "text/template/run.h"

enum { SOURCE_MAX = 1 << 20, COMPILE_MAX = 64 << 20 };

const template_limits template_limits_default = {64 << 20, 64 << 20, 10 * 1000 * 1000};

const char *template_error_name(template_error kind)
{
    static const char *const names[] = {"ok",       "syntax",  "raise", "undefined", "type", "value",
                                        "security", "runtime", "limit", "refused",   "data", "memory"};
    return names[kind];
}

void template_fault_free(template_fault *f)
{
    free(f->message);
    *f = (template_fault){0};
}

/* ---- compiling ---- */

/* A copy with \n for \r\n and \r, without the last one. */
static bool copy_source(chat_program *t, const char *text, size_t length)
{
    size_t n = 0;
    t->source = malloc(length + 1);
    if (!t->source)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] != '\r')
            t->source[n++] = text[i];
        else if (i + 1 == length || text[i + 1] != '\n')
            t->source[n++] = '\n';
    n -= n && t->source[n - 1] == '\n';
    t->source[n] = 0;
    t->length = n;
    return true;
}

chat_program *template_compile(const char *text, size_t length, template_fault *fault)
{
    chat_program *volatile t = calloc(1, sizeof *t);
    tpl_state s = {.fault = fault, .steps_max = UINT64_MAX, .string_max = SOURCE_MAX, .arena.limit = COMPILE_MAX};
    *fault = (template_fault){0};
    if (setjmp(s.out)) {
        tpl_arena_free(&s.arena);
        if (t)
            free(t->source);
        free(t);
        return NULL;
    }
    if (length > SOURCE_MAX)
        tpl_fail(&s, TEMPLATE_LIMIT, "a template of more than %d KiB", SOURCE_MAX >> 10);
    if (utf8_run(text, length) != length)
        tpl_fail(&s, TEMPLATE_SYNTAX, "the template is not UTF-8");
    if (!t || !copy_source(t, text, length))
        tpl_fail(&s, TEMPLATE_MEMORY, "no memory for a template (%zu bytes)", length);
    parse_template(&s, t);
    t->arena = s.arena;
    return t;
}

void template_free(chat_program *t)
{
    if (!t)
        return;
    tpl_arena_free(&t->arena);
    free(t->source);
    free(t);
}

const char *template_source(const chat_program *t, size_t *length)
{
    if (length)
        *length = t->length;
    return t->source;
}

static bool named(str *const *names, size_t n, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (names[i]->length == length && !memcmp(names[i]->flat, name, length))
            return true;
    return false;
}

size_t template_bytes(const chat_program *t)
{
    return t->arena.total + t->length + sizeof *t;
}

bool template_reads(const chat_program *t, const char *name)
{
    return named(t->symbols, t->n_symbols, name) || named(t->mentioned, t->n_mentioned, name);
}

/* ---- running ---- */

void template_text_free(template_text *t)
{
    free(t->text);
    free(t->foreign);
    *t = (template_text){0};
}

static value *variable(tpl_state *s, const char *name, size_t length)
{
    const struct chat_program *t = s->run->t;
    for (size_t k = SYMBOLS_OWN; k < t->n_symbols; k++)
        if (t->symbols[k]->length == length && !memcmp(t->symbols[k]->flat, name, length))
            return &s->run->globals[k];
    return NULL;
}

void tpl_run_set(tpl_state *s, const char *name, size_t length, value v)
{
    value *to = variable(s, name, length);
    if (to)
        *to = v;
}

bool tpl_run_reads(tpl_state *s, const char *name)
{
    return variable(s, name, strlen(name)) != NULL;
}

template_error template_run_with(const chat_program *t, run_prepare prepare, void *user, int64_t now,
                                 const template_limits *limits, template_text *out, template_fault *fault)
{
    const template_limits *l = limits ? limits : &template_limits_default;
    sink k = {.root = out, .limit = l->output_bytes};
    tpl_run r = {.t = t, .sink = &k, .now = now};
    tpl_state s = {.fault = fault,
                   .steps_max = l->steps,
                   .string_max = l->output_bytes,
                   .arena.limit = l->memory_bytes,
                   .run = &r};
    *out = (template_text){0};
    *fault = (template_fault){0};
    if (setjmp(s.out)) {
        tpl_arena_free(&s.arena);
        template_text_free(out);
        return fault->kind;
    }
    r.globals = tpl_alloc(&s, t->n_symbols, sizeof *r.globals);
    tpl_set_globals(&s);
    prepare(&s, user);
    tpl_exec_body(&s, t->body, t->n);
    out->peak_bytes = s.arena.peak + out->capacity + out->foreign_capacity * sizeof *out->foreign;
    if (!out->text && !(out->text = calloc(1, 1)))
        tpl_fail(&s, TEMPLATE_MEMORY, "no memory for a template's output");
    tpl_arena_free(&s.arena);
    return TEMPLATE_OK;
}

/* ---- variables as JSON ---- */

typedef struct variables {
    const template_variable *at;
    size_t n;
} variables;

static void set_variables(tpl_state *s, void *user)
{
    const variables *all = user;
    size_t at;
    for (size_t i = 0; i < all->n; i++) {
        const template_variable *v = &all->at[i];
        value *to = variable(s, v->name, strlen(v->name));
        if (to && !v->json)
            *to = val_str(str_new(s, v->text, strlen(v->text), v->foreign));
        else if (to && !tpl_read_json(s, v->json, v->length, v->foreign, to, &at))
            tpl_fail(s, TEMPLATE_DATA, "%s: malformed JSON near byte %zu", v->name, at);
    }
}

template_error template_render(const chat_program *t, const template_variable *all, size_t n, int64_t now,
                               const template_limits *limits, template_text *out, template_fault *fault)
{
    return template_run_with(t, set_variables, &(variables){all, n}, now, limits, out, fault);
}

/* ---- variables as one object ---- */

typedef struct object {
    const char *json;
    size_t length;
} object;

static bool take_member(tpl_state *s, str *key, const value *v, void *user)
{
    if (v)
        tpl_run_set(s, str_flat(s, key), key->length, *v);
    return str_is(s, key, "messages") || str_is(s, key, "tools") || str_is(s, key, "documents");
}

static void set_members(tpl_state *s, void *user)
{
    const object *o = user;
    size_t at;
    if (!tpl_read_json_members(s, o->json, o->length, take_member, NULL, &at))
        tpl_fail(s, TEMPLATE_DATA, "the variables are no JSON object: malformed near byte %zu", at);
}

template_error template_render_object(const chat_program *t, const char *json, size_t length, int64_t now,
                                      const template_limits *limits, template_text *out, template_fault *fault)
{
    return template_run_with(t, set_members, &(object){json, length}, now, limits, out, fault);
}
