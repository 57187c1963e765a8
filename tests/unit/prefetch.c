/* Prefetching in decoding: which layers it reads for, what, and when it stops. */
#include "api/handles.h"

#include "format_files.h"
#include "support/golden.h"
#include "support/models.h"

#define MODEL "/models/demo.gguf"

/* ---- a source that notes what is read ahead, and hands it on ---- */

typedef struct spy {
    expert_source real;
    int asked[64];  /* by layer */
    int calls, bad; /* bad: not a speculation, an expert that doesn't exist, scores that rise */
    bool lost;      /* nothing is handed on */
    store *awaited; /* what can be read is read before the pass goes on; NULL: it goes on at once */
} spy;

static spy watch;

static void spy_prefetch(void *ctx, int layer, const int32_t *experts, const float *scores, int n,
                         read_priority priority)
{
    watch.calls++;
    if (layer >= 0 && layer < 64)
        watch.asked[layer]++;
    watch.bad += priority != READ_SPECULATIVE || layer < 0 || layer >= 64 || n < 1;
    for (int i = 0; i < n; i++)
        watch.bad += experts[i] < 0 || experts[i] >= 32 || (i > 0 && scores[i] > scores[i - 1]);
    if (!watch.lost)
        watch.real.prefetch(ctx, layer, experts, scores, n, priority);
    if (watch.awaited)
        store_wait_idle(watch.awaited);
}

/* A share of all experts fits, in twelfths; 12: all do. */
static odmoe_model *open_with(int twelfths, const char *prefetch)
{
    odmoe_options o = small_options();
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_error err;
    o.prefetch = prefetch;
    if (odmoe_plan_make(test_path(MODEL), &o, &plan, &err))
        fail_msg("%s", err.message);
    o.ram_bytes = twelfths == 12 ? 256u << 20 : plan.floor_bytes + plan.experts_bytes * (uint64_t)twelfths / 12;
    odmoe_model *m = must_open(test_path(MODEL), &o);
    watch = (spy){.real = m->m.source};
    m->m.source.prefetch = spy_prefetch;
    return m;
}

/* Tokens one by one. */
static void decode(odmoe_session *session, int first, int n)
{
    for (int i = first; i < first + n; i++)
        must_eval(session, text_tokens(i, 1), 1, NULL);
}

static void decode_in(odmoe_model *m, int n)
{
    odmoe_session *session = must_create(m, 64);
    decode(session, 0, n);
    odmoe_session_free(session);
}

static void every_layer_is_prefetched_and_none_past_the_last(void **state)
{
    odmoe_model *m = open_with(4, "auto");
    decode_in(m, 8);
    assert_int_equal(watch.bad, 0);
    for (int l = 1; l < 6; l++) /* layer 0: where the embedding tells enough */
        assert_true(watch.asked[l] > 0);
    for (int l = 6; l < 64; l++)
        assert_int_equal(watch.asked[l], 0);
    odmoe_model_close(m);
}

static void what_is_prefetched_is_counted(void **state)
{
    odmoe_model *m = open_with(4, "auto");
    decode_in(m, 8);
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_stats_get(m, &stats);
    assert_true(stats.prefetch_bytes_read <= stats.bytes_read);
    assert_true(stats.prefetch_bytes_used <= stats.prefetch_bytes_read);
    odmoe_model_close(m);
}

