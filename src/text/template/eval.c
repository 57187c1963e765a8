#include "text/template/call.h"
#include "text/template/print.h"

/* Expressions. */

args tpl_eval_args(tpl_state *s, const node_call *c)
{
    args a = {0};
    size_t capacity = 0, keywords = 0;
    if (!c->n && !c->n_keywords && !c->star && !c->star_star)
        return a;
    for (size_t i = 0; i < c->n; i++) {
        value v = tpl_eval(s, c->at[i]);
        tpl_grow(s, (void **)&a.at, &capacity, a.n, c->n, sizeof *a.at);
        a.at[a.n++] = v;
    }
    if (c->star) {
        const list *more = val_items(s, tpl_eval(s, c->star));
        tpl_grow(s, (void **)&a.at, &capacity, a.n, a.n + more->n, sizeof *a.at);
        for (size_t i = 0; i < more->n; i++)
            a.at[a.n++] = more->at[i];
    }
    for (size_t i = 0; i < c->n_keywords; i++) {
        value v = tpl_eval(s, c->keywords[i].a);
        tpl_grow(s, (void **)&a.keywords, &keywords, a.n_keywords, a.n_keywords + 1, sizeof *a.keywords);
        a.keywords[a.n_keywords++] = (keyword){c->keywords[i].name, v};
    }
    if (c->star_star) {
        value v = tpl_eval(s, c->star_star);
        if (v.kind != VAL_DICT)
            tpl_fail(s, TEMPLATE_TYPE, "what follows ** must be a dict, not %s", val_type_name(v));
        for (size_t i = 0; i < v.d->n; i++)
            if (!v.d->at[i].gone) {
                tpl_grow(s, (void **)&a.keywords, &keywords, a.n_keywords, a.n_keywords + 1, sizeof *a.keywords);
                a.keywords[a.n_keywords++] = (keyword){tpl_str_arg(s, v.d->at[i].key, "a keyword"), v.d->at[i].v};
            }
    }
    return a;
}

value tpl_eval_filter(tpl_state *s, const node *n, value input)
{
    if (!n->filter)
        tpl_fail(s, TEMPLATE_RUNTIME, "no %s named '%.*s'", n->kind == NODE_TEST ? "test" : "filter",
                 (int)n->text->length, str_flat(s, n->text));
    args a = tpl_eval_args(s, n->call);
    s->line = n->line;
    return tpl_call_native(s, n->filter, input, &a);
}

static value eval_list(tpl_state *s, const node *n)
{
    value out = val_list(s, n->kind == NODE_LIST ? VAL_LIST : VAL_TUPLE, n->n);
    for (size_t i = 0; i < n->n; i++)
        list_push(s, out.l, tpl_eval(s, n->list[i]));
    return out;
}

static value eval_dict(tpl_state *s, const node *n)
{
    value out = val_dict(s);
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        value key = tpl_eval(s, n->list[i]);
        dict_set(s, out.d, key, tpl_eval(s, n->list[i + 1]));
    }
    return out;
}

static value eval_slice(tpl_state *s, const node *n)
{
    value of = tpl_eval(s, n->a), part[3] = {{0}};
    for (int i = 0; i < 3; i++)
        if (n->list[i])
            part[i] = tpl_eval(s, n->list[i]);
    s->line = n->line;
    return tpl_get_slice(s, of, part[0], part[1], part[2]);
}

static value eval_concat(tpl_state *s, const node *n)
{
    builder b = {0};
    bool escapes = s->run->autoescape;
    for (size_t i = 0; i < n->n; i++) {
        str *part = tpl_print_str(s, tpl_eval(s, n->list[i]));
        build_str(s, &b, escapes ? str_escape(s, part) : part);
    }
    str *out = str_built(s, &b);
    out->safe = escapes;
    return val_str(out);
}

static bool compare(tpl_state *s, compare_op op, value a, value b)
{
    switch (op) {
    case OP_EQ:
        return val_equal(s, a, b);
    case OP_NE:
        return !val_equal(s, a, b);
    case OP_LT:
        return val_compare(s, a, b, "<") < 0;
    case OP_LE:
        return val_compare(s, a, b, "<=") <= 0;
    case OP_GT:
        return val_compare(s, a, b, ">") > 0;
    case OP_GE:
        return val_compare(s, a, b, ">=") >= 0;
    case OP_IN:
        return val_contains(s, b, a);
    default:
        return !val_contains(s, b, a);
    }
}

static value eval_compare(tpl_state *s, const node *n)
{
    value a = tpl_eval(s, n->list[0]);
    bool is = true;
    for (size_t i = 1; is && i < n->n; i++) {
        value b = tpl_eval(s, n->list[i]);
        s->line = n->line;
        is = compare(s, n->ops[i - 1], a, b);
        a = b;
    }
    return val_bool(is);
}

static value eval_call(tpl_state *s, const node *n)
{
    value callee = tpl_eval(s, n->a);
    val_use(s, callee);
    args a = tpl_eval_args(s, n->call);
    s->line = n->line;
    return tpl_call(s, callee, &a);
}

static value eval_if_else(tpl_state *s, const node *n)
{
    if (val_true(tpl_eval(s, n->a)))
        return tpl_eval(s, n->b);
    return n->c ? tpl_eval(s, n->c) : val_undefined();
}

/* A value that stays a value: operators with operands. */
static value eval_operator(tpl_state *s, const node *n)
{
    value a = tpl_eval(s, n->a);
    switch (n->kind) {
    case NODE_NOT:
        return val_bool(!val_true(a));
    case NODE_AND:
        return val_true(a) ? tpl_eval(s, n->b) : a;
    case NODE_OR:
        return val_true(a) ? a : tpl_eval(s, n->b);
    case NODE_NEG:
    case NODE_POS:
        s->line = n->line;
        return n->kind == NODE_NEG ? tpl_negate(s, a) : tpl_negate(s, tpl_negate(s, a));
    default: {
        value b = tpl_eval(s, n->b);
        s->line = n->line;
        return tpl_binary(s, n->op, a, b);
    }
    }
}

static value eval_node(tpl_state *s, const node *n)
{
    value of;
    switch (n->kind) {
    case NODE_CONST:
        return n->constant;
    case NODE_NAME:
        return tpl_scope_get(s, n->symbol);
    case NODE_LIST:
    case NODE_TUPLE:
        return eval_list(s, n);
    case NODE_DICT:
        return eval_dict(s, n);
    case NODE_ATTR:
        of = tpl_eval(s, n->a);
        s->line = n->line;
        return tpl_get_attr(s, of, n->text);
    case NODE_ITEM:
        of = tpl_eval(s, n->a);
        value key = tpl_eval(s, n->b);
        s->line = n->line;
        return tpl_get_item(s, of, key);
    case NODE_SLICE:
        return eval_slice(s, n);
    case NODE_CALL:
        return eval_call(s, n);
    case NODE_FILTER:
    case NODE_TEST:
        of = tpl_eval(s, n->a);
        return tpl_eval_filter(s, n, of);
    case NODE_CONCAT:
        return eval_concat(s, n);
    case NODE_COMPARE:
        return eval_compare(s, n);
    case NODE_IF_ELSE:
        return eval_if_else(s, n);
    default:
        return eval_operator(s, n);
    }
}

value tpl_eval(tpl_state *s, const node *n)
{
    tpl_work(s, 0);
    tpl_enter(s);
    s->line = n->line;
    value v = eval_node(s, n);
    tpl_leave(s);
    return v;
}
