/* Sessions: what they take from the budget, going back, saving and loading. */
#include "format_files.h"

#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/gguf_edit.h"
#include "support/golden.h"
#include "support/models.h"

/* Two models of the same shapes and file sizes with different weights, tiny both. */
#define MODEL "gguf/qwen3moe-Q4_0.gguf"
#define TWIN "gguf/qwen3moe-IQ4_NL.gguf"
#define LENGTH 11

static odmoe_error err;

static odmoe_model *open_tiny(void)
{
    odmoe_options o = small_options();
    return must_open(test_path(MODEL), &o);
}

/* A session with the first LENGTH tokens of the text. */
static odmoe_session *started(odmoe_model *model, int32_t context)
{
    odmoe_session *session = must_create(model, context);
    must_eval(session, text_tokens(0, LENGTH), LENGTH, NULL);
    return session;
}

/* ---- room ---- */

static void a_session_starts_empty_with_the_models_reserve(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = must_create(model, 0);
    assert_int_equal(odmoe_session_length(session), 0);
    assert_int_equal(odmoe_session_context(session), 64);
    odmoe_session_free(session);
    session = must_create(model, 17);
    assert_int_equal(odmoe_session_context(session), 17);
    odmoe_session_free(session);
    odmoe_session_free(NULL);
    odmoe_model_close(model);
}

static void a_session_that_does_not_fit_is_refused_until_another_is_freed(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *first = must_create(model, 0), *second = must_create(model, 0), *third = NULL;
    assert_error(&err, odmoe_session_create(model, 1, &third, &err), ODMOE_ERR_BUDGET, "1 tokens", "reserve");
    assert_null(third);
    odmoe_session_free(first);
    third = must_create(model, 64);
    odmoe_session_free(second);
    odmoe_session_free(third);
    first = must_create(model, 128); /* the reserve is one: two of 64 give room for one of 128 */
    odmoe_session_free(first);
    odmoe_model_close(model);
}

static void a_context_the_model_was_not_made_for_is_refused(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = NULL;
    assert_error(&err, odmoe_session_create(model, -1, &session, &err), ODMOE_ERR_RANGE, "-1", "context");
    assert_error(&err, odmoe_session_create(model, 1 << 30, &session, &err), ODMOE_ERR_RANGE, "1073741824", "made for");
    assert_null(session);
    odmoe_model_close(model);
}

/* ---- going back ---- */

