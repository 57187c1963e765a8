/* gbnf.h - read a grammar in GBNF, llama.cpp's notation.
 *
 *   root ::= "text\n" name [a-z^] [^"\\] . ( a | b )   a? a* a+ a{2} a{2,} a{2,5}   <[1000]> <name> !<name>   # comment
 *
 * A rule ends at the end of its line, but not inside brackets or behind "|" and "::=". Escapes: \n \r \t \\ \" \[ \] \-
 * \xHH \uHHHH \UHHHHHHHH. Text is Unicode: "." is any character, also a line end. <...> is a token of the vocabulary, by
 * its text or its number. Refused: a rule that is defined twice or missing; left recursion (analysis.c finds it). */
#ifndef ODMOE_TEXT_GRAMMAR_GBNF_H
#define ODMOE_TEXT_GRAMMAR_GBNF_H

#include "text/grammar/rules.h"

/* The id of the token with this text ("<think>"), or -1. */
typedef int32_t token_lookup(const void *user, const char *text, size_t length);

/* A rule that is there already, under a name that the grammar may use. */
typedef struct gbnf_known {
    const char *name;
    uint32_t rule;
} gbnf_known;

/* gbnf_read - read text[0, length) into a grammar that has the rules known[0, known_count); `root` becomes its root. `lookup`
 * may be NULL: then tokens by name are refused; ids from `vocab` on are refused where vocab > 0. Errors are kept in g: ERR_FORMAT and ERR_RANGE with line
 * and column in the message and in g->fault. */
void gbnf_read(grammar_rules *g, const char *text, size_t length, const gbnf_known *known, size_t known_count,
               token_lookup *lookup, const void *user, int32_t vocab);

/* gbnf_position - "line 3, column 5" of a byte of the source: fills offset, line and column. */
void gbnf_position(const char *text, size_t length, size_t offset, grammar_fault *fault);

#endif
