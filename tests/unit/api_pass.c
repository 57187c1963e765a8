/* Passes: rows, errors that change nothing, cancelling, several sessions, several threads, taps. */
#include "format_files.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/models.h"

#define MODEL "gguf/qwen3moe-Q4_0.gguf"
#define LENGTH 9

static odmoe_error err;

typedef struct fixture {
    odmoe_model *model;
    odmoe_session *session; /* holds LENGTH tokens of the text */
    size_t vocab;
} fixture;

static fixture start(const odmoe_options *options)
{
    odmoe_options o = small_options();
    fixture f = {.model = must_open(test_path(MODEL), options ? options : &o)};
    f.session = must_create(f.model, 40);
    f.vocab = (size_t)vocab_of(f.model);
    must_eval(f.session, text_tokens(0, LENGTH), LENGTH, NULL);
    return f;
}

static void stop(fixture *f)
{
    odmoe_session_free(f->session);
    odmoe_model_close(f->model);
}

static odmoe_status run_rows(odmoe_model *model, const odmoe_row *rows, int64_t n, float *logits)
{
    odmoe_pass pass;
    odmoe_pass_init(&pass);
    pass.rows = rows;
    pass.n = n;
    pass.logits = logits;
    return odmoe_pass_run(model, &pass, &err);
}

/* ---- rows that make no sense ---- */

static void refused(fixture *f, const odmoe_row *rows, int64_t n, odmoe_status status, const char *word,
                    const char *word2)
{
    assert_error(&err, run_rows(f->model, rows, n, NULL), status, word, word2);
    assert_int_equal(odmoe_session_length(f->session), LENGTH);
}

