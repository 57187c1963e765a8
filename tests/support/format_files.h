/* format_files.h - model files made byte by byte, so that tests know what stands at each place and can break it. */
#ifndef ODMOE_TESTS_FORMAT_FILES_H
#define ODMOE_TESTS_FORMAT_FILES_H

#include <stdarg.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/status.h"

/* A growing buffer; a test that gets no memory ends. */
typedef struct bytes {
    unsigned char *at;
    size_t length, capacity;
} bytes;

void put(bytes *b, const void *data, size_t length);
void put_number(bytes *b, uint64_t value, int width); /* little-endian */
void put_text(bytes *b, const char *text);            /* without the ending 0 */
void put_gguf_text(bytes *b, const char *text);       /* length: u64, bytes */
void patch_number(bytes *b, size_t place, uint64_t value, int width);
void bytes_free(bytes *b);

/* A folder under the temporary one, made by temp_setup and removed with its files by temp_teardown; both are cmocka
 * group fixtures. temp_path: a path in it, valid until the call after the next seven. */
int temp_setup(void **state);
int temp_teardown(void **state);
const char *temp_path(const char *name);
void save(const char *path, const bytes *b);
void save_text(const char *path, const char *text);

/* data_path - a path in the tests' data, or in the source folder where it begins with "/"; as temp_path. */
const char *data_path(const char *name);

/* An error's message is one line, its code is `status` and it holds each of the words. */
void assert_error(const odmoe_error *err, odmoe_status got, odmoe_status status, const char *word, const char *word2);

/* A valid GGUF file of about 1 KiB with every metadata type and several tensor types; alignment 64. */
enum {
    AT_MAGIC,
    AT_VERSION,
    AT_TENSORS,
    AT_PAIRS,
    AT_KEY_LENGTH,     /* of the first key */
    AT_TYPE,           /* of the first value */
    AT_TEXT_LENGTH,    /* of the first value */
    AT_ALIGNMENT_TYPE, /* general.alignment */
    AT_ALIGNMENT,
    AT_BOOL,
    AT_ARRAY_TYPE, /* of an array of strings */
    AT_ARRAY_COUNT,
    AT_ARRAY_TEXT,   /* the length of its second string */
    AT_NUMBERS_TYPE, /* of an array of i32 */
    AT_NUMBERS_COUNT,
    AT_NESTED_COUNT, /* of an array of arrays */
    AT_NESTED_TYPE,  /* of its first array */
    AT_NAME_LENGTH,  /* of the first tensor ("a.weight") */
    AT_NAME,
    AT_DIMS,
    AT_SIZE, /* its innermost dimension */
    AT_TENSOR_TYPE,
    AT_OFFSET,
    AT_SECOND_NAME, /* of the second tensor ("b.weight", q4_0) */
    AT_SECOND_SIZE,
    AT_SECOND_TYPE,
    AT_SECOND_OFFSET,
    AT_LAST_OFFSET, /* of the last tensor */
    AT_DATA,        /* where the data begins */
    AT_COUNT
};
typedef size_t gguf_marks[AT_COUNT];
void small_gguf(bytes *b, gguf_marks marks);

/* A valid safetensors file: `header` as it is, then `data` zero bytes. */
void small_safetensors(bytes *b, const char *header, size_t data);

#endif
