/* row_reader.h - rows of a table in a file, read when they are asked for, with a small cache. It is for the token
 * embedding: a token uses one row of it, a thousandth of a percent.
 *
 * The kernel is told of all rows of a call before the first one is waited for, so that a prompt's rows come in one batch. Reads
 * go through the page cache and are dropped from it again: rows are no multiples of a disk's blocks. */
#ifndef ODMOE_STORE_ROW_READER_H
#define ODMOE_STORE_ROW_READER_H

#include <stdbool.h>

#include "base/arena.h"
#include "format/tensors.h"

/* Where the rows lie. */
typedef struct row_table {
    const char *path; /* borrowed */
    uint64_t offset, row_bytes;
    int64_t rows;
} row_table;

typedef struct row_counters {
    uint64_t hits, misses; /* rows of calls; a row that a call names twice counts once */
    uint64_t bytes, wait_ns;
} row_counters;

typedef struct row_reader {
    row_table table;
    int fd;           /* -1: not open */
    int64_t capacity; /* rows in the cache: at least a batch */
    uint8_t *memory;  /* [capacity, row_bytes] */
    int32_t *slot_of; /* [rows] -1: not in the cache */
    int32_t *row_in;  /* [capacity] -1: none */
    uint64_t *call;   /* [capacity] the call that used it last */
    uint8_t *state;   /* [capacity] */
    int64_t hand;     /* the slot that is looked at next for room */
    uint64_t calls;
    row_counters counters;
} row_reader;

/* row_reader_layout - room for calls of up to `batch` rows, by arena.h's rule. */
void row_reader_layout(arena *a, const row_table *table, int64_t batch, row_reader *out);

/* row_reader_open - open the file; the reader has been laid out. ERR_IO. row_reader_close: one that was never opened, or
 * is zeroed, is fine. */
odmoe_status row_reader_open(row_reader *r, odmoe_error *err);
void row_reader_close(row_reader *r);

/* row_reader_get - bring rows[n] into memory together, at most `batch` different ones: slots[i] is the place of rows[i] in
 * r->memory, until the next call. ERR_IO, "row 17 of the embedding: FILE: ...": slots of rows that could not be read
 * are -1, the others are right; err has the first. Threads: one at a time. */
odmoe_status row_reader_get(row_reader *r, const int32_t *rows, int64_t n, int32_t *slots, odmoe_error *err);

#endif
