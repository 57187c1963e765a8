/* Every family in the layouts that publishers and llama.cpp's converter write (tests/data/families; README.md there):
 * folders against transformers, layer by layer; quantised GGUF files against llama.cpp's logits; and the same bytes
 * whatever the budget, threads, chunks, neighbours, and when a session is saved, loaded, forked or cut in between. A family is added
 * by its files alone. */
#include "format_files.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

static odmoe_error err;

/* ---- what there is ---- */

typedef struct entry {
    char model[512], expected[512];
} entry;

typedef struct entries {
    entry at[128];
    int n;
} entries;

static void add(entries *list, const char *model, const char *expected)
{
    if (access(model, R_OK) || access(expected, R_OK))
        return;
    assert_true(list->n < 128);
    snprintf(list->at[list->n].model, sizeof list->at->model, "%s", model);
    snprintf(list->at[list->n++].expected, sizeof list->at->expected, "%s", expected);
}

static int by_model(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->model, ((const entry *)b)->model);
}

static entries folders(void)
{
    static entries list;
    list.n = 0;
    DIR *d = opendir(test_path("families"));
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && !access(test_path("families/%s/config.json", e->d_name), R_OK))
            add(&list, test_path("families/%s", e->d_name), test_path("families/%s/expected.safetensors", e->d_name));
    closedir(d);
    qsort(list.at, (size_t)list.n, sizeof *list.at, by_model);
    assert_true(list.n > 0);
    return list;
}

/* quantised: compared with llama.cpp's logits, which index.json calls the reference; else with transformers'. */
static entries files(bool quantised)
{
    static entries list;
    const char *name;
    json_t *one, *index = json_load_file(test_path("families/gguf/index.json"), 0, NULL);
    list.n = 0;
    assert_non_null(index);
    json_object_foreach(index, name, one)
    {
        bool from_llama = json_object_get(one, "reference") != NULL;
        const char *expected = json_string_value(json_object_get(one, "expected"));
        if (from_llama == quantised && expected)
            add(&list, test_path("families/gguf/%s.gguf", name), test_path("families/gguf/%s", expected));
    }
    json_decref(index);
    qsort(list.at, (size_t)list.n, sizeof *list.at, by_model);
    return list;
}

/* ---- running ---- */

typedef struct run {
    const golden *expected;
    odmoe_info info;
    const int32_t *ids;
    int n;
    double worst;        /* of hidden states and routers, relative to their spread; of weights */
    int states, routers; /* how many layers have been compared; the state behind the last one is one more */
} run;

static run run_of(const golden *expected, odmoe_model *model)
{
    run r = {.expected = expected, .info.size = sizeof r.info};
    size_t n;
    r.ids = golden_i32(expected, &n, "input_ids");
    r.n = (int)n;
    odmoe_model_info(model, &r.info);
    return r;
}

static odmoe_model *open_model(const char *path, const char *kernels)
{
    odmoe_options o = small_options();
    o.kernels = kernels;
    o.context = 128;
    return must_open(path, &o);
}

static float *logits_of(odmoe_model *model, const run *r, void (*tap)(void *, const odmoe_tap *))
{
    odmoe_session *session = must_create(model, 0);
    float *logits = malloc((size_t)r->n * (size_t)r->info.vocab * sizeof *logits);
    must_forward(model, session, r->ids, r->n, &(forward_options){ODMOE_LOGITS_ALL, logits, tap, (void *)r});
    odmoe_session_free(session);
    return logits;
}

/* ---- folders, layer by layer ---- */

/* One token's choice: the same experts with the same weights; experts of equal weight may come in either order. */
static double choice_error(const int32_t *got, const float *got_w, const int32_t *want, const float *want_w, int k)
{
    double worst = 0;
    for (int i = 0; i < k; i++) {
        int at = 0;
        while (at < k && want[at] != got[i])
            at++;
        if (at == k)
            return INFINITY;
        worst = fmax(worst, fabs((double)got_w[i] - want_w[at]));
    }
    return worst;
}

static void compare_layer(void *user, const odmoe_tap *tap)
{
    run *r = user;
    size_t n;
    if (tap->hidden && golden_has(r->expected, "hidden.%d", tap->layer)) {
        const float *want = golden_f32(r->expected, &n, "hidden.%d", tap->layer);
        r->worst = fmax(
            r->worst, golden_error(tap->hidden, want + tap->first * r->info.hidden, (size_t)(tap->n * r->info.hidden)));
        r->states++;
    }
    if (!tap->router || !golden_has(r->expected, "topk.%d", tap->layer))
        return;
    const int32_t *topk = golden_i32(r->expected, NULL, "topk.%d", tap->layer);
    const float *topw = golden_f32(r->expected, NULL, "topw.%d", tap->layer);
    int64_t k = r->info.top_k;
    for (int64_t t = 0; t < tap->n; t++) {
        double error = choice_error(tap->topk + t * k, tap->topw + t * k, topk + (tap->first + t) * k,
                                    topw + (tap->first + t) * k, (int)k);
        if (error == INFINITY)
            fail_msg("layer %d, token %d: other experts", tap->layer, (int)(tap->first + t));
        r->worst = fmax(r->worst, error);
    }
    if (golden_has(r->expected, "router.%d", tap->layer)) {
        const float *want = golden_f32(r->expected, &n, "router.%d", tap->layer);
        r->worst = fmax(r->worst, golden_error(tap->router, want + tap->first * r->info.experts,
                                               (size_t)(tap->n * r->info.experts)));
        r->routers++;
    }
}

