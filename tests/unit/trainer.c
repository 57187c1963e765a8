/* The trainer: its optimiser by the book, checkpoints that are whole, and going on from them. */
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "format/safetensors.h"
#include "format_files.h"
#include "support/golden.h"
#include "support/layer_fixture.h"
#include "trainer.h"

static void adamw_follows_the_formula_and_decays_apart_from_the_gradient(void **state)
{
    /* two steps by hand: b1 0.5, b2 0.75, rate 0.1, decay 0.2, epsilon 0; gradients 2 then -1 */
    adamw a = {.rate = 0.1f, .beta1 = 0.5f, .beta2 = 0.75f, .epsilon = 0, .weight_decay = 0.2f};
    float w = 3, g = 2, m = 0, v = 0;
    adamw_update(&a, 1, &w, &g, 1, &m, &v, 1);
    assert_float_equal(w, 3 - 0.1 * (1 + 0.2 * 3), 1e-6); /* m / (1 - b1) = 2, v / (1 - b2) = 4 */
    float before = w;
    g = -2; /* clipped by half */
    adamw_update(&a, 2, &w, &g, 0.5f, &m, &v, 1);
    assert_float_equal(m, 0.5 * 1 + 0.5 * -1, 1e-6);
    assert_float_equal(v, 0.75 * 1 + 0.25 * 1, 1e-6);
    assert_float_equal(w, before - 0.1 * (0 + 0.2 * before), 1e-6);
}

static void clipping_limits_the_norm_of_all_gradients_together(void **state)
{
    assert_float_equal(adamw_clip(100, 5), 0.5, 1e-7);
    assert_float_equal(adamw_clip(16, 5), 1, 1e-7);
    assert_float_equal(adamw_clip(100, 0), 1, 1e-7);
}

static double half_square(void *user, const float *y, int64_t n, float *dy)
{
    layer_fixture *f = user;
    double sum = 0;
    for (int64_t i = 0; i < n * f->H; i++) {
        float d = y[i] - 1;
        sum += 0.5 * d * d;
        dy[i] = d;
    }
    return sum;
}

static void a_checkpoint_holds_what_the_layer_computes_with_and_room_changes_nothing(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, 40);
    float *y[2];
    trainer_report r = {0};
    for (int room = 0; room < 2; room++) {
        trainer_options o;
        trainer *t;
        trainer_options_init(&o);
        o.hidden = f.H;
        o.ffn = f.F;
        o.experts = f.E;
        o.top_k = f.k;
        o.aux_coef = 0.01f;
        o.folder = ".";
        o.cache_bytes = room ? 16384 : 0; /* one expert */
        o.keep_activations = room;
        if (trainer_create(&o, f.router[0], f.experts[0], &t, &f.err))
            fail_msg("%s", f.err.message);
        double first = 0;
        for (int step = 0; step < 20; step++) {
            if (trainer_step(t, f.x, f.n, half_square, &f, &r, &f.err))
                fail_msg("%s", f.err.message);
            first = step ? first : r.loss;
        }
        assert_true(r.loss < first);
        y[room] = malloc((size_t)(f.n * f.H) * sizeof(float));
        assert_int_equal(trainer_forward(t, f.x, f.n, y[room], NULL, &f.err), ODMOE_OK);
        assert_int_equal(trainer_save(t, "checkpoint-test.safetensors", &f.err), ODMOE_OK);
        assert_int_equal(trainer_save(t, "/nowhere/checkpoint.safetensors", &f.err), ODMOE_ERR_IO);
        trainer_free(t);
    }
    assert_memory_equal(y[0], y[1], (size_t)(f.n * f.H) * sizeof(float));
    golden *g = golden_open("checkpoint-test.safetensors");
    assert_int_equal(golden_i64(g, NULL, "step")[0], 20);
    memcpy(f.router[0], golden_f32(g, NULL, "router"), (size_t)(f.E * f.H) * sizeof(float));
    memcpy(f.experts[0], golden_f32(g, NULL, "experts"), (size_t)(f.E * 3 * f.H * f.F) * sizeof(float));
    golden_close(g);
    odmoe_layer *layer = fixture_layer(&f);
    float *again = malloc((size_t)(f.n * f.H) * sizeof *again);
    assert_int_equal(odmoe_layer_forward(layer, 0, f.x, f.n, again, NULL, &f.err), ODMOE_OK);
    assert_memory_equal(again, y[0], (size_t)(f.n * f.H) * sizeof *again);
    odmoe_layer_free(layer);
    free(again);
    free(y[0]);
    free(y[1]);
    unlink("checkpoint-test.safetensors");
    fixture_free(&f);
}

