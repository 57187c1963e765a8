/* The input is a JSON Schema, used like a grammar (grammar.c). */
#include "fuzz.h"

#include "fuzz_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_use_grammar(GRAMMAR_SCHEMA, (const char *)data, size);
    return 0;
}
