/* What a prompt reads, and what sequences that decode together read: each expert at most once per layer and chunk, however
 * small the budget. Counters of single experts are compared with the experts' sizes in the file, which a run with room for
 * all shows (there each is read once). */
#include "api/handles.h"

#include "format_files.h"

#include <stdio.h>
#include <stdlib.h>

#include "support/golden.h"
#include "support/models.h"

#define LONG 600
#define LAYERS_MAX 8

static int32_t tokens[LONG];

static const char *model_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE"));
    return path;
}

/* experts: what the cache has room for, 1: the smallest budget there is for these options; 0: 512 MiB. */
static odmoe_model *open_with_room(int experts, odmoe_options *o)
{
    o->ram_bytes = 512u << 20;
    o->threads = 2;
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_error err = {0};
    if (experts) {
        odmoe_info info = {.size = sizeof info};
        assert_int_equal(odmoe_inspect(model_path(), &info, &err), ODMOE_OK);
        assert_int_equal(odmoe_plan_make(model_path(), o, &plan, &err), ODMOE_OK);
        uint64_t cache = (uint64_t)experts * (info.expert_bytes_max + (24u << 10)); /* alignment of three pieces */
        o->ram_bytes = plan.resident_bytes + plan.kv_bytes + plan.activation_bytes + plan.other_bytes + cache;
    }
    return must_open(model_path(), o);
}

static odmoe_model *open_for_prompt(int experts, int chunk, const char *policy)
{
    odmoe_options o;
    odmoe_options_init(&o);
    o.context = LONG;
    o.chunk = chunk;
    o.policy = policy;
    return open_with_room(experts, &o);
}

static void run_prompt(odmoe_model *m)
{
    odmoe_session *s;
    odmoe_error err = {0};
    assert_int_equal(odmoe_session_create(m, 0, &s, &err), ODMOE_OK);
    if (odmoe_eval(s, tokens, LONG, NULL, &err))
        fail_msg("%s", err.message);
    odmoe_session_free(s);
}

static odmoe_expert_stats expert_stats(odmoe_model *m, int layer, int expert)
{
    odmoe_expert_stats one = {.size = sizeof one};
    odmoe_error err;
    assert_int_equal(odmoe_expert_stats_get(m, layer, expert, &one, &err), ODMOE_OK);
    return one;
}

/* size[l]: of an expert of the layer. A layer's are of one size in this model. */
static odmoe_info sizes(uint64_t size[LAYERS_MAX])
{
    odmoe_model *m = open_for_prompt(0, 0, NULL);
    odmoe_info info = {.size = sizeof info};
    uint64_t sum = 0;
    odmoe_model_info(m, &info);
    assert_true(info.moe_layers <= LAYERS_MAX);
    run_prompt(m);
    for (int l = 0; l < info.moe_layers; l++) {
        size[l] = 0;
        for (int e = 0; e < info.experts; e++) {
            uint64_t read = expert_stats(m, l, e).bytes;
            assert_true(!read || !size[l] || read == size[l]);
            size[l] = read ? read : size[l];
        }
        sum += size[l] * (uint64_t)info.experts;
    }
    assert_int_equal(sum, info.experts_bytes);
    odmoe_model_close(m);
    return info;
}

static void at_most_once(const char *policy, int experts, int chunk, const odmoe_info *info, const uint64_t *size)
{
    odmoe_model *m = open_for_prompt(experts, chunk, policy);
    run_prompt(m);
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_stats_get(m, &stats);
    assert_int_equal(stats.chunks, (LONG + chunk - 1) / chunk);
    assert_true(stats.bytes_read <= info->experts_bytes * (uint64_t)stats.chunks);
    for (int l = 0; l < info->moe_layers; l++)
        for (int e = 0; e < info->experts; e++) {
            uint64_t read = expert_stats(m, l, e).bytes;
            if (read > size[l] * (uint64_t)stats.chunks)
                fail_msg("%s, room for %d, chunks of %d: layer %d, expert %d: %.2f reads in %d chunks", stats.policy,
                         experts, chunk, l, e, (double)read / (double)size[l], (int)stats.chunks);
        }
    odmoe_model_close(m);
}

static void each_expert_is_read_at_most_once_a_chunk_however_small_the_cache(void **state)
{
    static const int rooms[] = {1, 2, 3, 5, 9, 20, 80}, chunks[] = {512, 100};
    uint64_t size[LAYERS_MAX];
    odmoe_info info = sizes(size);
    for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++)
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
            at_most_once(NULL, rooms[r], chunks[c], &info, size);
}

