#include "text/template/value.h"

#include <math.h>

/* ---- making ---- */

double float_of(value v)
{
    return v.kind == VAL_FLOAT ? v.f : (double)int_of(v);
}

value val_undefined_name(tpl_state *s, const char *name)
{
    return (value){.kind = VAL_UNDEFINED, .sub = UNDEFINED_NAME, .s = str_text(s, name)};
}

value val_text(tpl_state *s, const char *text)
{
    return val_str(str_text(s, text));
}

value val_list(tpl_state *s, value_kind kind, size_t capacity)
{
    list *l = tpl_alloc(s, 1, sizeof *l);
    if (capacity) {
        l->at = tpl_alloc(s, capacity, sizeof *l->at);
        l->capacity = capacity;
    }
    return (value){.kind = kind, .l = l};
}

void list_push(tpl_state *s, list *l, value v)
{
    tpl_grow(s, (void **)&l->at, &l->capacity, l->n, l->n + 1, sizeof *l->at);
    l->at[l->n++] = v;
}

value val_pair(tpl_state *s, value a, value b)
{
    value t = val_list(s, VAL_TUPLE, 2);
    t.l->at[0] = a;
    t.l->at[1] = b;
    t.l->n = 2;
    return t;
}

value val_dict(tpl_state *s)
{
    return (value){.kind = VAL_DICT, .d = tpl_alloc(s, 1, sizeof(dict))};
}

/* ---- dictionaries ---- */

static uint64_t hash(tpl_state *s, value key)
{
    switch (key.kind) {
    case VAL_STR:
        return str_hash(s, key.s);
    case VAL_NONE:
        return 7;
    case VAL_BOOL:
    case VAL_INT:
    case VAL_FLOAT: { /* equal numbers are one key */
        double f = float_of(key);
        uint64_t h = 0;
        memcpy(&h, &f, sizeof h);
        return f == 0 ? 11 : (h ^ h >> 31) * 0x9E3779B97F4A7C15u;
    }
    case VAL_TUPLE: {
        uint64_t h = 13;
        tpl_enter(s);
        for (size_t i = 0; i < key.l->n; i++)
            h = h * 31 + hash(s, key.l->at[i]);
        tpl_leave(s);
        return h;
    }
    case VAL_UNDEFINED:
        return 17;
    case VAL_LIST:
    case VAL_DICT:
        tpl_fail(s, TEMPLATE_TYPE, "a %s can't be a key of a dict", val_type_name(key));
    default:
        return (uint64_t)(uintptr_t)key.n >> 4;
    }
}

enum { FEW = 8 };

static dict_entry *find(tpl_state *s, dict *d, value key, uint64_t h)
{
    tpl_work(s, 0);
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (!d->at[i].gone && d->at[i].hash == h && val_equal(s, d->at[i].key, key))
                return &d->at[i];
        return NULL;
    }
    for (size_t i = h & (d->slots - 1); d->index[i]; i = (i + 1) & (d->slots - 1)) {
        dict_entry *e = &d->at[d->index[i] - 1];
        if (!e->gone && e->hash == h && val_equal(s, e->key, key))
            return e;
    }
    return NULL;
}

static void index_add(dict *d, size_t entry)
{
    size_t i = d->at[entry].hash & (d->slots - 1);
    while (d->index[i])
        i = (i + 1) & (d->slots - 1);
    d->index[i] = (uint32_t)entry + 1;
}

value *dict_get(tpl_state *s, dict *d, value key)
{
    dict_entry *e = find(s, d, key, hash(s, key));
    return e ? &e->v : NULL;
}

value *dict_get_text(tpl_state *s, dict *d, const char *key)
{
    str k = {.length = strlen(key), .flat = key, .n = 1, .one = {key, strlen(key), false}};
    k.runs = &k.one;
    return dict_get(s, d, val_str(&k));
}

