/* Each way in which a GGUF file can be wrong, one test a class: the error names the file and the field. */
#include "format_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/gguf.h"

static odmoe_error err;

/* A number of the valid file that is replaced. */
typedef struct change {
    const char *name;
    int mark, width;
    uint64_t value;
    odmoe_status status;
    const char *says;
} change;

#define BAD ODMOE_ERR_FORMAT
#define UNSUPPORTED ODMOE_ERR_UNSUPPORTED

static const change changes[] = {
    {"another magic number", AT_MAGIC, 4, 0x46554748, BAD, "not a GGUF file"},
    {"version 0", AT_VERSION, 4, 0, UNSUPPORTED, "version 0"},
    {"version 1", AT_VERSION, 4, 1, UNSUPPORTED, "version 1"},
    {"version 4", AT_VERSION, 4, 4, UNSUPPORTED, "version 4"},
    {"a big-endian file", AT_VERSION, 4, 0x03000000, UNSUPPORTED, "big-endian"},
    {"more metadata pairs than there are", AT_PAIRS, 8, 19, BAD, "runs past the end"},
    {"2^60 metadata pairs", AT_PAIRS, 8, 1ull << 60, BAD, "metadata pairs do not fit"},
    {"fewer metadata pairs than there are", AT_PAIRS, 8, 17, BAD, "tensor"},
    {"more tensors than there are", AT_TENSORS, 8, 5, BAD, "tensor"},
    {"2^60 tensors", AT_TENSORS, 8, 1ull << 60, BAD, "tensors do not fit"},
    {"2^64 - 1 tensors", AT_TENSORS, 8, UINT64_MAX, BAD, "tensors do not fit"},
    {"a key of 2^60 bytes", AT_KEY_LENGTH, 8, 1ull << 60, BAD, "metadata 1 of 18: a key"},
    {"a key of 2^64 - 1 bytes", AT_KEY_LENGTH, 8, UINT64_MAX, BAD, "metadata 1 of 18: a key"},
    {"an unknown metadata type", AT_TYPE, 4, 13, BAD, "'general.architecture': its type is 13"},
    {"a metadata type of 2^32 - 1", AT_TYPE, 4, UINT32_MAX, BAD, "'general.architecture': its type"},
    {"a text of 2^60 bytes", AT_TEXT_LENGTH, 8, 1ull << 60, BAD, "'general.architecture': a string"},
    {"a text of 2^64 - 8 bytes", AT_TEXT_LENGTH, 8, UINT64_MAX - 7, BAD, "'general.architecture': a string"},
    {"an alignment of 0", AT_ALIGNMENT, 4, 0, BAD, "'general.alignment' is 0"},
    {"an alignment of 48", AT_ALIGNMENT, 4, 48, BAD, "'general.alignment' is 48, must be a power of two"},
    {"an alignment of 2^31", AT_ALIGNMENT, 4, 1u << 31, BAD, "'general.alignment' is 2147483648"},
    {"a negative alignment", AT_ALIGNMENT_TYPE, 8, 5 | (uint64_t)-64 << 32, BAD, "'general.alignment' is -64"},
    {"an alignment that is a float", AT_ALIGNMENT_TYPE, 4, 6, BAD, "'general.alignment' is of type f32"},
    {"an array of an unknown type", AT_ARRAY_TYPE, 4, 99, BAD, "'t.texts': the type of an array's elements is 99"},
    {"2^60 texts", AT_ARRAY_COUNT, 8, 1ull << 60, BAD, "'t.texts': an array of 1152921504606846976 string"},
    {"2^64 - 1 texts", AT_ARRAY_COUNT, 8, UINT64_MAX, BAD, "'t.texts'"},
    {"a text of 2^62 bytes in an array", AT_ARRAY_TEXT, 8, 1ull << 62, BAD, "'t.texts': a string"},
    {"2^62 numbers, whose bytes overflow to 0", AT_NUMBERS_COUNT, 8, 1ull << 62, BAD, "'t.numbers': an array"},
    {"2^61 numbers of 8 bytes", AT_NUMBERS_COUNT, 8, 1ull << 61, BAD, "'t.numbers': an array"},
    {"numbers that end behind the file", AT_NUMBERS_COUNT, 8, 1000, BAD, "'t.numbers': an array"},
    {"2^60 arrays in an array", AT_NESTED_COUNT, 8, 1ull << 60, BAD, "'t.nested': an array"},
    {"an array in an array of an unknown type", AT_NESTED_TYPE, 4, 77, BAD, "'t.nested': the type of an array"},
    {"a tensor's name of 2^60 bytes", AT_NAME_LENGTH, 8, 1ull << 60, BAD, "tensor 1 of 4: a tensor's name"},
    {"an empty tensor name", AT_NAME_LENGTH, 8, 0, BAD, "tensor"},
    {"a zero byte in a tensor's name", AT_NAME, 1, 0, BAD, "zero byte"},
    {"a newline in a tensor's name", AT_NAME, 1, '\n', BAD, "'?.weight': its name is empty, no UTF-8 or holds control"},
    {"an escape character in a tensor's name", AT_NAME, 1, 0x1b, BAD, "holds control characters"},
    {"a tensor name twice", AT_SECOND_NAME, 1, 'a', BAD, "'a.weight' is there twice"},
    {"5 dimensions", AT_DIMS, 4, 5, BAD, "'a.weight': has 5 dimensions"},
    {"2^32 - 1 dimensions", AT_DIMS, 4, UINT32_MAX, BAD, "'a.weight': has 4294967295 dimensions"},
    {"a dimension of 2^63", AT_SIZE, 8, 1ull << 63, BAD, "'a.weight': its shape overflows"},
    {"a shape whose bytes overflow", AT_SIZE, 8, 1ull << 62, BAD, "'a.weight': its shape overflows"},
    {"a dimension behind the file's end", AT_SIZE, 8, 80, BAD, "'a.weight': 960 bytes at offset"},
    {"an unknown tensor type", AT_TENSOR_TYPE, 4, 4, UNSUPPORTED, "'a.weight': is of type number 4"},
    {"a tensor type of 2^32 - 1", AT_TENSOR_TYPE, 4, UINT32_MAX, UNSUPPORTED, "'a.weight': is of type number"},
    {"rows that are not whole blocks", AT_SECOND_SIZE, 8, 33, BAD, "'b.weight': shape overflows or its rows"},
    {"an offset that is not aligned", AT_OFFSET, 8, 32, BAD, "'a.weight': its offset 32 is not a multiple"},
    {"an offset behind the end", AT_OFFSET, 8, 64000, BAD, "'a.weight': 96 bytes at offset"},
    {"an offset whose sum overflows", AT_OFFSET, 8, UINT64_MAX - 63, BAD, "'a.weight': its offset"},
    {"an offset just below 2^63", AT_OFFSET, 8, (1ull << 63) - 64, BAD, "'a.weight': 96 bytes at offset"},
    {"tensors that overlap", AT_SECOND_OFFSET, 8, 64, BAD, "'b.weight' overlaps tensor 'a.weight'"},
    {"tensors at the same place", AT_SECOND_OFFSET, 8, 0, BAD, "overlaps"},
    {"a last tensor that ends one step behind", AT_LAST_OFFSET, 8, 384, BAD, "'s': 4 bytes at offset"},
};
enum { CHANGES = sizeof changes / sizeof *changes };

