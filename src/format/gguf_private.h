/* gguf_private.h - what gguf.c (reads the file) and gguf_values.c (answers questions about metadata) share. */
#ifndef ODMOE_FORMAT_GGUF_PRIVATE_H
#define ODMOE_FORMAT_GGUF_PRIVATE_H

#include "format/gguf.h"

/* One metadata pair. Places are offsets into gguf.data; the reader has checked that all of the value lies inside. */
typedef struct gguf_entry {
    uint32_t key, key_length;
    uint32_t value;     /* the first byte of the value: of a string its length, of an array its first element */
    uint8_t type;       /* gguf_type */
    uint8_t element;    /* gguf_type of an array's elements */
    uint64_t count;     /* of an array's elements */
    uint64_t next_text; /* arrays of strings: the element that next_text_at is the place of; moved by reading */
    uint32_t next_text_at;
} gguf_entry;

struct gguf {
    char *path;
    unsigned char *data; /* the file up to the end of the tensor table */
    uint32_t size;
    gguf_entry *entries; /* by key */
    size_t count, capacity;
    tensor_index *tensors;
};

/* Little-endian numbers at any alignment. */
static inline uint64_t gguf_number(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

/* Bytes of a value of a type that has one size; 0 for strings and arrays. `type` is below GGUF_TYPE_COUNT. */
int gguf_type_bytes(gguf_type type);

/* The name of a type for messages; any number. */
const char *gguf_type_name(uint64_t type);

/* The entry under a key, or NULL. */
gguf_entry *gguf_find(const gguf *g, const char *key);

#endif
