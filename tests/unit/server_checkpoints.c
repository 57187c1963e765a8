/* Models whose state cannot be cut back: prompts are found again at checkpoints, and answers are those without reuse. */
#include "server_jobs.h"

#include "roomy_disk.h"

#include <dirent.h>
#include <unistd.h>

#include "api/handles.h"
#include "support/golden.h"
#include "support/kinds.h"
#include "support/models.h"

#define ANSWER 6

static odmoe_error err;
static char folder[64];

static int new_folder(void **state)
{
    strcpy(folder, "/tmp/odmoe-checkpoints-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    return rmdir(folder);
}

/* The model has no tokenizer of its own, and no text without one. */
static odmoe_model *open_with_text(const kind *k)
{
    odmoe_options o = small_options();
    o.chunk = 64;
    o.sessions = 1;
    o.context = KIND_CONTEXT;
    o.snapshots = ENGINE_SNAPSHOTS;
    o.prefix_bytes = 16u << 20;
    odmoe_model *m = kind_open(k, &o);
    odmoe_tokenizer *t;
    assert_int_equal(odmoe_tokenizer_open(test_path("/models/demo.gguf"), &t, &err), ODMOE_OK);
    m->tokenizer.t = t->t;
    free(t);
    return m;
}

/* A prompt whose first `shared` tokens are the same for all seeds. */
static const int32_t *prompt(int seed, int shared, int n)
{
    static int32_t tokens[KIND_CONTEXT];
    for (int i = 0; i < n; i++)
        tokens[i] = token_at(i < shared ? i : i + 97 * seed);
    return tokens;
}

typedef struct world {
    odmoe_model *model, *plain;
    engine *e;
} world;

static world open_world(const kind *k, bool disk)
{
    world w = {.model = open_with_text(k), .plain = open_with_text(k)};
    engine_options o = {.sequences = 1,
                        .context = KIND_CONTEXT,
                        .queue = 2,
                        .cache_dir = disk ? folder : NULL,
                        .cache_disk_bytes = 1u << 30,
                        .cache_ram_bytes = disk ? 0 : 16u << 20};
    w.e = open_engine(w.model, &o);
    return w;
}

static void close_world(world *w)
{
    close_engine(w->e);
    odmoe_model_close(w->model);
    odmoe_model_close(w->plain);
}

static int32_t ask(world *w, const int32_t *tokens, int n, const int32_t *checkpoints, size_t count)
{
    static answer a, fresh;
    job_request r = request_of(tokens, n, ANSWER);
    r.ignore_eos = true;
    r.checkpoints = checkpoints;
    r.checkpoint_count = count;
    run_job(w->e, w->model, &r, &a);
    engine_options o = {.sequences = 1, .context = KIND_CONTEXT};
    engine *plain = open_engine(w->plain, &o);
    run_job(plain, w->plain, &r, &fresh);
    close_engine(plain);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.n_tokens, ANSWER);
    assert_same_answer(&a, &fresh);
    return a.end.usage.cached_tokens;
}

static const int32_t turns[] = {100, 200};

/* Kinds that snapshots are made for: all but the first. */
static void for_each_kind(void (*test)(const kind *k))
{
    for (int i = 1; i < KINDS; i++)
        test(&kinds[i]);
}

static void prompts_with_a_common_beginning(const kind *k)
{
    world w = open_world(k, false);
    bool sums = k->sums[0] || k->sums[1];
    assert_int_equal(ask(&w, prompt(1, 250, 300), 300, turns, 2), 0);
    assert_in_range(ask(&w, prompt(2, 250, 300), 300, turns, 2), 200, sums ? 200 : 250);
    assert_in_range(ask(&w, prompt(3, 150, 300), 300, turns, 2), 100, sums ? 100 : 150);
    assert_in_range(ask(&w, prompt(3, 150, 300), 300, turns, 2), 200, sums ? 200 : 299); /* all of it is known */
    close_world(&w);
}

static void a_common_beginning_is_found_up_to_a_checkpoint(void **state)
{
    for_each_kind(prompts_with_a_common_beginning);
}

static void another_answer(const kind *k)
{
    world w = open_world(k, false);
    ask(&w, prompt(1, 300, 300), 300, turns, 2);
    /* another answer than the model's own, and the next turn */
    assert_in_range(ask(&w, prompt(1, 300, 340), 340, turns, 2), 300, 306);
    close_world(&w);
}

static void the_next_turn_begins_at_the_answer(void **state)
{
    for_each_kind(another_answer);
}

static void long_prompt(const kind *k)
{
    world w = open_world(k, false);
    ask(&w, prompt(1, 2100, 2500), 2500, NULL, 0);
    assert_in_range(ask(&w, prompt(2, 2100, 2300), 2300, NULL, 0), 2048, 2100);
    assert_in_range(ask(&w, prompt(3, 1100, 1200), 1200, NULL, 0), 1024, 1100);
    close_world(&w);
}

static void long_prompts_have_checkpoints_on_their_way(void **state)
{
    long_prompt(&kinds[2]);
}

static void many_turns_are_thinned(void **state)
{
    int32_t marks[20];
    world w = open_world(&kinds[2], false);
    for (int i = 0; i < 20; i++)
        marks[i] = 30 * (i + 1);
    ask(&w, prompt(1, 640, 640), 640, marks, 20);
    /* spread over the prompt: whatever is shared, at most a quarter of it is computed anew */
    for (int shared = 600; shared >= 200; shared -= 100) {
        int32_t cached = ask(&w, prompt(shared / 100, shared, 640), 640, marks, 20);
        assert_in_range(cached, shared * 3 / 4 - 30, shared);
    }
    close_world(&w);
}

static void checkpoints_are_saved_with_the_prefix(void **state)
{
    for (int i = 1; i < KINDS; i++) {
        bool sums = kinds[i].sums[0] || kinds[i].sums[1];
        new_folder(state);
        world w = open_world(&kinds[i], true);
        ask(&w, prompt(1, 250, 300), 300, turns, 2);
        close_world(&w);
        w = open_world(&kinds[i], true);
        assert_in_range(ask(&w, prompt(2, 250, 300), 300, turns, 2), 200, sums ? 200 : 250);
        close_world(&w);
        remove_folder(state);
    }
}

static void checkpoints_are_kept_with_a_prefix_in_memory(void **state)
{
    for (int i = 1; i < KINDS; i++) {
        bool sums = kinds[i].sums[0] || kinds[i].sums[1];
        world w = open_world(&kinds[i], false);
        ask(&w, prompt(1, 250, 300), 300, turns, 2);
        ask(&w, prompt(5, 0, 300), 300, turns, 2); /* displaces it */
        assert_in_range(ask(&w, prompt(2, 250, 300), 300, turns, 2), 200, sums ? 200 : 250);
        close_world(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_common_beginning_is_found_up_to_a_checkpoint),
        cmocka_unit_test(the_next_turn_begins_at_the_answer),
        cmocka_unit_test(long_prompts_have_checkpoints_on_their_way),
        cmocka_unit_test(many_turns_are_thinned),
        cmocka_unit_test(checkpoints_are_saved_with_the_prefix),
        cmocka_unit_test(checkpoints_are_kept_with_a_prefix_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