static odmoe_status open_bytes(const char *name, const bytes *b)
{
    gguf *g = NULL;
    save(temp_path(name), b);
    memset(&err, 0, sizeof err);
    odmoe_status status = gguf_open(temp_path(name), &g, &err);
    if (!status)
        gguf_free(g);
    else
        assert_null(g);
    return status;
}

static void changed_number(void **state)
{
    const change *c = *state;
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    patch_number(&b, at[c->mark], c->value, c->width);
    assert_error(&err, open_bytes("changed.gguf", &b), c->status, "changed.gguf", c->says);
    bytes_free(&b);
}

static void a_key_twice(void **state)
{
    bytes b = {0};
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 0, 8);
    put_number(&b, 2, 8);
    for (int i = 0; i < 2; i++) {
        put_gguf_text(&b, "same.key");
        put_number(&b, 0, 4);
        put_number(&b, (unsigned)i, 1);
    }
    assert_error(&err, open_bytes("twice.gguf", &b), ODMOE_ERR_FORMAT, "twice.gguf", "'same.key' is there twice");
    bytes_free(&b);
}

/* `levels` arrays of one array each around an array of one number. */
static void nested(bytes *b, int levels)
{
    put_text(b, "GGUF");
    put_number(b, 3, 4);
    put_number(b, 0, 8);
    put_number(b, 1, 8);
    put_gguf_text(b, "deep");
    put_number(b, 9, 4);
    for (int i = 0; i < levels; i++) {
        put_number(b, 9, 4);
        put_number(b, 1, 8);
    }
    put_number(b, 0, 4);
    put_number(b, 1, 8);
    put_number(b, 5, 1);
}

