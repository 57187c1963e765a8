#include "text/template/call.h"

/* The items that pass the loop's condition. */
static const list *chosen(tpl_state *s, const node *n, const list *items, scope *around)
{
    if (!n->c)
        return items;
    value out = val_list(s, VAL_LIST, 0);
    for (size_t i = 0; i < items->n; i++) {
        s->run->scope = tpl_scope_new(s, around);
        tpl_scope_set(s, SYMBOL_LOOP, val_undefined_name(s, "loop"));
        tpl_assign(s, n->b, items->at[i]);
        if (val_true(tpl_eval(s, n->c)))
            list_push(s, out.l, items->at[i]);
    }
    return out.l;
}

/* One turn. Values that it made are dropped when nothing older can point to them: output has been written out, and the
 * turn's own scope is gone. tpl_state.escapes counts everything else that may keep a value. */
static flow turn(tpl_state *s, loop *l, scope *around)
{
    tpl_mark mark = tpl_mark_get(s);
    tpl_work(s, 256);
    uint64_t escapes = s->escapes;
    s->run->scope = tpl_scope_new(s, around);
    tpl_scope_set(s, SYMBOL_LOOP, (value){.kind = VAL_LOOP, .loop = l});
    tpl_assign(s, l->n->b, l->items->at[l->at]);
    flow how = tpl_exec_body(s, l->n->list, l->n->n);
    s->run->scope = around;
    if (s->run->sink->root && s->escapes == escapes)
        tpl_release(s, mark);
    return how;
}

flow tpl_loop_run(tpl_state *s, const node *n, value over, scope *around, int depth)
{
    scope *outer = s->run->scope;
    loop *l = tpl_alloc(s, 1, sizeof *l);
    s->line = n->line;
    *l = (loop){.n = n, .scope = around, .depth = depth};
    l->items = chosen(s, n, val_items(s, over), around);
    size_t count = l->items->n;
    flow how = FLOW_ON;
    bool completed = false; /* Jinja's else is for loops of which no turn came to its end */
    for (l->at = 0; how != FLOW_BREAK && l->at < count && l->at < l->items->n; l->at++) {
        how = turn(s, l, around);
        completed |= how == FLOW_ON;
    }
    how = FLOW_ON;
    if (!completed && n->n_more) {
        s->run->scope = tpl_scope_new(s, around);
        how = tpl_exec_body(s, n->more, n->n_more); /* a break here is the outer loop's */
    }
    s->run->scope = outer;
    return how;
}

/* ---- the variable `loop` ---- */

static value loop_cycle(tpl_state *s, value self, const value *p, const args *a)
{
    if (!a->n)
        tpl_fail(s, TEMPLATE_TYPE, "no items for cycling given");
    return a->at[self.loop->at % a->n];
}

static value loop_changed(tpl_state *s, value self, const value *p, const args *a)
{
    value now = val_list(s, VAL_TUPLE, a->n);
    for (size_t i = 0; i < a->n; i++)
        list_push(s, now.l, a->at[i]);
    bool is = !self.loop->has_changed || !val_equal(s, self.loop->changed, now);
    self.loop->has_changed = true;
    self.loop->changed = now;
    s->escapes++;
    return val_bool(is);
}

static value item_at(const loop *l, bool is, size_t at)
{
    return is ? l->items->at[at] : val_undefined();
}

value tpl_loop_attr(tpl_state *s, value v, const str *name)
{
    static const native methods[] = {{"cycle", loop_cycle, "*", 0}, {"changed", loop_changed, "*", 0}};
    const loop *l = v.loop;
    size_t n = l->items->n;
    const native *f = tpl_native_find(methods, 2, str_flat(s, name), name->length);
    if (f)
        return tpl_bind_method(s, f, v);
    const struct {
        const char *name;
        value v;
    } all[] = {
        {"index", val_int((wide)l->at + 1)},
        {"index0", val_int((wide)l->at)},
        {"revindex", val_int((wide)(n - l->at))},
        {"revindex0", val_int((wide)(n - l->at) - 1)},
        {"first", val_bool(l->at == 0)},
        {"last", val_bool(l->at + 1 == n)},
        {"length", val_int((wide)n)},
        {"depth", val_int(l->depth + 1)},
        {"depth0", val_int(l->depth)},
        {"previtem", item_at(l, l->at > 0, l->at - 1)},
        {"nextitem", item_at(l, l->at + 1 < n, l->at + 1)},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (str_is(s, name, all[i].name))
            return all[i].v;
    return (value){0};
}

value tpl_loop_call(tpl_state *s, value v, const args *a)
{
    const loop *l = v.loop;
    if (!l->n->recursive || a->n != 1)
        tpl_fail(s, TEMPLATE_TYPE, "loop() takes what to go through, in a loop that is marked recursive");
    sink *outer = s->run->sink, inner = {.limit = outer->limit};
    s->run->sink = &inner;
    tpl_loop_run(s, l->n, a->at[0], l->scope, l->depth + 1);
    s->run->sink = outer;
    return val_str(str_built(s, &inner.b));
}
