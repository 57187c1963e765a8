/* The memory plan: its parts add up, its floor is the exact border of what opens, it grows and shrinks with what it
 * depends on, and a process that runs a model keeps to it. */
#include "format_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

#define MiB (1ull << 20)

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static odmoe_error err;

static const char *const models[] = {"/models/demo.gguf",      "gguf/qwen2moe-Q4_K_M.gguf",
                                     "gguf/llama-Q4_K_M.gguf", "gguf/qwen3moe-Q8_0-split-00001-of-00002.gguf",
                                     "models/qwen3_moe",       "families/kimi_k25"};
enum { MODELS = sizeof models / sizeof *models };

static odmoe_plan plan_of(const char *path, const odmoe_options *o)
{
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_status status = odmoe_plan_make(path, o, &plan, &err);
    if (status && status != ODMOE_ERR_BUDGET)
        fail_msg("%s", err.message);
    assert_int_equal(plan.fits, status == ODMOE_OK);
    return plan;
}

static uint64_t sum(const odmoe_plan *p)
{
    return p->resident_bytes + p->kv_bytes + p->activation_bytes + p->other_bytes + p->cache_bytes;
}

/* ---- arithmetic ---- */

static void check_plan(const char *path, const odmoe_options *o)
{
    odmoe_info info = {.size = sizeof info};
    assert_int_equal(odmoe_inspect(path, &info, &err), ODMOE_OK);
    odmoe_plan p = plan_of(path, o);
    assert_int_equal(p.ram_bytes, o->ram_bytes);
    assert_int_equal(p.sessions, o->sessions);
    assert_int_equal(p.threads, o->threads);
    assert_int_equal(p.experts_bytes, info.experts_bytes);
    assert_true(p.resident_bytes + p.embedding_bytes >= info.resident_bytes);
    assert_int_equal(p.token_working_set_bytes,
                     (uint64_t)info.moe_layers * (uint64_t)info.top_k * info.expert_bytes_max);
    assert_int_equal(p.fits, o->ram_bytes >= p.floor_bytes);
    if (o->chunk)
        assert_int_equal(p.chunk, o->chunk);
    assert_true(p.chunk >= 1);
    if (!p.fits)
        return;
    assert_true(sum(&p) <= p.ram_bytes);
    assert_true(p.cache_bytes >= info.expert_bytes_max);
    assert_true(p.cache_experts >= 1 && p.cache_experts <= (int64_t)info.moe_layers * info.experts);
    assert_true((uint64_t)p.cache_experts * info.expert_bytes_max <= p.cache_bytes ||
                p.cache_experts == (int64_t)info.moe_layers * info.experts);
}

static void the_parts_add_up_to_no_more_than_the_budget(void **state)
{
    static const int chunks[] = {0, 1, 7, 600};
    for (int m = 0; m < MODELS; m++)
        for (uint64_t ram = MiB; ram <= 512 * MiB; ram *= 4)
            for (int c = 0; c < 4; c++) {
                odmoe_options o = small_options();
                o.ram_bytes = ram;
                o.chunk = chunks[c];
                o.sessions = 1 + c;
                check_plan(test_path("%s", models[m]), &o);
            }
}

static void what_is_left_over_is_not_taken(void **state)
{
    odmoe_options o = small_options();
    o.ram_bytes = 4096 * MiB;
    odmoe_plan p = plan_of(test_path("%s", models[0]), &o);
    assert_true(sum(&p) < 200 * MiB); /* everything resident, and no more */
    assert_true(p.cache_bytes >= p.experts_bytes);
}

static void a_prompt_chunk_is_at_least_512_where_it_fits(void **state)
{
    odmoe_options o = small_options();
    o.context = 512;
    o.ram_bytes = 512 * MiB;
    odmoe_plan p = plan_of(test_path("%s", models[0]), &o);
    assert_true(p.chunk >= 512);
    o.context = 64; /* no longer than all that can ever be run */
    p = plan_of(test_path("%s", models[0]), &o);
    assert_int_equal(p.chunk, 128);
}

/* ---- where the embedding is ---- */

#define UNTIED "models/qwen3_moe"

