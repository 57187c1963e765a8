/* Prefixes: what was computed once is found again, in a sequence, in memory and on disk, and never changes an answer. */
#include "server_jobs.h"

#include "roomy_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTEXT 512
#define ANSWER 12

static odmoe_model *model, *plain; /* plain: for the answers without reuse */
static odmoe_error err;
static char folder[64];

static int setup(void **state)
{
    odmoe_options o = demo_options(1, CONTEXT);
    plain = open_demo(&o);
    o.sessions = 2;
    odmoe_plan plan = {.size = sizeof plan};
    char path[4096];
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE"));
    if (odmoe_plan_make(path, &o, &plan, &err))
        fail_msg("%s", err.message);
    o.prefix_bytes = plan.kv_bytes / 2;
    model = open_demo(&o);
    return 0;
}

static int teardown(void **state)
{
    odmoe_model_close(model);
    odmoe_model_close(plain);
    return 0;
}

/* ---- folders ---- */

static int new_folder(void **state)
{
    strcpy(folder, "/tmp/odmoe-prefixes-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

/* The files of the folder: how many; the last one's path. */
static int files(char *path, size_t room)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            n++;
            if (path)
                snprintf(path, room, "%s/%s", folder, e->d_name);
        }
    closedir(d);
    return n;
}

static int remove_folder(void **state)
{
    char path[512];
    while (files(path, sizeof path))
        unlink(path);
    return rmdir(folder);
}

/* ---- an engine, and prompts ---- */

static int lines;
static char line[512];

static void note_line(void *user, const char *text)
{
    lines++;
    snprintf(line, sizeof line, "%s", text);
}

static engine *engine_with(int sequences, uint64_t ram, bool disk)
{
    engine_options o = {.sequences = sequences,
                        .context = CONTEXT,
                        .queue = 8,
                        .cache_dir = disk ? folder : NULL,
                        .cache_disk_bytes = 1u << 30,
                        .cache_ram_bytes = ram,
                        .log = note_line};
    lines = 0;
    return open_engine(model, &o);
}

/* Tokens of a text: [0, shared) are the same for all seeds. */
static const int32_t *prompt(int seed, int shared, int n)
{
    static int32_t tokens[4][CONTEXT];
    static int which;
    int32_t *t = tokens[which = (which + 1) % 4];
    uint32_t x = 12345;
    for (int i = 0; i < n; i++) {
        if (i == shared)
            x += 7919u * (uint32_t)seed;
        x = x * 1664525u + 1013904223u;
        t[i] = 300 + (int32_t)(x >> 16) % 3500;
    }
    return t;
}

static job_request answer_request(const int32_t *tokens, int n)
{
    job_request r = request_of(tokens, n, ANSWER);
    r.ignore_eos = true;
    return r;
}

static void ask(engine *e, const int32_t *tokens, int n, answer *a)
{
    job_request r = answer_request(tokens, n);
    run_job(e, model, &r, a);
    assert_int_equal(a->end.finish, JOB_LENGTH);
}

/* What the prompt's answer is when nothing is reused. */
static void ask_fresh(const int32_t *tokens, int n, answer *a)
{
    engine_options o = {.sequences = 1, .context = CONTEXT};
    job_request r = answer_request(tokens, n);
    engine *e = open_engine(plain, &o);
    run_job(e, plain, &r, a);
    close_engine(e);
}

/* The answer must be the one that is computed without reuse, and `cached` of its prompt not computed. */
static void assert_reused(engine *e, const int32_t *tokens, int n, int least, int most, answer *a)
{
    answer fresh;
    ask_fresh(tokens, n, &fresh);
    ask(e, tokens, n, a);
    assert_in_range(a->end.usage.cached_tokens, least, most);
    assert_same_answer(a, &fresh);
}

/* ---- memory ---- */

