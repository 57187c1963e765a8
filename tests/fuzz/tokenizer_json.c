/* The input is the tokenizer.json of a folder: open it, encode and decode. */
#include "fuzz.h"

#include "fuzz_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const inputs[] = {"tokenizer.json", NULL};
    static const fuzz_fixed_file fixed[] = {{NULL, NULL}};
    fuzz_use_folder(data, size, inputs, fixed);
    return 0;
}
