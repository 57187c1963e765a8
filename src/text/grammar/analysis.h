/* analysis.h - what a grammar's rules can match: nothing at all, the empty text; and which rules begin with themselves.
 */
#ifndef ODMOE_TEXT_GRAMMAR_ANALYSIS_H
#define ODMOE_TEXT_GRAMMAR_ANALYSIS_H

#include "text/grammar/rules.h"

/* productive: a finite text matches; nullable: the empty text does. One byte an expression each. */
typedef struct grammar_analysis {
    uint8_t *productive, *nullable; /* [exprs_count] */
} grammar_analysis;

/* grammar_analyse - ERR_MEMORY; ERR_FORMAT: the root matches no finite text, or a rule is left-recursive (*rule is the
 * one). analysis_free - NULL-safe. */
odmoe_status grammar_analyse(const grammar_rules *g, grammar_analysis *out, uint32_t *rule, odmoe_error *err);
void analysis_free(grammar_analysis *a);

#endif