static int32_t best(const float *logits, int vocab)
{
    int32_t id = 0;
    for (int i = 1; i < vocab; i++)
        id = logits[i] > logits[id] ? i : id;
    return id;
}

static void check_greedy(odmoe_model *model, const run *r)
{
    size_t n;
    const int32_t *greedy = golden_i32(r->expected, &n, "greedy");
    odmoe_session *session = must_create(model, 0);
    float *logits = malloc((size_t)r->info.vocab * sizeof *logits);
    must_eval(session, r->ids, r->n, logits);
    for (size_t i = 0; i < n; i++) {
        int32_t id = best(logits, r->info.vocab);
        assert_int_equal(id, greedy[i]);
        must_eval(session, &id, 1, logits);
    }
    free(logits);
    odmoe_session_free(session);
}

static void check_exact(const entry *e)
{
    golden *expected = golden_open(e->expected);
    odmoe_model *model = open_model(e->model, "ref");
    run r = run_of(expected, model);
    float *logits = logits_of(model, &r, compare_layer);
    size_t n;
    const float *want = golden_f32(expected, &n, "logits");
    assert_int_equal(n, (size_t)r.n * (size_t)r.info.vocab);
    double error = golden_error(logits, want, n);
    print_message("%s: logits within %.1e, layers within %.1e\n", e->model, error, r.worst);
    assert_true(error < 1e-3);
    assert_true(r.worst < 1e-3);
    assert_int_equal(r.states, r.info.layers + 1);
    assert_int_equal(r.routers, r.info.moe_layers);
    check_greedy(model, &r);
    free(logits);
    odmoe_model_close(model);
    golden_close(expected);
}

static void published_folders_agree_layer_by_layer(void **state)
{
    entries list = folders();
    for (int i = 0; i < list.n; i++)
        check_exact(&list.at[i]);
}

static void converted_files_agree_layer_by_layer(void **state)
{
    entries list = files(false);
    for (int i = 0; i < list.n; i++)
        check_exact(&list.at[i]);
}

/* ---- close in distribution ---- */

static void check_close(const entry *e, const char *kernels, double most)
{
    golden *expected = golden_open(e->expected);
    odmoe_model *model = open_model(e->model, kernels);
    run r = run_of(expected, model);
    float *logits = logits_of(model, &r, NULL);
    double divergence = golden_divergence(logits, golden_f32(expected, NULL, "logits"), r.n, r.info.vocab);
    print_message("%s: %s: KL %.1e\n", e->model, kernels, divergence);
    assert_true(divergence <= most);
    free(logits);
    odmoe_model_close(model);
    golden_close(expected);
}

static void fast_kernels_stay_close_to_the_published(void **state)
{
    entries list = folders();
    for (int i = 0; i < list.n; i++)
        check_close(&list.at[i], "auto", 1e-3);
    list = files(false);
    for (int i = 0; i < list.n; i++)
        check_close(&list.at[i], "auto", 1e-3);
}

static void quantised_files_stay_close_to_llama_cpp(void **state)
{
    entries list = files(true);
    for (int i = 0; i < list.n; i++)
        check_close(&list.at[i], "auto", 2e-3);
}

/* ---- the same bytes ---- */

static void assert_gives(const char *path, const odmoe_options *o, const run *r, const float *want, const char *what)
{
    odmoe_model *model = must_open(path, o);
    float *got = logits_of(model, r, NULL);
    if (memcmp(got, want, (size_t)r->n * (size_t)r->info.vocab * sizeof *got))
        fail_msg("%s: %s changes the output", path, what);
    free(got);
    odmoe_model_close(model);
}

/* Saved and loaded at every position: the next logits stay the same. */
static void assert_survives_saving(odmoe_model *model, const run *r, const float *want)
{
    odmoe_session *a = must_create(model, 0), *b = must_create(model, 0);
    size_t vocab = (size_t)r->info.vocab;
    float *got = malloc(vocab * sizeof *got);
    const char *path = temp_path("saved");
    for (int i = 0; i + 1 < r->n; i++) {
        must_eval(a, r->ids + i, 1, NULL);
        assert_int_equal(odmoe_session_save(a, path, &err), ODMOE_OK);
        if (odmoe_session_load(b, path, &err))
            fail_msg("%s", err.message);
        must_eval(b, r->ids + i + 1, 1, got);
        assert_memory_equal(got, want + (size_t)(i + 1) * vocab, vocab * sizeof *got);
    }
    free(got);
    odmoe_session_free(a);
    odmoe_session_free(b);
}

