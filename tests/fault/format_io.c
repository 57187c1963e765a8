/* Reads that come in pieces, are interrupted, fail or end early: every byte arrives, or a clear error does. */
#include "format_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "format/config.h"
#include "format/gguf.h"
#include "format/safetensors.h"

static odmoe_error err;

static struct {
    size_t most;    /* bytes a read gives; 0: as many as asked for */
    bool interrupt; /* every other call is interrupted */
    long fail_at;   /* this call fails (from 1; 0: none)... */
    int error;      /* ... with this errno, or with an end of file where 0 */
    long calls;
} fault;

/* Which of the two names a call has depends on the size of off_t. */
ssize_t __real_pread(int fd, void *to, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t length, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t length, off_t offset);

ssize_t __wrap_pread(int fd, void *to, size_t length, off_t offset)
{
    fault.calls++;
    if (fault.calls == fault.fail_at) {
        errno = fault.error;
        return fault.error ? -1 : 0;
    }
    if (fault.interrupt && fault.calls % 2) {
        errno = EINTR;
        return -1;
    }
    return __real_pread(fd, to, fault.most && fault.most < length ? fault.most : length, offset);
}

ssize_t __wrap_pread64(int fd, void *to, size_t length, off_t offset)
{
    return __wrap_pread(fd, to, length, offset);
}

/* ---- what is opened --------------------------------------------------------------------------------------- */

static unsigned char *data; /* of the largest tensor, which open_* reads */
static size_t data_length;

static odmoe_status read_largest(const tensor_index *index)
{
    const tensor_info *t = tensor_index_at(index, 0);
    for (size_t i = 1; i < tensor_index_count(index); i++)
        if (tensor_index_at(index, i)->length > t->length)
            t = tensor_index_at(index, i);
    free(data);
    data = malloc(t->length);
    data_length = t->length;
    assert_non_null(data);
    return tensor_read(index, t, data, &err);
}

static odmoe_status open_gguf(const char *path)
{
    gguf *g;
    odmoe_status status = gguf_open(path, &g, &err);
    if (status)
        return status;
    status = read_largest(gguf_tensors(g));
    gguf_free(g);
    return status;
}

static odmoe_status open_folder(const char *path)
{
    tensor_index *index;
    odmoe_status status = safetensors_open_folder(path, &index, &err);
    if (status)
        return status;
    status = read_largest(index);
    tensor_index_free(index);
    return status;
}

static odmoe_status read_config(const char *path)
{
    json_t *root;
    odmoe_status status = config_read(path, "config.json", 1 << 20, false, &root, &err);
    if (!status)
        json_decref(root);
    return status;
}

typedef struct subject {
    odmoe_status (*open)(const char *path);
    const char *path;
} subject;

static const subject subjects[] = {
    {open_gguf, "gguf/qwen3moe-Q8_0-split-00001-of-00002.gguf"},
    {open_folder, "models/qwen3_moe"},
    {read_config, "models/qwen3_moe"},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static odmoe_status open_subject(const subject *s)
{
    fault.calls = 0;
    memset(&err, 0, sizeof err);
    return s->open(data_path(s->path));
}

/* ---- tests ------------------------------------------------------------------------------------------------ */

static int no_fault(void **state)
{
    memset(&fault, 0, sizeof fault);
    free(data);
    data = NULL;
    return 0;
}

static void reads_of_any_length_give_every_byte(void **state)
{
    static const size_t lengths[] = {1, 7, 100, 4095, 65537};
    static unsigned char whole[1 << 20];
    const subject one_file = {open_gguf, "gguf/qwen3moe-MXFP4.gguf"};
    assert_int_equal(open_subject(&one_file), ODMOE_OK);
    size_t length = data_length;
    assert_true(length > 65537 && length <= sizeof whole);
    memcpy(whole, data, length);
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        fault.most = lengths[l];
        memset(data, 0, length);
        assert_int_equal(open_subject(&one_file), ODMOE_OK);
        assert_memory_equal(data, whole, length);
    }
}

static void headers_that_come_in_pieces_are_read_in_full(void **state)
{
    fault.most = 100;
    for (int s = 0; s < SUBJECTS; s++)
        if (open_subject(&subjects[s]))
            fail_msg("%s", err.message);
}

static void interrupted_reads_are_repeated(void **state)
{
    fault.interrupt = true;
    for (int s = 0; s < SUBJECTS; s++)
        if (open_subject(&subjects[s]))
            fail_msg("%s", err.message);
}

static void a_failing_read_is_an_error_that_names_file_and_cause(void **state)
{
    for (int s = 0; s < SUBJECTS; s++)
        for (fault.fail_at = 1;; fault.fail_at++) {
            fault.error = EIO;
            odmoe_status status = open_subject(&subjects[s]);
            if (!status) {
                assert_true(fault.calls < fault.fail_at && fault.fail_at > 1);
                break;
            }
            assert_error(&err, status, ODMOE_ERR_IO, "tests/data/", "Input/output error");
        }
}

static void a_file_that_ends_early_is_an_error_that_says_where(void **state)
{
    for (int s = 0; s < SUBJECTS; s++)
        for (fault.fail_at = 1;; fault.fail_at++) {
            fault.error = 0;
            odmoe_status status = open_subject(&subjects[s]);
            if (!status) {
                assert_true(fault.calls < fault.fail_at && fault.fail_at > 1);
                break;
            }
            assert_error(&err, status, ODMOE_ERR_IO, "tests/data/", "it ends at byte");
        }
}

static void a_failing_read_of_weights_names_the_tensor(void **state)
{
    tensor_index *index;
    assert_int_equal(safetensors_open_folder(data_path("models/mixtral"), &index, &err), ODMOE_OK);
    fault.error = EIO;
    fault.fail_at = fault.calls + 1;
    const tensor_info *t = tensor_index_find(index, "lm_head.weight");
    data = malloc(t->length);
    assert_non_null(data);
    assert_error(&err, tensor_read(index, t, data, &err), ODMOE_ERR_IO,
                 "tensor 'lm_head.weight': ", "model.safetensors");
    tensor_index_free(index);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, no_fault, no_fault)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(reads_of_any_length_give_every_byte),
        FRESH(headers_that_come_in_pieces_are_read_in_full),
        FRESH(interrupted_reads_are_repeated),
        FRESH(a_failing_read_is_an_error_that_names_file_and_cause),
        FRESH(a_file_that_ends_early_is_an_error_that_says_where),
        FRESH(a_failing_read_of_weights_names_the_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
