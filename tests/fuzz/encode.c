/* The input is a text: what small vocabularies (pieces with scores, and bytes under several patterns) make of it must
 * give it back, in one piece and in parts, and never a special token. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz_text.h"
#include "text/stream.h"
#include "vocab_files.h"

#define KINDS 7

static tokenizer *tokenizers[KINDS]; /* the first is of pieces, the others cut bytes by these patterns */
static const char *const pres[KINDS] = {"default",    "gpt-4o",      "kimi-k2",   "afmoe",
                                        "exaone-moe", "deepseek-v3", "cohere2moe"};

static void open_tokenizers(void)
{
    char path[] = "/tmp/odmoe-fuzz-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        abort();
    close(fd);
    for (int i = 0; i < KINDS; i++) {
        vocab_spec spec = i ? spec_bpe() : spec_scored();
        spec.pre = pres[i];
        if (!strcmp(pres[i], "kimi-k2"))
            spec.merges = NULL; /* ids are ranks */
        save_vocab(path, &spec);
        if (tokenizer_open(path, &tokenizers[i], NULL))
            abort();
    }
    unlink(path);
}

static void check_decoding(const tokenizer *t, const token_list *ids, const uint8_t *data, size_t size)
{
    text_stream *s;
    const char *text;
    size_t n, at = 0;
    if (text_stream_create(t, TEXT_STREAM_START, &s, NULL))
        abort();
    for (size_t i = 0; i <= ids->count; i++) {
        if (i < ids->count)
            text_stream_push(s, ids->ids[i], &text, &n);
        else
            text_stream_flush(s, &text, &n);
        if (n > size - at || memcmp(text, data + at, n) != 0)
            abort();
        at += n;
    }
    if (at != size)
        abort();
    text_stream_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!tokenizers[0])
        open_tokenizers();
    for (int i = 0; i < KINDS; i++) {
        odmoe_error err = {0};
        token_list whole = {0}, parts = {0};
        const size_t half = size / 2;
        const text_part both[] = {{(const char *)data, half, false}, {(const char *)data + half, size - half, false}};
        fuzz_check_error(tokenizer_encode(tokenizers[i], (const char *)data, size, 0, &whole, &err), &err);
        fuzz_check_error(tokenizer_encode_parts(tokenizers[i], both, 2, 0, &parts, &err), &err);
        if (whole.count != parts.count ||
            (whole.count && memcmp(whole.ids, parts.ids, whole.count * sizeof *whole.ids)))
            abort();
        if (i || !memmem(data, size, "\xE2\x96\x81", 3)) /* that comes back as a blank */
            check_decoding(tokenizers[i], &whole, data, size);
        for (size_t k = 0; k < whole.count; k++)
            if (tokenizer_is_special(tokenizers[i], whole.ids[k]))
                abort();
        free(whole.ids);
        free(parts.ids);
    }
    return 0;
}
