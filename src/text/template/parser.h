/* parser.h - shared by the two halves of the parser: statements (parser.c) and expressions (parse_expr.c). */
#ifndef ODMOE_TEXT_TEMPLATE_PARSER_H
#define ODMOE_TEXT_TEMPLATE_PARSER_H

#include "text/template/lexer.h"
#include "text/template/tree.h"

typedef struct parser {
    tpl_state *s;
    struct chat_program *t;
    lexer lex;
    token now, next;
    int in_loop;    /* loops around, inside the same macro */
    int may_skip;   /* inside of an `if`: unknown filters are an error only when they are reached */
    node_macro *in; /* the macro around, or NULL */
    uint32_t nested;
} parser;

enum { NESTED_MAX = 200 };

/* parse_enter - before something that may hold itself; parse_leave behind it. */
void parse_enter(parser *p);
static inline void parse_leave(parser *p)
{
    p->nested--;
}

noreturn void parse_fail(parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void parse_advance(parser *p);
bool parse_at_op(const parser *p, const char *sign);
bool parse_at_name(const parser *p, const char *name);
bool parse_skip_op(parser *p, const char *sign);
bool parse_skip_name(parser *p, const char *name);
void parse_expect_op(parser *p, const char *sign);
str *parse_expect_name(parser *p);
str *parse_token_text(parser *p, const token *t);
int parse_symbol(parser *p, const char *at, size_t length);
void parse_mention(parser *p, str *name);
node *parse_node(parser *p, node_kind kind);
/* A growing list of nodes. */
typedef struct node_list {
    node **at;
    size_t n, capacity;
} node_list;
void parse_push(parser *p, node_list *l, node *n);

node *parse_expression(parser *p);
/* parse_tuple - one expression, or several with commas between them. conditional: `a if b` may be one of them;
 * stop: a name that ends the list, or NULL. */
node *parse_tuple(parser *p, bool conditional, const char *stop);
node *parse_filter_chain(parser *p, node *input, bool first_inline);

#endif
