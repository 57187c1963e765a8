/* The input is the tiktoken.model of a folder of Kimi's kind: open it, encode and decode. */
#include "fuzz.h"

#include "fuzz_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const fuzz_fixed_file fixed[] = {
        {"tokenizer_config.json", "{\"tokenizer_class\":\"TikTokenTokenizer\",\"eos_token\":\"<e>\","
                                  "\"added_tokens_decoder\":{\"3\":{\"content\":\"<e>\"}}}"},
        {NULL, NULL},
    };
    static const char *const inputs[] = {"tiktoken.model", NULL};
    fuzz_use_folder(data, size, inputs, fixed);
    return 0;
}
