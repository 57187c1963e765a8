#include "store/row_reader.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/file.h"
#include "store/store_private.h"

/* Kept besides a batch: texts use few words often. */
#define CACHE_ROWS 512
#define CACHE_PART 16 /* but at most such a part of the table */

/* A slot's row: there; used again since the hand came by; not read yet. */
enum { ROW_THERE, ROW_USED, ROW_WANTED };

void row_reader_layout(arena *a, const row_table *table, int64_t batch, row_reader *out)
{
    int64_t more = table->rows / CACHE_PART < CACHE_ROWS ? table->rows / CACHE_PART : CACHE_ROWS;
    *out = (row_reader){.table = *table, .fd = -1};
    out->capacity = batch + more < table->rows ? batch + more : table->rows;
    size_t capacity = (size_t)out->capacity;
    out->memory = arena_take(a, capacity, table->row_bytes);
    out->slot_of = arena_take(a, (size_t)table->rows, sizeof *out->slot_of);
    out->row_in = arena_take(a, capacity, sizeof *out->row_in);
    out->call = arena_take(a, capacity, sizeof *out->call);
    out->state = arena_take(a, capacity, sizeof *out->state);
}

odmoe_status row_reader_open(row_reader *r, odmoe_error *err)
{
    uint64_t size;
    for (int64_t i = 0; i < r->table.rows; i++)
        r->slot_of[i] = -1;
    for (int64_t i = 0; i < r->capacity; i++)
        r->row_in[i] = -1;
    odmoe_status status = file_open(r->table.path, false, &r->fd, &size, err);
    if (!status)
        posix_fadvise(r->fd, 0, 0, POSIX_FADV_RANDOM); /* no read-ahead: neighbours are other words */
    return status;
}

void row_reader_close(row_reader *r)
{
    if (r->capacity && r->fd >= 0)
        close(r->fd);
    *r = (row_reader){.fd = -1};
}

static off_t place_of(const row_reader *r, int32_t row)
{
    return (off_t)(r->table.offset + (uint64_t)row * r->table.row_bytes);
}

/* A slot that this call does not use: one that has not been used again since the hand came by. There are more slots than a call
 * has rows. */
static int32_t take_slot(row_reader *r)
{
    for (;;) {
        int64_t s = r->hand;
        r->hand = (s + 1) % r->capacity;
        if (r->row_in[s] < 0)
            return (int32_t)s;
        if (r->call[s] == r->calls)
            continue;
        if (r->state[s] == ROW_THERE) {
            r->slot_of[r->row_in[s]] = -1;
            return (int32_t)s;
        }
        r->state[s] = ROW_THERE;
    }
}

/* Give a row a slot, and tell the kernel that it will be read. */
static int32_t want(row_reader *r, int32_t row)
{
    int32_t s = take_slot(r);
    r->slot_of[row] = s;
    r->row_in[s] = row;
    r->state[s] = ROW_WANTED;
    r->counters.misses++;
    posix_fadvise(r->fd, place_of(r, row), (off_t)r->table.row_bytes, POSIX_FADV_WILLNEED);
    return s;
}

static odmoe_status read_row(row_reader *r, int32_t s, odmoe_error *err)
{
    int32_t row = r->row_in[s];
    odmoe_status status = file_read_at(r->fd, r->table.path, (uint64_t)place_of(r, row),
                                       r->memory + (size_t)s * r->table.row_bytes, r->table.row_bytes, err);
    posix_fadvise(r->fd, place_of(r, row), (off_t)r->table.row_bytes, POSIX_FADV_DONTNEED);
    r->state[s] = ROW_THERE;
    if (status) {
        err_context(err, "row %d of the embedding", row);
        r->slot_of[row] = r->row_in[s] = -1;
        return status;
    }
    r->counters.bytes += r->table.row_bytes;
    return ODMOE_OK;
}

odmoe_status row_reader_get(row_reader *r, const int32_t *rows, int64_t n, int32_t *slots, odmoe_error *err)
{
    odmoe_status first = ODMOE_OK;
    uint64_t misses = r->counters.misses, start = store_now_ns();
    r->calls++;
    for (int64_t i = 0; i < n; i++) {
        int32_t s = r->slot_of[rows[i]];
        if (s >= 0 && r->call[s] != r->calls) {
            r->counters.hits++;
            r->state[s] = ROW_USED;
        }
        slots[i] = s >= 0 ? s : want(r, rows[i]);
        r->call[slots[i]] = r->calls;
    }
    if (r->counters.misses == misses)
        return ODMOE_OK;
    for (int64_t i = 0; i < n; i++) {
        odmoe_error why;
        if (r->state[slots[i]] != ROW_WANTED)
            continue;
        odmoe_status status = read_row(r, slots[i], &why);
        if (status && !first && err)
            *err = why;
        first = first ? first : status;
    }
    for (int64_t i = 0; i < n && first; i++)
        slots[i] = r->slot_of[rows[i]];
    r->counters.wait_ns += store_now_ns() - start;
    return first;
}
