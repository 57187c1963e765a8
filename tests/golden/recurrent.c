/* Families whose layers keep a state that cannot be cut (short convolutions, Mamba-2, ...), over a text longer than a page of
 * positions: any cut into chunks, forks and snapshots at any place give the bytes of one long call. A family joins by its
 * files in tests/data/families. */
#include "format_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

#define LONG 200 /* tokens */

static odmoe_error err;

static odmoe_model *open_with_chunks(const char *path, int chunk)
{
    odmoe_options o = small_options();
    o.context = 256;
    o.sessions = 3;
    o.chunk = chunk;
    return must_open(path, &o);
}

/* Can a session of the model not go back to any position? */
static bool keeps_a_state(odmoe_model *model)
{
    odmoe_session *session = must_create(model, 0);
    int32_t reached;
    must_eval(session, (int32_t[]){1, 2, 3, 4, 5}, 5, NULL);
    assert_int_equal(odmoe_session_truncate(session, 3, &reached, &err), ODMOE_OK);
    odmoe_session_free(session);
    return reached != 3;
}

static void with_each(void (*test)(const char *path))
{
    int tested = 0;
    DIR *d = opendir(test_path("families"));
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || access(test_path("families/%s/config.json", e->d_name), R_OK))
            continue;
        char path[512];
        snprintf(path, sizeof path, "%s", test_path("families/%s", e->d_name));
        odmoe_model *model = open_with_chunks(path, 0);
        bool recurrent = keeps_a_state(model);
        odmoe_model_close(model);
        if (!recurrent)
            continue;
        print_message("%s\n", e->d_name);
        test(path);
        tested++;
    }
    closedir(d);
    assert_true(tested >= 3);
}

/* The logits of tokens [from, from + n) of the text, which the session takes. */
static float *feed(odmoe_model *model, odmoe_session *session, int from, int n)
{
    float *logits = malloc((size_t)n * (size_t)vocab_of(model) * sizeof *logits);
    assert_non_null(logits);
    must_forward(model, session, text_tokens(from, n), n, &(forward_options){ODMOE_LOGITS_ALL, logits});
    return logits;
}

static float *whole_text(odmoe_model *model)
{
    odmoe_session *session = must_create(model, 0);
    float *logits = feed(model, session, 0, LONG);
    odmoe_session_free(session);
    return logits;
}

/* The session, which holds `from` tokens of the text, goes on as if it had taken all in one call. */
static void assert_goes_on_as(odmoe_model *model, odmoe_session *session, int from, const float *want)
{
    size_t vocab = (size_t)vocab_of(model);
    assert_int_equal(odmoe_session_length(session), from);
    float *got = feed(model, session, from, LONG - from);
    assert_memory_equal(got, want + (size_t)from * vocab, (size_t)(LONG - from) * vocab * sizeof *got);
    free(got);
}

static void chunks(const char *path)
{
    static const int sizes[] = {1, 7, 63, 64, 65};
    odmoe_model *model = open_with_chunks(path, 0);
    float *want = whole_text(model);
    size_t size = (size_t)LONG * (size_t)vocab_of(model) * sizeof *want;
    odmoe_model_close(model);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        model = open_with_chunks(path, sizes[i]);
        float *got = whole_text(model);
        if (memcmp(got, want, size))
            fail_msg("%s: chunks of %d tokens change the output", path, sizes[i]);
        free(got);
        odmoe_model_close(model);
    }
    free(want);
}

static void a_long_text_gives_the_same_bytes_in_any_chunks(void **state)
{
    with_each(chunks);
}

/* Calls, not chunks of one call, that end wherever they like; a fork of each place goes on as its source does. */
static void forks(const char *path)
{
    static const int ends[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 130, 199};
    odmoe_model *model = open_with_chunks(path, 0);
    float *want = whole_text(model);
    odmoe_session *session = must_create(model, 0), *fork;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int from = odmoe_session_length(session);
        free(feed(model, session, from, ends[i] - from));
        if (odmoe_session_fork(session, 0, &fork, &err))
            fail_msg("%s", err.message);
        assert_goes_on_as(model, fork, ends[i], want);
        odmoe_session_free(fork);
    }
    assert_goes_on_as(model, session, 199, want);
    odmoe_session_free(session);
    free(want);
    odmoe_model_close(model);
}