/* ---- files of tensors ---- */

static void saved_tensors_read_back_whole_and_in_parts_and_as_nothing_else(void **state)
{
    static const char path[] = "tensors-test.safetensors";
    const float f32[6] = {1, 2, 3, 4, 5, 6};
    const int64_t i64[2] = {-7, INT64_MAX};
    const uint16_t f16[4] = {0x3c00, 0x4000, 0, 0x8000};
    odmoe_tensor t[] = {{"a", "F32", 2, {2, 3}, f32},
                        {"b", "I64", 1, {2}, i64},
                        {"c \"quoted\"", "F16", 3, {2, 1, 2}, f16},
                        {"none", "F32", 1, {0}, f32}};
    odmoe_error err;
    odmoe_tensor_file *file = NULL;
    float part[3];
    int64_t whole[2];
    uint16_t halves[4];
    assert_int_equal(odmoe_tensors_save(path, t, 4, &err), ODMOE_OK);
    assert_int_equal(odmoe_tensors_open(path, &file, &err), ODMOE_OK);
    assert_int_equal(odmoe_tensors_read(file, &t[0], 2, 3, part, &err), ODMOE_OK);
    assert_memory_equal(part, f32 + 2, sizeof part);
    assert_int_equal(odmoe_tensors_read(file, &t[1], 0, 2, whole, &err), ODMOE_OK);
    assert_memory_equal(whole, i64, sizeof whole);
    assert_int_equal(odmoe_tensors_read(file, &t[2], 0, 4, halves, &err), ODMOE_OK);
    assert_memory_equal(halves, f16, sizeof halves);
    assert_int_equal(odmoe_tensors_read(file, &t[3], 0, 0, part, &err), ODMOE_OK);
    static const int64_t beyond[][2] = {{0, 7}, {6, 1}, {-1, 1}, {0, -1}, {1, INT64_MAX}, {INT64_MAX, 1}};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++)
        assert_int_equal(odmoe_tensors_read(file, &t[0], beyond[i][0], beyond[i][1], part, &err), ODMOE_ERR_RANGE);
    const odmoe_tensor wrong[] = {{"a", "F32", 2, {3, 2}, NULL},
                                  {"a", "F32", 1, {6}, NULL},
                                  {"a", "I32", 2, {2, 3}, NULL},
                                  {"d", "F32", 2, {2, 3}, NULL}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(odmoe_tensors_read(file, &wrong[i], 0, 1, part, &err), ODMOE_ERR_FORMAT);
        assert_non_null(strstr(err.message, i < 3 ? "F32 (2, 3)" : "'d'"));
    }
    odmoe_tensors_close(file);
    odmoe_tensors_close(NULL);
    assert_int_equal(odmoe_tensors_open("/nowhere/at/all", &file, &err), ODMOE_ERR_IO);
    unlink(path);
}

/* ---- going on from a checkpoint ---- */

enum { STEPS = 12, SAVED_AT = 5, OTHER_ROWS = 3 };
static const char CHECKPOINT[] = "resume-test.safetensors";

static trainer_options small_trainer(const layer_fixture *f)
{
    trainer_options o;
    trainer_options_init(&o);
    o.hidden = f->H;
    o.ffn = f->F;
    o.experts = f->E;
    o.top_k = f->k;
    o.aux_coef = 0.01f;
    o.z_coef = 0.001f;
    o.folder = ".";
    return o;
}

