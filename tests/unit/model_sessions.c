/* What sessions promise whatever a model's layers remember: keys and values of all positions, of a sliding window, or a
 * running sum that cannot be cut. Each test runs on models that mix these, over chunk sizes 1, 7 and all. */
#include "api/handles.h"

#include "format_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/session_state.h"
#include "support/golden.h"
#include "support/kinds.h"
#include "support/models.h"

#define MODEL "models/mixtral_sliding"
#define LONG 330 /* tokens: sliding layers have dropped pages by then */

static odmoe_error err;

static const int chunks[] = {1, 7, 0};

static odmoe_model *open_kind_with(const kind *k, int chunk, int sessions, int snapshots)
{
    odmoe_options o = small_options();
    o.chunk = chunk;
    o.sessions = sessions;
    o.snapshots = snapshots;
    o.context = 1024;
    return kind_open(k, &o);
}

static odmoe_model *open_kind(const kind *k, int chunk, int sessions)
{
    return open_kind_with(k, chunk, sessions, 0);
}

/* Token i of the text, as often as a test asks. */
static int32_t token(int i)
{
    return token_at(i);
}

static void feed(odmoe_session *session, int from, int to, float *logits)
{
    int32_t *tokens = malloc((size_t)(to - from) * sizeof *tokens);
    for (int i = from; i < to; i++)
        tokens[i - from] = token(i);
    if (odmoe_eval(session, tokens, to - from, logits, &err))
        fail_msg("%s", err.message);
    free(tokens);
}

/* Logits after `n` tokens of the text in a session of its own. */
static float *fresh(odmoe_model *m, int n)
{
    float *logits = malloc((size_t)m->m.config.vocab * sizeof *logits);
    odmoe_session *session = must_create(m, 1024);
    feed(session, 0, n, logits);
    odmoe_session_free(session);
    return logits;
}

/* fresh, computed once for each model: chunks make no difference, which a_long_text_gives_the_same_in_any_chunks shows. */
static const float *wanted(odmoe_model *m, int n)
{
    static struct {
        uint64_t model;
        float *logits[LONG + 2];
    } known[KINDS];
    int i = 0;
    while (i < KINDS && known[i].model && known[i].model != odmoe_model_fingerprint(m))
        i++;
    assert_true(i < KINDS && n < LONG + 2);
    known[i].model = odmoe_model_fingerprint(m);
    if (!known[i].logits[n])
        known[i].logits[n] = fresh(m, n);
    return known[i].logits[n];
}

/* The session holds n tokens of the text: after one more it gives what a fresh one gives. */
static void assert_is_at(odmoe_model *m, odmoe_session *session, int n)
{
    size_t size = (size_t)m->m.config.vocab * sizeof(float);
    float *got = malloc(size);
    const float *want = wanted(m, n + 1);
    assert_int_equal(odmoe_session_length(session), n);
    feed(session, n, n + 1, got);
    assert_memory_equal(got, want, size);
    free(got);
}

static void for_all(void (*test)(const kind *k, int chunk))
{
    for (int i = 0; i < KINDS; i++)
        for (int c = 0; c < 3; c++)
            test(&kinds[i], chunks[c]);
}

/* ---- growing ---- */

static void grow(const kind *k, int chunk)
{
    odmoe_model *m = open_kind(k, chunk, 2), *other = open_kind(k, chunk == 1 ? 7 : 1, 1);
    odmoe_session *session = must_create(m, 1024);
    float *want = fresh(other, LONG + 1), *got = malloc((size_t)m->m.config.vocab * sizeof *got);
    feed(session, 0, LONG, NULL);
    feed(session, LONG, LONG + 1, got);
    assert_memory_equal(got, want, (size_t)m->m.config.vocab * sizeof *got);
    free(got);
    free(want);
    odmoe_session_free(session);
    odmoe_model_close(m);
    odmoe_model_close(other);
}

static void a_long_text_gives_the_same_in_any_chunks(void **state)
{
    for_all(grow);
}

/* ---- cutting ---- */