static void rows_that_do_not_continue_their_session_are_refused(void **state)
{
    fixture f = start(NULL);
    odmoe_session *s = f.session;
    refused(&f, &(odmoe_row){s, LENGTH - 1, 5, 0}, 1, ODMOE_ERR_RANGE, "row 0: position 8", "goes on at 9");
    refused(&f, &(odmoe_row){s, LENGTH + 1, 5, 0}, 1, ODMOE_ERR_RANGE, "row 0: position 10", "goes on at 9");
    refused(&f, &(odmoe_row){s, -1, 5, 0}, 1, ODMOE_ERR_RANGE, "position -1", "goes on");
    refused(&f, &(odmoe_row){s, INT32_MAX, 5, 0}, 1, ODMOE_ERR_RANGE, "position 2147483647", "goes on");
    const odmoe_row twice[] = {{s, LENGTH, 5, 0}, {s, LENGTH, 6, 0}};
    refused(&f, twice, 2, ODMOE_ERR_RANGE, "row 1: position 9", "goes on at 10");
    const odmoe_row backward[] = {{s, LENGTH + 1, 5, 0}, {s, LENGTH, 6, 0}};
    refused(&f, backward, 2, ODMOE_ERR_RANGE, "row 0: position 10", "goes on at 9");
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

static void tokens_outside_the_vocabulary_are_refused(void **state)
{
    fixture f = start(NULL);
    refused(&f, &(odmoe_row){f.session, LENGTH, -1, 0}, 1, ODMOE_ERR_RANGE, "token -1", "vocabulary of 512");
    refused(&f, &(odmoe_row){f.session, LENGTH, 512, 0}, 1, ODMOE_ERR_RANGE, "token 512", "vocabulary of 512");
    const int32_t last_wrong[] = {1, 2, INT32_MAX};
    assert_error(&err, odmoe_eval(f.session, last_wrong, 3, NULL, &err), ODMOE_ERR_RANGE, "row 2", "2147483647");
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

static void rows_beyond_the_context_are_refused(void **state)
{
    fixture f = start(NULL);
    odmoe_row rows[40];
    for (int i = 0; i < 40; i++)
        rows[i] = (odmoe_row){f.session, LENGTH + i, token_at(i), 0};
    refused(&f, rows, 40, ODMOE_ERR_RANGE, "row 31", "context of 40");
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

static void rows_of_nobody_or_of_another_model_are_refused(void **state)
{
    fixture f = start(NULL), other = start(NULL);
    refused(&f, NULL, 0, ODMOE_ERR_RANGE, "at least one row", " ");
    refused(&f, NULL, -3, ODMOE_ERR_RANGE, "at least one row", " ");
    refused(&f, &(odmoe_row){NULL, 0, 5, 0}, 1, ODMOE_ERR_ARG, "row 0", "no session");
    const odmoe_row mixed[] = {{f.session, LENGTH, 5, 0}, {other.session, LENGTH, 5, 0}};
    refused(&f, mixed, 2, ODMOE_ERR_ARG, "row 1", "another model");
    assert_goes_on(f.model, f.session, LENGTH);
    assert_goes_on(other.model, other.session, LENGTH);
    stop(&f);
    stop(&other);
}

/* ---- logits ---- */

typedef struct seen {
    size_t vocab;
    int64_t rows[64];
    int n;
    float *logits;
} seen;

static void note_logits(void *user, int64_t row, const float *logits)
{
    seen *s = user;
    s->rows[s->n] = row;
    memcpy(s->logits + (size_t)s->n++ * s->vocab, logits, s->vocab * sizeof *logits);
}

/* Wanted rows of a pass in three chunks, in both ways, with several sizes of groups. */
static void the_callback_gets_what_the_buffer_gets_in_row_order(void **state)
{
    static const int wanted[] = {0, 3, 4, 9, 10, 16};
    for (int group = 1; group <= 5; group += 2) {
        odmoe_options o = small_options();
        o.chunk = 7;
        o.logits_rows = group;
        fixture f = start(&o);
        odmoe_row rows[17];
        for (int i = 0; i < 17; i++)
            rows[i] = (odmoe_row){f.session, LENGTH + i, token_at(LENGTH + i), 0};
        for (int i = 0; i < 6; i++)
            rows[wanted[i]].want_logits = 1;
        seen s = {.vocab = f.vocab, .logits = malloc(6 * f.vocab * sizeof(float))};
        odmoe_pass pass;
        odmoe_pass_init(&pass);
        pass.rows = rows;
        pass.n = 17;
        pass.on_logits = note_logits;
        pass.user = &s;
        assert_int_equal(odmoe_pass_run(f.model, &pass, &err), ODMOE_OK);
        assert_int_equal(s.n, 6);
        assert_int_equal(odmoe_session_truncate(f.session, LENGTH, &err), ODMOE_OK);
        float *buffer = malloc(6 * f.vocab * sizeof *buffer);
        assert_int_equal(run_rows(f.model, rows, 17, buffer), ODMOE_OK);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(s.rows[i], wanted[i]);
            float *fresh = fresh_logits(f.model, LENGTH + wanted[i] + 1);
            assert_memory_equal(buffer + (size_t)i * f.vocab, fresh, f.vocab * sizeof *fresh);
            assert_memory_equal(s.logits + (size_t)i * f.vocab, fresh, f.vocab * sizeof *fresh);
            free(fresh);
        }
        free(buffer);
        free(s.logits);
        stop(&f);
    }
}

static void nobody_has_to_take_the_logits(void **state)
{
    fixture f = start(NULL);
    assert_int_equal(run_rows(f.model, &(odmoe_row){f.session, LENGTH, token_at(LENGTH), 1}, 1, NULL), ODMOE_OK);
    assert_goes_on(f.model, f.session, LENGTH + 1);
    stop(&f);
}

/* ---- taps ---- */

typedef struct taps {
    int n;
    struct {
        int layer;
        int64_t first, n;
        bool hidden, router;
    } at[64];
} taps;

static void note_tap(void *user, const odmoe_tap *tap)
{
    taps *t = user;
    assert_true(t->n < 64);
    assert_int_equal(tap->size, sizeof *tap);
    assert_true(!tap->router == !tap->topk && !tap->router == !tap->topw && !tap->router == !tap->input);
    t->at[t->n].layer = tap->layer;
    t->at[t->n].first = tap->first;
    t->at[t->n].n = tap->n;
    t->at[t->n].hidden = tap->hidden != NULL;
    t->at[t->n++].router = tap->router != NULL;
}

/* For each chunk: every layer's input, then its router; at the end the final norm. */
static void a_tap_sees_the_layers_in_order_chunk_by_chunk(void **state)
{
    odmoe_options o = small_options();
    o.chunk = 5;
    fixture f = start(&o);
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(f.model, &info);
    odmoe_row rows[7];
    for (int i = 0; i < 7; i++)
        rows[i] = (odmoe_row){f.session, LENGTH + i, token_at(LENGTH + i), 0};
    taps t = {0};
    odmoe_pass pass;
    odmoe_pass_init(&pass);
    pass.rows = rows;
    pass.n = 7;
    pass.on_tap = note_tap;
    pass.user = &t;
    assert_int_equal(odmoe_pass_run(f.model, &pass, &err), ODMOE_OK);
    int at = 0;
    for (int chunk = 0; chunk < 2; chunk++)
        for (int l = 0; l <= info.layers; l++)
            for (int routed = 0; routed < (l < info.layers ? 2 : 1); routed++, at++) {
                assert_int_equal(t.at[at].layer, l);
                assert_int_equal(t.at[at].first, chunk * 5);
                assert_int_equal(t.at[at].n, chunk ? 2 : 5);
                assert_int_equal(t.at[at].hidden, !routed);
                assert_int_equal(t.at[at].router, routed);
            }
    assert_int_equal(t.n, at);
    assert_goes_on(f.model, f.session, LENGTH + 7);
    stop(&f);
}

/* ---- cancelling ---- */

typedef struct patience {
    odmoe_stage stage;
    int left; /* calls of that stage until it says stop; negative: never */
    int calls;
    uint64_t last_done, total;
} patience;

static int count_down(void *user, odmoe_stage stage, uint64_t done, uint64_t total)
{
    patience *p = user;
    if (stage != p->stage)
        return 0;
    assert_true(done <= total);
    assert_true(p->calls == 0 || done >= p->last_done);
    p->last_done = done;
    p->total = total;
    p->calls++;
    return p->left >= 0 && p->left-- == 0;
}

static void a_pass_cancelled_at_any_step_leaves_the_session_as_it_was(void **state)
{
    patience p = {.stage = ODMOE_STAGE_PASS, .left = -1};
    odmoe_options o = small_options();
    o.chunk = 6;
    o.progress = count_down;
    o.user = &p;
    fixture f = start(&o);
    p = (patience){.stage = ODMOE_STAGE_PASS, .left = -1};
    must_eval(f.session, text_tokens(LENGTH, 11), 11, NULL);
    int steps = p.calls;
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(f.model, &info);
    assert_int_equal(steps, 2 * info.layers); /* two chunks */
    assert_int_equal(p.total, steps);
    assert_int_equal(odmoe_session_truncate(f.session, LENGTH, &err), ODMOE_OK);
    for (int k = 0; k < steps; k++) {
        p = (patience){.stage = ODMOE_STAGE_PASS, .left = k};
        assert_error(&err, odmoe_eval(f.session, text_tokens(200, 11), 11, NULL, &err), ODMOE_ERR_CANCELLED,
                     "cancelled", "pass");
        assert_int_equal(p.calls, k + 1);
        p.stage = ODMOE_STAGE_OPEN; /* the passes below are left alone */
        assert_goes_on(f.model, f.session, LENGTH);
    }
    stop(&f);
}

static void opening_can_be_cancelled_at_any_step(void **state)
{
    patience p = {.stage = ODMOE_STAGE_OPEN, .left = -1};
    odmoe_options o = small_options();
    o.progress = count_down;
    o.user = &p;
    odmoe_model *model = must_open(test_path(MODEL), &o);
    odmoe_model_close(model);
    int steps = p.calls;
    assert_true(steps > 10);
    assert_int_equal(p.last_done, p.total);
    for (int k = 0; k < steps; k += 7) {
        p = (patience){.stage = ODMOE_STAGE_OPEN, .left = k};
        model = NULL;
        assert_error(&err, odmoe_model_open(test_path(MODEL), &o, &model, &err), ODMOE_ERR_CANCELLED, "cancelled",
                     "opening");
        assert_null(model);
    }
}

/* ---- several sessions, several threads ---- */

#define SESSIONS 4
#define TURNS 5

static odmoe_model *open_for_many(void)
{
    odmoe_options o = small_options();
    o.sessions = 2 * SESSIONS;
    o.context = 40;
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(test_path(MODEL), &o, &plan, &err), ODMOE_OK);
    o.ram_bytes = plan.floor_bytes + plan.experts_bytes / 3; /* so that experts are evicted and read again */
    o.io = "pread";
    return must_open(test_path(MODEL), &o);
}

/* What the i-th user does: a prompt of 3 + i tokens, then TURNS tokens one by one. `logits` after the last. */
static int prompt_of(int i)
{
    return 3 + i;
}

static float *alone(odmoe_model *model, int i)
{
    float *logits = malloc((size_t)vocab_of(model) * sizeof *logits);
    odmoe_session *s = must_create(model, 40);
    int n = prompt_of(i) + TURNS;
    must_eval(s, text_tokens(50 * i, n), n, logits);
    odmoe_session_free(s);
    return logits;
}

/* Prompts of different lengths in one pass, interleaved; then a pass a turn with one row of each. */
static void several_sessions_in_a_pass_get_what_each_gets_alone(void **state)
{
    odmoe_model *model = open_for_many();
    size_t vocab = (size_t)vocab_of(model);
    odmoe_session *s[SESSIONS];
    odmoe_row rows[64];
    int n = 0;
    for (int i = 0; i < SESSIONS; i++)
        s[i] = must_create(model, 40);
    for (int at = 0; at < prompt_of(SESSIONS - 1); at++)
        for (int i = SESSIONS - 1; i >= 0; i--)
            if (at < prompt_of(i))
                rows[n++] = (odmoe_row){s[i], at, token_at(50 * i + at), 0};
    assert_int_equal(run_rows(model, rows, n, NULL), ODMOE_OK);
    float *logits = malloc(SESSIONS * vocab * sizeof *logits);
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < SESSIONS; i++)
            rows[i] = (odmoe_row){s[i], prompt_of(i) + turn, token_at(50 * i + prompt_of(i) + turn), 1};
        assert_int_equal(run_rows(model, rows, SESSIONS, logits), ODMOE_OK);
    }
    for (int i = 0; i < SESSIONS; i++) {
        float *want = alone(model, i);
        assert_memory_equal(logits + (size_t)i * vocab, want, vocab * sizeof *want);
        free(want);
        odmoe_session_free(s[i]);
    }
    free(logits);
    odmoe_model_close(model);
}

