/* The input is a GBNF grammar: what compiles gives masks, each token of which is accepted, and prints as a grammar that
 * compiles again. */
#include "fuzz.h"

#include "fuzz_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_use_grammar(GRAMMAR_GBNF, (const char *)data, size);
    return 0;
}
