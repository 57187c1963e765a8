/* Rows of a table in a file: the right bytes, each read once while it is kept, a call's rows announced together before
 * the first is waited for; rows that cannot be read leave the others right. */
#include "store/row_reader.h"

#include "format_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 300
#define ROW_BYTES 70
#define SKIP 13 /* bytes of the file before the table */

static odmoe_error err;

/* ---- what the reader asks of the system ---- */

static int announced, reads, announced_at_first_read;
static int32_t broken = -1; /* a row whose reads fail */

ssize_t __real_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t offset);
int __real_posix_fadvise(int fd, off_t offset, off_t n, int advice);
int __wrap_posix_fadvise(int fd, off_t offset, off_t n, int advice);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t n, int advice);

ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset)
{
    if (!reads++)
        announced_at_first_read = announced;
    if (broken >= 0 && offset == SKIP + (off_t)broken * ROW_BYTES) {
        errno = EIO;
        return -1;
    }
    return __real_pread(fd, to, n, offset);
}

ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t offset)
{
    return __wrap_pread(fd, to, n, offset);
}

int __wrap_posix_fadvise(int fd, off_t offset, off_t n, int advice)
{
    announced += advice == POSIX_FADV_WILLNEED;
    return __real_posix_fadvise(fd, offset, n, advice);
}

int __wrap_posix_fadvise64(int fd, off_t offset, off_t n, int advice)
{
    return __wrap_posix_fadvise(fd, offset, n, advice);
}

/* ---- a table ---- */

static unsigned char byte_of(int32_t row, int i)
{
    return (unsigned char)(row * 31 + i * 7 + row / 256);
}

typedef struct fixture {
    row_reader reader;
    void *memory;
} fixture;

static fixture start(int64_t batch)
{
    bytes b = {0};
    fixture f;
    arena a = {0};
    put(&b, "thirteen byte", SKIP);
    for (int32_t r = 0; r < ROWS; r++)
        for (int i = 0; i < ROW_BYTES; i++)
            put(&b, &(unsigned char){byte_of(r, i)}, 1);
    save(temp_path("table"), &b);
    bytes_free(&b);
    row_table table = {.path = temp_path("table"), .offset = SKIP, .row_bytes = ROW_BYTES, .rows = ROWS};
    row_reader_layout(&a, &table, batch, &f.reader);
    f.memory = calloc(1, a.used);
    a = (arena){.base = f.memory};
    row_reader_layout(&a, &table, batch, &f.reader);
    assert_int_equal(row_reader_open(&f.reader, &err), ODMOE_OK);
    announced = reads = 0;
    broken = -1;
    return f;
}

static void stop(fixture *f)
{
    row_reader_close(&f->reader);
    free(f->memory);
}

static void assert_row(const fixture *f, int32_t row, int32_t slot)
{
    const unsigned char *got = f->reader.memory + (size_t)slot * ROW_BYTES;
    assert_in_range(slot, 0, f->reader.capacity - 1);
    for (int i = 0; i < ROW_BYTES; i++)
        assert_int_equal(got[i], byte_of(row, i));
}

static void get(fixture *f, const int32_t *rows, int64_t n)
{
    int32_t slots[ROWS];
    assert_int_equal(row_reader_get(&f->reader, rows, n, slots, &err), ODMOE_OK);
    for (int64_t i = 0; i < n; i++)
        assert_row(f, rows[i], slots[i]);
}

static void a_batch_is_announced_whole_and_each_row_read_once(void **state)
{
    fixture f = start(8);
    get(&f, (int32_t[]){7, 299, 7, 0, 12, 299, 7, 1}, 8);
    assert_int_equal(announced_at_first_read, 5);
    assert_int_equal(reads, 5);
    assert_int_equal(f.reader.counters.misses, 5);
    assert_int_equal(f.reader.counters.hits, 0);
    assert_int_equal(f.reader.counters.bytes, 5 * ROW_BYTES);
    get(&f, (int32_t[]){299, 7, 299, 2}, 4);
    assert_int_equal(reads, 6);
    assert_int_equal(f.reader.counters.hits, 2);
    stop(&f);
}

/* Any order of calls, at sizes at which every slot is taken again and again. */
static void rows_stay_right_whatever_has_to_leave(void **state)
{
    uint32_t random = 1;
    for (int64_t batch = 1; batch <= 64; batch *= 4) {
        fixture f = start(batch);
        for (int call = 0; call < 400; call++) {
            int32_t rows[64];
            for (int64_t i = 0; i < batch; i++)
                rows[i] = (int32_t)((random = random * 1664525 + 1013904223) >> 8) % ROWS;
            get(&f, rows, batch);
        }
        assert_int_equal(f.reader.counters.bytes, f.reader.counters.misses * ROW_BYTES);
        stop(&f);
    }
}

static void rows_that_are_used_often_stay(void **state)
{
    fixture f = start(1);
    get(&f, (int32_t[]){5}, 1);
    for (int32_t r = 10; r < 200; r++) {
        get(&f, (int32_t[]){r}, 1);
        get(&f, (int32_t[]){5}, 1);
    }
    assert_int_equal(reads, 1 + 190);
    stop(&f);
}

static void a_cache_of_all_rows_reads_each_once(void **state)
{
    fixture f = start(ROWS);
    int32_t rows[ROWS];
    for (int32_t r = 0; r < ROWS; r++)
        rows[r] = ROWS - 1 - r;
    assert_int_equal(f.reader.capacity, ROWS);
    get(&f, rows, ROWS);
    get(&f, rows, ROWS);
    assert_int_equal(reads, ROWS);
    stop(&f);
}

static void a_row_that_cannot_be_read_leaves_the_others_right(void **state)
{
    fixture f = start(4);
    int32_t slots[4];
    get(&f, (int32_t[]){3}, 1);
    broken = 9;
    assert_error(&err, row_reader_get(&f.reader, (int32_t[]){9, 3, 9, 4}, 4, slots, &err), ODMOE_ERR_IO,
                 "row 9 of the embedding", "table");
    assert_int_equal(slots[0], -1);
    assert_int_equal(slots[2], -1);
    assert_row(&f, 3, slots[1]);
    assert_row(&f, 4, slots[3]);
    broken = -1;
    get(&f, (int32_t[]){9, 3, 4}, 3);
    stop(&f);
}

static void a_file_that_has_become_shorter_is_an_error(void **state)
{
    fixture f = start(4);
    int32_t slots[2];
    assert_int_equal(truncate(temp_path("table"), SKIP + 5 * ROW_BYTES), 0);
    assert_error(&err, row_reader_get(&f.reader, (int32_t[]){2, 250}, 2, slots, &err), ODMOE_ERR_IO, "row 250",
                 "shorter");
    assert_row(&f, 2, slots[0]);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_announced_whole_and_each_row_read_once),
        cmocka_unit_test(rows_stay_right_whatever_has_to_leave),
        cmocka_unit_test(rows_that_are_used_often_stay),
        cmocka_unit_test(a_cache_of_all_rows_reads_each_once),
        cmocka_unit_test(a_row_that_cannot_be_read_leaves_the_others_right),
        cmocka_unit_test(a_file_that_has_become_shorter_is_an_error),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