static void a_wrong_row_fails_the_pass_for_all_its_sessions(void **state)
{
    odmoe_model *model = open_for_many();
    odmoe_session *a = must_create(model, 40), *b = must_create(model, 40);
    must_eval(a, text_tokens(0, 5), 5, NULL);
    must_eval(b, text_tokens(0, 3), 3, NULL);
    const odmoe_row rows[] = {{a, 5, 7, 0}, {b, 3, 7, 0}, {a, 6, 7, 0}, {b, 5, 7, 0}};
    assert_error(&err, run_rows(model, rows, 4, NULL), ODMOE_ERR_RANGE, "row 3: position 5", "goes on at 4");
    assert_goes_on(model, a, 5);
    assert_goes_on(model, b, 3);
    odmoe_session_free(a);
    odmoe_session_free(b);
    odmoe_model_close(model);
}

typedef struct user {
    odmoe_model *model;
    int i;
    float *logits; /* [vocab] after the last turn */
    odmoe_status status;
    odmoe_error err;
} user;

static void *use(void *ctx)
{
    user *u = ctx;
    odmoe_session *s;
    u->status = odmoe_session_create(u->model, 40, &s, &u->err);
    if (u->status)
        return NULL;
    int prompt = prompt_of(u->i);
    u->status = odmoe_eval(s, text_tokens(50 * u->i, prompt), prompt, NULL, &u->err);
    for (int turn = 0; turn < TURNS && !u->status; turn++) {
        int32_t token = token_at(50 * u->i + prompt + turn);
        u->status = odmoe_eval(s, &token, 1, u->logits, &u->err);
    }
    odmoe_session_free(s);
    return NULL;
}