static void nothing_is_prefetched_when_all_experts_fit_or_it_is_off(void **state)
{
    static const struct {
        int twelfths;
        const char *prefetch;
    } cases[] = {{12, "auto"}, {12, NULL}, {4, "off"}, {0, "off"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        odmoe_model *m = open_with(cases[i].twelfths, cases[i].prefetch);
        decode_in(m, 8);
        assert_int_equal(watch.calls, 0);
        odmoe_stats stats = {.size = sizeof stats};
        odmoe_stats_get(m, &stats);
        assert_int_equal(stats.prefetch_bytes_read, 0);
        odmoe_model_close(m);
    }
}

static void with_room_for_one_expert_decoding_goes_on(void **state)
{
    odmoe_model *m = open_with(0, "auto");
    odmoe_session *session = must_create(m, 40);
    decode(session, 0, 20);
    assert_int_equal(watch.bad, 0);
    assert_goes_on(m, session, 20);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void prefetches_that_get_lost_cost_nothing_but_time(void **state)
{
    odmoe_model *m = open_with(4, "auto");
    watch.lost = true;
    odmoe_session *session = must_create(m, 40);
    decode(session, 0, 20);
    assert_true(watch.calls > 0);
    assert_goes_on(m, session, 20);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void a_prompt_prefetches_for_no_layer_by_lookahead(void **state)
{
    odmoe_model *m = open_with(4, "auto");
    odmoe_session *session = must_create(m, 40);
    must_eval(session, text_tokens(0, 32), 32, NULL);
    for (int l = 0; l < 64; l++)
        assert_int_equal(watch.asked[l], 0);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

/* ---- the same bytes, whatever the candidates are ---- */

enum { TOLD = 12, TOLD_LAYERS = 6, TOLD_K = 4, TOLD_EXPERTS = 32 }; /* the demo model's */

/* What each router chose for each token, and the logits, without prefetching. */
typedef struct recording {
    int32_t chosen[TOLD][TOLD_LAYERS][TOLD_K], said[TOLD_K];
    float *logits; /* [TOLD, vocab] */
    int token, vocab;
    bool lies;
} recording;

static void record_choice(void *user, const odmoe_tap *tap)
{
    recording *r = user;
    if (tap->topk)
        memcpy(r->chosen[r->token][tap->layer], tap->topk, sizeof r->said);
}

static void decode_once(odmoe_model *m, recording *r, bool record, float *logits)
{
    odmoe_session *session = must_create(m, 64);
    for (r->token = 0; r->token < TOLD; r->token++) {
        const int32_t token = token_at(r->token);
        odmoe_sequence one = {.session = session,
                              .tokens = &token,
                              .n = 1,
                              .phase = ODMOE_PHASE_DECODE,
                              .want_logits = ODMOE_LOGITS_LAST};
        odmoe_batch batch;
        odmoe_error err;
        odmoe_batch_init(&batch);
        batch.sequences = &one;
        batch.n = 1;
        batch.logits = logits + r->token * r->vocab;
        batch.on_tap = record ? record_choice : NULL;
        batch.user = r;
        if (odmoe_forward(m, &batch, &err))
            fail_msg("%s", err.message);
    }
    odmoe_session_free(session);
}

static lookahead_choice foretell(void *ctx, int moe_layer, int64_t n)
{
    recording *r = ctx;
    for (int k = 0; k < TOLD_K; k++)
        r->said[k] = r->lies
                         ? (r->chosen[r->token][moe_layer][0] + 1 + k) % TOLD_EXPERTS /* the best is not among them */
                         : r->chosen[r->token][moe_layer][k];
    return (lookahead_choice){r->said, NULL};
}

/* Decode with candidates that are always right, or mostly wrong, with room for some experts or for one. How much was read
 * ahead: nothing of what the reading thread comes to later than the layer itself, unless that is `awaited`. */
static uint64_t check_foretold(recording *r, int twelfths, bool lies, bool awaited)
{
    odmoe_model *m = open_with(twelfths, "auto");
    odmoe_stats stats = {.size = sizeof stats};
    watch.awaited = awaited ? m->m.store : NULL;
    float *logits = malloc((size_t)TOLD * (size_t)r->vocab * sizeof *logits);
    r->lies = lies;
    m->m.work.prefetch.route = foretell;
    m->m.work.prefetch.route_ctx = r;
    m->m.work.prefetch.always = true;
    decode_once(m, r, false, logits);
    assert_memory_equal(logits, r->logits, (size_t)TOLD * (size_t)r->vocab * sizeof *logits);
    odmoe_stats_get(m, &stats);
    free(logits);
    odmoe_model_close(m);
    return stats.prefetch_bytes_read;
}

static void perfect_candidates_and_lies_give_the_same_bytes(void **state)
{
    recording r = {0};
    odmoe_model *m = open_with(4, "off");
    r.vocab = vocab_of(m);
    r.logits = malloc((size_t)TOLD * (size_t)r.vocab * sizeof *r.logits);
    decode_once(m, &r, true, r.logits);
    odmoe_model_close(m);
    check_foretold(&r, 4, false, false);
    check_foretold(&r, 4, true, false);
    assert_true(watch.calls > 0);
    assert_true(check_foretold(&r, 4, false, true) > 0);
    check_foretold(&r, 4, true, true);
    check_foretold(&r, 0, false, false);
    check_foretold(&r, 0, true, false);
    free(r.logits);
}

/* ---- does it pay ---- */

/* Settle so many passes, of which the ones that prefetch take `with` ns; how many did. */
static int settle(trial *t, int passes, double with, double without)
{
    int prefetched = 0;
    for (int i = 0; i < passes; i++) {
        prefetched += t->running;
        trial_settle(t, t->running ? with : without);
    }
    return prefetched;
}

static void prefetching_that_makes_passes_longer_stops_but_for_a_look_now_and_then(void **state)
{
    trial t;
    trial_init(&t);
    settle(&t, 100, 1.05, 1);
    assert_in_range(settle(&t, 1000, 1.05, 1), 1, 100);
}

static void prefetching_that_makes_passes_shorter_goes_on(void **state)
{
    trial t;
    trial_init(&t);
    settle(&t, 100, 0.95, 1);
    assert_in_range(settle(&t, 1000, 0.95, 1), 900, 999);
}

static void finding_out_costs_less_than_a_hundredth(void **state)
{
    trial t;
    trial_init(&t);
    settle(&t, 100, 0.75, 1);
    int with = settle(&t, 6400, 0.75, 1);
    assert_true(with * 0.75 + (6400 - with) < 6400 * 0.75 * 1.0105);
}

static void a_change_is_noticed(void **state)
{
    trial t;
    trial_init(&t);
    settle(&t, 1000, 1.2, 1);
    settle(&t, 2000, 0.8, 1);
    assert_in_range(settle(&t, 1000, 0.8, 1), 900, 999);
}

static void slow_passes_between_decide_nothing(void **state)
{
    trial t;
    trial_init(&t);
    settle(&t, 8, 100, 100); /* an empty cache */
    settle(&t, 200, 0.95, 1);
    for (int i = 0; i < 10; i++) {
        trial_settle(&t, 50); /* the first after a prompt */
        assert_in_range(settle(&t, 100, 0.95, 1), 80, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_is_prefetched_and_none_past_the_last),
        cmocka_unit_test(what_is_prefetched_is_counted),
        cmocka_unit_test(nothing_is_prefetched_when_all_experts_fit_or_it_is_off),
        cmocka_unit_test(with_room_for_one_expert_decoding_goes_on),
        cmocka_unit_test(prefetches_that_get_lost_cost_nothing_but_time),
        cmocka_unit_test(a_prompt_prefetches_for_no_layer_by_lookahead),
        cmocka_unit_test(perfect_candidates_and_lies_give_the_same_bytes),
        cmocka_unit_test(prefetching_that_makes_passes_longer_stops_but_for_a_look_now_and_then),
        cmocka_unit_test(prefetching_that_makes_passes_shorter_goes_on),
        cmocka_unit_test(finding_out_costs_less_than_a_hundredth),
        cmocka_unit_test(a_change_is_noticed),
        cmocka_unit_test(slow_passes_between_decide_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