static odmoe_plan plan_with(const char *path, const char *embeddings, uint64_t ram)
{
    odmoe_options o = small_options();
    o.embeddings = embeddings;
    o.ram_bytes = ram;
    return plan_of(test_path("%s", path), &o);
}

/* By all but the rows of one token and a small cache: here a sixteenth of the table, and 4 bytes for each row. */
static void the_floor_falls_by_the_table_that_stays_on_the_disk(void **state)
{
    odmoe_plan disk = plan_with(UNTIED, "disk", 64 * MiB), memory = plan_with(UNTIED, "memory", 64 * MiB);
    const uint64_t vocab = 512, row = 64 * 2;
    assert_int_equal(memory.embedding_bytes, 0);
    assert_int_equal(disk.embedding_bytes, vocab * row);
    assert_int_equal(memory.resident_bytes, disk.resident_bytes + vocab * row);
    assert_in_range(memory.floor_bytes - disk.floor_bytes, vocab * (row - 4) - (vocab / 16 + 1) * (row + 13) - 6 * 64,
                    vocab * row);
}

static void the_table_stays_on_the_disk_unless_all_experts_are_held(void **state)
{
    odmoe_plan memory = plan_with(UNTIED, "memory", 64 * MiB);
    assert_int_equal(memory.cache_bytes, memory.cache_all_bytes);
    assert_int_equal(plan_with(UNTIED, NULL, 64 * MiB).embedding_bytes, 0);
    odmoe_plan small = plan_with(UNTIED, "auto", memory.floor_bytes);
    assert_true(small.embedding_bytes > 0);
    assert_true(small.cache_bytes > plan_with(UNTIED, "memory", memory.floor_bytes).cache_bytes);
    /* what works is said of the smallest budget, also by a plan that has the table in memory */
    assert_int_equal(plan_with(UNTIED, "auto", 64 * MiB).floor_bytes, plan_with(UNTIED, "disk", 64 * MiB).floor_bytes);
}

static void a_table_that_is_the_output_too_stays_in_memory(void **state)
{
    odmoe_plan disk = plan_with("models/olmoe_tied", "disk", 64 * MiB);
    odmoe_plan memory = plan_with("models/olmoe_tied", "memory", 64 * MiB);
    assert_memory_equal(&disk, &memory, offsetof(odmoe_plan, available_bytes));
    assert_int_equal(disk.embedding_bytes, 0);
}

static void a_place_that_does_not_exist_is_refused(void **state)
{
    odmoe_options o = small_options();
    odmoe_plan plan = {.size = sizeof plan};
    o.embeddings = "shelf";
    assert_error(&err, odmoe_plan_make(test_path(UNTIED), &o, &plan, &err), ODMOE_ERR_ARG, "shelf",
                 "auto, memory, disk");
}

/* A session that was saved with the table in memory goes on with it on the disk. */
static void saved_sessions_do_not_ask_where_the_table_is(void **state)
{
    static const char *const places[] = {"memory", "disk"};
    const char *path = temp_path("saved");
    float *logits[2];
    for (int i = 0; i < 2; i++) {
        odmoe_options o = small_options();
        o.embeddings = places[i];
        odmoe_model *model = must_open(test_path(UNTIED), &o);
        odmoe_session *s = must_create(model, 0);
        logits[i] = malloc((size_t)vocab_of(model) * sizeof *logits[i]);
        if (i == 0) {
            must_eval(s, text_tokens(0, 9), 9, NULL);
            assert_int_equal(odmoe_session_save(s, path, &err), ODMOE_OK);
        } else if (odmoe_session_load(s, path, &err)) {
            fail_msg("%s", err.message);
        }
        must_eval(s, text_tokens(9, 1), 1, logits[i]);
        if (i == 1)
            assert_memory_equal(logits[0], logits[1], (size_t)vocab_of(model) * sizeof *logits[1]);
        odmoe_session_free(s);
        odmoe_model_close(model);
    }
    free(logits[0]);
    free(logits[1]);
}

