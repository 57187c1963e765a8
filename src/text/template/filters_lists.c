#include "text/template/filters.h"
#include "text/template/textops.h"

/* Filters on sequences. */

value tpl_fold_case(tpl_state *s, value v, bool case_sensitive)
{
    return v.kind == VAL_STR && !case_sensitive ? val_str(text_case_of(s, v.s, CASE_LOWER)) : v;
}

static value as_iter(value v)
{
    v.kind = VAL_ITER;
    return v;
}

static value at_path(tpl_state *s, value v, value path)
{
    return given(path) && path.kind != VAL_NONE ? tpl_get_path(s, v, path, (value){0}) : v;
}

/* ---- order ---- */

typedef struct order {
    value *paths; /* attributes, or none: the item itself */
    size_t n;
    bool case_sensitive, reverse;
} order;

static int compare_items(tpl_state *s, value a, value b, void *user)
{
    const order *o = user;
    int c = 0;
    for (size_t i = 0; !c && i < (o->n ? o->n : 1); i++) {
        value x = tpl_fold_case(s, o->n ? at_path(s, a, o->paths[i]) : a, o->case_sensitive);
        value y = tpl_fold_case(s, o->n ? at_path(s, b, o->paths[i]) : b, o->case_sensitive);
        c = o->reverse ? val_compare(s, y, x, "<") : val_compare(s, x, y, "<");
    }
    return c;
}

static value copy_list(tpl_state *s, const list *l)
{
    value out = val_list(s, VAL_LIST, l->n);
    tpl_work(s, l->n * sizeof(value));
    for (size_t i = 0; i < l->n; i++)
        list_push(s, out.l, l->at[i]);
    return out;
}

static value filter_sort(tpl_state *s, value in, const value *p, const args *a)
{
    order o = {.reverse = wants(p[0]), .case_sensitive = wants(p[1])};
    if (given(p[2]) && p[2].kind == VAL_STR) {
        value parts = text_split(s, p[2].s, str_text(s, ","), -1);
        o.paths = parts.l->at;
        o.n = parts.l->n;
    } else if (given(p[2]) && p[2].kind != VAL_NONE) {
        o.paths = (value *)&p[2];
        o.n = 1;
    }
    value out = copy_list(s, val_items(s, in));
    tpl_sort(s, out.l->at, out.l->n, compare_items, &o);
    return out;
}

static int compare_pairs(tpl_state *s, value a, value b, void *user)
{
    const order *o = user;
    size_t by = o->n;
    value x = tpl_fold_case(s, a.l->at[by], o->case_sensitive), y = tpl_fold_case(s, b.l->at[by], o->case_sensitive);
    return o->reverse ? val_compare(s, y, x, "<") : val_compare(s, x, y, "<");
}

static value filter_dictsort(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    if (in.kind != VAL_DICT)
        tpl_fail(s, TEMPLATE_TYPE, "dictsort takes a dict, not %s", val_type_name(in));
    order o = {.case_sensitive = wants(p[0]), .reverse = wants(p[2])};
    if (given(p[1])) {
        const str *by = tpl_str_arg(s, p[1], "by");
        o.n = str_is(s, by, "value");
        if (!o.n && !str_is(s, by, "key"))
            tpl_fail(s, TEMPLATE_VALUE, "You can only sort by either \"key\" or \"value\"");
    }
    value out = copy_list(s, val_items(s, (value){.kind = VAL_VIEW, .sub = VIEW_ITEMS, .d = in.d}));
    tpl_sort(s, out.l->at, out.l->n, compare_pairs, &o);
    return out;
}

static value filter_reverse(tpl_state *s, value in, const value *p, const args *a)
{
    if (in.kind == VAL_STR)
        return val_str(text_reverse(s, in.s));
    const list *l = val_items(s, in);
    value out = val_list(s, VAL_ITER, l->n);
    tpl_work(s, l->n * sizeof(value));
    for (size_t i = l->n; i-- > 0;)
        list_push(s, out.l, l->at[i]);
    return out;
}

static value filter_unique(tpl_state *s, value in, const value *p, const args *a)
{
    const list *l = val_items(s, in);
    value out = val_list(s, VAL_ITER, 0), seen = val_dict(s);
    for (size_t i = 0; i < l->n; i++) {
        value key = tpl_fold_case(s, at_path(s, l->at[i], p[1]), wants(p[0]));
        if (dict_get(s, seen.d, key))
            continue;
        dict_set(s, seen.d, key, val_none());
        list_push(s, out.l, l->at[i]);
    }
    return out;
}

