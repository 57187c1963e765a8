/* Structs that carry their size: a program built against an older, shorter version keeps working, and one that forgot
 * the size is told so. A newer, longer one is used as far as this library knows it. */
#include "format_files.h"

#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/models.h"

#define MODEL "gguf/qwen3moe-Q4_0.gguf"
#define UNTOUCHED 0xa5
/* The size that ends just before a field. */
#define BEFORE(type, field) offsetof(type, field)

static odmoe_error err;

/* ---- structs that the library fills ---- */

typedef struct filled {
    const char *name;
    size_t now; /* today's sizeof */
    odmoe_status (*fill)(void *model, void *out);
} filled;

static odmoe_status fill_inspect(void *model, void *out)
{
    return odmoe_inspect(test_path(MODEL), out, &err);
}
static odmoe_status fill_info(void *model, void *out)
{
    odmoe_model_info(model, out);
    return ODMOE_OK;
}
static odmoe_status fill_plan_make(void *model, void *out)
{
    odmoe_options o = small_options();
    return odmoe_plan_make(test_path(MODEL), &o, out, &err);
}
static odmoe_status fill_plan(void *model, void *out)
{
    odmoe_model_plan(model, out);
    return ODMOE_OK;
}
static odmoe_status fill_stats(void *model, void *out)
{
    odmoe_stats_get(model, out);
    return ODMOE_OK;
}
static odmoe_status fill_expert_stats(void *model, void *out)
{
    return odmoe_expert_stats_get(model, 0, 0, out, &err);
}

static odmoe_status fill_layer_stats(void *model, void *out)
{
    return odmoe_moe_layer_stats_get(model, 0, out, &err);
}

static const filled fills[] = {
    {"odmoe_inspect", sizeof(odmoe_info), fill_inspect},
    {"odmoe_model_info", sizeof(odmoe_info), fill_info},
    {"odmoe_plan_make", sizeof(odmoe_plan), fill_plan_make},
    {"odmoe_model_plan", sizeof(odmoe_plan), fill_plan},
    {"odmoe_stats_get", sizeof(odmoe_stats), fill_stats},
    {"odmoe_expert_stats_get", sizeof(odmoe_expert_stats), fill_expert_stats},
    {"odmoe_moe_layer_stats_get", sizeof(odmoe_moe_layer_stats), fill_layer_stats},
};

/* Nothing changes from byte `size` on; the size itself stays the caller's. */
static void structs_are_filled_no_further_than_they_reach(void **state)
{
    odmoe_options o = small_options();
    odmoe_model *model = must_open(test_path(MODEL), &o);
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        const size_t sizes[] = {
            0, sizeof(size_t), sizeof(size_t) + 8, fills[i].now - 8, fills[i].now, fills[i].now + 64};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            size_t room = fills[i].now + 128, size;
            unsigned char *out = malloc(room);
            memset(out, UNTOUCHED, room);
            memcpy(out, &sizes[s], sizeof sizes[s]);
            assert_int_equal(fills[i].fill(model, out), ODMOE_OK);
            memcpy(&size, out, sizeof size);
            assert_int_equal(size, sizes[s]);
            size_t end = sizes[s] < sizeof size ? sizeof size : (sizes[s] < fills[i].now ? sizes[s] : fills[i].now);
            for (size_t b = end; b < room; b++)
                if (out[b] != UNTOUCHED)
                    fail_msg("%s with size %zu wrote byte %zu", fills[i].name, sizes[s], b);
            if (end > sizeof size) {
                bool written = false;
                for (size_t b = sizeof size; b < end; b++)
                    written |= out[b] != UNTOUCHED;
                assert_true(written);
            }
            free(out);
        }
    }
    odmoe_model_close(model);
}

/* ---- structs that the library reads ---- */

