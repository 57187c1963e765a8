/* The readers see in real files what gguf-py and Python's json see there (data/format/make_listing.py). */
#include "format_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/gguf.h"
#include "format/safetensors.h"

static odmoe_error err;

static uint32_t crc32_more(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *at = data;
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* A file under test: exactly one of the two readers has it. */
typedef struct subject {
    gguf *g;
    tensor_index *index;
    size_t tensors; /* of the listing that are in the index */
} subject;

static void open_subject(subject *s, const char *path)
{
    size_t length = strlen(path);
    odmoe_status status;
    *s = (subject){0};
    if (!strcmp(path + length - 5, ".gguf")) {
        status = gguf_open(data_path(path), &s->g, &err);
        if (!status)
            s->index = gguf_take_tensors(s->g);
    } else if (strstr(path, ".safetensors")) {
        status = safetensors_open_file(data_path(path), &s->index, &err);
    } else {
        status = safetensors_open_folder(data_path(path), &s->index, &err);
    }
    if (status)
        fail_msg("%s", err.message);
}

static void close_subject(subject *s)
{
    if (s->index)
        assert_int_equal(tensor_index_count(s->index), s->tensors);
    tensor_index_free(s->index);
    gguf_free(s->g);
}

static void check_tensor(subject *s, const char *name, const char *type, const char *shape, uint64_t length,
                         uint32_t crc)
{
    const tensor_info *t = tensor_index_find(s->index, name);
    char text[128] = "-";
    dtype expected;
    if (!dtype_from_name(type, &expected)) { /* integers: only safetensors_each sees them */
        assert_null(t);
        return;
    }
    s->tensors++;
    if (!t)
        fail_msg("'%s' is not in the index", name);
    for (int d = 0, n = 0; d < t->dims; d++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%" PRIu64, d ? "x" : "", t->shape[d]);
    assert_string_equal(text, shape);
    assert_int_equal(t->type, expected);
    assert_int_equal(t->length, length);
    void *data = malloc(t->length);
    assert_non_null(data);
    if (tensor_read(s->index, t, data, &err))
        fail_msg("%s", err.message);
    if (crc32_more(0, data, t->length) != crc)
        fail_msg("'%s': other bytes than expected", name);
    free(data);
}

static void check_text(const gguf *g, const char *key, const char *hex)
{
    gguf_text t;
    assert_int_equal(gguf_get_text(g, key, &t, &err), ODMOE_OK);
    assert_int_equal(t.length, strcmp(hex, "-") ? strlen(hex) / 2 : 0);
    for (size_t i = 0; i < t.length; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        assert_int_equal((unsigned char)t.at[i], byte);
    }
}

static void check_array(const gguf *g, const char *kind, const char *key, uint64_t count, uint32_t crc)
{
    gguf_type type;
    uint64_t n;
    uint32_t got = 0;
    assert_int_equal(gguf_get_array(g, key, &type, &n, &err), ODMOE_OK);
    assert_int_equal(n, count);
    for (uint64_t i = 0; i < n; i++) {
        gguf_text t;
        int64_t integer;
        double real;
        if (!strcmp(kind, "texts")) {
            assert_int_equal(gguf_array_text(g, key, i, &t, &err), ODMOE_OK);
            got = crc32_more(got, t.at, t.length);
        } else if (!strcmp(kind, "ints")) {
            assert_int_equal(gguf_array_int(g, key, i, &integer, &err), ODMOE_OK);
            got = crc32_more(got, &integer, 8);
        } else {
            assert_int_equal(gguf_array_float(g, key, i, &real, &err), ODMOE_OK);
            got = crc32_more(got, &real, 8);
        }
    }
    if (got != crc)
        fail_msg("'%s': other elements than expected", key);
}

static void check_value(const gguf *g, const char *kind, const char *key, const char *value, const char *crc)
{
    int64_t integer;
    double real;
    bool flag;
    assert_true(gguf_has(g, key));
    if (!strcmp(kind, "text")) {
        check_text(g, key, value);
    } else if (!strcmp(kind, "int")) {
        assert_int_equal(gguf_get_int(g, key, INT64_MIN, INT64_MAX, &integer, &err), ODMOE_OK);
        assert_int_equal(integer, strtoll(value, NULL, 10));
    } else if (!strcmp(kind, "float")) {
        assert_int_equal(gguf_get_float(g, key, &real, &err), ODMOE_OK);
        assert_true(real == strtod(value, NULL));
    } else if (!strcmp(kind, "bool")) {
        assert_int_equal(gguf_get_bool(g, key, &flag, &err), ODMOE_OK);
        assert_int_equal(flag, atoi(value));
    } else {
        check_array(g, kind, key, strtoull(value, NULL, 10), (uint32_t)strtoul(crc, NULL, 16));
    }
}

/* Every line of the listing; returns how many there were. */
static int check_listing(const char *name)
{
    char line[1024], word[5][512];
    int lines = 0;
    subject s = {0};
    FILE *f = fopen(data_path(name), "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); lines++) {
        char kind[16];
        memset(word, 0, sizeof word);
        sscanf(line, "%15s %511s %511s %511s %511s %511s", kind, word[0], word[1], word[2], word[3], word[4]);
        if (!strcmp(kind, "file")) {
            close_subject(&s);
            open_subject(&s, word[0]);
        } else if (!strcmp(kind, "tensor")) {
            check_tensor(&s, word[0], word[1], word[2], strtoull(word[3], NULL, 10),
                         (uint32_t)strtoul(word[4], NULL, 16));
        } else {
            check_value(s.g, kind, word[0], word[1], word[2]);
        }
    }
    close_subject(&s);
    fclose(f);
    return lines;
}

static void gguf_files_hold_what_gguf_py_sees(void **state)
{
    assert_true(check_listing("format/gguf.txt") > 300);
}

static void safetensors_files_hold_what_python_sees(void **state)
{
    assert_true(check_listing("format/safetensors.txt") > 400);
}

static odmoe_status find_ids(void *ctx, const safetensors_entry *e, odmoe_error *error)
{
    if (strcmp(e->name, "input_ids"))
        return ODMOE_OK;
    assert_string_equal(e->type, "I32");
    assert_int_equal(e->length, e->shape[e->dims - 1] * 4);
    *(uint64_t *)ctx = e->offset;
    return err_set(error, ODMOE_ERR_CANCELLED, "found: this ends the walk");
}

static void integer_tensors_are_reached_by_walking_the_header(void **state)
{
    uint64_t offset = 0, size = 0;
    const char *path = data_path("models/mixtral/expected.safetensors");
    assert_int_equal(safetensors_each(path, &size, find_ids, &offset, &err), ODMOE_ERR_CANCELLED);
    assert_true(offset > 8 && offset < size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_files_hold_what_gguf_py_sees),
        cmocka_unit_test(safetensors_files_hold_what_python_sees),
        cmocka_unit_test(integer_tensors_are_reached_by_walking_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
