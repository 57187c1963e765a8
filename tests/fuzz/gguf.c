/* The input is a GGUF file: open it, ask for every value in every way, read its small tensors. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/gguf_private.h"

static void check_tensors(const tensor_index *index)
{
    static unsigned char data[1 << 16];
    for (size_t i = 0; i < tensor_index_count(index); i++) {
        const tensor_info *t = tensor_index_at(index, i);
        if (tensor_index_find(index, t->name) != t || t->offset + t->length > tensor_index_file_size(index, t->file))
            abort();
        if (t->length <= sizeof data && tensor_read(index, t, data, NULL))
            abort();
    }
}

static void check_array(const gguf *g, const char *key)
{
    odmoe_error err = {0};
    gguf_type type;
    uint64_t count;
    int status = gguf_get_array(g, key, &type, &count, &err);
    fuzz_check_error(status, &err);
    for (uint64_t i = 0; !status && i < count; i++) {
        uint64_t element = i % 2 ? i : count - 1 - i; /* forth and back */
        gguf_text text;
        int64_t integer;
        double real;
        if (i == 64)
            break;
        if (!gguf_array_text(g, key, element, &text, NULL))
            fuzz_touch(text.at, text.length);
        fuzz_check_error(gguf_array_int(g, key, element, &integer, &err), &err);
        fuzz_check_error(gguf_array_float(g, key, element, &real, &err), &err);
    }
    for (uint64_t i = 0; !status && type == GGUF_STRING && i < count; i++) {
        gguf_text text;
        if (gguf_array_text(g, key, i, &text, NULL))
            abort();
        fuzz_touch(text.at, text.length);
    }
}

static void check_values(const gguf *g)
{
    for (size_t i = 0; i < g->count; i++) {
        odmoe_error err = {0};
        gguf_text text;
        int64_t integer;
        double real;
        bool flag;
        char *key = strndup((const char *)g->data + g->entries[i].key, g->entries[i].key_length);
        if (!key)
            abort();
        fuzz_check_error(gguf_get_int(g, key, -1000, 1000, &integer, &err), &err);
        fuzz_check_error(gguf_get_float(g, key, &real, &err), &err);
        fuzz_check_error(gguf_get_bool(g, key, &flag, &err), &err);
        if (!gguf_get_text(g, key, &text, NULL))
            fuzz_touch(text.at, text.length);
        check_array(g, key);
        free(key);
    }
}

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
        check_tensors(gguf_tensors(g));
        check_values(g);
        gguf_free(g);
    }
    close(fd);
    return 0;
}