static void options_of_an_older_version_give_defaults_for_what_they_lack(void **state)
{
    odmoe_options o = small_options();
    o.size = BEFORE(odmoe_options, kernels);
    o.kernels = o.kv = o.io = o.policy = o.prefetch = (const char *)1; /* not looked at */
    o.progress = (int (*)(void *, odmoe_stage, uint64_t, uint64_t))1;
    odmoe_model *model = must_open(test_path(MODEL), &o);
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model_plan(model, &plan);
    assert_int_equal(plan.context, 64);
    assert_int_equal(plan.sessions, 2);
    odmoe_model_close(model);
    o.size = BEFORE(odmoe_options, context);
    o.context = o.sessions = o.threads = -5;
    assert_int_equal(odmoe_plan_make(test_path(MODEL), &o, &plan, &err), ODMOE_OK);
    assert_int_equal(plan.ram_bytes, 64u << 20);
    assert_int_equal(plan.sessions, 1);
}

static void options_of_a_newer_version_are_read_as_far_as_they_are_known(void **state)
{
    struct {
        odmoe_options known;
        char more[64];
    } o = {.known = small_options()};
    memset(o.more, UNTOUCHED, sizeof o.more);
    o.known.size = sizeof o;
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(test_path(MODEL), &o.known, &plan, &err), ODMOE_OK);
    assert_int_equal(plan.context, 64);
}

