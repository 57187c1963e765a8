#include "text/template/call.h"

/* The methods of list, tuple, dict, int, float, range and cycler. Those that change a list or dict exist, as in the
 * programs that most templates are written for; transformers refuses them. */

static value view(value self, view_kind which)
{
    return (value){.kind = VAL_VIEW, .sub = (uint8_t)which, .d = self.d};
}
static value dict_keys(tpl_state *s, value self, const value *p, const args *a)
{
    return view(self, VIEW_KEYS);
}
static value dict_values(tpl_state *s, value self, const value *p, const args *a)
{
    return view(self, VIEW_VALUES);
}
static value dict_items(tpl_state *s, value self, const value *p, const args *a)
{
    return view(self, VIEW_ITEMS);
}
static value dict_get_method(tpl_state *s, value self, const value *p, const args *a)
{
    value *v = dict_get(s, self.d, p[0]);
    return v ? *v : given(p[1]) ? p[1] : val_none();
}
static value dict_copy(tpl_state *s, value self, const value *p, const args *a)
{
    value out = val_dict(s);
    for (size_t i = 0; i < self.d->n; i++)
        if (!self.d->at[i].gone)
            dict_set(s, out.d, self.d->at[i].key, self.d->at[i].v);
    return out;
}
static value dict_pop(tpl_state *s, value self, const value *p, const args *a)
{
    value *v = dict_get(s, self.d, p[0]);
    if (!v && !given(p[1]))
        tpl_fail(s, TEMPLATE_VALUE, "pop(): no such key");
    value out = v ? *v : p[1];
    dict_remove(s, self.d, p[0]);
    s->escapes++;
    return out;
}
static value dict_setdefault(tpl_state *s, value self, const value *p, const args *a)
{
    value *v = dict_get(s, self.d, p[0]);
    if (v)
        return *v;
    s->escapes++;
    dict_set(s, self.d, p[0], given(p[1]) ? p[1] : val_none());
    return given(p[1]) ? p[1] : val_none();
}
static value dict_update(tpl_state *s, value self, const value *p, const args *a)
{
    s->escapes++;
    for (size_t k = 0; k < a->n; k++) {
        val_use(s, a->at[k]);
        if (a->at[k].kind != VAL_DICT)
            tpl_fail(s, TEMPLATE_TYPE, "update() takes a dict");
        const dict *d = a->at[k].d;
        for (size_t i = 0, n = d->n; i < n; i++)
            if (!d->at[i].gone)
                dict_set(s, self.d, d->at[i].key, d->at[i].v);
    }
    for (size_t i = 0; i < a->n_keywords; i++)
        dict_set(s, self.d, val_str(a->keywords[i].name), a->keywords[i].v);
    return val_none();
}
static value dict_clear(tpl_state *s, value self, const value *p, const args *a)
{
    *self.d = (dict){0};
    s->escapes++;
    return val_none();
}

/* ---- lists ---- */

static value list_index(tpl_state *s, value self, const value *p, const args *a)
{
    for (size_t i = 0; i < self.l->n; i++)
        if (val_equal(s, self.l->at[i], p[0]))
            return val_int((wide)i);
    tpl_fail(s, TEMPLATE_VALUE, "the value is not in the list");
}
static value list_count(tpl_state *s, value self, const value *p, const args *a)
{
    wide n = 0;
    for (size_t i = 0; i < self.l->n; i++)
        n += val_equal(s, self.l->at[i], p[0]);
    return val_int(n);
}
static value list_copy(tpl_state *s, value self, const value *p, const args *a)
{
    return tpl_get_slice(s, self, (value){0}, (value){0}, (value){0});
}
static value list_append(tpl_state *s, value self, const value *p, const args *a)
{
    s->escapes++;
    list_push(s, self.l, p[0]);
    return val_none();
}
static value list_extend(tpl_state *s, value self, const value *p, const args *a)
{
    s->escapes++;
    val_use(s, p[0]);
    const list *more = val_items(s, p[0]);
    for (size_t i = 0, n = more->n; i < n; i++)
        list_push(s, self.l, more->at[i]);
    return val_none();
}

