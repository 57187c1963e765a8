/* Reads of experts that fail, come short or are interrupted in the middle of a pass: the pass ends with an error that
 * names layer and expert, sessions are where they were, and the next pass gives what it always would have. */
#include "format_files.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

#define MODEL "gguf/qwen2moe-Q4_K_M.gguf"
#define LENGTH 5

static odmoe_error err;

/* ---- the injected fault ---- */

typedef enum fault { NO_FAULT, FAILS, COMES_SHORT, IS_INTERRUPTED, ENDS_EARLY } fault;

static _Atomic int kind;
static _Atomic long calls, fail_at; /* fail_at: the call that goes wrong; negative: every one */

ssize_t __real_preadv(int fd, const struct iovec *iov, int n, off_t offset);
ssize_t __wrap_preadv(int fd, const struct iovec *iov, int n, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off_t offset);

static ssize_t half(int fd, const struct iovec *iov, off_t offset)
{
    struct iovec part = {iov->iov_base, iov->iov_len > 4096 ? iov->iov_len / 2 & ~(size_t)4095 : iov->iov_len};
    return __real_preadv(fd, &part, 1, offset);
}

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
    long call = ++calls, at = fail_at;
    if (kind == NO_FAULT || (at >= 0 && call != at))
        return __real_preadv(fd, iov, n, offset);
    switch ((fault)kind) {
    case COMES_SHORT:
        return half(fd, iov, offset);
    case IS_INTERRUPTED:
        if (call % 3) {
            errno = call % 3 == 1 ? EINTR : EAGAIN;
            return -1;
        }
        return __real_preadv(fd, iov, n, offset);
    case ENDS_EARLY:
        return 0;
    default:
        errno = EIO;
        return -1;
    }
}

ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off_t offset)
{
    return __wrap_preadv(fd, iov, n, offset);
}

static void inject(fault what, long at)
{
    calls = 0;
    fail_at = at;
    kind = what;
}

/* ---- a model that reads all the time ---- */

typedef struct fixture {
    odmoe_model *model;
    odmoe_session *session; /* LENGTH tokens of the text */
    odmoe_info info;
} fixture;

/* Room for one expert: every layer of every pass reads. */
static fixture start_at(const char *path, const char *io)
{
    fixture f = {.info.size = sizeof f.info};
    odmoe_options o = small_options();
    o.io = io;
    o.chunk = 16;
    odmoe_plan plan = {.size = sizeof plan};
    if (odmoe_plan_make(path, &o, &plan, &err))
        fail_msg("%s", err.message);
    o.ram_bytes = plan.floor_bytes;
    odmoe_status status = odmoe_model_open(path, &o, &f.model, &err);
    if (status == ODMOE_ERR_UNSUPPORTED) /* a back end that this kernel or file system refuses */
        return f;
    if (status)
        fail_msg("%s", err.message);
    odmoe_model_info(f.model, &f.info);
    f.session = must_create(f.model, 0);
    must_eval(f.session, text_tokens(0, LENGTH), LENGTH, NULL);
    return f;
}

static fixture start(void)
{
    return start_at(test_path(MODEL), "buffered"); /* on every file system */
}

static void stop(fixture *f)
{
    odmoe_session_free(f->session);
    odmoe_model_close(f->model);
}

static void assert_read_error(const fixture *f, odmoe_status status)
{
    int layer = -1, expert = -1;
    assert_error(&err, status, ODMOE_ERR_IO, "layer", "expert");
    if (sscanf(err.message, "layer %d, expert %d:", &layer, &expert) != 2 || layer < 0 || layer >= f->info.moe_layers ||
        expert < 0 || expert >= f->info.experts)
        fail_msg("no layer and expert at the start: %s", err.message);
    assert_non_null(strstr(err.message, ".gguf"));
}

/* ---- faults ---- */

/* The k-th read of a pass fails, for every k. */
static void a_failed_read_ends_the_pass_and_nothing_else(void **state)
{
    fixture f = start();
    float *want = fresh_logits(f.model, LENGTH + 7), *got = malloc((size_t)f.info.vocab * sizeof *got);
    int failed = 0, repeated = 0;
    for (long k = 1;; k++) {
        inject(FAILS, k);
        odmoe_status status = odmoe_eval(f.session, text_tokens(LENGTH, 7), 7, got, &err);
        long made = calls;
        inject(NO_FAULT, 0);
        if (!status && made < k)
            break;
        if (!status) { /* the fault met a read that the failed pass before had left under way: it is tried again */
            assert_memory_equal(got, want, (size_t)f.info.vocab * sizeof *got);
            assert_int_equal(odmoe_session_truncate(f.session, LENGTH, NULL, &err), ODMOE_OK);
            repeated++;
            continue;
        }
        failed++;
        assert_read_error(&f, status);
        assert_int_equal(odmoe_session_length(f.session), LENGTH);
    }
    assert_true(failed > 0);
    assert_true(failed + repeated >= f.info.moe_layers * f.info.top_k);
    assert_memory_equal(got, want, (size_t)f.info.vocab * sizeof *got);
    assert_int_equal(odmoe_session_truncate(f.session, LENGTH, NULL, &err), ODMOE_OK);
    assert_goes_on(f.model, f.session, LENGTH);
    free(want);
    free(got);
    stop(&f);
}