static void a_conversation_goes_on_where_its_sequence_stands(void **state)
{
    engine *e = engine_with(1, 0, false);
    answer a;
    ask(e, prompt(1, 100, 150), 150, &a);
    int32_t turn[200];
    memcpy(turn, prompt(1, 100, 150), 150 * sizeof *turn);
    memcpy(turn + 150, a.tokens, ANSWER * sizeof *turn);
    for (int i = 0; i < 20; i++)
        turn[150 + ANSWER + i] = 400 + i;
    int computed = 150 + ANSWER - 1; /* the last token was never an input */
    assert_reused(e, turn, 150 + ANSWER + 20, computed, computed, &a);
    assert_reused(e, turn, 150 + ANSWER + 20, 150 + ANSWER + 19, 150 + ANSWER + 19, &a); /* all but the last */
    assert_reused(e, prompt(2, 100, 150), 150, 100, 100, &a); /* another turn behind the same beginning */
    close_engine(e);
}

static void a_short_request_takes_another_sequence_than_a_long_conversation(void **state)
{
    engine *e = engine_with(2, 0, false);
    answer a;
    ask(e, prompt(1, 80, 300), 300, &a);
    assert_reused(e, prompt(2, 80, 90), 90, 80, 80, &a); /* a fork of its beginning */
    assert_reused(e, prompt(1, 80, 300), 300, 299, 299, &a);
    close_engine(e);
}

static void a_prompt_begins_with_what_a_running_sequence_has_computed(void **state)
{
    engine *e = engine_with(2, 0, false);
    answer a, fresh;
    job_request r = request_of(prompt(1, 200, 220), 220, 200);
    r.ignore_eos = true;
    job *running = create_job(model, &r);
    job_event event;
    assert_int_equal(engine_submit(e, running, NULL), ENGINE_TAKEN);
    do
        assert_int_equal(job_next(running, -1, EVER_MS, &event), JOB_EVENT);
    while (event.kind != JOB_DELTA);
    assert_reused(e, prompt(2, 200, 230), 230, 200, 200, &a);
    job_free(running);
    ask(e, prompt(1, 200, 220), 220, &a);
    ask_fresh(prompt(1, 200, 220), 220, &fresh);
    assert_same_answer(&a, &fresh);
    close_engine(e);
}

static void what_a_sequence_loses_is_kept_in_memory(void **state)
{
    engine *e = engine_with(1, 8u << 20, false);
    engine_stats stats;
    answer a;
    for (int i = 1; i <= 3; i++)
        ask(e, prompt(i, 0, 100), 100, &a);
    engine_stats_get(e, &stats);
    assert_int_equal(stats.prefix_entries[PREFIX_MEMORY], 2);
    for (int i = 1; i <= 3; i++)
        assert_reused(e, prompt(i, 0, 100), 100, 99, 99, &a);
    close_engine(e);
}

static void what_is_not_to_be_cached_is_neither_reused_nor_kept(void **state)
{
    engine *e = engine_with(1, 8u << 20, true);
    answer a;
    job_request r = request_of(prompt(1, 0, 100), 100, ANSWER);
    r.cache_prompt = false;
    run_job(e, model, &r, &a);
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.usage.cached_tokens, 0);
    r.cache_prompt = true;
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.usage.cached_tokens, 0);
    r.cache_prompt = false;
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.usage.cached_tokens, 0);
    close_engine(e);
    assert_int_equal(files(NULL, 0), 1); /* that of the one that may be kept */
}

/* More prefixes than there are pages for: the least worth go, and every job gets its pages. */
static void prefixes_give_way_to_what_runs(void **state)
{
    engine *e = engine_with(2, 1u << 30, false);
    answer a;
    engine_stats stats;
    for (int i = 1; i <= 12; i++)
        ask(e, prompt(i, 0, 400), 400, &a);
    engine_stats_get(e, &stats);
    assert_true(stats.prefix_evictions[PREFIX_MEMORY] > 0);
    assert_reused(e, prompt(12, 0, 400), 400, 399, 399, &a);
    assert_reused(e, prompt(1, 0, 400), 400, 0, 0, &a);
    close_engine(e);
}

/* ---- disk ---- */