static void arrays_nested_100000_deep(void **state)
{
    bytes b = {0};
    nested(&b, 100000);
    assert_error(&err, open_bytes("deep.gguf", &b), ODMOE_ERR_UNSUPPORTED, "deep.gguf", "'deep': arrays are nested");
    bytes_free(&b);
    nested(&b, 7);
    assert_int_equal(open_bytes("deep.gguf", &b), ODMOE_OK);
    bytes_free(&b);
}

static void control_characters_of_a_key_do_not_reach_the_message(void **state)
{
    bytes b = {0};
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 0, 8);
    put_number(&b, 1, 8);
    put_gguf_text(&b, "\x1b[2J\nodmoe: all is well");
    put_number(&b, 99, 4);
    put_number(&b, 0, 8);
    assert_error(&err, open_bytes("escape.gguf", &b), ODMOE_ERR_FORMAT, "escape.gguf", "?[2J?odmoe");
    bytes_free(&b);
}

/* Every prefix of the header fails; prefixes that end in the data fail at the tensor that is cut. */
static void cut_off_at_every_byte(void **state)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    size_t whole = b.length;
    for (b.length = 0; b.length < whole; b.length++) {
        odmoe_status status = open_bytes("cut.gguf", &b);
        if (status != ODMOE_ERR_FORMAT)
            fail_msg("%zu of %zu bytes: status %d", b.length, whole, status);
        assert_error(&err, status, ODMOE_ERR_FORMAT, "cut.gguf", ": ");
    }
    b.length = whole;
    assert_int_equal(open_bytes("cut.gguf", &b), ODMOE_OK);
    bytes_free(&b);
}

/* What may come of a changed byte: another valid file, or an error that names the file. Never more (sanitizers). */
static void any_byte_of_the_header_changed_in_any_way(void **state)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    int valid = 0, refused = 0;
    for (size_t i = 0; i < at[AT_DATA]; i++) {
        static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
        unsigned char was = b.at[i];
        for (size_t v = 0; v < sizeof values + 8; v++) {
            b.at[i] = v < sizeof values ? values[v] : was ^ (unsigned char)(1 << (v - sizeof values));
            odmoe_status status = open_bytes("byte.gguf", &b);
            if (status) {
                assert_error(&err, status, err.code, "byte.gguf", ": ");
                assert_true(status == ODMOE_ERR_FORMAT || status == ODMOE_ERR_UNSUPPORTED);
            }
            valid += !status;
            refused += status != 0;
        }
        b.at[i] = was;
    }
    assert_true(valid > 100 && refused > 1000);
    bytes_free(&b);
}

static void something_that_is_not_a_file(void **state)
{
    gguf *g;
    assert_int_equal(mkdir(temp_path("folder.gguf"), 0700), 0);
    assert_error(&err, gguf_open(temp_path("folder.gguf"), &g, &err), ODMOE_ERR_IO, "folder.gguf", "is a folder");
    assert_int_equal(mkfifo(temp_path("fifo.gguf"), 0600), 0);
    assert_error(&err, gguf_open(temp_path("fifo.gguf"), &g, &err), ODMOE_ERR_IO, "fifo.gguf", "not a regular file");
    assert_error(&err, gguf_open("/dev/zero", &g, &err), ODMOE_ERR_IO, "/dev/zero", "not a regular file");
    assert_error(&err, gguf_open(temp_path("none.gguf"), &g, &err), ODMOE_ERR_IO, "none.gguf", "No such file");
    assert_error(&err, gguf_open("", &g, &err), ODMOE_ERR_IO, "cannot open", "No such file");
}