static void a_truncated_session_goes_on_as_if_the_rest_had_never_been(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = started(model, 0);
    must_eval(session, text_tokens(300, 20), 20, NULL);
    assert_int_equal(odmoe_session_truncate(session, LENGTH, NULL, &err), ODMOE_OK);
    assert_goes_on(model, session, LENGTH);
    assert_int_equal(odmoe_session_truncate(session, 3, NULL, &err), ODMOE_OK);
    assert_goes_on(model, session, 3);
    odmoe_session_reset(session);
    assert_int_equal(odmoe_session_length(session), 0);
    assert_goes_on(model, session, 0);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void a_session_is_not_truncated_to_what_it_never_was(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = started(model, 0);
    assert_error(&err, odmoe_session_truncate(session, -1, NULL, &err), ODMOE_ERR_RANGE, "-1", "11");
    assert_error(&err, odmoe_session_truncate(session, LENGTH + 1, NULL, &err), ODMOE_ERR_RANGE, "12", "11");
    assert_goes_on(model, session, LENGTH);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void a_full_context_is_an_error_and_changes_nothing(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = started(model, LENGTH + 2);
    assert_error(&err, odmoe_eval(session, text_tokens(0, 3), 3, NULL, &err), ODMOE_ERR_RANGE, "3 tokens",
                 "11 of its 13");
    assert_goes_on(model, session, LENGTH);
    must_eval(session, text_tokens(LENGTH, 2), 2, NULL);
    assert_error(&err, odmoe_eval(session, text_tokens(0, 1), 1, NULL, &err), ODMOE_ERR_RANGE, "13 of its 13", "fit");
    assert_error(&err, odmoe_eval(session, text_tokens(0, 1), INT64_MAX, NULL, &err), ODMOE_ERR_RANGE, "fit", "13");
    assert_error(&err, odmoe_eval(session, text_tokens(0, 1), 0, NULL, &err), ODMOE_ERR_RANGE, "at least one", " ");
    assert_int_equal(odmoe_session_length(session), LENGTH + 2);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

/* ---- saving and loading ---- */

static const char *saved(odmoe_model *model, const char *name)
{
    odmoe_session *session = started(model, 0);
    if (odmoe_session_save(session, temp_path(name), &err))
        fail_msg("%s", err.message);
    odmoe_session_free(session);
    return temp_path(name);
}

static void a_loaded_session_goes_on_where_the_saved_one_was(void **state)
{
    const char *const types[] = {"f32", "f16", "q8_0"};
    for (int i = 0; i < 3; i++) {
        odmoe_options o = small_options();
        o.kv = types[i];
        odmoe_model *model = must_open(test_path(MODEL), &o);
        const char *path = saved(model, "session");
        odmoe_session *session = must_create(model, LENGTH + 5); /* another room than the saved one's */
        must_eval(session, text_tokens(100, 7), 7, NULL);
        if (odmoe_session_load(session, path, &err))
            fail_msg("%s", err.message);
        assert_goes_on(model, session, LENGTH);
        odmoe_session_free(session);
        odmoe_model_close(model);
    }
}

static void a_session_is_loaded_in_another_run_of_the_program_with_other_settings(void **state)
{
    odmoe_model *model = open_tiny();
    const char *path = saved(model, "session");
    odmoe_model_close(model);
    odmoe_options o = small_options();
    o.threads = 1;
    o.chunk = 3;
    o.context = 30;
    model = must_open(test_path(MODEL), &o);
    odmoe_session *session = must_create(model, 0);
    assert_int_equal(odmoe_session_load(session, path, &err), ODMOE_OK);
    assert_goes_on(model, session, LENGTH);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void an_empty_session_and_a_full_one_are_saved_too(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = must_create(model, LENGTH + 1);
    assert_int_equal(odmoe_session_save(session, temp_path("empty"), &err), ODMOE_OK);
    must_eval(session, text_tokens(0, LENGTH + 1), LENGTH + 1, NULL);
    assert_int_equal(odmoe_session_save(session, temp_path("full"), &err), ODMOE_OK);
    assert_int_equal(odmoe_session_load(session, temp_path("empty"), &err), ODMOE_OK);
    assert_goes_on(model, session, 0);
    assert_int_equal(odmoe_session_load(session, temp_path("full"), &err), ODMOE_OK);
    assert_int_equal(odmoe_session_truncate(session, LENGTH, NULL, &err), ODMOE_OK);
    assert_goes_on(model, session, LENGTH);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void a_session_longer_than_the_room_is_refused(void **state)
{
    odmoe_model *model = open_tiny();
    const char *path = saved(model, "session");
    odmoe_session *session = must_create(model, LENGTH - 1);
    must_eval(session, text_tokens(0, 4), 4, NULL);
    assert_error(&err, odmoe_session_load(session, path, &err), ODMOE_ERR_RANGE, "11 tokens", "session of 10");
    assert_goes_on(model, session, 4);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void refused_by(const char *path, const odmoe_options *o, const char *file)
{
    odmoe_model *model = must_open(path, o);
    odmoe_session *session = must_create(model, 0);
    must_eval(session, text_tokens(0, 4), 4, NULL);
    assert_error(&err, odmoe_session_load(session, file, &err), ODMOE_ERR_FORMAT, file, "another model");
    assert_goes_on(model, session, 4);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void a_session_of_another_model_kv_type_or_kernels_is_refused(void **state)
{
    odmoe_model *model = open_tiny();
    const char *file = saved(model, "session");
    odmoe_model_close(model);
    odmoe_options o = small_options();
    refused_by(test_path(TWIN), &o, file);
    refused_by(test_path("gguf/llama-Q4_K_M.gguf"), &o, file);
    o.kv = "f32";
    refused_by(test_path(MODEL), &o, file);
    o.kv = "f16";
    o.kernels = "ref";
    if (strcmp(odmoe_kernels_at(0), "ref"))
        refused_by(test_path(MODEL), &o, file);
}

/* The same tensors with other positions: the configuration is part of what a model is. */
static void a_session_of_the_same_weights_with_another_configuration_is_refused(void **state)
{
    odmoe_options o = small_options();
    odmoe_model *model = must_open(test_path("models/mixtral"), &o);
    const char *file = saved(model, "session");
    odmoe_model_close(model);
    refused_by(test_path("models/mixtral_sliding"), &o, file);
}

/* Experts are not in memory, and still a part of what a model is: two that have changed places. */
static void a_session_of_a_model_with_other_experts_is_refused(void **state)
{
    gguf_edit *e = edit_read(test_path(MODEL));
    const char *original = edit_save(e, "original.gguf");
    odmoe_options o = small_options();
    odmoe_model *model = must_open(original, &o);
    const char *file = saved(model, "session");
    odmoe_model_close(model);
    edit_tensor *t = edit_find(e, "blk.1.ffn_down_exps.weight");
    size_t half = t->data.length / 2;
    for (size_t i = 0; i < half; i++) {
        unsigned char other = t->data.at[half + i];
        t->data.at[half + i] = t->data.at[i];
        t->data.at[i] = other;
    }
    refused_by(edit_save(e, "changed.gguf"), &o, file);
    edit_free(e);
}

static void put_groups(gguf_edit *e, uint32_t groups)
{
    edit_set_int(e, "qwen3moe.expert_group_count", GG_U32, groups);
    edit_set_int(e, "qwen3moe.expert_group_used_count", GG_U32, 1);
}

static void a_session_of_the_same_experts_in_other_groups_is_refused(void **state)
{
    gguf_edit *e = edit_read(test_path(MODEL));
    odmoe_options o = small_options();
    put_groups(e, 1);
    odmoe_model *model = must_open(edit_save(e, "one.gguf"), &o);
    const char *file = saved(model, "session");
    odmoe_model_close(model);
    put_groups(e, 2);
    refused_by(edit_save(e, "two.gguf"), &o, file);
    edit_free(e);
}

/* ---- files ---- */

static void a_link_stays_and_what_is_no_file_is_left_alone(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = started(model, 0);
    char link[1024], fifo[1024];
    struct stat st;
    snprintf(link, sizeof link, "%s", temp_path("link"));
    snprintf(fifo, sizeof fifo, "%s", temp_path("fifo"));
    saved(model, "behind");
    assert_int_equal(symlink("behind", link), 0);
    must_eval(session, text_tokens(LENGTH, 2), 2, NULL);
    assert_int_equal(odmoe_session_save(session, link, &err), ODMOE_OK);
    assert_true(!lstat(link, &st) && S_ISLNK(st.st_mode));
    assert_int_equal(odmoe_session_load(session, temp_path("behind"), &err), ODMOE_OK);
    assert_goes_on(model, session, LENGTH + 2);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_error(&err, odmoe_session_save(session, fifo, &err), ODMOE_ERR_IO, fifo, "no regular file");
    assert_error(&err, odmoe_session_load(session, fifo, &err), ODMOE_ERR_IO, fifo, "regular file");
    assert_true(!lstat(fifo, &st) && S_ISFIFO(st.st_mode));
    const char *loop = temp_path("loop"), *nothing = temp_path("to-nothing");
    assert_int_equal(symlink("loop", loop), 0);
    assert_error(&err, odmoe_session_save(session, loop, &err), ODMOE_ERR_IO, loop, "levels of symbolic links");
    assert_int_equal(symlink("nothing", nothing), 0);
    assert_error(&err, odmoe_session_save(session, nothing, &err), ODMOE_ERR_IO, nothing, "does not exist");
    odmoe_session_free(session);
    odmoe_model_close(model);
}

/* As any new file: what the umask leaves of it. A file that is there keeps its mode. */
static void a_new_file_has_the_mode_that_the_umask_leaves(void **state)
{
    odmoe_model *model = open_tiny();
    static const mode_t masks[] = {077, 027, 0};
    struct stat st;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "mask%d", i);
        mode_t before = umask(masks[i]);
        const char *path = saved(model, name);
        umask(before);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0666 & ~masks[i]);
        saved(model, name);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0666 & ~masks[i]);
    }
    odmoe_model_close(model);
}

/* Its entries cannot be listed, so the folder cannot be opened and brought to the disk either. */
static void a_folder_that_can_only_be_written_takes_a_session(void **state)
{
    bool root = !geteuid(); /* who may list any folder */
    if (root && (seteuid(65534) || seteuid(0)))
        skip(); /* a container that has no other user */
    odmoe_model *model = open_tiny();
    odmoe_session *session = started(model, 0);
    char folder[1024], path[1100];
    snprintf(folder, sizeof folder, "%s", temp_path("unlisted"));
    snprintf(path, sizeof path, "%s/session", folder);
    assert_int_equal(chmod(temp_path("."), 0711), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(chmod(folder, 0333), 0);
    assert_int_equal(root ? seteuid(65534) : 0, 0);
    odmoe_status status = odmoe_session_save(session, path, &err);
    assert_int_equal(root ? seteuid(0) : 0, 0);
    assert_int_equal(chmod(folder, 0700), 0);
    if (status)
        fail_msg("%s", err.message);
    assert_int_equal(odmoe_session_load(session, path, &err), ODMOE_OK);
    assert_goes_on(model, session, LENGTH);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

/* A program may change its folder, and a download tool its files, while the model is open. */
static void a_session_is_saved_when_the_models_file_is_no_longer_where_it_was(void **state)
{
    gguf_edit *e = edit_read(test_path(MODEL));
    const char *path = edit_save(e, "moved.gguf");
    edit_free(e);
    odmoe_options o = small_options();
    odmoe_model *model = must_open(path, &o);
    assert_int_equal(unlink(path), 0);
    const char *file = saved(model, "session");
    odmoe_session *session = must_create(model, 0);
    if (odmoe_session_load(session, file, &err))
        fail_msg("%s", err.message);
    assert_goes_on(model, session, LENGTH);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

typedef struct saver {
    odmoe_session *session;
    const char *path;
    int failed;
} saver;

static void *save_often(void *ctx)
{
    saver *s = ctx;
    for (int i = 0; i < 50; i++)
        s->failed += odmoe_session_save(s->session, s->path, NULL) != ODMOE_OK;
    return NULL;
}

static void two_that_save_to_one_name_leave_a_whole_file_of_one(void **state)
{
    odmoe_options o = small_options();
    o.sessions = 3; /* assert_goes_on has one of its own */
    odmoe_model *model = must_open(test_path(MODEL), &o);
    saver s[2];
    pthread_t thread[2];
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("both"));
    for (int i = 0; i < 2; i++) {
        s[i] = (saver){started(model, 20), path, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, save_often, &s[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(s[i].failed, 0);
        assert_int_equal(odmoe_session_load(s[i].session, path, &err), ODMOE_OK);
        assert_goes_on(model, s[i].session, LENGTH);
        odmoe_session_free(s[i].session);
    }
    odmoe_model_close(model);
}

/* ---- damage ---- */

static void read_file(const char *path, bytes *out)
{
    char part[4096];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(part, 1, sizeof part, f));)
        put(out, part, n);
    fclose(f);
}

static void assert_damaged(odmoe_session *session, const bytes *file, const char *what, size_t place)
{
    save(temp_path("damaged"), file);
    odmoe_status status = odmoe_session_load(session, temp_path("damaged"), &err);
    if (status != ODMOE_ERR_FORMAT && status != ODMOE_ERR_RANGE) /* a longer length is first seen not to fit */
        fail_msg("%s at byte %zu: status %d", what, place, status);
    assert_int_equal(odmoe_session_length(session), 4);
}

/* Header bytes one by one, then every region by steps that hit tokens, keys, values of each layer, and the sum. */
static void any_damage_is_noticed_and_the_session_stays(void **state)
{
    odmoe_model *model = open_tiny();
    bytes file = {0};
    read_file(saved(model, "session"), &file);
    odmoe_session *session = must_create(model, 0);
    must_eval(session, text_tokens(0, 4), 4, NULL);
    for (size_t i = 0; i < file.length; i += i < 96 || i + 16 > file.length ? 1 : 487) {
        file.at[i] ^= 0x40;
        assert_damaged(session, &file, "a changed bit", i);
        file.at[i] ^= 0x40;
    }
    size_t whole = file.length;
    for (size_t i = 0; i < whole; i += i < 96 || i + 16 > whole ? 1 : 1013) {
        file.length = i;
        assert_damaged(session, &file, "cut short", i);
    }
    file.length = whole;
    put_number(&file, 0, 1);
    assert_damaged(session, &file, "a byte too many", whole);
    assert_goes_on(model, session, 4);
    file.length = whole;
    save(temp_path("damaged"), &file);
    assert_int_equal(odmoe_session_load(session, temp_path("damaged"), &err), ODMOE_OK);
    assert_goes_on(model, session, LENGTH);
    bytes_free(&file);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void token_ids_that_the_model_lacks_are_damage_even_when_the_sum_is_right(void **state)
{
    const size_t first_token = 32;
    const uint32_t ids[] = {512, 0xffffffffu, 0x80000000u};
    odmoe_model *model = open_tiny();
    bytes file = {0};
    read_file(saved(model, "session"), &file);
    odmoe_session *session = must_create(model, 0);
    must_eval(session, text_tokens(0, 4), 4, NULL);
    for (int i = 0; i < 3; i++) {
        patch_number(&file, first_token + 4 * (LENGTH - 1), ids[i], 4);
        uint64_t sum = 0xcbf29ce484222325ull; /* FNV-1a, as the format says */
        for (size_t b = 0; b < file.length - 8; b++)
            sum = (sum ^ file.at[b]) * 0x100000001b3ull;
        patch_number(&file, file.length - 8, sum, 8);
        assert_damaged(session, &file, "a token", ids[i]);
    }
    assert_goes_on(model, session, 4);
    bytes_free(&file);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void files_that_cannot_be_read_or_written_are_io_errors(void **state)
{
    odmoe_model *model = open_tiny();
    odmoe_session *session = started(model, 0);
    const char *nowhere = temp_path("no/such/folder");
    assert_error(&err, odmoe_session_load(session, nowhere, &err), ODMOE_ERR_IO, nowhere, "No such file");
    assert_error(&err, odmoe_session_save(session, nowhere, &err), ODMOE_ERR_IO, nowhere, "No such file");
    assert_error(&err, odmoe_session_load(session, temp_path("."), &err), ODMOE_ERR_IO, "folder", "");
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    const char *file = temp_path("session");
    for (rlim_t more = 0; more < 2; more++) { /* files than are open: for none, for one */
        int next = dup(0);
        close(next);
        struct rlimit few = {(rlim_t)next + more, old.rlim_max};
        setrlimit(RLIMIT_NOFILE, &few);
        odmoe_status status = odmoe_session_save(session, file, &err);
        setrlimit(RLIMIT_NOFILE, &old);
        assert_error(&err, status, ODMOE_ERR_IO, file, "Too many open files");
    }
    assert_goes_on(model, session, LENGTH);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

static void a_save_that_runs_out_of_room_keeps_the_old_file_and_leaves_no_other(void **state)
{
    odmoe_model *model = open_tiny();
    char kept[1024];
    snprintf(kept, sizeof kept, "%s", saved(model, "kept"));
    bytes before = {0}, after = {0};
    read_file(kept, &before);
    odmoe_session *session = started(model, 0);
    struct rlimit old, small = {0};
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    const size_t limits[] = {0, 10, 100, before.length / 2, before.length - 1};
    for (int i = 0; i < 5; i++) {
        small = (struct rlimit){limits[i], old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        odmoe_status status = odmoe_session_save(session, kept, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_error(&err, status, ODMOE_ERR_IO, kept, "too large");
    }
    char others[1100];
    glob_t left;
    snprintf(others, sizeof others, "%s.*", kept);
    assert_int_equal(glob(others, 0, NULL, &left), GLOB_NOMATCH);
    read_file(kept, &after);
    assert_int_equal(before.length, after.length);
    assert_memory_equal(before.at, after.at, before.length);
    assert_goes_on(model, session, LENGTH);
    bytes_free(&before);
    bytes_free(&after);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_starts_empty_with_the_models_reserve),
        cmocka_unit_test(a_session_that_does_not_fit_is_refused_until_another_is_freed),
        cmocka_unit_test(a_context_the_model_was_not_made_for_is_refused),
        cmocka_unit_test(a_truncated_session_goes_on_as_if_the_rest_had_never_been),
        cmocka_unit_test(a_session_is_not_truncated_to_what_it_never_was),
        cmocka_unit_test(a_full_context_is_an_error_and_changes_nothing),
        cmocka_unit_test(a_loaded_session_goes_on_where_the_saved_one_was),
        cmocka_unit_test(a_session_is_loaded_in_another_run_of_the_program_with_other_settings),
        cmocka_unit_test(an_empty_session_and_a_full_one_are_saved_too),
        cmocka_unit_test(a_session_longer_than_the_room_is_refused),
        cmocka_unit_test(a_session_of_another_model_kv_type_or_kernels_is_refused),
        cmocka_unit_test(a_session_of_the_same_weights_with_another_configuration_is_refused),
        cmocka_unit_test(a_session_of_a_model_with_other_experts_is_refused),
        cmocka_unit_test(a_session_of_the_same_experts_in_other_groups_is_refused),
        cmocka_unit_test(a_link_stays_and_what_is_no_file_is_left_alone),
        cmocka_unit_test(a_new_file_has_the_mode_that_the_umask_leaves),
        cmocka_unit_test(a_folder_that_can_only_be_written_takes_a_session),
        cmocka_unit_test(a_session_is_saved_when_the_models_file_is_no_longer_where_it_was),
        cmocka_unit_test(two_that_save_to_one_name_leave_a_whole_file_of_one),
        cmocka_unit_test(any_damage_is_noticed_and_the_session_stays),
        cmocka_unit_test(token_ids_that_the_model_lacks_are_damage_even_when_the_sum_is_right),
        cmocka_unit_test(files_that_cannot_be_read_or_written_are_io_errors),
        cmocka_unit_test(a_save_that_runs_out_of_room_keeps_the_old_file_and_leaves_no_other),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