void dict_set(tpl_state *s, dict *d, value key, value v)
{
    uint64_t h = hash(s, key);
    dict_entry *e = find(s, d, key, h);
    if (e) {
        e->v = v;
        return;
    }
    if (d->n >= UINT32_MAX / 4)
        tpl_fail(s, TEMPLATE_LIMIT, "a dict with too many keys");
    tpl_grow(s, (void **)&d->at, &d->capacity, d->n, d->n + 1, sizeof *d->at);
    d->at[d->n++] = (dict_entry){key, v, h, false};
    d->live++;
    if (d->n > FEW && d->n * 2 > d->slots) {
        d->slots = d->slots ? d->slots * 2 : 4 * FEW;
        d->index = tpl_alloc(s, d->slots, sizeof *d->index);
        for (size_t i = 0; i < d->n; i++)
            index_add(d, i);
    } else if (d->index) {
        index_add(d, d->n - 1);
    }
}

bool dict_remove(tpl_state *s, dict *d, value key)
{
    dict_entry *e = find(s, d, key, hash(s, key));
    if (!e)
        return false;
    e->gone = true; /* its place in the index stays */
    d->live--;
    return true;
}

/* ---- what Python says ---- */

const char *val_type_name(value v)
{
    static const char *const names[] = {"nothing", "Undefined", "NoneType",  "bool",      "int",
                                        "float",   "str",       "bytes",     "list",      "tuple",
                                        "dict",    "range",     "dict view", "generator", "function",
                                        "macro",   "namespace", "loop",      "cycler",    "joiner"};
    return names[v.kind];
}

bool val_true(value v)
{
    switch (v.kind) {
    case VAL_ABSENT:
    case VAL_UNDEFINED:
    case VAL_NONE:
        return false;
    case VAL_BOOL:
        return v.b;
    case VAL_INT:
        return int_of(v) != 0;
    case VAL_FLOAT:
        return v.f != 0;
    case VAL_STR:
    case VAL_BYTES:
        return v.s->length != 0;
    case VAL_LIST:
    case VAL_TUPLE:
        return v.l->n != 0;
    case VAL_DICT:
    case VAL_VIEW:
        return v.d->live != 0;
    case VAL_RANGE:
        return v.r->n != 0;
    default:
        return true;
    }
}

static bool lists_equal(tpl_state *s, const list *a, const list *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n && i < b->n; i++)
        same = val_equal(s, a->at[i], b->at[i]);
    return same;
}

static bool dicts_equal(tpl_state *s, dict *a, dict *b)
{
    bool same = a->live == b->live;
    for (size_t i = 0; same && i < a->n; i++) {
        value *other = a->at[i].gone ? &a->at[i].v : dict_get(s, b, a->at[i].key);
        same = other && (a->at[i].gone || val_equal(s, a->at[i].v, *other));
    }
    return same;
}

bool val_same(value a, value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case VAL_ABSENT:
    case VAL_NONE:
        return true;
    case VAL_UNDEFINED:
        return a.s == b.s;
    case VAL_BOOL:
        return a.b == b.b;
    case VAL_INT:
        return int_of(a) == int_of(b);
    case VAL_FLOAT:
        return a.f == b.f;
    case VAL_NATIVE:
        return a.n == b.n || (a.n->f == b.n->f && a.n->self.kind == VAL_ABSENT && b.n->self.kind == VAL_ABSENT);
    default:
        return a.l == b.l;
    }
}

bool val_equal(tpl_state *s, value a, value b)
{
    if (is_number(a) && is_number(b))
        return is_int(a) && is_int(b) ? int_of(a) == int_of(b) : float_of(a) == float_of(b);
    if (a.kind != b.kind)
        return false;
    bool same;
    tpl_work(s, 0);
    switch (a.kind) {
    case VAL_UNDEFINED:
        return true;
    case VAL_STR:
    case VAL_BYTES:
        return str_equal(s, a.s, b.s);
    case VAL_LIST:
    case VAL_TUPLE:
        tpl_enter(s);
        same = a.l == b.l || lists_equal(s, a.l, b.l);
        tpl_leave(s);
        return same;
    case VAL_DICT:
        tpl_enter(s);
        same = a.d == b.d || dicts_equal(s, a.d, b.d);
        tpl_leave(s);
        return same;
    case VAL_RANGE:
        return a.r->n == b.r->n && (!a.r->n || (a.r->start == b.r->start && (a.r->n == 1 || a.r->step == b.r->step)));
    default:
        return val_same(a, b);
    }
}

