#include "text/template/call.h"
#include "text/template/print.h"

/* The functions that every template finds among its variables. */

enum { RANGE_MAX = 100000 };

static value global_raise(tpl_state *s, value self, const value *p, const args *a)
{
    str *text = tpl_print_str(s, p[0]);
    tpl_fail_text(s, TEMPLATE_RAISE, str_flat(s, text), text->length);
}

static value global_strftime(tpl_state *s, value self, const value *p, const args *a)
{
    return val_str(tpl_format_time(s, tpl_str_arg(s, p[0], "the format"), s->run->now));
}

static value global_range(tpl_state *s, value self, const value *p, const args *a)
{
    wide start = 0, stop, step = 1;
    if (given(p[1])) {
        start = tpl_int_arg(s, p[0], "range's start");
        stop = tpl_int_arg(s, p[1], "range's end");
        step = given(p[2]) ? tpl_int_arg(s, p[2], "range's step") : 1;
    } else {
        stop = tpl_int_arg(s, p[0], "range's end");
    }
    if (step == 0)
        tpl_fail(s, TEMPLATE_VALUE, "range() arg 3 must not be zero");
    wide n = step > 0 ? tpl_floor_div(stop - start + step - 1, step) : tpl_floor_div(start - stop - step - 1, -step);
    n = n < 0 ? 0 : n;
    if (n > RANGE_MAX)
        tpl_fail(s, TEMPLATE_LIMIT, "a range of more than %d items", RANGE_MAX);
    range *r = tpl_alloc(s, 1, sizeof *r);
    *r = (range){(int64_t)start, (int64_t)stop, (int64_t)step, (size_t)n};
    return (value){.kind = VAL_RANGE, .r = r};
}

/* What dict() and namespace() are made of: a mapping or pairs, then keywords. */
static value make_dict(tpl_state *s, const args *a, const char *name)
{
    value out = val_dict(s);
    if (a->n > 1)
        tpl_fail(s, TEMPLATE_TYPE, "%s takes at most one positional argument", name);
    if (a->n && a->at[0].kind == VAL_DICT) {
        const dict *d = a->at[0].d;
        for (size_t i = 0; i < d->n; i++)
            if (!d->at[i].gone)
                dict_set(s, out.d, d->at[i].key, d->at[i].v);
    } else if (a->n) {
        val_use(s, a->at[0]);
        const list *pairs = val_items(s, a->at[0]);
        for (size_t i = 0; i < pairs->n; i++) {
            const list *pair = val_items(s, pairs->at[i]);
            if (pair->n != 2)
                tpl_fail(s, TEMPLATE_VALUE, "%s takes pairs", name);
            dict_set(s, out.d, pair->at[0], pair->at[1]);
        }
    }
    for (size_t i = 0; i < a->n_keywords; i++)
        dict_set(s, out.d, val_str(a->keywords[i].name), a->keywords[i].v);
    return out;
}

static value global_dict(tpl_state *s, value self, const value *p, const args *a)
{
    return make_dict(s, a, "dict()");
}

static value global_namespace(tpl_state *s, value self, const value *p, const args *a)
{
    value out = make_dict(s, a, "namespace()");
    for (size_t i = 0; i < out.d->n; i++) {
        value key = out.d->at[i].key;
        if (key.kind == VAL_STR && key.s->length && *str_flat(s, key.s) == '_')
            tpl_fail(s, TEMPLATE_SECURITY, "access to attribute '%.*s' is unsafe",
                     (int)(key.s->length < 60 ? key.s->length : 60), str_flat(s, key.s));
    }
    out.kind = VAL_NAMESPACE;
    return out;
}

static value global_cycler(tpl_state *s, value self, const value *p, const args *a)
{
    if (!a->n)
        tpl_fail(s, TEMPLATE_RUNTIME, "at least one item has to be provided");
    cycler *c = tpl_alloc(s, 1, sizeof *c);
    *c = (cycler){.at = a->at, .n = a->n};
    return (value){.kind = VAL_CYCLER, .c = c};
}

static value global_joiner(tpl_state *s, value self, const value *p, const args *a)
{
    cycler *c = tpl_alloc(s, 1, sizeof *c);
    c->separator = given(p[0]) ? tpl_str_arg(s, p[0], "the separator") : str_text(s, ", ");
    return (value){.kind = VAL_JOINER, .c = c};
}

static value global_lipsum(tpl_state *s, value self, const value *p, const args *a)
{
    tpl_fail(s, TEMPLATE_RUNTIME, "lipsum() would be random: not here");
}

void tpl_set_globals(tpl_state *s)
{
    static const native table[] = {
        {"raise_exception", global_raise, "message", 1},
        {"strftime_now", global_strftime, "format", 1},
        {"range", global_range, "start,stop,step", 1},
        {"dict", global_dict, "*", 0},
        {"namespace", global_namespace, "*", 0},
        {"cycler", global_cycler, "*", 0},
        {"joiner", global_joiner, "sep", 0},
        {"lipsum", global_lipsum, "*", 0},
    };
    const struct chat_program *t = s->run->t;
    for (size_t k = SYMBOLS_OWN; k < t->n_symbols; k++) {
        const native *f =
            tpl_native_find(table, sizeof table / sizeof *table, t->symbols[k]->flat, t->symbols[k]->length);
        if (f)
            s->run->globals[k] = tpl_bind_method(s, f, (value){0});
        else if (str_is(s, t->symbols[k], "self"))
            s->run->globals[k] = (value){.kind = VAL_NAMESPACE, .d = val_dict(s).d};
    }
}
