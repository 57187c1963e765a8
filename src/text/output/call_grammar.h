/* call_grammar.h - rules for a model's whole output: where its reasoning may stand, and the calls of tools that it may or
 * has to make, written as its family writes them. What they allow is what output.h reads back as those calls. */
#ifndef ODMOE_TEXT_OUTPUT_CALL_GRAMMAR_H
#define ODMOE_TEXT_OUTPUT_CALL_GRAMMAR_H

#include <jansson.h>

#include "text/grammar/markers.h"
#include "text/output/output.h"

typedef struct call_grammar {
    const output_format *f;
    const char *prompt;  /* what the output continues (its end is enough), or NULL */
    const json_t *tools; /* a list as OpenAI writes it */
    const char *only;    /* the name of the only tool that may be called, or NULL */
    bool required;       /* a call has to come; else from the marker on that opens calls */
    bool one;            /* at most one call */
} call_grammar;

/* call_grammar_write - g->root becomes an output with calls. A tool's parameters that cannot be enforced: with "strict" an
 * error kept in g, whose fault names the path in the list of tools; else its arguments are any object. ERR_ARG: names that
 * the format cannot write, or `only` names no tool; ERR_UNSUPPORTED: the format has no calls. */
void call_grammar_write(void *call_grammar, grammar_rules *g, const token_names *names);

/* answer_grammar_write - g->root, the grammar of an answer, gets what a format writes before its answer: reasoning, if the
 * prompt leaves room for it, and headers. */
void answer_grammar_write(void *call_grammar, grammar_rules *g, const token_names *names);

#endif