static void a_disk_that_is_gone_fails_every_pass_until_it_is_back(void **state)
{
    fixture f = start();
    inject(FAILS, -1);
    for (int i = 0; i < 3; i++) {
        assert_read_error(&f, odmoe_eval(f.session, text_tokens(200, 7), 7, NULL, &err));
        assert_read_error(&f, odmoe_eval(f.session, text_tokens(300, 1), 1, NULL, &err));
    }
    inject(NO_FAULT, 0);
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

/* All reads fail: no sequence gets through. */
static void failed_reads_leave_every_session_of_the_call_as_it_was(void **state)
{
    fixture f = start();
    odmoe_session *other = must_create(f.model, 30);
    must_eval(other, text_tokens(0, 3), 3, NULL);
    int32_t tokens[8];
    memcpy(tokens, text_tokens(400, 4), 4 * sizeof *tokens);
    memcpy(tokens + 4, text_tokens(450, 4), 4 * sizeof *tokens);
    odmoe_sequence sequences[] = {{.session = f.session, .tokens = tokens, .n = 4},
                                  {.session = other, .tokens = tokens + 4, .n = 4}};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = sequences;
    batch.n = 2;
    inject(FAILS, -1);
    odmoe_status status = odmoe_forward(f.model, &batch, &err);
    inject(NO_FAULT, 0);
    assert_read_error(&f, status);
    assert_int_equal(sequences[0].status, ODMOE_ERR_IO);
    assert_int_equal(sequences[1].status, ODMOE_ERR_IO);
    odmoe_session_free(f.session); /* makes room for the fresh one to compare with */
    assert_goes_on(f.model, other, 3);
    odmoe_session_free(other);
    odmoe_model_close(f.model);
}

/* Decoding with guesses read ahead; the k-th read of a token fails. One that was a guess leaves the token as it is. */
static void a_guess_that_cannot_be_read_costs_nothing_but_time(void **state)
{
    odmoe_options o = small_options();
    o.io = "buffered";
    o.prefetch = "auto";
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(test_path("/models/demo.gguf"), &o, &plan, &err), ODMOE_OK);
    o.ram_bytes = plan.floor_bytes + plan.experts_bytes / 4;
    odmoe_model *model = must_open(test_path("/models/demo.gguf"), &o);
    odmoe_session *session = must_create(model, 40);
    size_t vocab = (size_t)vocab_of(model);
    float *want = fresh_logits(model, LENGTH + 1), *got = malloc(vocab * sizeof *got);
    must_eval(session, text_tokens(0, LENGTH), LENGTH, NULL);
    for (long k = 1; k <= 40; k++) {
        inject(FAILS, k);
        odmoe_status status = odmoe_eval(session, text_tokens(LENGTH, 1), 1, got, &err);
        inject(NO_FAULT, 0);
        if (status) {
            assert_error(&err, status, ODMOE_ERR_IO, "layer", "expert");
            assert_int_equal(odmoe_session_length(session), LENGTH);
            continue;
        }
        assert_memory_equal(got, want, vocab * sizeof *got);
        assert_int_equal(odmoe_session_truncate(session, LENGTH, NULL, &err), ODMOE_OK);
    }
    assert_goes_on(model, session, LENGTH);
    free(want);
    free(got);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void short_and_interrupted_reads_are_continued(void **state)
{
    const fault faults[] = {COMES_SHORT, IS_INTERRUPTED};
    for (int i = 0; i < 2; i++) {
        fixture f = start();
        float *want = fresh_logits(f.model, LENGTH + 7), *got = malloc((size_t)f.info.vocab * sizeof *got);
        inject(faults[i], -1);
        odmoe_status status = odmoe_eval(f.session, text_tokens(LENGTH, 7), 7, got, &err);
        long made = calls;
        inject(NO_FAULT, 0);
        if (status)
            fail_msg("%s", err.message);
        assert_memory_equal(got, want, (size_t)f.info.vocab * sizeof *got);
        assert_true(made > f.info.moe_layers);
        free(want);
        free(got);
        stop(&f);
    }
}

static void a_read_that_ends_early_is_an_error(void **state)
{
    fixture f = start();
    inject(ENDS_EARLY, 2);
    odmoe_status status = odmoe_eval(f.session, text_tokens(200, 7), 7, NULL, &err);
    inject(NO_FAULT, 0);
    assert_read_error(&f, status);
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

/* ---- a file that shrinks under an open model, with every back end ---- */

/* Writes in place, so that whoever has the file open sees it. */
static void copy_file(const char *from, const char *to)
{
    static char part[65536];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_non_null(in);
    assert_non_null(out);
    for (size_t n; (n = fread(part, 1, sizeof part, in));)
        assert_int_equal(fwrite(part, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static void a_file_cut_short_under_an_open_model_is_an_error_until_it_is_whole_again(void **state)
{
    for (int i = 0; odmoe_io_at(i); i++) {
        const char *path = temp_path("model.gguf");
        copy_file(test_path(MODEL), path);
        fixture f = start_at(path, odmoe_io_at(i));
        if (!f.model)
            continue;
        assert_int_equal(truncate(path, 300000), 0);
        assert_read_error(&f, odmoe_eval(f.session, text_tokens(200, 7), 7, NULL, &err));
        copy_file(test_path(MODEL), path);
        assert_goes_on(f.model, f.session, LENGTH);
        stop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_read_ends_the_pass_and_nothing_else),
        cmocka_unit_test(a_disk_that_is_gone_fails_every_pass_until_it_is_back),
        cmocka_unit_test(failed_reads_leave_every_session_of_the_call_as_it_was),
        cmocka_unit_test(a_guess_that_cannot_be_read_costs_nothing_but_time),
        cmocka_unit_test(short_and_interrupted_reads_are_continued),
        cmocka_unit_test(a_read_that_ends_early_is_an_error),
        cmocka_unit_test(a_file_cut_short_under_an_open_model_is_an_error_until_it_is_whole_again),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