static void each_expert_is_read_at_most_once_a_chunk_under_every_policy(void **state)
{
    uint64_t size[LAYERS_MAX];
    odmoe_info info = sizes(size);
    for (int p = 0; odmoe_policy_at(p); p++) {
        at_most_once(odmoe_policy_at(p), 5, 300, &info, size);
        at_most_once(odmoe_policy_at(p), 24, 300, &info, size);
    }
}

/* One chunk, and a cache that was empty before: what the layers need is missing once each, and read once each. */
static void a_cold_prompt_of_one_chunk_reads_each_needed_expert_exactly_once(void **state)
{
    static const int rooms[] = {1, 2, 5, 20, 80, 0};
    uint64_t size[LAYERS_MAX];
    odmoe_info info = sizes(size);
    for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++) {
        odmoe_model *m = open_for_prompt(rooms[r], LONG, NULL);
        run_prompt(m);
        for (int l = 0; l < info.moe_layers; l++)
            for (int e = 0; e < info.experts; e++) {
                odmoe_expert_stats one = expert_stats(m, l, e);
                assert_true(one.uses ? one.bytes == size[l] : one.bytes <= size[l]);
            }
        odmoe_model_close(m);
    }
}

/* ---- sequences that decode together ---- */

#define SEQUENCES_MAX 20
#define STEPS 5

/* One step of all sequences, and what it read: of an expert that some of them use, one fetch, which hits or reads it
 * once; of another, at most what was read ahead, once. */
static void step_reads_at_most_once(odmoe_model *m, odmoe_sequence *sequences, int n, const odmoe_info *info,
                                    const uint64_t *size)
{
    static odmoe_expert_stats before[LAYERS_MAX][256];
    odmoe_error err = {0};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = sequences;
    batch.n = n;
    assert_true(info->experts <= 256);
    for (int l = 0; l < info->moe_layers; l++)
        for (int e = 0; e < info->experts; e++)
            before[l][e] = expert_stats(m, l, e);
    if (odmoe_forward(m, &batch, &err))
        fail_msg("%s", err.message);
    store_wait_idle(m->m.store); /* what was read ahead in vain, and arrives late, belongs to this pass */
    uint64_t uses = 0;
    for (int l = 0; l < info->moe_layers; l++)
        for (int e = 0; e < info->experts; e++) {
            odmoe_expert_stats now = expert_stats(m, l, e), *was = &before[l][e];
            uses += now.uses - was->uses;
            assert_int_equal(now.hits + now.misses - was->hits - was->misses, now.uses > was->uses);
            if (now.bytes - was->bytes > size[l])
                fail_msg("%d sequences: layer %d, expert %d: %.2f reads in a pass", n, l, e,
                         (double)(now.bytes - was->bytes) / (double)size[l]);
        }
    assert_int_equal(uses, n * info->moe_layers * info->top_k);
}

static void decode_together(int n, int experts, const char *prefetch, const odmoe_info *info, const uint64_t *size)
{
    odmoe_sequence sequences[SEQUENCES_MAX];
    odmoe_error err = {0};
    odmoe_options o;
    odmoe_options_init(&o);
    o.sessions = n;
    o.context = STEPS;
    o.chunk = SEQUENCES_MAX;
    o.prefetch = prefetch;
    odmoe_model *m = open_with_room(experts, &o);
    for (int i = 0; i < n; i++) {
        sequences[i] = (odmoe_sequence){.n = 1, .phase = ODMOE_PHASE_DECODE};
        assert_int_equal(odmoe_session_create(m, STEPS, &sequences[i].session, &err), ODMOE_OK);
    }
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < n; i++)
            sequences[i].tokens = &tokens[i * STEPS + step];
        step_reads_at_most_once(m, sequences, n, info, size);
    }
    for (int i = 0; i < n; i++)
        odmoe_session_free(sequences[i].session);
    odmoe_model_close(m);
}

static void each_expert_is_read_at_most_once_for_all_sequences_of_a_pass(void **state)
{
    static const int counts[] = {4, SEQUENCES_MAX}, rooms[] = {1, 60};
    uint64_t size[LAYERS_MAX];
    odmoe_info info = sizes(size);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++) {
            decode_together(counts[c], rooms[r], "auto", &info, size);
            decode_together(counts[c], rooms[r], "off", &info, size);
        }
}

int main(void)
{
    for (int i = 0; i < LONG; i++)
        tokens[i] = 3 + (i * 7919 + i * i * 31) % 4000;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_expert_is_read_at_most_once_a_chunk_however_small_the_cache),
        cmocka_unit_test(each_expert_is_read_at_most_once_a_chunk_under_every_policy),
        cmocka_unit_test(a_cold_prompt_of_one_chunk_reads_each_needed_expert_exactly_once),
        cmocka_unit_test(each_expert_is_read_at_most_once_for_all_sequences_of_a_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