static void a_path_of_3000_bytes_leaves_room_for_what_is_wrong(void **state)
{
    char path[3001];
    gguf *g;
    memset(path, '/', 3000);
    path[3000] = 0;
    memcpy(path + 2990, "tail.gguf", 9);
    assert_error(&err, gguf_open(path, &g, &err), ODMOE_ERR_IO, "tail.gguf", "cannot open");
}

static void metadata_larger_than_any_real_one_is_refused_without_reading_it(void **state)
{
    bytes b = {0};
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 0, 8);
    put_number(&b, 1, 8);
    put_gguf_text(&b, "huge");
    put_number(&b, 8, 4);
    put_number(&b, 1ull << 32, 8);
    save(temp_path("huge.gguf"), &b);
    bytes_free(&b);
    assert_int_equal(truncate(temp_path("huge.gguf"), 1ll << 33), 0); /* a file with a hole of 8 GiB */
    gguf *g;
    assert_error(&err, gguf_open(temp_path("huge.gguf"), &g, &err), ODMOE_ERR_UNSUPPORTED, "huge.gguf", "'huge'");
}

/* What is kept of a pair or a tensor takes more memory than its few bytes in the file, most of which are a hole here. */
static void more_pairs_or_tensors_than_any_real_file_has_are_refused_before_reading_them(void **state)
{
    static const struct {
        uint64_t tensors, pairs;
        const char *says;
    } cases[] = {{0, 65537, "65537 metadata pairs, at most 65536"}, {1048577, 0, "1048577 tensors, at most 1048576"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = {0};
        gguf *g;
        put_text(&b, "GGUF");
        put_number(&b, 3, 4);
        put_number(&b, cases[i].tensors, 8);
        put_number(&b, cases[i].pairs, 8);
        save(temp_path("many.gguf"), &b);
        bytes_free(&b);
        assert_int_equal(truncate(temp_path("many.gguf"), 1 << 26), 0);
        assert_error(&err, gguf_open(temp_path("many.gguf"), &g, &err), ODMOE_ERR_UNSUPPORTED, "many.gguf",
                     cases[i].says);
    }
}

static void no_error_struct_is_needed(void **state)
{
    gguf *g;
    assert_int_equal(gguf_open(temp_path("none.gguf"), &g, NULL), ODMOE_ERR_IO);
    save_text(temp_path("text.gguf"), "not a model");
    assert_int_equal(gguf_open(temp_path("text.gguf"), &g, NULL), ODMOE_ERR_FORMAT);
}

int main(void)
{
    struct CMUnitTest tests[CHANGES + 16];
    const struct CMUnitTest others[] = {
        cmocka_unit_test(a_key_twice),
        cmocka_unit_test(arrays_nested_100000_deep),
        cmocka_unit_test(control_characters_of_a_key_do_not_reach_the_message),
        cmocka_unit_test(cut_off_at_every_byte),
        cmocka_unit_test(any_byte_of_the_header_changed_in_any_way),
        cmocka_unit_test(something_that_is_not_a_file),
        cmocka_unit_test(a_path_of_3000_bytes_leaves_room_for_what_is_wrong),
        cmocka_unit_test(metadata_larger_than_any_real_one_is_refused_without_reading_it),
        cmocka_unit_test(more_pairs_or_tensors_than_any_real_file_has_are_refused_before_reading_them),
        cmocka_unit_test(no_error_struct_is_needed),
    };
    size_t count = 0;
    for (; count < CHANGES; count++)
        tests[count] = (struct CMUnitTest){changes[count].name, changed_number, NULL, NULL, (void *)&changes[count]};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        tests[count++] = others[i];
    return _cmocka_run_group_tests("gguf_malformed", tests, count, temp_setup, temp_teardown);
}