static void a_restarted_server_finds_its_prefixes(void **state)
{
    answer a;
    char path[512];
    struct stat st;
    engine *e = engine_with(1, 0, true);
    ask(e, prompt(1, 120, 200), 200, &a);
    close_engine(e);
    assert_int_equal(files(path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    e = engine_with(1, 0, true);
    assert_reused(e, prompt(1, 120, 200), 200, 199, 199, &a);
    assert_int_equal(a.end.usage.cached_from_disk, 199);
    close_engine(e);

    e = engine_with(1, 0, true);
    assert_reused(e, prompt(2, 120, 200), 200, 120, 120, &a); /* to the token, not to the block */
    assert_int_equal(a.end.usage.cached_from_disk, 120);
    engine_stats stats;
    engine_stats_get(e, &stats);
    assert_int_equal(stats.prompt_tokens_cached[PREFIX_DISK], 120);
    assert_int_equal(stats.prefix_loads, 1);
    close_engine(e);
}

static void a_longer_prefix_replaces_the_one_that_it_goes_on_from(void **state)
{
    answer a;
    engine *e = engine_with(1, 0, true);
    ask(e, prompt(1, 0, 100), 100, &a);
    int32_t turn[140];
    memcpy(turn, prompt(1, 0, 100), 100 * sizeof *turn);
    memcpy(turn + 100, a.tokens, ANSWER * sizeof *turn);
    for (int i = 100 + ANSWER; i < 140; i++)
        turn[i] = 400 + i;
    close_engine(e);
    e = engine_with(1, 0, true);
    ask(e, turn, 140, &a);
    ask(e, prompt(2, 0, 63 - ANSWER + 1), 63 - ANSWER + 1, &a); /* 63 tokens: too short */
    close_engine(e);
    assert_int_equal(files(NULL, 0), 1);
}

/* Forks that are being written have the pages that the next job needs: it waits for them, and all of them are answered. */
static void without_room_for_forks_all_jobs_are_answered(void **state)
{
    answer a, fresh;
    odmoe_options o = demo_options(1, CONTEXT);
    o.prefix_bytes = 128 << 10; /* a fork's tables, and few pages */
    odmoe_model *small = open_demo(&o);
    engine_options eo = {.sequences = 1,
                         .context = CONTEXT,
                         .queue = 8,
                         .cache_dir = folder,
                         .cache_disk_bytes = 1u << 30,
                         .log = note_line};
    engine *e = open_engine(small, &eo);
    for (int i = 1; i <= 8; i++) {
        job_request r = answer_request(prompt(i, 0, 400), 400);
        run_job(e, small, &r, &a);
        assert_int_equal(a.end.finish, JOB_LENGTH);
        ask_fresh(prompt(i, 0, 400), 400, &fresh);
        assert_same_answer(&a, &fresh);
    }
    close_engine(e);
    odmoe_model_close(small);
    assert_true(files(NULL, 0) >= 1); /* at least what was there at the end */
}

typedef void (*harm)(const char *path);

static void cut_short(const char *path)
{
    assert_int_equal(truncate(path, 5000), 0);
}

static void cut_to_nothing(const char *path)
{
    assert_int_equal(truncate(path, 0), 0);
}

static void flip_a_bit(const char *path)
{
    struct stat st;
    char byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    close(fd);
}

static void change_a_token(const char *path)
{
    int fd = open(path, O_RDWR);
    int32_t token = 301;
    assert_int_equal(pwrite(fd, &token, sizeof token, 44), sizeof token);
    close(fd);
}

static void damaged_files_are_left_out_with_one_line(void **state)
{
    static const harm harms[] = {cut_short, cut_to_nothing, flip_a_bit, change_a_token};
    for (int i = 0; i < 4; i++) {
        answer a;
        char path[512];
        engine *e = engine_with(1, 0, true);
        ask(e, prompt(1, 0, 200), 200, &a);
        close_engine(e);
        assert_int_equal(files(path, sizeof path), 1);
        harms[i](path);
        e = engine_with(1, 0, true);
        answer fresh;
        ask(e, prompt(1, 0, 200), 200, &a);
        assert_int_equal(lines, 1);
        assert_non_null(strstr(line, "prefixes: removed"));
        assert_int_equal(a.end.usage.cached_tokens, 0);
        close_engine(e);
        ask_fresh(prompt(1, 0, 200), 200, &fresh);
        assert_same_answer(&a, &fresh);
        assert_int_equal(files(path, sizeof path), 1); /* written anew */
        unlink(path);
    }
}

static void files_of_other_models_are_left_alone(void **state)
{
    char path[512], other[512];
    answer a;
    engine *e = engine_with(1, 0, true);
    ask(e, prompt(1, 0, 100), 100, &a);
    close_engine(e);
    assert_int_equal(files(path, sizeof path), 1);
    snprintf(other, sizeof other, "%s/0123456789abcdef%s", folder, path + strlen(folder) + 17);
    assert_int_equal(rename(path, other), 0);
    e = engine_with(1, 0, true);
    assert_int_equal(lines, 1);
    assert_non_null(strstr(line, "other models"));
    assert_reused(e, prompt(1, 0, 100), 100, 0, 0, &a);
    close_engine(e);
    assert_int_equal(access(other, F_OK), 0);
}

static void files_beyond_the_limit_go_the_least_worth_first(void **state)
{
    answer a;
    char path[512];
    struct stat st;
    engine *e = engine_with(1, 0, true);
    ask(e, prompt(1, 0, 300), 300, &a);
    close_engine(e);
    assert_int_equal(files(path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    engine_options o = {.sequences = 1,
                        .context = CONTEXT,
                        .queue = 8,
                        .cache_dir = folder,
                        .cache_disk_bytes = (uint64_t)st.st_size * 5 / 2,
                        .log = note_line};
    for (int i = 2; i <= 9; i++) { /* titles, of few tokens */
        e = open_engine(model, &o);
        ask(e, prompt(i, 0, 80), 80, &a);
        close_engine(e);
    }
    uint64_t bytes = 0;
    DIR *d = opendir(folder);
    for (struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.' && !fstatat(dirfd(d), f->d_name, &st, 0))
            bytes += (uint64_t)st.st_size;
    closedir(d);
    assert_true(bytes <= o.cache_disk_bytes);
    e = open_engine(model, &o);
    engine_stats stats;
    engine_stats_get(e, &stats);
    assert_in_range(stats.prefix_entries[PREFIX_DISK], 2, 8);
    ask(e, prompt(1, 0, 300), 300, &a);
    assert_int_equal(a.end.usage.cached_from_disk, 299); /* the long one is still there */
    close_engine(e);
}

static void a_limit_that_no_file_fits_in_saves_nothing_and_says_so_once(void **state)
{
    answer a;
    engine_options o = {.sequences = 1,
                        .context = CONTEXT,
                        .queue = 8,
                        .cache_dir = folder,
                        .cache_disk_bytes = 1000,
                        .log = note_line};
    lines = 0;
    engine *e = open_engine(model, &o);
    for (int i = 0; i < 3; i++)
        ask(e, prompt(i, 0, 100), 100, &a);
    close_engine(e);
    assert_int_equal(lines, 1);
    assert_non_null(strstr(line, "not saved"));
    assert_int_equal(files(NULL, 0), 0);
}

static void a_folder_that_others_can_read_is_refused(void **state)
{
    engine_options o = {.sequences = 1, .context = CONTEXT, .cache_dir = folder, .cache_disk_bytes = 1 << 20};
    engine *e = NULL;
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(engine_open(model, &o, &e, &err), ODMOE_ERR_IO);
    assert_non_null(strstr(err.message, "chmod 700"));
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(engine_open(model, &o, &e, &err), ODMOE_OK); /* made when it is not there */
    struct stat st;
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    close_engine(e);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, new_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_goes_on_where_its_sequence_stands),
        cmocka_unit_test(a_short_request_takes_another_sequence_than_a_long_conversation),
        cmocka_unit_test(a_prompt_begins_with_what_a_running_sequence_has_computed),
        cmocka_unit_test(what_a_sequence_loses_is_kept_in_memory),
        cmocka_unit_test(prefixes_give_way_to_what_runs),
        IN_FOLDER(what_is_not_to_be_cached_is_neither_reused_nor_kept),
        IN_FOLDER(a_restarted_server_finds_its_prefixes),
        IN_FOLDER(a_longer_prefix_replaces_the_one_that_it_goes_on_from),
        IN_FOLDER(without_room_for_forks_all_jobs_are_answered),
        IN_FOLDER(damaged_files_are_left_out_with_one_line),
        IN_FOLDER(files_of_other_models_are_left_alone),
        IN_FOLDER(files_beyond_the_limit_go_the_least_worth_first),
        IN_FOLDER(a_limit_that_no_file_fits_in_saves_nothing_and_says_so_once),
        IN_FOLDER(a_folder_that_others_can_read_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
