#include <stdlib.h>

#include "text/template/call.h"
#include "text/template/print.h"

/* Statements. */

/* ---- output ---- */

static void put_root(tpl_state *s, template_text *out, const run *r, size_t limit)
{
    size_t need = out->length + r->length;
    if (need > limit)
        tpl_fail(s, TEMPLATE_LIMIT, "more than %zu KiB of output", limit >> 10);
    if (need + 1 > out->capacity) {
        size_t want = out->capacity < 1 << 20 ? out->capacity * 2 : out->capacity + out->capacity / 4;
        want = want < 4096 ? 4096 : want;
        want = want < need + 1 ? need + 1 : want;
        char *text = realloc(out->text, want);
        if (!text)
            tpl_fail(s, TEMPLATE_MEMORY, "no memory for a template's output (%zu bytes)", want);
        out->text = text;
        out->capacity = want;
    }
    memcpy(out->text + out->length, r->at, r->length);
    if (r->foreign) {
        text_range *last = out->n ? &out->foreign[out->n - 1] : NULL;
        if (last && last->to == out->length) {
            last->to = need;
        } else {
            if (out->n == out->foreign_capacity) {
                size_t want = out->n ? out->n * 2 : 32;
                if (want * sizeof *out->foreign > limit)
                    tpl_fail(s, TEMPLATE_LIMIT, "the output changes too often between the template's and others' text");
                text_range *all = realloc(out->foreign, want * sizeof *all);
                if (!all)
                    tpl_fail(s, TEMPLATE_MEMORY, "no memory for a template's output (%zu ranges)", want);
                out->foreign = all;
                out->foreign_capacity = want;
            }
            out->foreign[out->n++] = (text_range){out->length, need};
        }
    }
    out->length = need;
    out->text[need] = 0;
}

void tpl_emit(tpl_state *s, const str *text)
{
    sink *k = s->run->sink;
    if (!k->root) {
        build_str(s, &k->b, text);
        return;
    }
    tpl_work(s, text->length);
    for (size_t i = 0; i < text->n; i++)
        put_root(s, k->root, &text->runs[i], k->limit);
}

str *tpl_exec_captured(tpl_state *s, node *const *body, size_t n, flow *how)
{
    sink *outer = s->run->sink, inner = {.limit = outer->limit};
    s->run->sink = &inner;
    *how = tpl_exec_body(s, body, n);
    s->run->sink = outer;
    return str_built(s, &inner.b);
}

/* ---- statements ---- */

static flow exec_scope(tpl_state *s, node *const *body, size_t n)
{
    scope *outer = s->run->scope;
    s->run->scope = tpl_scope_new(s, outer);
    flow how = tpl_exec_body(s, body, n);
    s->run->scope = outer;
    return how;
}

static str *captured_scope(tpl_state *s, const node *n, flow *how)
{
    scope *outer = s->run->scope;
    s->run->scope = tpl_scope_new(s, outer);
    str *out = tpl_exec_captured(s, n->list, n->n, how);
    s->run->scope = outer;
    if (s->run->autoescape)
        out->safe = true;
    return out;
}

/* A text through a chain of filters that begins with the body (a filter node whose input is NULL). */
static value through(tpl_state *s, const node *filter, value input)
{
    if (!filter)
        return input;
    value v = through(s, filter->a, input);
    s->line = filter->line;
    return tpl_eval_filter(s, filter, v);
}

static void print(tpl_state *s, value v)
{
    str *text = tpl_print_str(s, v);
    tpl_emit(s, s->run->autoescape ? str_escape(s, text) : text);
}

static flow exec_with(tpl_state *s, const node *n)
{
    scope *outer = s->run->scope, *inner = tpl_scope_new(s, outer);
    for (size_t i = 0; i + 1 < n->n_more; i += 2) {
        value v = tpl_eval(s, n->more[i + 1]); /* in the scope around */
        s->run->scope = inner;
        tpl_assign(s, n->more[i], v);
        s->run->scope = outer;
    }
    s->run->scope = inner;
    flow how = tpl_exec_body(s, n->list, n->n);
    s->run->scope = outer;
    return how;
}

static value macro_value(tpl_state *s, const node *n)
{
    macro *m = tpl_alloc(s, 1, sizeof *m);
    *m = (macro){n->macro, s->run->scope};
    return (value){.kind = VAL_MACRO, .m = m};
}

static void exec_call_block(tpl_state *s, const node *n)
{
    value callee = tpl_eval(s, n->a->a);
    args a = tpl_eval_args(s, n->a->call);
    keyword *all = tpl_alloc(s, a.n_keywords + 1, sizeof *all);
    if (a.n_keywords)
        memcpy(all, a.keywords, a.n_keywords * sizeof *all);
    all[a.n_keywords] = (keyword){s->run->t->symbols[SYMBOL_CALLER], macro_value(s, n)};
    a.keywords = all;
    a.n_keywords++;
    s->line = n->line;
    print(s, tpl_call(s, callee, &a));
}

static flow exec_autoescape(tpl_state *s, const node *n)
{
    bool outer = s->run->autoescape;
    s->run->autoescape = val_true(tpl_eval(s, n->a));
    flow how = exec_scope(s, n->list, n->n);
    s->run->autoescape = outer;
    return how;
}

static flow exec(tpl_state *s, const node *n)
{
    flow how = FLOW_ON;
    switch (n->kind) {
    case NODE_TEXT:
        tpl_emit(s, n->text);
        return FLOW_ON;
    case NODE_PRINT:
        print(s, tpl_eval(s, n->a));
        return FLOW_ON;
    case NODE_IF:
        return val_true(tpl_eval(s, n->a)) ? tpl_exec_body(s, n->list, n->n) : tpl_exec_body(s, n->more, n->n_more);
    case NODE_FOR:
        return tpl_loop_run(s, n, tpl_eval(s, n->a), s->run->scope, 0);
    case NODE_SET:
        tpl_assign(s, n->b, tpl_eval(s, n->a));
        return FLOW_ON;
    case NODE_SET_BLOCK: {
        value text = val_str(captured_scope(s, n, &how));
        if (how == FLOW_ON)
            tpl_assign(s, n->b, through(s, n->a, text));
        return how;
    }
    case NODE_FILTER_BLOCK: {
        value text = val_str(captured_scope(s, n, &how));
        if (how == FLOW_ON)
            print(s, through(s, n->a, text));
        return how;
    }
    case NODE_WITH:
        return exec_with(s, n);
    case NODE_MACRO:
        tpl_scope_set(s, n->symbol, macro_value(s, n));
        return FLOW_ON;
    case NODE_CALL_BLOCK:
        exec_call_block(s, n);
        return FLOW_ON;
    case NODE_SCOPE:
        return exec_scope(s, n->list, n->n);
    case NODE_AUTOESCAPE:
        return exec_autoescape(s, n);
    default:
        return n->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    }
}

flow tpl_exec_body(tpl_state *s, node *const *body, size_t n)
{
    flow how = FLOW_ON;
    for (size_t i = 0; how == FLOW_ON && i < n; i++) {
        tpl_work(s, 0);
        tpl_enter(s);
        s->line = body[i]->line;
        how = exec(s, body[i]);
        tpl_leave(s);
    }
    return how;
}