static void a_fork_goes_on_as_its_source(void **state)
{
    with_each(forks);
}

/* A call of 60 tokens that ends early, from the middle of a chunk of 16 positions, its last token and its end on. */
static int count_down(void *user, odmoe_stage stage, uint64_t done, uint64_t total)
{
    int *left = user;
    return (*left)-- == 0;
}

static void cancelled_calls(const char *path)
{
    static const int starts[] = {10, 31, 32};
    odmoe_model *model = open_with_chunks(path, 7);
    float *want = whole_text(model);
    odmoe_session *session = must_create(model, 0), *fork;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        int from = odmoe_session_length(session), left;
        free(feed(model, session, from, starts[i] - from));
        odmoe_status status = ODMOE_ERR_CANCELLED;
        for (int after = 0; status == ODMOE_ERR_CANCELLED; after += 5) {
            odmoe_sequence sequence = {.tokens = text_tokens(100, 60), .n = 60};
            odmoe_batch batch;
            odmoe_batch_init(&batch);
            batch.sequences = &sequence;
            batch.n = 1;
            batch.progress = count_down;
            batch.user = &left;
            left = after;
            if (odmoe_session_fork(session, 0, &fork, &err))
                fail_msg("%s", err.message);
            sequence.session = fork;
            status = odmoe_forward(model, &batch, &err);
            if (status == ODMOE_ERR_CANCELLED)
                assert_goes_on_as(model, fork, starts[i], want);
            odmoe_session_free(fork);
        }
        assert_int_equal(status, ODMOE_OK);
    }
    odmoe_session_free(session);
    free(want);
    odmoe_model_close(model);
}

static void a_call_that_is_cancelled_leaves_the_session_as_it_was(void **state)
{
    with_each(cancelled_calls);
}

static void snapshots(const char *path)
{
    static const int at[] = {2, 48, 65, 130};
    const int count = (int)(sizeof at / sizeof *at);
    odmoe_model *model = open_with_chunks(path, 0);
    float *want = whole_text(model);
    odmoe_session *session = must_create(model, 0);
    const char *file = temp_path("saved");
    int32_t reached;
    for (int i = 0; i < count; i++) {
        int from = odmoe_session_length(session);
        free(feed(model, session, from, at[i] - from));
        assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
    }
    assert_goes_on_as(model, session, at[count - 1], want);
    for (int i = count - 1; i >= 0; i--) {
        assert_int_equal(odmoe_session_save(session, file, &err), ODMOE_OK);
        assert_int_equal(odmoe_session_load(session, file, &err), ODMOE_OK);
        assert_int_equal(odmoe_session_truncate(session, at[i], &reached, &err), ODMOE_OK);
        assert_int_equal(reached, at[i]);
        assert_goes_on_as(model, session, at[i], want);
    }
    /* nothing is remembered before the first one */
    assert_int_equal(odmoe_session_truncate(session, 1, &reached, &err), ODMOE_OK);
    assert_int_equal(reached, 0);
    assert_goes_on_as(model, session, 0, want);
    odmoe_session_free(session);
    free(want);
    odmoe_model_close(model);
}

static void a_session_goes_back_to_snapshots_that_were_saved_with_it(void **state)
{
    with_each(snapshots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_text_gives_the_same_bytes_in_any_chunks),
        cmocka_unit_test(a_fork_goes_on_as_its_source),
        cmocka_unit_test(a_call_that_is_cancelled_leaves_the_session_as_it_was),
        cmocka_unit_test(a_session_goes_back_to_snapshots_that_were_saved_with_it),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
