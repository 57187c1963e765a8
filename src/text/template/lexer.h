/* lexer.h - a template's source as tokens: text, and what stands between {{ }} and {% %}. Comments and raw blocks end
 * here, and so do the rules about white space (trim_blocks, lstrip_blocks, - and +). */
#ifndef ODMOE_TEXT_TEMPLATE_LEXER_H
#define ODMOE_TEXT_TEMPLATE_LEXER_H

#include "text/template/state.h"
#include "text/template/str.h"

typedef enum token_kind {
    TOKEN_END,
    TOKEN_TEXT, /* outside of all braces */
    TOKEN_BLOCK,
    TOKEN_BLOCK_END,
    TOKEN_PRINT,
    TOKEN_PRINT_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_OP
} token_kind;

typedef struct token {
    token_kind kind;
    int line;
    const char *at; /* TEXT, NAME, INT, FLOAT: [length] of the source; STRING: decoded, in the arena; OP: its sign */
    size_t length;
} token;

typedef enum lexer_state { IN_TEXT, IN_BLOCK, IN_PRINT } lexer_state;

typedef struct lexer {
    tpl_state *s;
    const char *at, *end;
    int line;
    lexer_state state;
    bool line_starts;         /* the last thing that was read ended with a newline */
    char brackets[64];        /* open ones */
    size_t open, open_beyond; /* open_beyond: more than fit */
    token waiting;            /* a BLOCK or PRINT behind a TEXT */
    bool has_waiting;
} lexer;

/* lexer_start - text must be UTF-8 without \r and without the one newline at its end. lexer_next - SYNTAX errors. */
lexer lexer_start(tpl_state *s, const char *text, size_t length);
token lexer_next(lexer *l);

#endif