/* Steps first ... last - 1; each sees another part of x, so that some experts have no rows in some of them. */
static void step_on(layer_fixture *f, trainer *t, int first, int last)
{
    trainer_report r;
    for (int step = first; step < last; step++)
        if (trainer_step(t, f->x + step * OTHER_ROWS * f->H, OTHER_ROWS, half_square, f, &r, &f->err))
            fail_msg("%s", f->err.message);
}

static trainer *made(layer_fixture *f)
{
    trainer_options o = small_trainer(f);
    trainer *t;
    if (trainer_create(&o, f->router[0], f->experts[0], &t, &f->err))
        fail_msg("%s", f->err.message);
    return t;
}

static char *bytes_of(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *n = (size_t)ftell(file);
    rewind(file);
    char *all = malloc(*n);
    assert_int_equal(fread(all, 1, *n, file), *n);
    fclose(file);
    return all;
}

static void write_bytes(const char *path, const char *all, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(all, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void going_on_from_a_checkpoint_gives_the_bytes_of_a_run_that_was_not_interrupted(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, STEPS * OTHER_ROWS);
    trainer *whole = made(&f), *second;
    step_on(&f, whole, 0, SAVED_AT);
    assert_int_equal(trainer_save(whole, CHECKPOINT, &f.err), ODMOE_OK);
    step_on(&f, whole, SAVED_AT, STEPS);
    assert_int_equal(trainer_save(whole, "whole-test.safetensors", &f.err), ODMOE_OK);
    trainer_options o = small_trainer(&f);
    o.cache_bytes = 16384; /* another room and kept activations change nothing */
    o.keep_activations = 1;
    if (trainer_resume(&o, CHECKPOINT, &second, &f.err))
        fail_msg("%s", f.err.message);
    step_on(&f, second, SAVED_AT, STEPS);
    assert_int_equal(trainer_save(second, "second-test.safetensors", &f.err), ODMOE_OK);
    size_t n, m;
    char *a = bytes_of("whole-test.safetensors", &n), *b = bytes_of("second-test.safetensors", &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n); /* router, experts, moments and step */
    free(a);
    free(b);
    trainer_free(whole);
    trainer_free(second);
    unlink(CHECKPOINT);
    unlink("whole-test.safetensors");
    unlink("second-test.safetensors");
    fixture_free(&f);
}

static int working_files(void)
{
    int n = 0;
    DIR *folder = opendir(".");
    for (struct dirent *e; folder && (e = readdir(folder));)
        n += !strncmp(e->d_name, "working-", 8);
    closedir(folder);
    return n;
}

/* It is refused with this word in the message; nothing is left behind and nothing else is touched. */
static void refused(layer_fixture *f, const trainer_options *o, odmoe_status status, const char *word)
{
    trainer *none = NULL;
    int before = working_files();
    memset(&f->err, 0, sizeof f->err);
    odmoe_status got = trainer_resume(o, CHECKPOINT, &none, &f->err);
    if (got != status || f->err.code != status || !strstr(f->err.message, word))
        fail_msg("status %d, '%s'; expected %d and '%s'", got, f->err.message, status, word);
    assert_null(none);
    assert_int_equal(working_files(), before);
}

static void a_checkpoint_that_is_cut_off_foreign_or_damaged_is_refused_and_nothing_is_lost(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, STEPS * OTHER_ROWS);
    trainer *t = made(&f);
    trainer_options o = small_trainer(&f), other = o;
    step_on(&f, t, 0, SAVED_AT);
    assert_int_equal(trainer_save(t, CHECKPOINT, &f.err), ODMOE_OK);
    size_t n;
    char *good = bytes_of(CHECKPOINT, &n), *bad = malloc(n);
    static const double cuts[] = {0, 0.0001, 0.02, 0.5, 0.9999};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        write_bytes(CHECKPOINT, good, (size_t)(cuts[i] * (double)n));
        refused(&f, &o, ODMOE_ERR_FORMAT, CHECKPOINT);
    }
    for (size_t at = 0; at < n; at += at < 16 ? 1 : 97) { /* a bit anywhere: length, header, numbers, checksum */
        memcpy(bad, good, n);
        bad[at] ^= 0x10;
        write_bytes(CHECKPOINT, bad, n);
        trainer *none = NULL;
        if (trainer_resume(&o, CHECKPOINT, &none, &f.err) == ODMOE_OK) { /* a blank of the header's padding alone */
            assert_true(good[at] == ' ');
            trainer_free(none);
        }
    }
    write_bytes(CHECKPOINT, "no checkpoint at all, but longer than eight bytes", 49);
    refused(&f, &o, ODMOE_ERR_FORMAT, CHECKPOINT);
    const odmoe_tensor foreign = {"weights", "F32", 1, {4}, (const float[]){1, 2, 3, 4}};
    assert_int_equal(odmoe_tensors_save(CHECKPOINT, &foreign, 1, &f.err), ODMOE_OK);
    refused(&f, &o, ODMOE_ERR_FORMAT, "router");
    write_bytes(CHECKPOINT, good, n);
    other.ffn++;
    refused(&f, &other, ODMOE_ERR_FORMAT, "experts");
    other = o;
    other.experts--;
    refused(&f, &other, ODMOE_ERR_FORMAT, "router");
    other = o;
    other.hidden = 0;
    refused(&f, &other, ODMOE_ERR_RANGE, "hidden 0");
    other = o;
    other.folder = "/nowhere";
    refused(&f, &other, ODMOE_ERR_IO, "/nowhere");
    unlink(CHECKPOINT);
    refused(&f, &o, ODMOE_ERR_IO, CHECKPOINT);
    step_on(&f, t, SAVED_AT, STEPS); /* the one that was running still runs */
    free(good);
    free(bad);
    trainer_free(t);
    assert_int_equal(working_files(), 0);
    fixture_free(&f);
}

