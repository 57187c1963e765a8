/* value.h - the values of the template language: Python's, as far as templates can see them. */
#ifndef ODMOE_TEXT_TEMPLATE_VALUE_H
#define ODMOE_TEXT_TEMPLATE_VALUE_H

#include "text/template/state.h"
#include "text/template/str.h"

typedef __int128 wide; /* integers; larger results are a limit error */

typedef enum value_kind {
    VAL_ABSENT, /* an argument that was not given; never seen by a template */
    VAL_UNDEFINED,
    VAL_NONE,
    VAL_BOOL,
    VAL_INT,
    VAL_FLOAT,
    VAL_STR,
    VAL_BYTES, /* str.encode(): shown, nothing else */
    VAL_LIST,
    VAL_TUPLE,
    VAL_DICT,
    VAL_RANGE,
    VAL_VIEW,      /* dict.keys(), .values(), .items() */
    VAL_ITER,      /* what map, select and their like return: can be gone through once */
    VAL_NATIVE,    /* a function or bound method of this interpreter */
    VAL_MACRO,     /* also the caller of a call block */
    VAL_NAMESPACE, /* a dict behind attributes */
    VAL_LOOP,
    VAL_CYCLER,
    VAL_JOINER
} value_kind;

typedef struct value {
    uint8_t kind;
    uint8_t sub; /* UNDEFINED: undefined_reason; VIEW: view_kind; LIST of a group: 1 */
    uint8_t of;  /* UNDEFINED of an attribute: the kind that lacks it */
    union {
        bool b;
        struct {
            uint64_t low;
            int64_t high;
        } i;
        double f;
        struct str *s; /* STR, BYTES; UNDEFINED: the name, or NULL */
        struct list *l;
        struct dict *d; /* DICT, VIEW, NAMESPACE */
        struct range *r;
        struct bound *n;
        struct macro *m;
        struct loop *loop;
        struct cycler *c;
    };
} value;

typedef enum undefined_reason {
    UNDEFINED_NAME,
    UNDEFINED_ATTRIBUTE,
    UNDEFINED_UNSAFE,
    UNDEFINED_ELSE
} undefined_reason;
typedef enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;

typedef struct list { /* LIST, TUPLE, ITER */
    value *at;
    size_t n, capacity;
    bool spent; /* ITER: it has been gone through */
} list;

typedef struct dict_entry {
    value key, v;
    uint64_t hash;
    bool gone;
} dict_entry;

typedef struct dict { /* in order of insertion */
    dict_entry *at;
    size_t n, capacity, live; /* n entries, of which `live` are not gone */
    uint32_t *index;          /* [slots] entry + 1, or 0; NULL while there are few */
    size_t slots;
} dict;

typedef struct range {
    int64_t start, stop, step;
    size_t n;
} range;

/* Arguments of a call. */
typedef struct keyword {
    str *name;
    value v;
} keyword;
typedef struct args {
    value *at;
    size_t n;
    keyword *keywords;
    size_t n_keywords;
} args;

/* A function of this interpreter: filters, tests, methods and globals are tables of these. `params` names the
 * parameters, with commas between them, the first `required` of which must be given; they are bound into p. "*" leaves
 * the arguments as they are: p is then NULL. self: a filter's or test's input, a method's object. */
typedef value (*native_fn)(tpl_state *s, value self, const value *p, const args *a);
typedef struct native {
    const char *name;
    native_fn call;
    const char *params;
    int required;
    bool changes; /* a method that changes its object: transformers has none, so that `is defined` says false */
} native;
enum { PARAMS_MAX = 8 };

typedef struct bound {
    const native *f;
    value self;
} bound;

typedef struct cycler {
    value *at;
    size_t n, next;
    str *separator; /* of a joiner, which skips the first */
    bool used;
} cycler;

static inline value val_none(void)
{
    return (value){.kind = VAL_NONE};
}
static inline value val_undefined(void)
{
    return (value){.kind = VAL_UNDEFINED, .sub = UNDEFINED_ELSE};
}
static inline value val_bool(bool b)
{
    return (value){.kind = VAL_BOOL, .b = b};
}
static inline value val_int(wide i)
{
    return (value){.kind = VAL_INT, .i = {(uint64_t)i, (int64_t)(i >> 64)}};
}
static inline value val_float(double f)
{
    return (value){.kind = VAL_FLOAT, .f = f};
}
static inline value val_str(str *s)
{
    return (value){.kind = VAL_STR, .s = s};
}
static inline wide int_of(value v)
{
    return v.kind == VAL_BOOL ? (wide)v.b : (wide)(((unsigned __int128)(uint64_t)v.i.high << 64) | v.i.low);
}
static inline bool is_int(value v) /* Python's booleans are integers */
{
    return v.kind == VAL_INT || v.kind == VAL_BOOL;
}
static inline bool is_number(value v)
{
    return is_int(v) || v.kind == VAL_FLOAT;
}
static inline bool given(value v)
{
    return v.kind != VAL_ABSENT;
}
double float_of(value v); /* of a number */

value val_undefined_name(tpl_state *s, const char *name);
value val_text(tpl_state *s, const char *text); /* a string of the template's own */
value val_list(tpl_state *s, value_kind kind, size_t capacity);
void list_push(tpl_state *s, list *l, value v);
value val_pair(tpl_state *s, value a, value b); /* a tuple */

value val_dict(tpl_state *s);
/* dict_get - the value of a key, or NULL. TYPE error for a key that can't be one. dict_set - add or replace. */
value *dict_get(tpl_state *s, dict *d, value key);
void dict_set(tpl_state *s, dict *d, value key, value v);
bool dict_remove(tpl_state *s, dict *d, value key);
value *dict_get_text(tpl_state *s, dict *d, const char *key);

/* What Python says about them. */
const char *val_type_name(value v); /* "str", "dict" ... */
bool val_true(value v);
bool val_equal(tpl_state *s, value a, value b);
bool val_same(value a, value b);                                 /* `is` */
int val_compare(tpl_state *s, value a, value b, const char *op); /* < 0, 0, > 0; TYPE error */
bool val_contains(tpl_state *s, value container, value item);
/* val_items - what iterating gives, as a list that the caller must not change; a TYPE error for what can't be iterated.
 * Spends an ITER. val_length: len(), likewise. */
const list *val_items(tpl_state *s, value v);
bool val_iterable(value v);
size_t val_length(tpl_state *s, value v);

/* val_use - UNDEFINED raises its error; everything else passes. */
noreturn void tpl_undefined_error(tpl_state *s, value v);
static inline void val_use(tpl_state *s, value v)
{
    if (v.kind == VAL_UNDEFINED)
        tpl_undefined_error(s, v);
}

/* tpl_sort - sort at[0, n) with a comparison that may fail. */
typedef int (*value_order)(tpl_state *s, value a, value b, void *user);
void tpl_sort(tpl_state *s, value *at, size_t n, value_order order, void *user);

/* An integer argument within int64; TYPE error for another kind. */
int64_t tpl_int_arg(tpl_state *s, value v, const char *what);
/* A string argument, or a TYPE error. */
str *tpl_str_arg(tpl_state *s, value v, const char *what);

#endif