int val_compare(tpl_state *s, value a, value b, const char *op)
{
    val_use(s, a);
    val_use(s, b);
    if (is_int(a) && is_int(b))
        return (int_of(a) > int_of(b)) - (int_of(a) < int_of(b));
    if (is_number(a) && is_number(b))
        return (float_of(a) > float_of(b)) - (float_of(a) < float_of(b));
    if (a.kind == VAL_STR && b.kind == VAL_STR)
        return str_compare(s, a.s, b.s);
    if (a.kind == b.kind && (a.kind == VAL_LIST || a.kind == VAL_TUPLE)) {
        tpl_enter(s);
        int c = 0;
        for (size_t i = 0; !c && i < a.l->n && i < b.l->n; i++)
            if (!val_equal(s, a.l->at[i], b.l->at[i]))
                c = val_compare(s, a.l->at[i], b.l->at[i], op);
        tpl_leave(s);
        return c ? c : (a.l->n > b.l->n) - (a.l->n < b.l->n);
    }
    tpl_fail(s, TEMPLATE_TYPE, "'%s' not supported between '%s' and '%s'", op, val_type_name(a), val_type_name(b));
}

bool val_contains(tpl_state *s, value container, value item)
{
    if (container.kind == VAL_STR) {
        if (item.kind != VAL_STR)
            tpl_fail(s, TEMPLATE_TYPE, "'in <string>' requires a string, not %s", val_type_name(item));
        return str_find(s, container.s, item.s, 0, container.s->length) != SIZE_MAX;
    }
    if (container.kind == VAL_DICT || (container.kind == VAL_VIEW && container.sub == VIEW_KEYS))
        return dict_get(s, container.d, item) != NULL;
    if (container.kind == VAL_RANGE) {
        if (!is_number(item))
            return false;
        double f = float_of(item), steps = (f - (double)container.r->start) / (double)container.r->step;
        return steps >= 0 && steps < (double)container.r->n && steps == floor(steps);
    }
    if (!val_iterable(container))
        tpl_fail(s, TEMPLATE_TYPE, "argument of type '%s' is not iterable", val_type_name(container));
    const list *l = val_items(s, container);
    for (size_t i = 0; i < l->n; i++)
        if (val_same(l->at[i], item) || val_equal(s, l->at[i], item))
            return true;
    return false;
}

bool val_iterable(value v)
{
    return v.kind == VAL_UNDEFINED || v.kind == VAL_STR || v.kind == VAL_LIST || v.kind == VAL_TUPLE ||
           v.kind == VAL_DICT || v.kind == VAL_RANGE || v.kind == VAL_VIEW || v.kind == VAL_ITER;
}

static const list *view_items(tpl_state *s, dict *d, int which)
{
    value out = val_list(s, VAL_LIST, d->live);
    for (size_t i = 0; i < d->n; i++) {
        const dict_entry *e = &d->at[i];
        if (!e->gone)
            list_push(s, out.l, which == VIEW_KEYS ? e->key : which == VIEW_VALUES ? e->v : val_pair(s, e->key, e->v));
    }
    tpl_work(s, d->n * 64);
    return out.l;
}

static const list *chars_of(tpl_state *s, const str *a)
{
    value out = val_list(s, VAL_LIST, str_chars(s, a));
    for (str_walk w = str_walk_of(a); str_walk_next(&w);) {
        list_push(s, out.l, val_str(str_new(s, w.bytes, w.length, w.foreign)));
    }
    return out.l;
}