static void rows_are_counted(void **state)
{
    odmoe_options o = small_options();
    o.embeddings = "disk";
    odmoe_model *model = must_open(test_path(UNTIED), &o);
    odmoe_session *s = must_create(model, 0);
    odmoe_stats stats = {.size = sizeof stats};
    must_eval(s, (int32_t[]){4, 5, 4, 6}, 4, NULL);
    must_eval(s, (int32_t[]){5}, 1, NULL);
    odmoe_stats_get(model, &stats);
    assert_int_equal(stats.embedding_misses, 3);
    assert_int_equal(stats.embedding_hits, 1);
    assert_int_equal(stats.embedding_bytes_read, 3 * 64 * 2);
    odmoe_stats_reset(model);
    odmoe_stats_get(model, &stats);
    assert_int_equal(stats.embedding_misses + stats.embedding_hits + stats.embedding_bytes_read, 0);
    odmoe_session_free(s);
    odmoe_model_close(model);
}

/* ---- how it changes ---- */

static void more_memory_never_gives_less(void **state)
{
    for (int m = 0; m < MODELS; m++) {
        odmoe_options o = small_options();
        odmoe_plan before = {0};
        for (uint64_t ram = MiB; ram < 96 * MiB; ram += 2 * MiB) {
            o.ram_bytes = ram;
            odmoe_plan p = plan_of(test_path("%s", models[m]), &o);
            assert_true(p.fits >= before.fits);
            assert_true(p.chunk >= before.chunk);
            assert_true(p.cache_bytes + p.activation_bytes >= before.cache_bytes + before.activation_bytes ||
                        !before.fits);
            if (before.size)
                assert_int_equal(p.floor_bytes, before.floor_bytes);
            before = p;
        }
        assert_true(before.fits);
    }
}

static void longer_contexts_more_sessions_and_wider_types_need_more(void **state)
{
    const char *path = test_path("%s", models[0]);
    odmoe_options o = small_options();
    odmoe_plan base = plan_of(path, &o), p;
    o.context *= 2;
    p = plan_of(path, &o);
    assert_true(p.kv_bytes > base.kv_bytes && p.floor_bytes > base.floor_bytes);
    o = small_options();
    o.sessions = 5;
    p = plan_of(path, &o);
    assert_int_equal(p.kv_bytes, base.kv_bytes / 2 * 5);
    assert_int_equal(p.floor_bytes - base.floor_bytes, p.kv_bytes - base.kv_bytes);
    o = small_options();
    o.kv = "f32";
    odmoe_plan f32 = plan_of(path, &o);
    o.kv = "q8_0";
    odmoe_plan q8 = plan_of(path, &o);
    assert_true(f32.kv_bytes > base.kv_bytes && base.kv_bytes > q8.kv_bytes);
    assert_true((double)f32.kv_bytes / (double)base.kv_bytes > 1.9);
    assert_true((double)base.kv_bytes / (double)q8.kv_bytes > 1.8);
    o = small_options();
    o.chunk = 600;
    p = plan_of(path, &o);
    assert_true(p.activation_bytes > base.activation_bytes && p.floor_bytes > base.floor_bytes);
}

static void what_the_caller_reserves_is_counted_and_kept_from_the_cache(void **state)
{
    const uint64_t reserved = 3 * MiB + 5;
    for (int m = 0; m < MODELS; m++) {
        const char *path = test_path("%s", models[m]);
        odmoe_options o = small_options();
        o.chunk = 5;
        o.ram_bytes = plan_of(path, &o).floor_bytes;
        odmoe_plan without = plan_of(path, &o);
        o.reserve_bytes = reserved;
        odmoe_plan p = plan_of(path, &o);
        assert_false(p.fits);
        assert_true(strstr(err.message, "--ram ") != NULL);
        assert_int_equal(p.other_bytes - without.other_bytes, reserved);
        assert_int_equal(p.floor_bytes - without.floor_bytes, reserved);
        o.ram_bytes = p.floor_bytes;
        p = plan_of(path, &o);
        assert_true(p.fits);
        assert_int_equal(p.cache_bytes, without.cache_bytes);
    }
}

