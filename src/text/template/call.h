/* call.h - running a template: scopes, output, calls, and what the evaluator's files share. */
#ifndef ODMOE_TEXT_TEMPLATE_CALL_H
#define ODMOE_TEXT_TEMPLATE_CALL_H

#include "text/template/tree.h"

typedef struct binding {
    int symbol;
    value v;
} binding;

/* The variables of one body; the template's own variables are tpl_run.globals. */
typedef struct scope {
    struct scope *up; /* NULL: the template's own */
    binding *at;
    size_t n, capacity;
} scope;

/* Where output goes: into the result (root), or into a string of a macro or block. */
typedef struct sink {
    template_text *root;
    builder b;
    size_t limit;
} sink;

typedef struct tpl_run {
    const struct chat_program *t;
    value *globals; /* [t->n_symbols] */
    scope *scope;
    sink *sink;
    int64_t now;
    bool autoescape;
} tpl_run;

typedef struct macro {
    const node_macro *def;
    scope *scope; /* where it was defined */
} macro;

typedef struct loop {
    const list *items;
    size_t at;
    const node *n;
    scope *scope; /* around the loop */
    int depth;    /* of recursion, from 0 */
    value changed;
    bool has_changed;
} loop;

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

/* eval.c */
value tpl_eval(tpl_state *s, const node *n);
value tpl_eval_filter(tpl_state *s, const node *filter, value input);
args tpl_eval_args(tpl_state *s, const node_call *c);
/* exec.c */
flow tpl_exec_body(tpl_state *s, node *const *body, size_t n);
str *tpl_exec_captured(tpl_state *s, node *const *body, size_t n, flow *how);
void tpl_emit(tpl_state *s, const str *text);
/* scope.c */
scope *tpl_scope_new(tpl_state *s, scope *up);
void tpl_scope_set(tpl_state *s, int symbol, value v);
void tpl_scope_bind(tpl_state *s, scope *to, int symbol, value v);
value tpl_scope_get(tpl_state *s, int symbol);
void tpl_assign(tpl_state *s, const node *target, value v);
/* loop.c */
flow tpl_loop_run(tpl_state *s, const node *n, value over, scope *around, int depth);
value tpl_loop_attr(tpl_state *s, value v, const str *name);
value tpl_loop_call(tpl_state *s, value v, const args *a);
/* call.c */
value tpl_call(tpl_state *s, value callee, const args *a);
value tpl_call_native(tpl_state *s, const native *f, value self, const args *a);
str *tpl_macro_name(value v);
value tpl_macro_attr(tpl_state *s, value v, const str *name);
/* access.c */
value tpl_get_attr(tpl_state *s, value of, str *name);
value tpl_get_item(tpl_state *s, value of, value key);
value tpl_get_slice(tpl_state *s, value of, value start, value stop, value step);
value tpl_get_path(tpl_state *s, value of, value path, value fallback); /* "a.b.0" */
value tpl_bind_method(tpl_state *s, const native *f, value self);
/* ops.c */
value tpl_binary(tpl_state *s, binary_op op, value a, value b);
value tpl_negate(tpl_state *s, value a);
wide tpl_floor_div(wide a, wide b);
/* format.c */
str *tpl_format_percent(tpl_state *s, str *format, value values);
str *tpl_format_braces(tpl_state *s, const str *format, const args *a);
str *tpl_format_time(tpl_state *s, const str *format, int64_t seconds);
/* The tables. */
const native *tpl_native_find(const native *table, size_t n, const char *name, size_t length);
const native *tpl_str_method(const char *name, size_t length);
const native *tpl_data_method(value of, const char *name, size_t length);
void tpl_set_globals(tpl_state *s);

#endif
