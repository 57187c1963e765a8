/* Forward calls: sequences, errors that change nothing, cancelling, several sessions, several threads, taps. */
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

static odmoe_status run(odmoe_model *model, odmoe_sequence *sequences, int n, float *logits)
{
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = sequences;
    batch.n = n;
    batch.logits = logits;
    return odmoe_forward(model, &batch, &err);
}

/* ---- sequences that are refused ---- */

static void refused(fixture *f, odmoe_sequence *sequences, int n, odmoe_status status, const char *word,
                    const char *word2)
{
    assert_error(&err, run(f->model, sequences, n, NULL), status, word, word2);
    assert_int_equal(odmoe_session_length(f->session), LENGTH);
}

static void tokens_outside_the_vocabulary_are_refused(void **state)
{
    fixture f = start(NULL);
    const int32_t below[] = {-1}, beyond[] = {512}, last_wrong[] = {1, 2, INT32_MAX};
    refused(&f, &(odmoe_sequence){f.session, below, 1}, 1, ODMOE_ERR_RANGE, "token -1", "vocabulary of 512");
    refused(&f, &(odmoe_sequence){f.session, beyond, 1}, 1, ODMOE_ERR_RANGE, "token 512", "vocabulary of 512");
    assert_error(&err, odmoe_eval(f.session, last_wrong, 3, NULL, &err), ODMOE_ERR_RANGE, "token 2147483647",
                 "vocabulary");
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

static void tokens_beyond_the_context_are_refused(void **state)
{
    fixture f = start(NULL);
    refused(&f, &(odmoe_sequence){f.session, text_tokens(0, 40), 40}, 1, ODMOE_ERR_RANGE, "40 tokens do not fit",
            "9 of its 40");
    assert_goes_on(f.model, f.session, LENGTH);
    stop(&f);
}

static void sequences_without_tokens_or_session_or_of_another_model_are_refused(void **state)
{
    fixture f = start(NULL), other = start(NULL);
    const int32_t *one = text_tokens(5, 1);
    refused(&f, NULL, 0, ODMOE_ERR_RANGE, "at least one sequence", " ");
    refused(&f, NULL, -3, ODMOE_ERR_RANGE, "at least one sequence", " ");
    refused(&f, &(odmoe_sequence){f.session, one, 0}, 1, ODMOE_ERR_RANGE, "sequence 0", "0 tokens");
    refused(&f, &(odmoe_sequence){NULL, one, 1}, 1, ODMOE_ERR_ARG, "sequence 0", "no session");
    odmoe_sequence mixed[] = {{f.session, one, 1}, {other.session, one, 1}};
    refused(&f, mixed, 2, ODMOE_ERR_ARG, "sequence 1", "another model");
    odmoe_sequence twice[] = {{f.session, one, 1}, {f.session, one, 1}};
    refused(&f, twice, 2, ODMOE_ERR_ARG, "sequences 0 and 1", "same session");
    assert_goes_on(f.model, f.session, LENGTH);
    assert_goes_on(other.model, other.session, LENGTH);
    stop(&f);
    stop(&other);
}

/* ---- logits ---- */

typedef struct seen {
    size_t vocab;
    int32_t tokens[64];
    int n;
    float *logits;
} seen;

static void note_logits(void *user, int32_t sequence, int32_t token, const float *logits)
{
    seen *s = user;
    assert_int_equal(sequence, 0);
    s->tokens[s->n] = token;
    memcpy(s->logits + (size_t)s->n++ * s->vocab, logits, s->vocab * sizeof *logits);
}

/* Logits of all tokens of a call in three chunks, in both ways, with several sizes of groups. */
static void the_callback_gets_what_the_buffer_gets_in_token_order(void **state)
{
    for (int group = 1; group <= 5; group += 2) {
        odmoe_options o = small_options();
        o.chunk = 7;
        o.logits_rows = group;
        fixture f = start(&o);
        int32_t tokens[17];
        memcpy(tokens, text_tokens(LENGTH, 17), sizeof tokens);
        odmoe_sequence all = {.session = f.session, .tokens = tokens, .n = 17, .want_logits = ODMOE_LOGITS_ALL};
        seen s = {.vocab = f.vocab, .logits = malloc(17 * f.vocab * sizeof(float))};
        odmoe_batch batch;
        odmoe_batch_init(&batch);
        batch.sequences = &all;
        batch.n = 1;
        batch.on_logits = note_logits;
        batch.user = &s;
        assert_int_equal(odmoe_forward(f.model, &batch, &err), ODMOE_OK);
        assert_int_equal(s.n, 17);
        assert_int_equal(odmoe_session_truncate(f.session, LENGTH, NULL, &err), ODMOE_OK);
        float *buffer = malloc(17 * f.vocab * sizeof *buffer);
        assert_int_equal(run(f.model, &all, 1, buffer), ODMOE_OK);
        for (int i = 0; i < 17; i++) {
            assert_int_equal(s.tokens[i], i);
            float *fresh = fresh_logits(f.model, LENGTH + i + 1);
            assert_memory_equal(buffer + (size_t)i * f.vocab, fresh, f.vocab * sizeof *fresh);
            assert_memory_equal(s.logits + (size_t)i * f.vocab, fresh, f.vocab * sizeof *fresh);
            free(fresh);
        }
        free(buffer);
        free(s.logits);
        stop(&f);
    }
}

/* One wants the last token's, one none, one all: rows in the order of the sequences. */
static void each_sequence_gets_the_logits_that_it_wants(void **state)
{
    odmoe_options o = small_options();
    o.sessions = 4;
    o.chunk = 4;
    odmoe_model *model = must_open(test_path(MODEL), &o);
    size_t vocab = (size_t)vocab_of(model);
    int32_t tokens[6];
    memcpy(tokens, text_tokens(0, 6), sizeof tokens);
    odmoe_sequence s[3] = {{.tokens = tokens, .n = 6, .want_logits = ODMOE_LOGITS_LAST},
                           {.tokens = tokens, .n = 5, .want_logits = ODMOE_LOGITS_NONE},
                           {.tokens = tokens, .n = 3, .want_logits = ODMOE_LOGITS_ALL}};
    for (int i = 0; i < 3; i++)
        s[i].session = must_create(model, 20);
    float *got = malloc(4 * vocab * sizeof *got);
    assert_int_equal(run(model, s, 3, got), ODMOE_OK);
    static const int length[] = {6, 1, 2, 3};
    for (int row = 0; row < 4; row++) {
        float *want = fresh_logits(model, length[row]);
        assert_memory_equal(got + (size_t)row * vocab, want, vocab * sizeof *want);
        free(want);
    }
    for (int i = 0; i < 3; i++)
        odmoe_session_free(s[i].session);
    free(got);
    odmoe_model_close(model);
}

static void wanted_logits_need_no_place_to_go(void **state)
{
    fixture f = start(NULL);
    odmoe_sequence one = {
        .session = f.session, .tokens = text_tokens(LENGTH, 1), .n = 1, .want_logits = ODMOE_LOGITS_LAST};
    assert_int_equal(run(f.model, &one, 1, NULL), ODMOE_OK);
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
    taps t = {0};
    must_forward(f.model, f.session, text_tokens(LENGTH, 7), 7, &(forward_options){.on_tap = note_tap, .user = &t});
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

static void a_call_cancelled_at_any_step_leaves_the_session_as_it_was(void **state)
{
    patience p = {.stage = ODMOE_STAGE_FORWARD, .left = -1};
    odmoe_options o = small_options();
    o.chunk = 6;
    o.progress = count_down;
    o.user = &p;
    fixture f = start(&o);
    p = (patience){.stage = ODMOE_STAGE_FORWARD, .left = -1};
    must_eval(f.session, text_tokens(LENGTH, 11), 11, NULL);
    int steps = p.calls;
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(f.model, &info);
    assert_int_equal(steps, 2 * info.layers); /* two chunks */
    assert_int_equal(p.total, steps);
    assert_int_equal(odmoe_session_truncate(f.session, LENGTH, NULL, &err), ODMOE_OK);
    for (int k = 0; k < steps; k++) {
        p = (patience){.stage = ODMOE_STAGE_FORWARD, .left = k};
        assert_error(&err, odmoe_eval(f.session, text_tokens(200, 11), 11, NULL, &err), ODMOE_ERR_CANCELLED,
                     "cancelled", "forward call");
        assert_int_equal(p.calls, k + 1);
        p.stage = ODMOE_STAGE_OPEN; /* the calls below are left alone */
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
    o.io = "buffered";                                       /* on every file system */
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

/* Prompts of different lengths in one call, then a call a turn with one token of each. */
static void several_sessions_in_a_call_get_what_each_gets_alone(void **state)
{
    odmoe_model *model = open_for_many();
    size_t vocab = (size_t)vocab_of(model);
    odmoe_sequence s[SESSIONS];
    int32_t tokens[SESSIONS][16];
    for (int i = 0; i < SESSIONS; i++) {
        memcpy(tokens[i], text_tokens(50 * i, prompt_of(i) + TURNS), (size_t)(prompt_of(i) + TURNS) * sizeof(int32_t));
        s[i] = (odmoe_sequence){.session = must_create(model, 40), .tokens = tokens[i], .n = prompt_of(i)};
    }
    assert_int_equal(run(model, s, SESSIONS, NULL), ODMOE_OK);
    float *logits = malloc(SESSIONS * vocab * sizeof *logits);
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < SESSIONS; i++)
            s[i] = (odmoe_sequence){.session = s[i].session,
                                    .tokens = tokens[i] + prompt_of(i) + turn,
                                    .n = 1,
                                    .phase = ODMOE_PHASE_DECODE,
                                    .want_logits = ODMOE_LOGITS_LAST};
        assert_int_equal(run(model, s, SESSIONS, logits), ODMOE_OK);
    }
    for (int i = 0; i < SESSIONS; i++) {
        float *want = alone(model, i);
        assert_memory_equal(logits + (size_t)i * vocab, want, vocab * sizeof *want);
        free(want);
        odmoe_session_free(s[i].session);
    }
    free(logits);
    odmoe_model_close(model);
}

static void a_wrong_argument_of_one_sequence_refuses_the_call_for_all(void **state)
{
    odmoe_model *model = open_for_many();
    odmoe_session *a = must_create(model, 40), *b = must_create(model, 40);
    must_eval(a, text_tokens(0, 5), 5, NULL);
    must_eval(b, text_tokens(0, 3), 3, NULL);
    const int32_t good[] = {7, 8}, bad[] = {7, 512};
    odmoe_sequence s[] = {{a, good, 2}, {b, bad, 2}};
    assert_error(&err, run(model, s, 2, NULL), ODMOE_ERR_RANGE, "sequence 1", "token 512");
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
    uint64_t uses = 0, hits = 0, misses = 0, read = 0, layer_hits = 0, layer_read = 0;
    for (int l = 0; l < info.moe_layers; l++)
        for (int e = 0; e < info.experts; e++) {
            odmoe_expert_stats one = {.size = sizeof one};
            assert_int_equal(odmoe_expert_stats_get(f.model, l, e, &one, &err), ODMOE_OK);
            uses += one.uses;
            hits += one.hits;
            misses += one.misses;
            read += one.bytes;
        }
    for (int l = 0; l < info.moe_layers; l++) {
        odmoe_moe_layer_stats layer = {.size = sizeof layer};
        assert_int_equal(odmoe_moe_layer_stats_get(f.model, l, &layer, &err), ODMOE_OK);
        assert_int_equal(layer.uses, LENGTH * info.top_k);
        layer_hits += layer.hits;
        layer_read += layer.bytes;
        uint64_t fetches = 0;
        for (int i = 0; i < ODMOE_STALL_RANGES; i++)
            fetches += layer.stalls[i];
        assert_int_equal(fetches, 1); /* of the one chunk */
    }
    assert_int_equal(layer_hits, hits);
    assert_int_equal(layer_read, read);
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
    odmoe_moe_layer_stats none = {.size = sizeof none};
    assert_error(&err, odmoe_moe_layer_stats_get(f.model, info.moe_layers, &none, &err), ODMOE_ERR_RANGE, "no layer",
                 "experts");
    odmoe_stats_reset(f.model);
    odmoe_stats_get(f.model, &stats);
    assert_int_equal(odmoe_moe_layer_stats_get(f.model, 0, &none, &err), ODMOE_OK);
    assert_int_equal(none.uses + none.hits + none.misses + none.stalls[0] + none.stalls[ODMOE_STALL_RANGES - 1], 0);
    assert_int_equal(stats.tokens + stats.chunks + stats.expert_uses + stats.cache_misses + stats.bytes_read, 0);
    assert_goes_on(f.model, f.session, LENGTH); /* what is cached stays */
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
        cmocka_unit_test(tokens_beyond_the_context_are_refused),
        cmocka_unit_test(sequences_without_tokens_or_session_or_of_another_model_are_refused),
        cmocka_unit_test(the_callback_gets_what_the_buffer_gets_in_token_order),
        cmocka_unit_test(each_sequence_gets_the_logits_that_it_wants),
        cmocka_unit_test(wanted_logits_need_no_place_to_go),
        cmocka_unit_test(a_tap_sees_the_layers_in_order_chunk_by_chunk),
        cmocka_unit_test(a_call_cancelled_at_any_step_leaves_the_session_as_it_was),
        cmocka_unit_test(opening_can_be_cancelled_at_any_step),
        cmocka_unit_test(several_sessions_in_a_call_get_what_each_gets_alone),
        cmocka_unit_test(a_wrong_argument_of_one_sequence_refuses_the_call_for_all),
        cmocka_unit_test(calls_from_several_threads_give_what_each_gives_alone),
        cmocka_unit_test(the_counters_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