static void cut(const kind *k, int chunk)
{
    odmoe_model *m = open_kind(k, chunk, 2);
    odmoe_session *session = must_create(m, 1024);
    int32_t at = -1;
    feed(session, 0, LONG, NULL);
    assert_int_equal(odmoe_session_truncate(session, 250, &at, &err), ODMOE_OK);
    if (k->any)
        assert_int_equal(at, 250);
    else if (k->sums[0] || k->sums[1])
        assert_int_equal(at, 0);
    assert_in_range(at, 0, 250);
    if (at < 250)
        feed(session, at, 250, NULL);
    assert_is_at(m, session, 250);
    assert_int_equal(odmoe_session_truncate(session, 251, &at, &err), ODMOE_OK); /* where it is: nothing to restore */
    assert_int_equal(at, 251);
    odmoe_session_reset(session);
    feed(session, 0, 3, NULL);
    assert_is_at(m, session, 3);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_cut_session_says_where_it_landed_and_goes_on_from_there(void **state)
{
    for_all(cut);
}

/* Snapshots at 100, 200 and 256 (a page's end), then a long way on. */
static void cut_to_snapshots(const kind *k, int chunk)
{
    static const int places[] = {100, 200, 256};
    static const struct {
        int wish, lands;
    } cuts[] = {{300, 256}, {256, 256}, {220, 200}, {199, 100}, {99, 0}};
    odmoe_model *m = open_kind(k, chunk, 2);
    odmoe_session *session = must_create(m, 1024);
    int at = 0;
    for (int i = 0; i < 3; i++) {
        feed(session, at, places[i], NULL);
        at = places[i];
        assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
    }
    feed(session, at, LONG, NULL);
    for (int i = 0; i < 5; i++) {
        int32_t reached = -1;
        assert_int_equal(odmoe_session_truncate(session, cuts[i].wish, &reached, &err), ODMOE_OK);
        if (k->any)
            assert_int_equal(reached, cuts[i].wish);
        else if (k->sums[0] || k->sums[1])
            assert_int_equal(reached, cuts[i].lands);
        else
            assert_in_range(reached, cuts[i].lands, cuts[i].wish);
        assert_is_at(m, session, reached);
    }
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_session_goes_back_to_its_snapshots(void **state)
{
    for_all(cut_to_snapshots);
}

static void the_latest_four_snapshots_are_kept(void **state)
{
    odmoe_model *m = open_kind(&kinds[4], 0, 1);
    odmoe_session *session = must_create(m, 1024);
    int32_t at;
    for (int i = 1; i <= 6; i++) {
        feed(session, 10 * (i - 1), 10 * i, NULL);
        assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
    }
    assert_int_equal(odmoe_session_truncate(session, 29, &at, &err), ODMOE_OK);
    assert_int_equal(at, 0);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_session_keeps_as_many_snapshots_as_were_asked_for(void **state)
{
    for (int i = 0; i < KINDS; i++) {
        odmoe_model *m = open_kind_with(&kinds[i], 0, 2, 8);
        odmoe_session *session = must_create(m, 1024);
        int32_t at, positions[8], expected[8] = {40, 50, 60, 70, 80, 90, 100, 110};
        for (int to = 10; to <= 110; to += 10) {
            feed(session, to - 10, to, NULL);
            assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
        }
        int n = odmoe_session_needs_snapshots(session) ? 8 : 0;
        assert_int_equal(n > 0, kinds[i].sums[0] || kinds[i].sums[1]); /* no window is passed yet */
        assert_int_equal(odmoe_session_snapshots(session, positions, 8), n);
        assert_memory_equal(positions, expected, (size_t)n * sizeof *positions);
        odmoe_session_forget(session, 70);
        odmoe_session_forget(session, 71); /* there is none */
        assert_int_equal(odmoe_session_snapshots(session, positions, 0), n ? 7 : 0);
        assert_int_equal(odmoe_session_truncate(session, 79, &at, &err), ODMOE_OK);
        if (kinds[i].sums[0] || kinds[i].sums[1])
            assert_int_equal(at, 60);
        assert_is_at(m, session, at);
        odmoe_session_free(session);
        odmoe_model_close(m);
    }
}

/* ---- forking ---- */

/* Forks of the begin of a text, while the source goes on. */
static void fork_a_beginning(const kind *k, int chunk)
{
    static const int lengths[] = {0, 130, 200};
    odmoe_model *m = open_kind(k, chunk, 3);
    odmoe_session *session = must_create(m, 1024), *fork;
    int32_t at = -1;
    feed(session, 0, 130, NULL);
    assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
    feed(session, 130, LONG, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(odmoe_session_fork_at(session, lengths[i], 0, &fork, &at, &err), ODMOE_OK);
        if (k->any)
            assert_int_equal(at, lengths[i]);
        assert_in_range(at, lengths[i] >= 130 ? 130 : 0, lengths[i]);
        assert_is_at(m, fork, at);
        odmoe_session_free(fork);
    }
    assert_is_at(m, session, LONG);
    assert_error(&err, odmoe_session_fork_at(session, LONG + 9, 0, &fork, NULL, &err), ODMOE_ERR_RANGE, "no first",
                 " ");
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_beginning_can_be_forked(void **state)
{
    for (int i = 0; i < KINDS; i++)
        fork_a_beginning(&kinds[i], 7);
}

/* A fork with room for its tokens alone still goes back to what its source could go back to. */
static void fork_what_is_kept(const kind *k, int chunk)
{
    odmoe_model *m = open_kind(k, chunk, 3);
    odmoe_session *session = must_create(m, 1024), *kept, *again;
    int32_t at;
    feed(session, 0, 200, NULL);
    assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
    feed(session, 200, LONG, NULL);
    assert_int_equal(odmoe_session_fork(session, LONG, &kept, &err), ODMOE_OK);
    odmoe_session_free(session);
    assert_int_equal(odmoe_session_fork_at(kept, 210, 1024, &again, &at, &err), ODMOE_OK);
    assert_in_range(at, 200, 210);
    assert_is_at(m, again, at);
    odmoe_session_free(kept);
    odmoe_session_free(again);
    odmoe_model_close(m);
}

static void a_fork_of_few_tokens_keeps_its_snapshots(void **state)
{
    for (int i = 0; i < KINDS; i++)
        fork_what_is_kept(&kinds[i], 7);
}

static void forks_beyond_the_sessions_take_what_is_reserved_for_prefixes(void **state)
{
    odmoe_options o = small_options();
    o.context = 256;
    o.sessions = 1;
    odmoe_plan without = {.size = sizeof without}, with = {.size = sizeof with};
    assert_int_equal(odmoe_plan_make(test_path(MODEL), &o, &without, &err), ODMOE_OK);
    o.prefix_bytes = 2 * without.kv_bytes;
    assert_int_equal(odmoe_plan_make(test_path(MODEL), &o, &with, &err), ODMOE_OK);
    assert_int_equal(with.prefix_bytes, o.prefix_bytes);
    assert_int_equal(with.kv_bytes, without.kv_bytes);
    assert_int_equal(with.floor_bytes, without.floor_bytes + o.prefix_bytes);
    odmoe_model *m = must_open(test_path(MODEL), &o);
    odmoe_session *session = must_create(m, 0), *forks[3];
    for (int i = 0; i < 3; i++) { /* each with a text of its own */
        odmoe_session_reset(session);
        for (int t = 0; t < 200; t++) {
            int32_t one = token(t + i);
            assert_int_equal(odmoe_eval(session, &one, 1, NULL, &err), ODMOE_OK);
        }
        odmoe_status status = odmoe_session_fork(session, 256, &forks[i], &err);
        assert_int_equal(status, i < 2 ? ODMOE_OK : ODMOE_ERR_BUDGET);
    }
    odmoe_session_free(session);
    odmoe_session_free(forks[0]);
    odmoe_session_free(forks[1]);
    odmoe_model_close(m);
}

static void fork_at(const kind *k, int chunk)
{
    static const int lengths[] = {0, 5, 64, 130, LONG};
    for (int i = 0; i < 5; i++) {
        odmoe_model *m = open_kind(k, chunk, 4);
        odmoe_session *session = must_create(m, 1024), *fork;
        if (lengths[i])
            feed(session, 0, lengths[i], NULL);
        assert_int_equal(odmoe_session_fork(session, 0, &fork, &err), ODMOE_OK);
        assert_int_equal(odmoe_session_length(fork), lengths[i]);
        int32_t others[70]; /* another text, in the fork alone */
        for (int t = 0; t < 70; t++)
            others[t] = token(399 - t);
        assert_int_equal(odmoe_eval(fork, others, 70, NULL, &err), ODMOE_OK);
        assert_is_at(m, session, lengths[i]);
        odmoe_session_free(session);
        int32_t at;
        assert_int_equal(odmoe_session_truncate(fork, lengths[i], &at, &err), ODMOE_OK);
        if (k->any) /* what it shared is its own now */
            assert_int_equal(at, lengths[i]);
        assert_is_at(m, fork, at);
        odmoe_session_free(fork);
        odmoe_model_close(m);
    }
}

static void a_fork_and_its_source_never_show_in_each_other(void **state)
{
    for_all(fork_at);
}

/* Ten forks of one long text: they share its pages, and each goes its own way. */
static void forks_share_what_is_whole(void **state)
{
    odmoe_model *m = open_kind(&kinds[0], 0, 2);
    odmoe_session *session = must_create(m, 1024), *fork;
    feed(session, 0, 896, NULL); /* 14 pages */
    assert_int_equal(odmoe_session_fork(session, 1024, &fork, &err), ODMOE_OK);
    int64_t owed = 0, taken = 0;
    for (int i = 0; i < m->m.pool.pages.n_classes; i++) {
        owed += m->m.pool.pages.classes[i].owed;
        taken += m->m.pool.pages.classes[i].count - m->m.pool.pages.classes[i].free;
    }
    assert_int_equal(taken, 2 * 14); /* two layers: nothing was copied */
    assert_int_equal(owed, 2 * 2 * 2);
    odmoe_session_free(fork);
    odmoe_session_free(session);
    for (int i = 0; i < m->m.pool.pages.n_classes; i++) {
        assert_int_equal(m->m.pool.pages.classes[i].owed, 0);
        assert_int_equal(m->m.pool.pages.classes[i].free, m->m.pool.pages.classes[i].count);
    }
    odmoe_model_close(m);
}

static void a_fork_needs_room_for_what_it_holds(void **state)
{
    odmoe_model *m = open_kind(&kinds[2], 0, 2);
    odmoe_session *session = must_create(m, 1024), *fork, *third;
    feed(session, 0, 100, NULL);
    assert_error(&err, odmoe_session_fork(session, 99, &fork, &err), ODMOE_ERR_RANGE, "99", "100 tokens");
    assert_int_equal(odmoe_session_fork(session, 1024, &fork, &err), ODMOE_OK);
    assert_error(&err, odmoe_session_create(m, 1024, &third, &err), ODMOE_ERR_BUDGET, "1024 tokens", "sessions");
    odmoe_session_free(fork);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

/* ---- calls that do not get through ---- */

static int stop_at;

static int stop_call(void *user, odmoe_stage stage, uint64_t done, uint64_t total)
{
    return stop_at-- == 0;
}

static void fail_in_the_middle(const kind *k, int chunk)
{
    odmoe_model *m = open_kind(k, chunk, 2);
    odmoe_session *session = must_create(m, 1024);
    feed(session, 0, LONG - 40, NULL);
    int32_t tokens[20];
    for (int i = 0; i < 20; i++)
        tokens[i] = token(300 + i);
    int steps = chunk == 1 ? 40 : chunk == 7 ? 6 : 2;
    for (int step = 0; step < steps; step += chunk == 1 ? 7 : 1) {
        odmoe_sequence s = {.session = session, .tokens = tokens, .n = 20, .phase = ODMOE_PHASE_PROMPT};
        odmoe_batch batch;
        odmoe_batch_init(&batch);
        batch.sequences = &s;
        batch.n = 1;
        batch.progress = stop_call;
        stop_at = step;
        assert_error(&err, odmoe_forward(m, &batch, &err), ODMOE_ERR_CANCELLED, "cancelled", "forward");
        assert_int_equal(s.status, ODMOE_ERR_CANCELLED);
    }
    assert_is_at(m, session, LONG - 40);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_call_that_is_cancelled_leaves_every_kind_of_state_as_it_was(void **state)
{
    for_all(fail_in_the_middle);
}

/* Experts that cannot be had from some fetch on: the call fails in one of its chunks. */
static odmoe_status (*real_next)(void *ctx, void *fetch, pinned_expert *expert, odmoe_error *e);
static int fetches_left;

static odmoe_status failing_next(void *ctx, void *fetch, pinned_expert *expert, odmoe_error *e)
{
    if (fetches_left-- > 0)
        return real_next(ctx, fetch, expert, e);
    expert->expert = -1;
    return err_set(e, ODMOE_ERR_STATE, "no more experts");
}

static void fail_to_read(const kind *k, int chunk)
{
    odmoe_model *m = open_kind(k, chunk, 2);
    odmoe_session *session = must_create(m, 1024);
    feed(session, 0, LONG - 40, NULL);
    int32_t tokens[20];
    for (int i = 0; i < 20; i++)
        tokens[i] = token(300 + i);
    real_next = m->m.source.next;
    m->m.source.next = failing_next;
    for (int left = 0; left < 2; left++) { /* in the first layer, and behind its first experts */
        fetches_left = left;
        assert_error(&err, odmoe_eval(session, tokens, 20, NULL, &err), ODMOE_ERR_STATE, "no more experts", " ");
    }
    m->m.source.next = real_next;
    assert_is_at(m, session, LONG - 40);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_call_that_fails_leaves_every_kind_of_state_as_it_was(void **state)
{
    for_all(fail_to_read);
}

/* ---- saving ---- */

static void save_and_load(const kind *k, int chunk)
{
    odmoe_model *m = open_kind(k, chunk, 3);
    odmoe_session *session = must_create(m, 1024), *loaded = must_create(m, 1024);
    const char *path = temp_path("session");
    int32_t at;
    feed(session, 0, 200, NULL);
    assert_int_equal(odmoe_session_snapshot(session, &err), ODMOE_OK);
    feed(session, 200, LONG, NULL);
    assert_int_equal(odmoe_session_save(session, path, &err), ODMOE_OK);
    feed(loaded, 0, 17, NULL);
    if (odmoe_session_load(loaded, path, &err))
        fail_msg("%s: %s", k->name, err.message);
    assert_is_at(m, loaded, LONG);
    assert_is_at(m, session, LONG);
    assert_int_equal(odmoe_session_truncate(loaded, 210, &at, &err), ODMOE_OK);
    assert_in_range(at, 200, 210); /* the snapshot has come along */
    assert_is_at(m, loaded, at);
    odmoe_session_free(session);
    odmoe_session_free(loaded);
    odmoe_model_close(m);
}

static void a_saved_session_comes_back_with_its_snapshots(void **state)
{
    for_all(save_and_load);
}

static void the_tokens_of_a_saved_session_can_be_read_alone(void **state)
{
    odmoe_model *m = open_kind(&kinds[4], 0, 2), *other = open_kind(&kinds[0], 0, 2);
    odmoe_session *session = must_create(m, 1024);
    const char *path = temp_path("session");
    int32_t tokens[300];
    size_t n = 0;
    feed(session, 0, 300, NULL);
    assert_int_equal(odmoe_session_save(session, path, &err), ODMOE_OK);
    assert_int_equal(odmoe_session_peek(m, path, tokens, 300, &n, &err), ODMOE_OK);
    assert_int_equal(n, 300);
    assert_memory_equal(tokens, odmoe_session_tokens(session), sizeof tokens);
    tokens[10] = -1;
    assert_int_equal(odmoe_session_peek(m, path, tokens, 10, &n, &err), ODMOE_OK);
    assert_int_equal(n, 300);
    assert_int_equal(tokens[10], -1);
    assert_true(odmoe_model_fingerprint(m) != odmoe_model_fingerprint(other));
    assert_error(&err, odmoe_session_peek(other, path, tokens, 300, &n, &err), ODMOE_ERR_FORMAT, "another model", " ");
    assert_int_equal(truncate(path, 100), 0);
    assert_error(&err, odmoe_session_peek(m, path, tokens, 300, &n, &err), ODMOE_ERR_FORMAT, "cut short", " ");
    assert_int_equal(truncate(path, 10), 0);
    assert_error(&err, odmoe_session_peek(m, path, tokens, 300, &n, &err), ODMOE_ERR_FORMAT, "cut short", " ");
    odmoe_session_free(session);
    odmoe_model_close(m);
    odmoe_model_close(other);
}

static void a_session_of_an_older_version_is_refused_by_name(void **state)
{
    odmoe_model *m = open_kind(&kinds[0], 0, 2);
    odmoe_session *session = must_create(m, 1024);
    const char *path = temp_path("old");
    feed(session, 0, 9, NULL);
    assert_int_equal(odmoe_session_save(session, path, &err), ODMOE_OK);
    FILE *f = fopen(path, "r+b");
    uint32_t version = 3;
    assert_int_equal(fseek(f, 8, SEEK_SET), 0);
    assert_int_equal(fwrite(&version, sizeof version, 1, f), 1);
    fclose(f);
    assert_error(&err, odmoe_session_load(session, path, &err), ODMOE_ERR_FORMAT, "an older odmoe", "format 3");
    assert_is_at(m, session, 9);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

/* ---- what a window saves ---- */

static void a_sliding_layer_reserves_what_its_window_reaches(void **state)
{
    odmoe_model *all = open_kind(&kinds[0], 7, 1), *slides = open_kind(&kinds[1], 7, 1);
    uint64_t page = all->m.sessions.page_bytes[0];
    /* 16 pages of 64 positions a layer; the window of 8 needs 2, for state, call and four snapshots, and 2 for a chunk */
    assert_int_equal(all->m.plan.kv_bytes - slides->m.plan.kv_bytes > 0, 1);
    assert_int_equal(session_pages(&all->m.sessions, 1024).n[0], 32);
    assert_int_equal(session_pages(&slides->m.sessions, 1024).n[0], 16 + 14);
    assert_true(slides->m.plan.kv_bytes < all->m.plan.kv_bytes + page);
    odmoe_model_close(all);
    odmoe_model_close(slides);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_text_gives_the_same_in_any_chunks),
        cmocka_unit_test(a_cut_session_says_where_it_landed_and_goes_on_from_there),
        cmocka_unit_test(a_session_goes_back_to_its_snapshots),
        cmocka_unit_test(the_latest_four_snapshots_are_kept),
        cmocka_unit_test(a_session_keeps_as_many_snapshots_as_were_asked_for),
        cmocka_unit_test(a_beginning_can_be_forked),
        cmocka_unit_test(a_fork_of_few_tokens_keeps_its_snapshots),
        cmocka_unit_test(forks_beyond_the_sessions_take_what_is_reserved_for_prefixes),
        cmocka_unit_test(the_tokens_of_a_saved_session_can_be_read_alone),
        cmocka_unit_test(a_fork_and_its_source_never_show_in_each_other),
        cmocka_unit_test(forks_share_what_is_whole),
        cmocka_unit_test(a_fork_needs_room_for_what_it_holds),
        cmocka_unit_test(a_call_that_is_cancelled_leaves_every_kind_of_state_as_it_was),
        cmocka_unit_test(a_call_that_fails_leaves_every_kind_of_state_as_it_was),
        cmocka_unit_test(a_saved_session_comes_back_with_its_snapshots),
        cmocka_unit_test(a_session_of_an_older_version_is_refused_by_name),
        cmocka_unit_test(a_sliding_layer_reserves_what_its_window_reaches),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