static void a_checkpoint_that_cannot_be_written_leaves_the_one_before(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, STEPS * OTHER_ROWS);
    trainer *t = made(&f), *again;
    trainer_options o = small_trainer(&f);
    assert_int_equal(mkdir("full-test", 0777), 0);
    assert_int_equal(trainer_save(t, "full-test/checkpoint", &f.err), ODMOE_OK);
    step_on(&f, t, 0, 1);
    struct rlimit now, small = {4096, RLIM_INFINITY}; /* writing stops after a page, as on a full disk */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &now), 0);
    small.rlim_max = now.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    odmoe_status status = trainer_save(t, "full-test/checkpoint", &f.err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
    assert_int_equal(status, ODMOE_ERR_IO);
    assert_non_null(strstr(f.err.message, "full-test/checkpoint"));
    assert_int_equal(trainer_resume(&o, "full-test/checkpoint", &again, &f.err), ODMOE_OK);
    assert_memory_equal(trainer_router(again), f.router[0], (size_t)(f.E * f.H) * sizeof(float)); /* before the step */
    trainer_free(again);
    trainer_free(t);
    assert_int_equal(unlink("full-test/checkpoint"), 0);
    assert_int_equal(rmdir("full-test"), 0); /* and no half of the new one */
    fixture_free(&f);
}

/* Files have short names in a folder of their own: nothing of a run that was ended is met again. */
static int enter_folder(void **state)
{
    return temp_setup(state) || chdir(temp_path(".")) ? -1 : 0;
}

static int leave_folder(void **state)
{
    return chdir("/") || temp_teardown(state) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_the_formula_and_decays_apart_from_the_gradient),
        cmocka_unit_test(clipping_limits_the_norm_of_all_gradients_together),
        cmocka_unit_test(a_checkpoint_holds_what_the_layer_computes_with_and_room_changes_nothing),
        cmocka_unit_test(saved_tensors_read_back_whole_and_in_parts_and_as_nothing_else),
        cmocka_unit_test(going_on_from_a_checkpoint_gives_the_bytes_of_a_run_that_was_not_interrupted),
        cmocka_unit_test(a_checkpoint_that_is_cut_off_foreign_or_damaged_is_refused_and_nothing_is_lost),
        cmocka_unit_test(a_checkpoint_that_cannot_be_written_leaves_the_one_before),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