static value extreme(tpl_state *s, value in, const value *p, bool largest)
{
    const list *l = val_items(s, in);
    if (!l->n)
        return val_undefined();
    order o = {.case_sensitive = wants(p[0]), .paths = (value *)&p[1], .n = given(p[1]) && p[1].kind != VAL_NONE};
    value best = l->at[0];
    for (size_t i = 1; i < l->n; i++) {
        int c = compare_items(s, l->at[i], best, &o);
        if (largest ? c > 0 : c < 0)
            best = l->at[i];
    }
    return best;
}
static value filter_min(tpl_state *s, value in, const value *p, const args *a)
{
    return extreme(s, in, p, false);
}
static value filter_max(tpl_state *s, value in, const value *p, const args *a)
{
    return extreme(s, in, p, true);
}

static value filter_groupby(tpl_state *s, value in, const value *p, const args *a)
{
    order o = {.paths = (value *)&p[0], .n = 1, .case_sensitive = wants(p[2])};
    value sorted = copy_list(s, val_items(s, in)), out = val_list(s, VAL_LIST, 0), before = {0};
    tpl_sort(s, sorted.l->at, sorted.l->n, compare_items, &o);
    for (size_t i = 0; i < sorted.l->n; i++) {
        value key = tpl_get_path(s, sorted.l->at[i], p[0], p[1]), folded = tpl_fold_case(s, key, wants(p[2]));
        if (!i || !val_equal(s, folded, before)) {
            value group = val_pair(s, key, val_list(s, VAL_LIST, 0));
            group.sub = 1; /* .grouper and .list */
            list_push(s, out.l, group);
        }
        before = folded;
        list_push(s, out.l->at[out.l->n - 1].l->at[1].l, sorted.l->at[i]);
    }
    return out;
}

/* ---- ends, lengths ---- */

static value filter_first(tpl_state *s, value in, const value *p, const args *a)
{
    if (in.kind == VAL_STR)
        return tpl_get_item(s, in, val_int(0));
    const list *l = val_items(s, in);
    return l->n ? l->at[0] : val_undefined();
}
static value filter_last(tpl_state *s, value in, const value *p, const args *a)
{
    if (in.kind == VAL_STR)
        return tpl_get_item(s, in, val_int(-1));
    const list *l = val_items(s, in);
    return l->n ? l->at[l->n - 1] : val_undefined();
}
static value filter_length(tpl_state *s, value in, const value *p, const args *a)
{
    return val_int((wide)val_length(s, in));
}
static value filter_list(tpl_state *s, value in, const value *p, const args *a)
{
    return copy_list(s, val_items(s, in));
}
static value filter_items(tpl_state *s, value in, const value *p, const args *a)
{
    if (in.kind == VAL_UNDEFINED)
        return val_list(s, VAL_ITER, 0);
    if (in.kind != VAL_DICT)
        tpl_fail(s, TEMPLATE_TYPE, "Can only get item pairs from a mapping.");
    return as_iter(copy_list(s, val_items(s, (value){.kind = VAL_VIEW, .sub = VIEW_ITEMS, .d = in.d})));
}
static value filter_sum(tpl_state *s, value in, const value *p, const args *a)
{
    const list *l = val_items(s, in);
    value sum = given(p[1]) ? p[1] : val_int(0);
    for (size_t i = 0; i < l->n; i++)
        sum = tpl_binary(s, OP_ADD, sum, at_path(s, l->at[i], p[0]));
    return sum;
}

/* ---- map, select ---- */

/* What is false has no items here, whatever it is. */
static const list *items_or_none(tpl_state *s, value in)
{
    static const list nothing;
    return val_true(in) ? val_items(s, in) : &nothing;
}

static args behind(const args *a, size_t n)
{
    return (args){a->at + n, a->n - n, a->keywords, a->n_keywords};
}

static value keyword_of(tpl_state *s, const args *a, const char *name)
{
    for (size_t i = 0; i < a->n_keywords; i++)
        if (str_is(s, a->keywords[i].name, name))
            return a->keywords[i].v;
    return (value){0};
}

static const native *named(tpl_state *s, value name, bool test)
{
    const str *text = tpl_str_arg(s, name, test ? "a test's name" : "a filter's name");
    const native *f = (test ? tpl_test_find : tpl_filter_find)(str_flat(s, text), text->length);
    if (!f)
        tpl_fail(s, TEMPLATE_RUNTIME, "no %s named '%.*s'", test ? "test" : "filter", (int)text->length,
                 str_flat(s, text));
    return f;
}

static value filter_map(tpl_state *s, value in, const value *p, const args *a)
{
    value path = keyword_of(s, a, "attribute"), fallback = keyword_of(s, a, "default");
    if (!given(path) && !a->n)
        tpl_fail(s, TEMPLATE_TYPE, "map requires a filter argument");
    const list *l = items_or_none(s, in);
    const native *f = given(path) ? NULL : named(s, a->at[0], false);
    args rest = given(path) ? *a : behind(a, 1);
    value out = val_list(s, VAL_ITER, l->n);
    for (size_t i = 0; i < l->n; i++)
        list_push(s, out.l, f ? tpl_call_native(s, f, l->at[i], &rest) : tpl_get_path(s, l->at[i], path, fallback));
    return out;
}

