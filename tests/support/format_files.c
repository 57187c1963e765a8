#include "format_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- bytes ------------------------------------------------------------------------------------------------ */

void put(bytes *b, const void *data, size_t length)
{
    if (!length)
        return;
    if (b->length + length > b->capacity) {
        b->capacity = 2 * (b->length + length);
        b->at = realloc(b->at, b->capacity);
        assert_non_null(b->at);
    }
    memcpy(b->at + b->length, data, length);
    b->length += length;
}

void put_number(bytes *b, uint64_t value, int width)
{
    unsigned char raw[8];
    for (int i = 0; i < 8; i++)
        raw[i] = (unsigned char)(value >> 8 * i);
    put(b, raw, (size_t)width);
}

void put_text(bytes *b, const char *text)
{
    put(b, text, strlen(text));
}

void put_gguf_text(bytes *b, const char *text)
{
    put_number(b, strlen(text), 8);
    put_text(b, text);
}

void patch_number(bytes *b, size_t place, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        b->at[place + (size_t)i] = (unsigned char)(value >> 8 * i);
}

void bytes_free(bytes *b)
{
    free(b->at);
    *b = (bytes){0};
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static char folder[256];

int temp_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/odmoe-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static void empty_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char inside[600];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, e->d_name);
        if (e->d_type == DT_DIR)
            empty_folder(inside);
        else
            unlink(inside);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

int temp_teardown(void **state)
{
    empty_folder(folder);
    return 0;
}

