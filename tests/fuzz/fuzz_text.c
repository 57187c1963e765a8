#include "fuzz_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    static const char text[] =
        "hello <s>, ab 12\n\n \xE2\x96\x81word e\xCC\x81\xFF <|end|></s> \xE4\xB8\xAD\xE3\x80\x82'S 1234";
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

/* ---- a folder ---- */

#define INPUT_FD 900 /* the inputs' files are links to it */

static char folder[256], paths[8][512];
static size_t path_count;

static void remove_folder(void)
{
    for (size_t i = 0; i < path_count; i++)
        unlink(paths[i]);
    rmdir(folder);
}

static const char *next_path(const char *name)
{
    if (path_count == sizeof paths / sizeof *paths)
        abort();
    snprintf(paths[path_count], sizeof paths[0], "%s/%s", folder, name);
    return paths[path_count++];
}

static void make_folder(const char *const *inputs, const fuzz_fixed_file *fixed)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/odmoe-fuzz-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder) || atexit(remove_folder))
        abort();
    for (; *inputs; inputs++)
        if (symlink("/proc/self/fd/900", next_path(*inputs)))
            abort();
    for (; fixed->name; fixed++) {
        FILE *f = fopen(next_path(fixed->name), "w");
        if (!f || fputs(fixed->text, f) < 0 || fclose(f))
            abort();
    }
}

void fuzz_use_folder(const uint8_t *data, size_t size, const char *const *inputs, const fuzz_fixed_file *fixed)
{
    odmoe_error err = {0};
    tokenizer *t;
    if (!folder[0])
        make_folder(inputs, fixed);
    int fd = fuzz_file(data, size);
    if (dup2(fd, INPUT_FD) < 0)
        abort();
    close(fd);
    int status = tokenizer_open(folder, &t, &err);
    fuzz_check_error(status, &err);
    if (!status) {
        fuzz_use_tokenizer(t);
        tokenizer_free(t);
    }
    close(INPUT_FD);
}
