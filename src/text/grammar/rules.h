/* rules.h - a grammar as rules of expressions: what gbnf.c and schema.c write and program.c compiles.
 *
 * Expressions form a tree in one array (a child stands before its parent), rules refer to each other by number. The
 * functions that build never fail by themselves: the first error is kept in `status` and `err`, every later call does
 * nothing and gives EXPR_NEVER; so the caller looks at `status` once, after the last call. */
#ifndef ODMOE_TEXT_GRAMMAR_RULES_H
#define ODMOE_TEXT_GRAMMAR_RULES_H

#include "text/grammar/charset.h"

#define GRAMMAR_SOURCE_MAX 65536 /* bytes of a grammar or schema */
#define GRAMMAR_RULES_MAX 16384
#define GRAMMAR_EXPRS_MAX 131072
#define GRAMMAR_REPEAT_MAX 2000 /* the highest finite number in a repetition */
#define GRAMMAR_DEPTH_MAX 1000  /* of nested expressions in one rule */
#define REPEAT_UNBOUNDED UINT32_MAX

typedef uint32_t expr_id;
#define EXPR_NEVER 0 /* matches nothing: the choice between no expressions */
#define EXPR_EMPTY 1 /* matches the empty text: the sequence of no expressions */

typedef enum expr_kind {
    EXPR_TEXT,   /* first, count: bytes in `texts` */
    EXPR_CHARS,  /* first, count: ranges in `ranges`; one character of them */
    EXPR_SEQ,    /* first, count: children, one after the other */
    EXPR_ALT,    /* first, count: children, one of them */
    EXPR_REPEAT, /* first: the child; count to most times */
    EXPR_RULE,   /* first: a rule */
    EXPR_TOKEN,  /* first: a token's id; count 1: any token but this one */
    EXPR_SILENT  /* first, count: ids in `ranges`; any token without text but these and end tokens */
} expr_kind;

typedef struct expr {
    uint8_t kind;   /* expr_kind */
    uint16_t depth; /* of the tree below, 1 for a leaf */
    uint32_t first, count, most;
} expr;

typedef struct grammar_rule {
    char *name; /* owned */
    expr_id body;
    bool defined;
    size_t at; /* where the source first names it, bytes */
} grammar_rule;

/* Where a source is wrong: GBNF has a place in the text, a schema the path of the member. */
typedef struct grammar_fault {
    size_t offset; /* bytes before the place */
    uint32_t line, column;
    char path[256]; /* "properties.price.multipleOf"; "" for the whole */
    size_t schema;  /* which of the schemas beside a grammar, from 1; 0: the source itself */
} grammar_fault;

typedef struct grammar_rules {
    expr *exprs;
    expr_id *children;
    char_range *ranges;
    char *texts;
    grammar_rule *rules;
    size_t exprs_count, exprs_capacity, children_count, children_capacity, ranges_count, ranges_capacity, texts_count,
        texts_capacity, rules_count, rules_capacity;
    uint32_t root;   /* a rule */
    char unmet[128]; /* a schema's first place that no value meets, in words; fault's path says where */
    odmoe_status status;
    odmoe_error *err;     /* borrowed, may be NULL */
    grammar_fault *fault; /* borrowed */
} grammar_rules;

/* rules_init - an empty grammar; err (may be NULL) and fault outlive the building. rules_free - NULL-safe. */
void rules_init(grammar_rules *g, odmoe_error *err, grammar_fault *fault);
void rules_free(grammar_rules *g);
size_t rules_bytes(const grammar_rules *g);

/* rules_fail - keep an error, if it is the first. Returns EXPR_NEVER. */
expr_id rules_fail(grammar_rules *g, odmoe_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* rules_add - a new rule, not yet defined. rules_define - its body. */
uint32_t rules_add(grammar_rules *g, const char *name, size_t length, size_t at);
void rules_define(grammar_rules *g, uint32_t rule, expr_id body);

expr_id expr_text(grammar_rules *g, const char *bytes, size_t length);
expr_id expr_chars(grammar_rules *g, const charset *set); /* normalised; an empty set gives EXPR_NEVER */
expr_id expr_range(grammar_rules *g, uint32_t lo, uint32_t hi);
expr_id expr_seq(grammar_rules *g, const expr_id *children, size_t count);
expr_id expr_alt(grammar_rules *g, const expr_id *children, size_t count);
expr_id expr_repeat(grammar_rules *g, expr_id child, uint32_t least, uint32_t most);
expr_id expr_rule(grammar_rules *g, uint32_t rule);
expr_id expr_token(grammar_rules *g, uint32_t id, bool negated);
expr_id expr_silent(grammar_rules *g, const uint32_t *ids, size_t count);

#define EXPR_LIST(...) (const expr_id[]){__VA_ARGS__}, sizeof((const expr_id[]){__VA_ARGS__}) / sizeof(expr_id)
#define SEQ(g, ...) expr_seq(g, EXPR_LIST(__VA_ARGS__))
#define ALT(g, ...) expr_alt(g, EXPR_LIST(__VA_ARGS__))
#define TEXT(g, literal) expr_text(g, literal, sizeof(literal) - 1)

/* expr_list - a growing list of expressions while one is put together; zero-initialise, free(items). */
typedef struct expr_list {
    expr_id *items;
    size_t count, capacity;
} expr_list;
void expr_list_add(grammar_rules *g, expr_list *list, expr_id e);

/* rules_print - the grammar as GBNF text, ended by a 0; free() it. NULL with err set (ERR_MEMORY). */
char *rules_print(const grammar_rules *g, odmoe_error *err);

#endif
