/* The input is what stands beside a small tokenizer.json: tokenizer_config.json and added_tokens.json both. */
#include "fuzz.h"

#include "fuzz_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const fuzz_fixed_file fixed[] = {
        {"tokenizer.json",
         "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\" \":3},\"merges\":[\"a b\"]},"
         "\"normalizer\":{\"type\":\"NFC\"},"
         "\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true},{\"id\":5,\"content\":\"b\"}]}"},
        {NULL, NULL},
    };
    static const char *const inputs[] = {"tokenizer_config.json", "added_tokens.json", "generation_config.json", NULL};
    fuzz_use_folder(data, size, inputs, fixed);
    return 0;
}
