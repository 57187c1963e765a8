#include "text/template/call.h"

const native *tpl_native_find(const native *table, size_t n, const char *name, size_t length)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(table[i].name) == length && !memcmp(table[i].name, name, length))
            return &table[i];
    return NULL;
}

/* ---- functions of the interpreter ---- */

/* The number of parameters; params[i] gets their names, which end at a comma. */
static int param_names(const char *names, const char *params[PARAMS_MAX])
{
    int n = 0;
    for (const char *at = names; *at && n < PARAMS_MAX; n++) {
        params[n] = at;
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return n;
}

static int param_index(tpl_state *s, const char *const *params, int n, const str *name)
{
    for (int i = 0; i < n; i++)
        if (strcspn(params[i], ",") == name->length && !memcmp(params[i], str_flat(s, name), name->length))
            return i;
    return -1;
}

value tpl_call_native(tpl_state *s, const native *f, value self, const args *a)
{
    const char *params[PARAMS_MAX];
    value p[PARAMS_MAX] = {{0}};
    if (!strcmp(f->params, "*"))
        return f->call(s, self, NULL, a);
    int n = param_names(f->params, params);
    if (a->n > (size_t)n)
        tpl_fail(s, TEMPLATE_TYPE, "%s takes at most %d arguments, not %zu", f->name, n, a->n);
    for (size_t i = 0; i < a->n; i++)
        p[i] = a->at[i];
    for (size_t i = 0; i < a->n_keywords; i++) {
        const str *name = a->keywords[i].name;
        int k = param_index(s, params, n, name);
        if (k < 0 || given(p[k]))
            tpl_fail(s, TEMPLATE_TYPE, k < 0 ? "%s takes no argument '%.*s'" : "%s got two values for '%.*s'", f->name,
                     (int)name->length, str_flat(s, name));
        p[k] = a->keywords[i].v;
    }
    for (int i = 0; i < f->required; i++)
        if (!given(p[i]))
            tpl_fail(s, TEMPLATE_TYPE, "%s misses the argument '%.*s'", f->name, (int)strcspn(params[i], ","),
                     params[i]);
    return f->call(s, self, p, a);
}

/* ---- macros ---- */

str *tpl_macro_name(value v)
{
    return v.m->def->name;
}

value tpl_macro_attr(tpl_state *s, value v, const str *name)
{
    const node_macro *def = v.m->def;
    if (str_is(s, name, "name"))
        return val_str(def->name);
    if (!str_is(s, name, "arguments"))
        return (value){0};
    value out = val_list(s, VAL_TUPLE, def->n);
    for (size_t i = 0; i < def->n; i++)
        list_push(s, out.l, val_str(s->run->t->symbols[def->params[i]]));
    return out;
}

static bool is_param(const node_macro *def, int symbol)
{
    bool is = false;
    for (size_t i = 0; i < def->n; i++)
        is |= def->params[i] == symbol;
    return is;
}

/* Keyword arguments: into the parameters' values, the caller, or kwargs. */
static void bind_keywords(tpl_state *s, const node_macro *def, scope *in, const args *a, value *values, dict *rest)
{
    str *const *symbols = s->run->t->symbols;
    for (size_t i = 0; i < a->n_keywords; i++) {
        const keyword *k = &a->keywords[i];
        size_t at = 0;
        while (at < def->n && !str_equal(s, symbols[def->params[at]], k->name))
            at++;
        if (at < def->n && !given(values[at]))
            values[at] = k->v;
        else if (at == def->n && def->takes_caller && str_equal(s, k->name, symbols[SYMBOL_CALLER]))
            tpl_scope_bind(s, in, SYMBOL_CALLER, k->v);
        else if (at == def->n && def->takes_kwargs)
            dict_set(s, rest, val_str(k->name), k->v);
        else
            tpl_fail(s, TEMPLATE_TYPE, "macro '%.*s' takes no keyword argument '%.*s'", (int)def->name->length,
                     def->name->flat, (int)k->name->length, str_flat(s, k->name));
    }
}

/* The scope of a call: parameters, and what the body finds as caller, varargs and kwargs. */
static void bind_macro(tpl_state *s, const macro *m, const args *a)
{
    const node_macro *def = m->def;
    scope *in = tpl_scope_new(s, m->scope);
    value *values = tpl_alloc(s, def->n, sizeof *values), kwargs = val_dict(s), varargs = val_list(s, VAL_TUPLE, 0);
    if (!is_param(def, SYMBOL_CALLER))
        tpl_scope_bind(s, in, SYMBOL_CALLER, val_undefined_name(s, "caller"));
    for (size_t i = 0; i < a->n; i++) {
        if (i < def->n)
            values[i] = a->at[i];
        else if (def->takes_varargs)
            list_push(s, varargs.l, a->at[i]);
        else
            tpl_fail(s, TEMPLATE_TYPE, "macro '%.*s' takes not more than %zu arguments", (int)def->name->length,
                     def->name->flat, def->n);
    }
    bind_keywords(s, def, in, a, values, kwargs.d);
    if (def->takes_varargs)
        tpl_scope_bind(s, in, SYMBOL_VARARGS, varargs);
    if (def->takes_kwargs)
        tpl_scope_bind(s, in, SYMBOL_KWARGS, kwargs);
    s->run->scope = in; /* a default may use the parameters before it */
    for (size_t i = 0; i < def->n; i++) {
        value v = values[i];
        if (!given(v))
            v = def->defaults[i]
                    ? tpl_eval(s, def->defaults[i])
                    : (value){.kind = VAL_UNDEFINED, .sub = UNDEFINED_NAME, .s = s->run->t->symbols[def->params[i]]};
        tpl_scope_bind(s, in, def->params[i], v);
    }
}

static value call_macro(tpl_state *s, const macro *m, const args *a)
{
    scope *outer = s->run->scope;
    flow how;
    bind_macro(s, m, a);
    str *out = tpl_exec_captured(s, m->def->body, m->def->n_body, &how);
    s->run->scope = outer;
    if (s->run->autoescape)
        out->safe = true;
    return val_str(out);
}

value tpl_call(tpl_state *s, value callee, const args *a)
{
    val_use(s, callee);
    tpl_work(s, 0);
    tpl_enter(s);
    value out;
    if (callee.kind == VAL_NATIVE)
        out = tpl_call_native(s, callee.n->f, callee.n->self, a);
    else if (callee.kind == VAL_MACRO)
        out = call_macro(s, callee.m, a);
    else if (callee.kind == VAL_LOOP)
        out = tpl_loop_call(s, callee, a);
    else if (callee.kind == VAL_JOINER) {
        out = callee.c->used ? val_str(callee.c->separator) : val_text(s, "");
        callee.c->used = true;
        s->escapes++;
    } else
        tpl_fail(s, TEMPLATE_TYPE, "'%s' object is not callable", val_type_name(callee));
    tpl_leave(s);
    return out;
}
