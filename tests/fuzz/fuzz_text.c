#include "fuzz_text.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "text/bpe_merge.h"
#include "text/stream.h"

static void decode(const tokenizer *t, const token_list *ids)
{
    text_stream *s;
    const char *text;
    size_t n;
    if (text_stream_create(t, TEXT_STREAM_START | TEXT_STREAM_SPECIAL, &s, NULL))
        abort();
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] < 0 || ids->ids[i] >= tokenizer_size(t))
            abort();
        text_stream_push(s, ids->ids[i], &text, &n);
        fuzz_touch(text, n);
    }
    text_stream_flush(s, &text, &n);
    fuzz_touch(text, n);
    text_stream_free(s);
}

void fuzz_use_tokenizer(const tokenizer *t)
{
    static const char text[] = "hello <s>, ab 12\n\n \xE2\x96\x81word e\xCC\x81\xFF <|end|></s>";
    const text_part parts[] = {{text, 20, true}, {text + 20, sizeof text - 20, false}};
    odmoe_error err = {0};
    const int32_t *ids;
    for (unsigned flags = 0; flags < 4; flags++) {
        token_list list = {0};
        fuzz_check_error(tokenizer_encode(t, text, sizeof text, flags, &list, &err), &err);
        decode(t, &list);
        free(list.ids);
    }
    token_list list = {0};
    fuzz_check_error(tokenizer_encode_parts(t, parts, 2, TOKENIZER_START, &list, &err), &err);
    for (int32_t id = -1; id <= tokenizer_size(t); id++) {
        char piece[16];
        size_t n = tokenizer_piece(t, id, piece, sizeof piece);
        if (n > tokenizer_longest_piece(t) || token_list_add(&list, id < 0 || id == tokenizer_size(t) ? 0 : id, NULL))
            abort();
    }
    decode(t, &list);
    free(list.ids);
    for (size_t i = tokenizer_ends(t, &ids); i-- > 0;)
        if (!tokenizer_is_end(t, ids[i]) || ids[i] >= tokenizer_size(t))
            abort();
    fuzz_touch(text, tokenizer_bytes(t) % sizeof text);
}