static void contexts_and_types_that_the_model_cannot_have_are_refused(void **state)
{
    odmoe_options o = small_options();
    odmoe_plan plan = {.size = sizeof plan};
    o.context = 513;
    assert_error(&err, odmoe_plan_make(test_path("%s", models[1]), &o, &plan, &err), ODMOE_ERR_RANGE, "513",
                 "made for 512");
    o = small_options();
    o.kv = "q8_0";
    assert_error(&err, odmoe_plan_make(test_path("models/qwen3_moe_f16"), &o, &plan, &err), ODMOE_ERR_UNSUPPORTED,
                 "q8_0", "36"); /* heads of 36 elements */
    odmoe_model *model = NULL;
    assert_error(&err, odmoe_model_open(test_path("models/qwen3_moe_f16"), &o, &model, &err), ODMOE_ERR_UNSUPPORTED,
                 "q8_0", "use f16");
    assert_null(model);
}

static void the_context_is_4096_or_the_models_own(void **state)
{
    odmoe_options o = small_options();
    o.context = 0;
    odmoe_plan p = plan_of(test_path("%s", models[1]), &o);
    assert_int_equal(p.context, 512);
    odmoe_info info = {.size = sizeof info};
    assert_int_equal(odmoe_inspect(test_path("%s", models[0]), &info, &err), ODMOE_OK);
    p = plan_of(test_path("%s", models[0]), &o);
    assert_int_equal(p.context, info.context < 4096 ? info.context : 4096);
}

/* ---- the floor ---- */

/* The message's figure, as it is meant to be typed. */
static uint64_t figure_in(const char *message)
{
    char text[32];
    uint64_t figure;
    const char *at = strstr(message, "--ram ");
    if (!at || sscanf(at, "--ram %31s", text) != 1)
        fail_msg("no figure: %s", message);
    text[strcspn(text, " ,;)")] = 0;
    assert_int_equal(odmoe_size_parse(text, &figure, NULL), ODMOE_OK);
    return figure;
}

