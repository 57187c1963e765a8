/* The input is a GGUF file: open its vocabulary and its chat template, encode with them and decode again. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz_text.h"
#include "text/template/sources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    odmoe_error err = {0};
    gguf *g;
    int fd = fuzz_file(data, size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int status = gguf_open(path, &g, &err);
    fuzz_check_error(status, &err);
    if (!status) {
        tokenizer *t;
        char *source = NULL;
        size_t length;
        status = tokenizer_from_gguf(g, path, &t, &err);
        fuzz_check_error(status, &err);
        if (!status)
            fuzz_use_tokenizer(t);
        if (!status)
            tokenizer_free(t);
        fuzz_check_error(template_source_gguf(g, NULL, &source, &length, &err), &err);
        free(source);
        gguf_free(g);
    }
    close(fd);
    return 0;
}
