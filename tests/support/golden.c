#include "support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "format/safetensors.h"

#define ENTRIES_MAX 256

typedef struct entry {
    char name[64], type[8];
    uint64_t offset, length;
} entry;

struct golden {
    char *memory;
    char *bytes; /* of the file; its tensors begin at an aligned address, whatever the length of its header */
    int count;
    entry entries[ENTRIES_MAX];
};

static odmoe_status note(void *ctx, const safetensors_entry *e, odmoe_error *err)
{
    golden *g = ctx;
    assert_true(g->count < ENTRIES_MAX);
    entry *out = &g->entries[g->count++];
    snprintf(out->name, sizeof out->name, "%s", e->name);
    snprintf(out->type, sizeof out->type, "%s", e->type);
    out->offset = e->offset;
    out->length = e->length;
    return ODMOE_OK;
}

golden *golden_open(const char *path)
{
    golden *g = calloc(1, sizeof *g);
    odmoe_error err = {0};
    uint64_t size;
    assert_non_null(g);
    if (safetensors_each(path, &size, note, g, &err))
        fail_msg("%s", err.message);
    uint64_t first = size;
    for (int i = 0; i < g->count; i++)
        first = g->entries[i].offset < first ? g->entries[i].offset : first;
    g->memory = malloc(size + 16);
    assert_non_null(g->memory);
    g->bytes = g->memory + (16 - first % 16) % 16;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(g->bytes, 1, size, f), size);
    fclose(f);
    return g;
}

void golden_close(golden *g)
{
    free(g->memory);
    free(g);
}

static const entry *find(const golden *g, const char *name)
{
    for (int i = 0; i < g->count; i++)
        if (!strcmp(g->entries[i].name, name))
            return &g->entries[i];
    return NULL;
}

static const void *values(const golden *g, size_t *n, const char *type, const char *format, va_list args)
{
    char name[64];
    vsnprintf(name, sizeof name, format, args);
    const entry *e = find(g, name);
    if (!e || strcmp(e->type, type))
        fail_msg("golden tensor %s of type %s is missing", name, type);
    if (n)
        *n = e->length / (strcmp(type, "I64") ? 4 : 8);
    return g->bytes + e->offset;
}

bool golden_has(const golden *g, const char *format, ...)
{
    char name[64];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return find(g, name) != NULL;
}

const float *golden_f32(const golden *g, size_t *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const float *v = values(g, n, "F32", format, args);
    va_end(args);
    return v;
}

const int32_t *golden_i32(const golden *g, size_t *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int32_t *v = values(g, n, "I32", format, args);
    va_end(args);
    return v;
}

const int64_t *golden_i64(const golden *g, size_t *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int64_t *v = values(g, n, "I64", format, args);
    va_end(args);
    return v;
}

double golden_error(const float *got, const float *want, size_t n)
{
    double sum = 0, squares = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        sum += want[i];
        squares += (double)want[i] * want[i];
        worst = fmax(worst, isnan(got[i]) ? INFINITY : fabs((double)got[i] - want[i]));
    }
    return worst / sqrt(squares / (double)n - sum / (double)n * (sum / (double)n));
}

const char *test_path(const char *format, ...)
{
    static char buffers[8][1024];
    static int turn;
    char *out = buffers[turn++ % 8], name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const char *root = getenv(name[0] == '/' ? "ODMOE_SOURCE" : "ODMOE_TEST_DATA");
    if (!root)
        fail_msg("ODMOE_TEST_DATA and ODMOE_SOURCE are not set: run the tests through make test");
    snprintf(out, sizeof buffers[0], "%s%s%s", root, name[0] == '/' ? "" : "/", name);
    return out;
}

double golden_divergence(const float *got, const float *want, int64_t rows, int vocab)
{
    double total = 0;
    for (int64_t row = 0; row < rows; row++, got += vocab, want += vocab) {
        double got_sum = 0, want_sum = 0;
        for (int i = 0; i < vocab; i++) {
            got_sum += exp(got[i]);
            want_sum += exp(want[i]);
        }
        for (int i = 0; i < vocab; i++)
            total += exp(want[i]) / want_sum * (want[i] - log(want_sum) - got[i] + log(got_sum));
    }
    return total / (double)rows;
}