/* An index for a list of n things; SIZE_MAX when there is none. */
static size_t index_in(tpl_state *s, value v, size_t n)
{
    int64_t i = tpl_int_arg(s, v, "an index");
    i += i < 0 ? (int64_t)n : 0;
    return i < 0 || i >= (int64_t)n ? SIZE_MAX : (size_t)i;
}
static value list_pop(tpl_state *s, value self, const value *p, const args *a)
{
    size_t n = self.l->n, i = given(p[0]) ? index_in(s, p[0], n) : n - 1;
    if (!n || i == SIZE_MAX)
        tpl_fail(s, TEMPLATE_VALUE, n ? "pop index out of range" : "pop from empty list");
    value out = self.l->at[i];
    memmove(self.l->at + i, self.l->at + i + 1, (n - i - 1) * sizeof(value));
    self.l->n--;
    s->escapes++;
    tpl_work(s, n * sizeof(value));
    return out;
}
static value list_insert(tpl_state *s, value self, const value *p, const args *a)
{
    size_t n = self.l->n;
    int64_t i = tpl_int_arg(s, p[0], "an index");
    i += i < 0 ? (int64_t)n : 0;
    i = i < 0 ? 0 : i > (int64_t)n ? (int64_t)n : i;
    s->escapes++;
    list_push(s, self.l, val_none());
    memmove(self.l->at + i + 1, self.l->at + i, (n - (size_t)i) * sizeof(value));
    self.l->at[i] = p[1];
    tpl_work(s, n * sizeof(value));
    return val_none();
}
static value list_remove(tpl_state *s, value self, const value *p, const args *a)
{
    value at = list_index(s, self, p, a);
    return list_pop(s, self, &at, a), val_none();
}
static value list_clear(tpl_state *s, value self, const value *p, const args *a)
{
    self.l->n = 0;
    s->escapes++;
    return val_none();
}
static value list_reverse(tpl_state *s, value self, const value *p, const args *a)
{
    for (size_t i = 0, n = self.l->n; i < n / 2; i++) {
        value v = self.l->at[i];
        self.l->at[i] = self.l->at[n - 1 - i];
        self.l->at[n - 1 - i] = v;
    }
    s->escapes++;
    tpl_work(s, self.l->n * sizeof(value));
    return val_none();
}
static int ascending(tpl_state *s, value a, value b, void *user)
{
    return val_compare(s, a, b, "<");
}
static value list_sort(tpl_state *s, value self, const value *p, const args *a)
{
    tpl_sort(s, self.l->at, self.l->n, ascending, NULL);
    s->escapes++;
    return given(p[0]) && val_true(p[0]) ? list_reverse(s, self, p, a) : val_none();
}

/* ---- numbers, cycler ---- */

static value int_bit_length(tpl_state *s, value self, const value *p, const args *a)
{
    wide i = int_of(self);
    int n = 0;
    for (unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i; u; u >>= 1)
        n++;
    return val_int(n);
}
static value float_is_integer(tpl_state *s, value self, const value *p, const args *a)
{
    return val_bool(self.f - self.f == 0 && (self.f > 1e18 || self.f < -1e18 || self.f == (double)(int64_t)self.f));
}
static value cycler_next(tpl_state *s, value self, const value *p, const args *a)
{
    value v = self.c->at[self.c->next];
    self.c->next = (self.c->next + 1) % self.c->n;
    s->escapes++;
    return v;
}
static value cycler_reset(tpl_state *s, value self, const value *p, const args *a)
{
    self.c->next = 0;
    return val_none();
}

const native *tpl_data_method(value of, const char *name, size_t length)
{
    static const native dicts[] = {{"keys", dict_keys, "", 0},
                                   {"values", dict_values, "", 0},
                                   {"items", dict_items, "", 0},
                                   {"get", dict_get_method, "key,default", 1},
                                   {"copy", dict_copy, "", 0},
                                   {"pop", dict_pop, "key,default", 1, true},
                                   {"setdefault", dict_setdefault, "key,default", 1, true},
                                   {"update", dict_update, "*", 0, true},
                                   {"clear", dict_clear, "", 0, true}};
    static const native lists[] = {/* a tuple has the first two */
                                   {"index", list_index, "value", 1},
                                   {"count", list_count, "value", 1},
                                   {"copy", list_copy, "", 0},
                                   {"append", list_append, "object", 1, true},
                                   {"extend", list_extend, "iterable", 1, true},
                                   {"pop", list_pop, "index", 0, true},
                                   {"insert", list_insert, "index,object", 2, true},
                                   {"remove", list_remove, "value", 1, true},
                                   {"clear", list_clear, "", 0, true},
                                   {"reverse", list_reverse, "", 0, true},
                                   {"sort", list_sort, "reverse", 0, true}};
    static const native ints[] = {{"bit_length", int_bit_length, "", 0}};
    static const native floats[] = {{"is_integer", float_is_integer, "", 0}};
    static const native cyclers[] = {{"next", cycler_next, "", 0}, {"reset", cycler_reset, "", 0}};
    switch (of.kind) {
    case VAL_DICT:
        return tpl_native_find(dicts, sizeof dicts / sizeof *dicts, name, length);
    case VAL_LIST:
        return tpl_native_find(lists, sizeof lists / sizeof *lists, name, length);
    case VAL_TUPLE:
        return tpl_native_find(lists, 2, name, length);
    case VAL_BOOL:
    case VAL_INT:
        return tpl_native_find(ints, 1, name, length);
    case VAL_FLOAT:
        return tpl_native_find(floats, 1, name, length);
    case VAL_CYCLER:
        return tpl_native_find(cyclers, 2, name, length);
    default:
        return NULL;
    }
}
