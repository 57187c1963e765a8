#include "text/template/call.h"

scope *tpl_scope_new(tpl_state *s, scope *up)
{
    scope *c = tpl_alloc(s, 1, sizeof *c);
    c->up = up;
    return c;
}

void tpl_scope_bind(tpl_state *s, scope *to, int symbol, value v)
{
    if (!to) {
        s->run->globals[symbol] = v;
        s->escapes++;
        return;
    }
    for (size_t i = 0; i < to->n; i++)
        if (to->at[i].symbol == symbol) {
            to->at[i].v = v;
            return;
        }
    tpl_grow(s, (void **)&to->at, &to->capacity, to->n, to->n + 1, sizeof *to->at);
    to->at[to->n++] = (binding){symbol, v};
}

void tpl_scope_set(tpl_state *s, int symbol, value v)
{
    tpl_scope_bind(s, s->run->scope, symbol, v);
}

value tpl_scope_get(tpl_state *s, int symbol)
{
    for (const scope *c = s->run->scope; c; c = c->up)
        for (size_t i = 0; i < c->n; i++)
            if (c->at[i].symbol == symbol)
                return c->at[i].v;
    value v = s->run->globals[symbol];
    if (given(v))
        return v;
    return (value){.kind = VAL_UNDEFINED, .sub = UNDEFINED_NAME, .s = s->run->t->symbols[symbol]};
}

static void assign_attr(tpl_state *s, const node *target, value v)
{
    value to = tpl_scope_get(s, target->symbol);
    if (to.kind != VAL_NAMESPACE)
        tpl_fail(s, TEMPLATE_RUNTIME, "cannot assign attribute on non-namespace object");
    if (target->text->length && *target->text->flat == '_')
        tpl_fail(s, TEMPLATE_SECURITY, "access to attribute '%.*s' is unsafe", (int)target->text->length,
                 target->text->flat);
    s->escapes++;
    dict_set(s, to.d, val_str(target->text), v);
}

void tpl_assign(tpl_state *s, const node *target, value v)
{
    s->line = target->line;
    if (target->kind == TARGET_NAME) {
        tpl_scope_set(s, target->symbol, v);
    } else if (target->kind == TARGET_ATTR) {
        assign_attr(s, target, v);
    } else {
        const list *items = val_items(s, v);
        if (items->n != target->n)
            tpl_fail(s, TEMPLATE_VALUE, "%zu values to unpack into %zu names", items->n, target->n);
        for (size_t i = 0; i < target->n; i++)
            tpl_assign(s, target->list[i], items->at[i]);
    }
}