/* select, reject, selectattr and rejectattr. */
static value choose(tpl_state *s, value in, const args *a, bool by_attribute, bool keep)
{
    size_t skip = by_attribute;
    if (a->n < skip)
        tpl_fail(s, TEMPLATE_TYPE, "Missing parameter for attribute name");
    const list *l = items_or_none(s, in);
    const native *f = a->n > skip ? named(s, a->at[skip], true) : NULL;
    args rest = a->n > skip ? behind(a, skip + 1) : (args){0};
    value out = val_list(s, VAL_ITER, 0);
    for (size_t i = 0; i < l->n; i++) {
        value v = by_attribute ? tpl_get_path(s, l->at[i], a->at[0], (value){0}) : l->at[i];
        tpl_work(s, 0);
        if (val_true(f ? tpl_call_native(s, f, v, &rest) : v) == keep)
            list_push(s, out.l, l->at[i]);
    }
    return out;
}
static value filter_select(tpl_state *s, value in, const value *p, const args *a)
{
    return choose(s, in, a, false, true);
}
static value filter_reject(tpl_state *s, value in, const value *p, const args *a)
{
    return choose(s, in, a, false, false);
}
static value filter_selectattr(tpl_state *s, value in, const value *p, const args *a)
{
    return choose(s, in, a, true, true);
}
static value filter_rejectattr(tpl_state *s, value in, const value *p, const args *a)
{
    return choose(s, in, a, true, false);
}

/* ---- pieces ---- */

static value filter_batch(tpl_state *s, value in, const value *p, const args *a)
{
    const list *l = val_items(s, in);
    int64_t size = tpl_int_arg(s, p[0], "the size");
    value out = val_list(s, VAL_ITER, 0);
    if (size < 1 || size > 100000)
        tpl_fail(s, TEMPLATE_VALUE, "batch takes a size from 1 to 100000");
    for (size_t i = 0; i < l->n; i++) {
        if (i % (size_t)size == 0)
            list_push(s, out.l, val_list(s, VAL_LIST, 0));
        list_push(s, out.l->at[out.l->n - 1].l, l->at[i]);
    }
    list *last = out.l->n ? out.l->at[out.l->n - 1].l : NULL;
    while (last && given(p[1]) && p[1].kind != VAL_NONE && last->n < (size_t)size)
        list_push(s, last, p[1]);
    return out;
}

static value filter_slice(tpl_state *s, value in, const value *p, const args *a)
{
    const list *l = val_items(s, in);
    int64_t slices = tpl_int_arg(s, p[0], "the number of slices");
    if (slices < 1 || slices > 100000)
        tpl_fail(s, TEMPLATE_VALUE, "slice takes a number from 1 to 100000");
    size_t n = (size_t)slices, each = l->n / n, longer = l->n % n, at = 0;
    value out = val_list(s, VAL_ITER, n);
    for (size_t i = 0; i < n; i++) {
        value part = val_list(s, VAL_LIST, 0);
        for (size_t k = each + (i < longer); k > 0; k--)
            list_push(s, part.l, l->at[at++]);
        if (given(p[1]) && p[1].kind != VAL_NONE && i >= longer)
            list_push(s, part.l, p[1]);
        list_push(s, out.l, part);
    }
    return out;
}

const native *tpl_filter_of_lists(const char *name, size_t length)
{
    static const native table[] = {
        {"sort", filter_sort, "reverse,case_sensitive,attribute", 0},
        {"dictsort", filter_dictsort, "case_sensitive,by,reverse", 0},
        {"reverse", filter_reverse, "", 0},
        {"unique", filter_unique, "case_sensitive,attribute", 0},
        {"min", filter_min, "case_sensitive,attribute", 0},
        {"max", filter_max, "case_sensitive,attribute", 0},
        {"groupby", filter_groupby, "attribute,default,case_sensitive", 1},
        {"first", filter_first, "", 0},
        {"last", filter_last, "", 0},
        {"length", filter_length, "", 0},
        {"count", filter_length, "", 0},
        {"list", filter_list, "", 0},
        {"items", filter_items, "", 0},
        {"sum", filter_sum, "attribute,start", 0},
        {"map", filter_map, "*", 0},
        {"select", filter_select, "*", 0},
        {"reject", filter_reject, "*", 0},
        {"selectattr", filter_selectattr, "*", 0},
        {"rejectattr", filter_rejectattr, "*", 0},
        {"batch", filter_batch, "linecount,fill_with", 1},
        {"slice", filter_slice, "slices,fill_with", 1},
    };
    return tpl_native_find(table, sizeof table / sizeof *table, name, length);
}