const list *val_items(tpl_state *s, value v)
{
    static const list nothing;
    value out;
    switch (v.kind) {
    case VAL_UNDEFINED:
        if (v.sub == UNDEFINED_UNSAFE)
            tpl_undefined_error(s, v);
        return &nothing;
    case VAL_STR:
        return chars_of(s, v.s);
    case VAL_LIST:
    case VAL_TUPLE:
        return v.l;
    case VAL_ITER:
        s->escapes++;
        if (v.l->spent)
            return &nothing;
        v.l->spent = true;
        return v.l;
    case VAL_DICT:
        return view_items(s, v.d, VIEW_KEYS);
    case VAL_VIEW:
        return view_items(s, v.d, v.sub);
    case VAL_RANGE:
        out = val_list(s, VAL_LIST, v.r->n);
        for (size_t i = 0; i < v.r->n; i++)
            list_push(s, out.l, val_int(v.r->start + (wide)v.r->step * (wide)i));
        tpl_work(s, v.r->n * 16);
        return out.l;
    default:
        tpl_fail(s, TEMPLATE_TYPE, "'%s' object is not iterable", val_type_name(v));
    }
}

size_t val_length(tpl_state *s, value v)
{
    switch (v.kind) {
    case VAL_UNDEFINED:
        return 0;
    case VAL_STR:
        return str_chars(s, v.s);
    case VAL_LIST:
    case VAL_TUPLE:
    case VAL_ITER:
        return v.l->n;
    case VAL_DICT:
    case VAL_VIEW:
        return v.d->live;
    case VAL_RANGE:
        return v.r->n;
    default:
        tpl_fail(s, TEMPLATE_TYPE, "object of type '%s' has no len()", val_type_name(v));
    }
}

noreturn void tpl_undefined_error(tpl_state *s, value v)
{
    int n = v.s ? (int)(v.s->length < 100 ? v.s->length : 100) : 0;
    const char *name = v.s ? str_flat(s, v.s) : "";
    if (v.sub == UNDEFINED_UNSAFE)
        tpl_fail(s, TEMPLATE_SECURITY, "access to attribute '%.*s' is unsafe", n, name);
    if (v.sub == UNDEFINED_NAME)
        tpl_fail(s, TEMPLATE_UNDEFINED, "'%.*s' is undefined", n, name);
    if (v.sub == UNDEFINED_ATTRIBUTE)
        tpl_fail(s, TEMPLATE_UNDEFINED, "'%s' object has no attribute '%.*s'", val_type_name((value){.kind = v.of}), n,
                 name);
    tpl_fail(s, TEMPLATE_UNDEFINED, "a value is undefined");
}

/* ---- sorting ---- */

static void merge(tpl_state *s, value *at, value *room, size_t n, value_order order, void *user)
{
    if (n < 2)
        return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    merge(s, at, room, half, order, user);
    merge(s, at + half, room, n - half, order, user);
    memcpy(room, at, n * sizeof *at);
    while (i < half && j < n)
        at[k++] = order(s, room[j], room[i], user) < 0 ? room[j++] : room[i++];
    while (i < half)
        at[k++] = room[i++];
    while (j < n)
        at[k++] = room[j++];
}

void tpl_sort(tpl_state *s, value *at, size_t n, value_order order, void *user)
{
    tpl_work(s, n * 64);
    merge(s, at, tpl_alloc(s, n, sizeof *at), n, order, user);
}

/* ---- arguments ---- */

int64_t tpl_int_arg(tpl_state *s, value v, const char *what)
{
    val_use(s, v);
    if (!is_int(v))
        tpl_fail(s, TEMPLATE_TYPE, "%s must be an integer, not %s", what, val_type_name(v));
    wide i = int_of(v);
    return i > INT64_MAX ? INT64_MAX : i < INT64_MIN ? INT64_MIN : (int64_t)i;
}

str *tpl_str_arg(tpl_state *s, value v, const char *what)
{
    val_use(s, v);
    if (v.kind != VAL_STR)
        tpl_fail(s, TEMPLATE_TYPE, "%s must be a string, not %s", what, val_type_name(v));
    return v.s;
}