static void opens_and_runs(const char *path, const odmoe_options *o)
{
    odmoe_model *model = must_open(path, o);
    odmoe_session *session = must_create(model, 0);
    must_eval(session, text_tokens(0, 9), 9, NULL);
    must_eval(session, text_tokens(9, 1), 1, NULL);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void the_floor_opens_and_a_byte_less_does_not(void **state)
{
    for (int m = 0; m < MODELS; m++)
        for (int chunk = 0; chunk <= 5; chunk += 5) {
            const char *path = test_path("%s", models[m]);
            odmoe_options o = small_options();
            o.chunk = chunk;
            o.ram_bytes = plan_of(path, &o).floor_bytes;
            odmoe_plan p = plan_of(path, &o);
            odmoe_info info = {.size = sizeof info};
            assert_int_equal(odmoe_inspect(path, &info, &err), ODMOE_OK);
            assert_true(p.cache_bytes < info.expert_bytes_max + (64 << 10)); /* room for one, and alignment */
            opens_and_runs(path, &o);
            o.ram_bytes--;
            odmoe_model *model = NULL;
            assert_error(&err, odmoe_model_open(path, &o, &model, &err), ODMOE_ERR_BUDGET, path, "too small");
            assert_null(model);
            o.ram_bytes = figure_in(err.message);
            opens_and_runs(path, &o);
        }
}

static void an_absurd_budget_or_request_is_refused_with_a_figure(void **state)
{
    odmoe_options o = small_options();
    odmoe_model *model = NULL;
    o.ram_bytes = 1;
    assert_error(&err, odmoe_model_open(test_path("%s", models[0]), &o, &model, &err), ODMOE_ERR_BUDGET, "--ram",
                 "too small");
    o = small_options();
    o.chunk = 1 << 20;
    assert_error(&err, odmoe_model_open(test_path("%s", models[0]), &o, &model, &err), ODMOE_ERR_BUDGET, "--ram",
                 "too small");
    o = small_options();
    o.sessions = 4096;
    o.context = 512;
    assert_error(&err, odmoe_model_open(test_path("%s", models[0]), &o, &model, &err), ODMOE_ERR_BUDGET, "--ram",
                 "too small");
}

/* ---- what a process really takes ---- */

static uint64_t anonymous_now(void)
{
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib << 10;
}

static int sample(void *user, odmoe_stage stage, uint64_t done, uint64_t total)
{
    uint64_t *peak = user, now = anonymous_now();
    *peak = now > *peak ? now : *peak;
    return 0;
}

/* In a process of its own: open, fill the context, and print the highest anonymous memory. */
static int run_case(char **args)
{
    uint64_t peak = 0;
    odmoe_options o = small_options();
    o.ram_bytes = strtoull(args[1], NULL, 10);
    o.chunk = atoi(args[2]);
    o.context = atoi(args[3]);
    o.embeddings = args[4];
    o.progress = sample;
    o.user = &peak;
    odmoe_model *model;
    odmoe_session *a, *b;
    if (odmoe_model_open(args[0], &o, &model, &err) || odmoe_session_create(model, 0, &a, &err) ||
        odmoe_session_create(model, 0, &b, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        odmoe_session *s = i ? b : a;
        if (odmoe_eval(s, text_tokens(0, o.context - 2), o.context - 2, NULL, &err) ||
            odmoe_eval(s, text_tokens(0, 1), 1, NULL, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        sample(&peak, ODMOE_STAGE_FORWARD, 0, 0);
    }
    odmoe_session_free(a);
    odmoe_session_free(b);
    odmoe_model_close(model);
    printf("%llu\n", (unsigned long long)peak);
    return 0;
}

static uint64_t peak_of(const char *path, uint64_t ram, int chunk, int context, const char *embeddings)
{
    char command[2048];
    unsigned long long peak = 0;
    char self[1024];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    snprintf(command, sizeof command, "'%s' '%s' %llu %d %d %s", self, path, (unsigned long long)ram, chunk, context,
             embeddings);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    int got = fscanf(p, "%llu", &peak);
    assert_int_equal(pclose(p), 0);
    assert_int_equal(got, 1);
    return peak;
}

static void a_process_keeps_to_its_budget(void **state)
{
    if (SANITIZED) /* shadow memory counts as anonymous */
        return;
    for (int m = 0; m < MODELS; m++)
        for (int step = 0; step < 4; step++) {
            const char *path = test_path("%s", models[m]), *embeddings = step == 3 ? "disk" : "memory";
            int chunk = step == 1 ? 5 : 0, context = step == 0 ? 40 : 200;
            odmoe_options o = small_options();
            o.context = context;
            o.chunk = chunk;
            o.embeddings = embeddings;
            odmoe_plan p = plan_of(path, &o);
            uint64_t ram = p.floor_bytes + p.experts_bytes * (uint64_t)(step % 3) / 2 + (uint64_t)(step % 3) * 4 * MiB;
            uint64_t peak = peak_of(path, ram, chunk, context, embeddings);
            print_message("%s: %.1f of %.1f MiB\n", models[m], (double)peak / MiB, (double)ram / MiB);
            assert_true(peak > p.resident_bytes);
            assert_true(peak <= ram + 16 * MiB);
        }
}

int main(int argc, char **argv)
{
    if (argc == 6)
        return run_case(argv + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_add_up_to_no_more_than_the_budget),
        cmocka_unit_test(what_is_left_over_is_not_taken),
        cmocka_unit_test(a_prompt_chunk_is_at_least_512_where_it_fits),
        cmocka_unit_test(the_floor_falls_by_the_table_that_stays_on_the_disk),
        cmocka_unit_test(the_table_stays_on_the_disk_unless_all_experts_are_held),
        cmocka_unit_test(a_table_that_is_the_output_too_stays_in_memory),
        cmocka_unit_test(a_place_that_does_not_exist_is_refused),
        cmocka_unit_test(saved_sessions_do_not_ask_where_the_table_is),
        cmocka_unit_test(rows_are_counted),
        cmocka_unit_test(more_memory_never_gives_less),
        cmocka_unit_test(longer_contexts_more_sessions_and_wider_types_need_more),
        cmocka_unit_test(what_the_caller_reserves_is_counted_and_kept_from_the_cache),
        cmocka_unit_test(contexts_and_types_that_the_model_cannot_have_are_refused),
        cmocka_unit_test(the_context_is_4096_or_the_models_own),
        cmocka_unit_test(the_floor_opens_and_a_byte_less_does_not),
        cmocka_unit_test(an_absurd_budget_or_request_is_refused_with_a_figure),
        cmocka_unit_test(a_process_keeps_to_its_budget),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