static void *watch(void *ctx)
{
    for (int i = 0; i < 20; i++) {
        odmoe_stats stats = {.size = sizeof stats};
        odmoe_expert_stats expert = {.size = sizeof expert};
        odmoe_stats_get(ctx, &stats);
        odmoe_expert_stats_get(ctx, 0, i, &expert, NULL);
        vocab_of(ctx);
    }
    return NULL;
}

static void calls_from_several_threads_give_what_each_gives_alone(void **state)
{
    odmoe_model *model = open_for_many();
    user users[SESSIONS];
    pthread_t threads[SESSIONS], watcher;
    for (int i = 0; i < SESSIONS; i++) {
        users[i] = (user){.model = model, .i = i, .logits = malloc((size_t)vocab_of(model) * sizeof(float))};
        assert_int_equal(pthread_create(&threads[i], NULL, use, &users[i]), 0);
    }
    assert_int_equal(pthread_create(&watcher, NULL, watch, model), 0);
    for (int i = 0; i < SESSIONS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(watcher, NULL);
    for (int i = 0; i < SESSIONS; i++) {
        if (users[i].status)
            fail_msg("thread %d: %s", i, users[i].err.message);
        float *want = alone(model, i);
        assert_memory_equal(users[i].logits, want, (size_t)vocab_of(model) * sizeof *want);
        free(want);
        free(users[i].logits);
    }
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_stats_get(model, &stats);
    uint64_t rows = 0;
    for (int i = 0; i < SESSIONS; i++)
        rows += 2 * (uint64_t)(prompt_of(i) + TURNS);
    assert_int_equal(stats.tokens, rows);
    assert_true(stats.evictions > 0);
    odmoe_model_close(model);
}

/* ---- telemetry ---- */

static void the_counters_add_up(void **state)
{
    fixture f = start(NULL);
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(f.model, &info);
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_stats_get(f.model, &stats);
    assert_int_equal(stats.tokens, LENGTH);
    assert_int_equal(stats.chunks, 1);
    assert_int_equal(stats.expert_uses, LENGTH * info.top_k * info.moe_layers);
    uint64_t uses = 0, hits = 0, misses = 0, read = 0;
    for (int l = 0; l < info.moe_layers; l++)
        for (int e = 0; e < info.experts; e++) {
            odmoe_expert_stats one = {.size = sizeof one};
            assert_int_equal(odmoe_expert_stats_get(f.model, l, e, &one, &err), ODMOE_OK);
            uses += one.uses;
            hits += one.hits;
            misses += one.misses;
            read += one.bytes;
        }
    assert_int_equal(uses, stats.expert_uses);
    assert_int_equal(hits, stats.cache_hits);
    assert_int_equal(misses, stats.cache_misses);
    assert_int_equal(read, stats.bytes_read);
    assert_true(stats.bytes_read >= stats.cache_misses * info.expert_bytes_min);
    assert_int_equal(stats.threads, 2);
    assert_string_equal(stats.kv, "f16");
    odmoe_expert_stats one = {.size = sizeof one};
    const int wrong[][2] = {{-1, 0}, {info.moe_layers, 0}, {0, -1}, {0, info.experts}};
    for (int i = 0; i < 4; i++)
        assert_error(&err, odmoe_expert_stats_get(f.model, wrong[i][0], wrong[i][1], &one, &err), ODMOE_ERR_RANGE,
                     "no layer", "expert");
    odmoe_stats_reset(f.model);
    odmoe_stats_get(f.model, &stats);
    assert_int_equal(stats.tokens + stats.chunks + stats.expert_uses + stats.cache_misses + stats.bytes_read, 0);
    assert_goes_on(f.model, f.session, LENGTH); /* what is cached stays */
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_do_not_continue_their_session_are_refused),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
        cmocka_unit_test(rows_beyond_the_context_are_refused),
        cmocka_unit_test(rows_of_nobody_or_of_another_model_are_refused),
        cmocka_unit_test(the_callback_gets_what_the_buffer_gets_in_row_order),
        cmocka_unit_test(nobody_has_to_take_the_logits),
        cmocka_unit_test(a_tap_sees_the_layers_in_order_chunk_by_chunk),
        cmocka_unit_test(a_pass_cancelled_at_any_step_leaves_the_session_as_it_was),
        cmocka_unit_test(opening_can_be_cancelled_at_any_step),
        cmocka_unit_test(several_sessions_in_a_pass_get_what_each_gets_alone),
        cmocka_unit_test(a_wrong_row_fails_the_pass_for_all_its_sessions),
        cmocka_unit_test(calls_from_several_threads_give_what_each_gives_alone),
        cmocka_unit_test(the_counters_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
