/* tree.h - a compiled template: what the parser makes and the evaluator walks over. All of it lies in one arena. */
#ifndef ODMOE_TEXT_TEMPLATE_TREE_H
#define ODMOE_TEXT_TEMPLATE_TREE_H

#include "text/template/value.h"

typedef enum node_kind {
    /* Expressions. */
    NODE_CONST,   /* constant */
    NODE_NAME,    /* symbol */
    NODE_LIST,    /* list[n] */
    NODE_TUPLE,   /* list[n] */
    NODE_DICT,    /* list[n]: key, value, key, value ... */
    NODE_ATTR,    /* a . text */
    NODE_ITEM,    /* a [ b ] */
    NODE_SLICE,   /* a [ list[0] : list[1] : list[2] ], each may be NULL */
    NODE_CALL,    /* a ( call ) */
    NODE_FILTER,  /* a | filter ( call ); a NULL: the body of a filter block */
    NODE_TEST,    /* a is filter ( call ) */
    NODE_NOT,     /* a */
    NODE_NEG,     /* a */
    NODE_POS,     /* a */
    NODE_AND,     /* a, b */
    NODE_OR,      /* a, b */
    NODE_BINARY,  /* a op b */
    NODE_CONCAT,  /* list[n] */
    NODE_COMPARE, /* list[0] ops[0] list[1] ops[1] list[2] ... */
    NODE_IF_ELSE, /* b if a else c; c may be NULL */
    /* Statements; body: list[n]. */
    NODE_TEXT,         /* text */
    NODE_PRINT,        /* a */
    NODE_IF,           /* a; list[n]; otherwise: more[n_more] */
    NODE_FOR,          /* target b in a if c; list[n]; more[n_more] when there was none */
    NODE_SET,          /* target b = a */
    NODE_SET_BLOCK,    /* target b = list[n], through filter a (or NULL) */
    NODE_WITH,         /* more[n_more]: target, value, ...; list[n] */
    NODE_MACRO,        /* macro, stored as `symbol` */
    NODE_CALL_BLOCK,   /* a: the call; macro: the caller */
    NODE_FILTER_BLOCK, /* a: the filter; list[n] */
    NODE_SCOPE,        /* list[n]: generation, block */
    NODE_AUTOESCAPE,   /* a; list[n] */
    NODE_BREAK,
    NODE_CONTINUE,
    /* Targets of assignments. */
    TARGET_NAME,  /* symbol */
    TARGET_ATTR,  /* symbol . text */
    TARGET_TUPLE, /* list[n] */
} node_kind;

typedef enum binary_op { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW } binary_op;
typedef enum compare_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN } compare_op;

typedef struct node node;

typedef struct node_keyword {
    str *name;
    node *a;
} node_keyword;

/* The arguments of a call as they are written. */
typedef struct node_call {
    node **at;
    size_t n;
    node_keyword *keywords;
    size_t n_keywords;
    node *star, *star_star;
} node_call;

typedef struct node_macro {
    str *name;
    int *params;     /* [n] symbols */
    node **defaults; /* [n], NULL where there is none */
    size_t n;
    node **body;
    size_t n_body;
    bool takes_caller, takes_varargs, takes_kwargs; /* the body mentions them */
} node_macro;

struct node {
    uint8_t kind, op;
    bool recursive;
    int line;
    int symbol;
    node *a, *b, *c;
    node **list;
    size_t n;
    union {
        struct {
            node **more;
            size_t n_more;
        };
        const uint8_t *ops;
        node_call *call;
        value constant;
        node_macro *macro;
    };
    str *text;            /* NODE_TEXT, names of attributes, filters and tests */
    const native *filter; /* NODE_FILTER, NODE_TEST; NULL: unknown, an error when it is reached */
};

/* A compiled template. */
struct chat_program {
    tpl_arena arena;
    char *source;
    size_t length;
    node **body;
    size_t n;
    str **symbols; /* [n_symbols] the names of variables */
    size_t n_symbols, symbols_capacity;
    str **mentioned; /* [n_mentioned] further names: attributes, and strings that are used as keys */
    size_t n_mentioned, mentioned_capacity;
};

/* Names that the interpreter itself looks for: the first symbols of every template. */
enum { SYMBOL_LOOP, SYMBOL_CALLER, SYMBOL_VARARGS, SYMBOL_KWARGS, SYMBOLS_OWN };

/* parse_template - fill body and symbols from the source. Fails through s. */
void parse_template(tpl_state *s, struct chat_program *t);

/* tpl_filter_find, tpl_test_find - by name, or NULL. */
const native *tpl_filter_find(const char *name, size_t length);
const native *tpl_test_find(const char *name, size_t length);

#endif