static void a_batch_of_an_older_version_has_no_callbacks(void **state)
{
    odmoe_options o = small_options();
    odmoe_model *model = must_open(test_path(MODEL), &o);
    odmoe_session *session = must_create(model, 0);
    float *logits = malloc((size_t)vocab_of(model) * sizeof *logits), *want = fresh_logits(model, 1);
    odmoe_sequence one = {.session = session, .tokens = text_tokens(0, 1), .n = 1, .want_logits = ODMOE_LOGITS_LAST};
    odmoe_batch batch;
    memset(&batch, UNTOUCHED, sizeof batch);
    batch.size = BEFORE(odmoe_batch, on_logits);
    batch.sequences = &one;
    batch.n = 1;
    batch.logits = logits;
    assert_int_equal(odmoe_forward(model, &batch, &err), ODMOE_OK);
    assert_memory_equal(logits, want, (size_t)vocab_of(model) * sizeof *want);
    free(logits);
    free(want);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void sampler_options_of_an_older_version_give_defaults(void **state)
{
    odmoe_sampler_options o;
    odmoe_sampler_options_init(&o);
    o.size = BEFORE(odmoe_sampler_options, top_k);
    o.temperature = 0;
    o.top_k = -7;
    o.top_p = -7;
    odmoe_sampler *sampler;
    assert_int_equal(odmoe_sampler_create(&o, 4, &sampler, &err), ODMOE_OK);
    int32_t token;
    assert_int_equal(odmoe_sample(sampler, (const float[]){0, 1, 5, 2}, NULL, &token, &err), ODMOE_OK);
    assert_int_equal(token, 2);
    odmoe_sampler_free(sampler);
}

static void a_size_that_was_never_set_is_an_error_that_names_the_function(void **state)
{
    odmoe_options o = {.context = 64};
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model *model = NULL;
    odmoe_sampler *sampler = NULL;
    odmoe_sampler_options so = {.temperature = 1};
    odmoe_batch batch = {.n = 1};
    assert_error(&err, odmoe_plan_make(test_path(MODEL), &o, &plan, &err), ODMOE_ERR_ARG, "size is 0",
                 "odmoe_options_init");
    assert_error(&err, odmoe_model_open(test_path(MODEL), &o, &model, &err), ODMOE_ERR_ARG, "size is 0",
                 "odmoe_options_init");
    assert_error(&err, odmoe_sampler_create(&so, 4, &sampler, &err), ODMOE_ERR_ARG, "size is 0",
                 "odmoe_sampler_options_init");
    odmoe_options good = small_options();
    model = must_open(test_path(MODEL), &good);
    assert_error(&err, odmoe_forward(model, &batch, &err), ODMOE_ERR_ARG, "size is 0", "odmoe_batch_init");
    odmoe_model_close(model);
}

/* ---- names and numbers in the options ---- */

static void refused(odmoe_options o, odmoe_status status, const char *word, const char *word2)
{
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model *model = NULL;
    assert_error(&err, odmoe_plan_make(test_path(MODEL), &o, &plan, &err), status, word, word2);
    assert_error(&err, odmoe_model_open(test_path(MODEL), &o, &model, &err), status, word, word2);
    assert_null(model);
}

static void unknown_names_are_refused_and_the_known_ones_listed(void **state)
{
    odmoe_options o = small_options();
    o.kernels = "sse9";
    refused(o, ODMOE_ERR_ARG, "sse9", "ref");
    o.kernels = "neon";
    if (strcmp(odmoe_kernels_at(0), "neon"))
        refused(o, ODMOE_ERR_UNSUPPORTED, "neon", "ref");
    o = small_options();
    o.kv = "q4_0";
    refused(o, ODMOE_ERR_ARG, "q4_0", "q8_0");
    o = small_options();
    o.io = "mmap";
    refused(o, ODMOE_ERR_ARG, "mmap", "buffered");
    o = small_options();
    o.policy = "wisest";
    refused(o, ODMOE_ERR_ARG, "wisest", "lru");
    o = small_options();
    o.prefetch = "always";
    refused(o, ODMOE_ERR_ARG, "always", "off");
}

static void numbers_out_of_range_are_refused_by_name(void **state)
{
    static const struct {
        const char *name;
        size_t at;
        int32_t wrong[3];
    } fields[] = {
        {"context", offsetof(odmoe_options, context), {-1, INT32_MAX, INT32_MIN}},
        {"sessions", offsetof(odmoe_options, sessions), {-1, 0, INT32_MAX}},
        {"threads", offsetof(odmoe_options, threads), {-1, 257, INT32_MAX}},
        {"chunk", offsetof(odmoe_options, chunk), {-1, INT32_MIN, INT32_MAX}},
        {"logits_rows", offsetof(odmoe_options, logits_rows), {-1, 65, INT32_MAX}},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (int w = 0; w < 3; w++) {
            odmoe_options o = small_options();
            memcpy((char *)&o + fields[i].at, &fields[i].wrong[w], sizeof(int32_t));
            refused(o, ODMOE_ERR_RANGE, fields[i].name, "range");
        }
    odmoe_options o = small_options();
    o.reserve_bytes = UINT64_MAX;
    refused(o, ODMOE_ERR_RANGE, "reserve_bytes", "range");
    o.reserve_bytes = 1ull << 60; /* a number like any other: too much */
    refused(o, ODMOE_ERR_BUDGET, "--ram", "too small");
}

static void lists_of_names_end(void **state)
{
    const char *(*const lists[])(int) = {odmoe_kernels_at, odmoe_io_at, odmoe_policy_at, odmoe_family_at};
    for (int l = 0; l < 4; l++) {
        int n = 0;
        while (lists[l](n))
            n++;
        assert_true(n > 0);
        assert_null(lists[l](n + 1));
        assert_null(lists[l](-1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structs_are_filled_no_further_than_they_reach),
        cmocka_unit_test(options_of_an_older_version_give_defaults_for_what_they_lack),
        cmocka_unit_test(options_of_a_newer_version_are_read_as_far_as_they_are_known),
        cmocka_unit_test(a_batch_of_an_older_version_has_no_callbacks),
        cmocka_unit_test(sampler_options_of_an_older_version_give_defaults),
        cmocka_unit_test(a_size_that_was_never_set_is_an_error_that_names_the_function),
        cmocka_unit_test(unknown_names_are_refused_and_the_known_ones_listed),
        cmocka_unit_test(numbers_out_of_range_are_refused_by_name),
        cmocka_unit_test(lists_of_names_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
