/* gguf.h - GGUF v2 and v3, little-endian, split files. Reads metadata and the tensor table, never weights.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (the layout is drawn in gguf.c). */
#ifndef ODMOE_FORMAT_GGUF_H
#define ODMOE_FORMAT_GGUF_H

#include <string.h>

#include "format/tensors.h"

typedef struct gguf gguf;

/* The types of metadata values, by their number in the file. */
typedef enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
} gguf_type;

/* A string inside the file's metadata: not terminated, may hold any byte. Lives as long as the gguf. */
typedef struct gguf_text {
    const char *at;
    size_t length;
} gguf_text;

/* gguf_text_is - does it hold exactly the bytes of `word`. */
static inline bool gguf_text_is(gguf_text t, const char *word)
{
    return t.length == strlen(word) && !memcmp(t.at, word, t.length);
}

/* gguf_open - read the header of a GGUF file (the first part of a split one: the other parts are opened as well).
 * Errors: ERR_IO, ERR_FORMAT (names file and field), ERR_UNSUPPORTED (version, big-endian, unknown tensor type). */
odmoe_status gguf_open(const char *path, gguf **out, odmoe_error *err);
void gguf_free(gguf *g);

/* gguf_tensors - the tensors of all parts; owned by g until gguf_take_tensors hands the index to the caller, who frees
 * it with tensor_index_free. The index does not need g: a caller who is done with metadata frees g and keeps it. */
const tensor_index *gguf_tensors(const gguf *g);
tensor_index *gguf_take_tensors(gguf *g);

/* gguf_has - is there a value under this key (any type). */
bool gguf_has(const gguf *g, const char *key);

/* gguf_get_* - the value under `key`. Integers of any width convert when they fit; floats from F32 and F64, finite.
 * Return ODMOE_OK; ERR_FORMAT when it is there but of another kind or does not fit (message names file and key); when
 * it is missing: ERR_FORMAT as well. Use gguf_has first for optional keys. */
odmoe_status gguf_get_int(const gguf *g, const char *key, int64_t min, int64_t max, int64_t *out, odmoe_error *err);
odmoe_status gguf_get_float(const gguf *g, const char *key, double *out, odmoe_error *err);
odmoe_status gguf_get_bool(const gguf *g, const char *key, bool *out, odmoe_error *err);
odmoe_status gguf_get_text(const gguf *g, const char *key, gguf_text *out, odmoe_error *err);

/* Arrays: element type and count, then elements one by one (0 <= i < count, else ERR_FORMAT). For strings, going
 * through i in ascending order costs O(1) an element; g remembers the place, so one thread at a time. Floats may be
 * NaN. */
odmoe_status gguf_get_array(const gguf *g, const char *key, gguf_type *type, uint64_t *count, odmoe_error *err);
odmoe_status gguf_array_text(const gguf *g, const char *key, uint64_t i, gguf_text *out, odmoe_error *err);
odmoe_status gguf_array_int(const gguf *g, const char *key, uint64_t i, int64_t *out, odmoe_error *err);
odmoe_status gguf_array_bool(const gguf *g, const char *key, uint64_t i, bool *out, odmoe_error *err); /* or integers */
odmoe_status gguf_array_float(const gguf *g, const char *key, uint64_t i, double *out, odmoe_error *err);

#endif
