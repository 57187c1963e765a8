/* A token embedding that stays on the disk: reads of its rows that fail end the sequences that need them, and nothing
 * else; the next call gives what it always would have. */
#include "format_files.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

#define MODEL "models/olmoe"

static odmoe_error err;

/* Reads of resident weights and of rows; experts come by preadv. */
static _Atomic long fail_from = -1, reads; /* fail_from: of the reads since `inject`, those from this one on fail */

ssize_t __real_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t offset);

ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset)
{
    long read = reads++;
    if (fail_from >= 0 && read >= fail_from) {
        errno = EIO;
        return -1;
    }
    return __real_pread(fd, to, n, offset);
}

ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t offset)
{
    return __wrap_pread(fd, to, n, offset);
}

static void inject(long from)
{
    reads = 0;
    fail_from = from;
}

static odmoe_model *open_on_disk(void)
{
    odmoe_options o = small_options();
    o.io = "buffered"; /* on every file system */
    o.embeddings = "disk";
    return must_open(test_path(MODEL), &o);
}

static void a_row_that_cannot_be_read_ends_the_call_and_nothing_else(void **state)
{
    odmoe_model *model = open_on_disk();
    odmoe_session *session = must_create(model, 0);
    must_eval(session, text_tokens(0, 5), 5, NULL);
    inject(0);
    odmoe_status status = odmoe_eval(session, text_tokens(5, 7), 7, NULL, &err);
    inject(-1);
    assert_error(&err, status, ODMOE_ERR_IO, "of the embedding", "model.safetensors");
    assert_int_equal(odmoe_session_length(session), 5);
    assert_goes_on(model, session, 5);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

/* The first sequence's rows are there or can be read; the second's cannot. */
static void other_sequences_of_the_call_give_the_same_bytes(void **state)
{
    odmoe_model *model = open_on_disk();
    size_t vocab = (size_t)vocab_of(model);
    float *want = fresh_logits(model, 6), *got = malloc(2 * vocab * sizeof *got);
    odmoe_session *a = must_create(model, 0), *b = must_create(model, 0);
    int32_t tokens[12];
    memcpy(tokens, text_tokens(0, 6), 6 * sizeof *tokens);
    for (int i = 6; i < 12; i++) /* ids that the text does not have */
        for (tokens[i] = tokens[i - 1] + 1;; tokens[i]++) {
            int at = 0;
            while (at < i && tokens[at] != tokens[i])
                at++;
            if (at == i)
                break;
        }
    odmoe_sequence sequences[] = {{.session = b, .tokens = tokens + 6, .n = 6, .want_logits = ODMOE_LOGITS_LAST},
                                  {.session = a, .tokens = tokens, .n = 6, .want_logits = ODMOE_LOGITS_LAST}};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = sequences;
    batch.n = 2;
    batch.logits = got;
    inject(0);
    odmoe_status status = odmoe_forward(model, &batch, &err);
    inject(-1);
    assert_int_equal(status, ODMOE_ERR_IO);
    assert_int_equal(sequences[0].status, ODMOE_ERR_IO);
    assert_int_equal(sequences[1].status, ODMOE_OK);
    assert_int_equal(odmoe_session_length(b), 0);
    assert_memory_equal(got + vocab, want, vocab * sizeof *got);
    free(want);
    free(got);
    odmoe_session_free(a);
    odmoe_session_free(b);
    odmoe_model_close(model);
}

/* Each read of opening fails in turn: the samples of the embedding that a saved session is told by are among them. */
static void a_model_that_cannot_be_read_does_not_open(void **state)
{
    odmoe_options o = small_options();
    o.io = "buffered";
    o.embeddings = "disk";
    odmoe_model *model = NULL;
    inject(1L << 40);
    assert_int_equal(odmoe_model_open(test_path(MODEL), &o, &model, &err), ODMOE_OK);
    long all = reads;
    odmoe_model_close(model);
    for (long k = 0; k < all; k++) {
        inject(k);
        odmoe_status status = odmoe_model_open(test_path(MODEL), &o, &model, &err);
        inject(-1);
        assert_error(&err, status, ODMOE_ERR_IO, "", "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_that_cannot_be_read_ends_the_call_and_nothing_else),
        cmocka_unit_test(other_sequences_of_the_call_give_the_same_bytes),
        cmocka_unit_test(a_model_that_cannot_be_read_does_not_open),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