/* The session goes on from where it is to the end of the text, and ends with the same logits. */
static void assert_ends_alike(odmoe_session *session, const run *r, const float *want)
{
    size_t vocab = (size_t)r->info.vocab;
    float *got = malloc(vocab * sizeof *got);
    int32_t length = odmoe_session_length(session);
    must_eval(session, r->ids + length, r->n - length, got);
    assert_memory_equal(got, want + (size_t)(r->n - 1) * vocab, vocab * sizeof *got);
    free(got);
}

/* Forked, cut back to a snapshot, and to a position where it may not stop: then it is somewhere before. */
static void assert_survives_cutting(odmoe_model *model, const run *r, const float *want)
{
    const int remembered[] = {1, r->n / 3, r->n / 2 + 1};
    odmoe_session *a = must_create(model, 0), *fork;
    for (int i = 0; i < 3; i++) {
        int32_t length = odmoe_session_length(a), reached;
        must_eval(a, r->ids + length, remembered[i] - length, NULL);
        assert_int_equal(odmoe_session_snapshot(a, &err), ODMOE_OK);
        if (odmoe_session_fork(a, 0, &fork, &err))
            fail_msg("%s", err.message);
        assert_ends_alike(a, r, want);
        assert_ends_alike(fork, r, want);
        odmoe_session_free(fork);
        assert_int_equal(odmoe_session_truncate(a, remembered[i] + 5, &reached, &err), ODMOE_OK);
        assert_in_range(reached, remembered[i], remembered[i] + 5);
        assert_ends_alike(a, r, want);
        assert_int_equal(odmoe_session_truncate(a, remembered[i], &reached, &err), ODMOE_OK);
        assert_int_equal(reached, remembered[i]);
    }
    odmoe_session_free(a);
}

/* The middle one of three sequences in chunks that hold tokens of several. */
static void assert_survives_neighbours(const char *path, const run *r, const float *want)
{
    odmoe_options o = small_options();
    o.context = 128;
    o.sessions = 3;
    o.chunk = 7;
    odmoe_model *model = must_open(path, &o);
    size_t vocab = (size_t)r->info.vocab;
    odmoe_sequence s[3];
    for (int i = 0; i < 3; i++)
        s[i] = (odmoe_sequence){.session = must_create(model, 0),
                                .tokens = i == 1 ? r->ids : r->ids + 3 * (i + 1),
                                .n = i == 1 ? r->n : 10,
                                .want_logits = i == 1 ? ODMOE_LOGITS_ALL : ODMOE_LOGITS_NONE};
    float *got = malloc((size_t)r->n * vocab * sizeof *got);
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = s;
    batch.n = 3;
    batch.logits = got;
    if (odmoe_forward(model, &batch, &err))
        fail_msg("%s: %s", path, err.message);
    assert_memory_equal(got, want, (size_t)r->n * vocab * sizeof *got);
    free(got);
    for (int i = 0; i < 3; i++)
        odmoe_session_free(s[i].session);
    odmoe_model_close(model);
}

static void check_same_bytes(const entry *e)
{
    golden *expected = golden_open(e->expected);
    odmoe_options o = small_options();
    o.context = 128;
    odmoe_model *model = must_open(e->model, &o);
    run r = run_of(expected, model);
    float *want = logits_of(model, &r, NULL);
    assert_survives_saving(model, &r, want);
    assert_survives_cutting(model, &r, want);
    odmoe_model_close(model);
    static const int chunks[] = {1, 7, 63, 64, 65};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        odmoe_options other = o;
        other.chunk = chunks[i];
        other.embeddings = chunks[i] == 7 ? "disk" : "memory";
        assert_gives(e->model, &other, &r, want, "the chunk size, or where the embedding is,");
    }
    odmoe_options other = o;
    other.threads = 1;
    assert_gives(e->model, &other, &r, want, "one thread");
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(e->model, &o, &plan, &err), ODMOE_OK);
    other = o;
    other.ram_bytes = plan.floor_bytes;
    assert_gives(e->model, &other, &r, want, "the smallest budget");
    other.ram_bytes = plan.floor_bytes + r.info.experts_bytes / 2;
    assert_gives(e->model, &other, &r, want, "a budget for half of the experts");
    assert_survives_neighbours(e->model, &r, want);
    free(want);
    golden_close(expected);
}

static void budgets_threads_chunks_neighbours_saving_and_cutting_change_no_byte(void **state)
{
    entries list = folders();
    for (int i = 0; i < list.n; i++)
        check_same_bytes(&list.at[i]);
    for (int quantised = 0; quantised <= 1; quantised++) {
        list = files(quantised);
        for (int i = 0; i < list.n; i++)
            check_same_bytes(&list.at[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_folders_agree_layer_by_layer),
        cmocka_unit_test(converted_files_agree_layer_by_layer),
        cmocka_unit_test(fast_kernels_stay_close_to_the_published),
        cmocka_unit_test(quantised_files_stay_close_to_llama_cpp),
        cmocka_unit_test(budgets_threads_chunks_neighbours_saving_and_cutting_change_no_byte),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
