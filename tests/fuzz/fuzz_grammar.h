/* fuzz_grammar.h - what the targets that compile a grammar do with it. */
#ifndef ODMOE_TESTS_FUZZ_GRAMMAR_H
#define ODMOE_TESTS_FUZZ_GRAMMAR_H

#include "text/grammar/grammar.h"

/* fuzz_use_grammar - compile the source, with and without triggers; go some tokens along, all of those in the mask being
 * accepted and, where the mask is small, no other; print it and compile that. Ends the process where any of it fails. */
void fuzz_use_grammar(grammar_kind kind, const char *source, size_t size);

/* fuzz_use_written - the same for a grammar that `write` makes, without printing. Gives a text that the grammar has let
 * through to its end, as far as a walk of some hundred tokens finds one (free it), else NULL. */
char *fuzz_use_written(void (*write)(void *user, grammar_rules *g, const token_names *special), void *user,
                       uint32_t seed);

#endif