static const char *join(const char *base, const char *name)
{
    static char paths[8][1024];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

const char *temp_path(const char *name)
{
    return join(folder, name);
}

const char *data_path(const char *name)
{
    const char *base = getenv(name[0] == '/' ? "ODMOE_SOURCE" : "ODMOE_TEST_DATA");
    if (!base)
        fail_msg("ODMOE_TEST_DATA and ODMOE_SOURCE are not set: run through meson test");
    return join(base, name);
}

void save(const char *path, const bytes *b)
{
    unlink(path); /* a new file each time: some file systems write out one that is truncated and written again */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(b->length ? fwrite(b->at, 1, b->length, f) : 0, b->length);
    assert_int_equal(fclose(f), 0);
}

void save_text(const char *path, const char *text)
{
    bytes b = {0};
    put_text(&b, text);
    save(path, &b);
    bytes_free(&b);
}

void assert_error(const odmoe_error *err, odmoe_status got, odmoe_status status, const char *word, const char *word2)
{
    if (got != status || err->code != status)
        fail_msg("status %d (code %d), expected %d: %s", got, err->code, status, err->message);
    if (strchr(err->message, '\n') || strlen(err->message) < 10 || !strstr(err->message, word) ||
        !strstr(err->message, word2))
        fail_msg("message should hold '%s' and '%s': %s", word, word2, err->message);
}

/* ---- GGUF ------------------------------------------------------------------------------------------------- */

/* The numbers of gguf_type, written out: the file's are fixed whatever the enum says. */
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static void pair(bytes *b, const char *key, unsigned type)
{
    put_gguf_text(b, key);
    put_number(b, type, 4);
}

static void number_pair(bytes *b, const char *key, unsigned type, uint64_t value, int width)
{
    pair(b, key, type);
    put_number(b, value, width);
}

static size_t put_metadata(bytes *b, gguf_marks at)
{
    float single = 1.5f;
    double twice = -2.25;
    size_t start = b->length;
    at[AT_KEY_LENGTH] = start;
    at[AT_TYPE] = start + 8 + strlen("general.architecture");
    at[AT_TEXT_LENGTH] = at[AT_TYPE] + 4;
    pair(b, "general.architecture", STRING);
    put_gguf_text(b, "tiny");
    number_pair(b, "general.alignment", U32, 64, 4);
    at[AT_ALIGNMENT] = b->length - 4;
    at[AT_ALIGNMENT_TYPE] = b->length - 8;
    number_pair(b, "t.u8", U8, 200, 1);
    number_pair(b, "t.i8", I8, (uint64_t)-100, 1);
    number_pair(b, "t.u16", U16, 60000, 2);
    number_pair(b, "t.i16", I16, (uint64_t)-30000, 2);
    number_pair(b, "t.u32", U32, 4000000000u, 4);
    number_pair(b, "t.i32", I32, (uint64_t)-2000000000, 4);
    number_pair(b, "t.u64", U64, (uint64_t)INT64_MAX + 1, 8);
    number_pair(b, "t.i64", I64, (uint64_t)INT64_MIN, 8);
    pair(b, "t.f32", F32);
    put(b, &single, 4);
    pair(b, "t.f64", F64);
    put(b, &twice, 8);
    number_pair(b, "t.bool", BOOL, 1, 1);
    at[AT_BOOL] = b->length - 1;
    pair(b, "t.empty", STRING);
    put_gguf_text(b, "");
    pair(b, "t.texts", ARRAY);
    at[AT_ARRAY_TYPE] = b->length;
    at[AT_ARRAY_COUNT] = b->length + 4;
    put_number(b, STRING, 4);
    put_number(b, 3, 8);
    put_gguf_text(b, "one");
    at[AT_ARRAY_TEXT] = b->length;
    put_gguf_text(b, "");
    put_gguf_text(b, "three");
    pair(b, "t.numbers", ARRAY);
    at[AT_NUMBERS_TYPE] = b->length;
    at[AT_NUMBERS_COUNT] = b->length + 4;
    put_number(b, I32, 4);
    put_number(b, 2, 8);
    put_number(b, 7, 4);
    put_number(b, (uint64_t)-7, 4);
    pair(b, "t.nested", ARRAY);
    put_number(b, ARRAY, 4);
    at[AT_NESTED_COUNT] = b->length;
    put_number(b, 2, 8);
    at[AT_NESTED_TYPE] = b->length;
    put_number(b, F32, 4);
    put_number(b, 1, 8);
    put(b, &single, 4);
    put_number(b, STRING, 4);
    put_number(b, 1, 8);
    put_gguf_text(b, "deep");
    number_pair(b, "t.last", U8, 1, 1);
    return 18;
}

static void tensor(bytes *b, const char *name, unsigned dims, uint64_t inner, uint64_t outer, unsigned type,
                   uint64_t offset)
{
    put_gguf_text(b, name);
    put_number(b, dims, 4);
    if (dims > 0)
        put_number(b, inner, 8);
    if (dims > 1)
        put_number(b, outer, 8);
    put_number(b, type, 4);
    put_number(b, offset, 8);
}

void small_gguf(bytes *b, gguf_marks at)
{
    at[AT_MAGIC] = 0;
    at[AT_VERSION] = 4;
    at[AT_TENSORS] = 8;
    at[AT_PAIRS] = 16;
    put_text(b, "GGUF");
    put_number(b, 3, 4);
    put_number(b, 4, 8);
    put_number(b, 0, 8);
    patch_number(b, at[AT_PAIRS], put_metadata(b, at), 8);
    at[AT_NAME_LENGTH] = b->length;
    at[AT_NAME] = b->length + 8;
    at[AT_DIMS] = at[AT_NAME] + strlen("a.weight");
    at[AT_SIZE] = at[AT_DIMS] + 4;
    at[AT_TENSOR_TYPE] = at[AT_SIZE] + 16;
    at[AT_OFFSET] = at[AT_TENSOR_TYPE] + 4;
    tensor(b, "a.weight", 2, 8, 3, 0, 0); /* f32, 96 bytes */
    at[AT_SECOND_NAME] = b->length + 8;
    at[AT_SECOND_SIZE] = at[AT_SECOND_NAME] + strlen("b.weight") + 4;
    at[AT_SECOND_TYPE] = at[AT_SECOND_SIZE] + 16;
    at[AT_SECOND_OFFSET] = at[AT_SECOND_TYPE] + 4;
    tensor(b, "b.weight", 2, 32, 5, 2, 128); /* q4_0, 90 bytes */
    tensor(b, "c", 1, 5, 0, 30, 256);        /* bf16, 10 bytes */
    tensor(b, "s", 0, 0, 0, 0, 320);         /* f32, a scalar */
    at[AT_LAST_OFFSET] = b->length - 8;
    while (b->length % 64)
        put_number(b, 0, 1);
    at[AT_DATA] = b->length;
    for (size_t i = 0; i < 324; i++)
        put_number(b, i, 1);
}

/* ---- safetensors ------------------------------------------------------------------------------------------ */

void small_safetensors(bytes *b, const char *header, size_t data)
{
    put_number(b, strlen(header), 8);
    put_text(b, header);
    for (size_t i = 0; i < data; i++)
        put_number(b, i, 1);
}
