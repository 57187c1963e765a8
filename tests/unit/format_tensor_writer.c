/* Files of tensors that are written piece by piece (odmoe_tensors_begin …), and files of any kind (odmoe_file_begin …). */
#include "format_files.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "odmoe_tensors.h"

static odmoe_error err;
static char path[1024]; /* of the file under test, the only one in its folder */

static int new_folder(void **state)
{
    static int made;
    char name[32];
    snprintf(name, sizeof name, "folder%d", made++);
    snprintf(path, sizeof path, "%s/file", temp_path(name));
    return mkdir(temp_path(name), 0700);
}

static int files_in_folder(void)
{
    char folder[1024];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    DIR *dir = opendir(folder);
    int n = -2; /* . and .. */
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static char *whole_file(size_t *length)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = malloc(1 << 20);
    *length = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

static void assert_holds(const char *text)
{
    size_t n;
    char *there = whole_file(&n);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(there, text, n);
    free(there);
}

/* The header by a JSON library, and that the data is what the entries say, without holes, as strict readers want it. */
static json_t *read_header(size_t *entries)
{
    size_t n;
    char *text = whole_file(&n);
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--)
        header = header << 8 | (unsigned char)text[i];
    assert_true(8 + header <= n);
    json_t *root = json_loadb(text + 8, header, JSON_REJECT_DUPLICATES, NULL), *value;
    assert_non_null(root);
    const char *name;
    json_int_t length = 0;
    json_object_foreach(root, name, value)
    {
        json_int_t from, to;
        assert_int_equal(json_unpack(value, "{s[II]}", "data_offsets", &from, &to), 0);
        assert_int_equal(from, length); /* in the order of the header, which is that of the data */
        length = to;
    }
    assert_int_equal(n, 8 + header + (uint64_t)length);
    *entries = json_object_size(root);
    free(text);
    return root;
}

static const odmoe_tensor three[] = {
    {"a", "F32", 2, {3, 2}, NULL}, {"b", "I64", 1, {2}, NULL}, {"c", "BF16", 3, {2, 1, 2}, NULL}};
static const float a[] = {1, 2, 3, 4, 5, 6};
static const int64_t b[] = {-7, INT64_MAX};
static const uint16_t c[] = {0x3c00, 0x4000, 1, 0x8000};

static odmoe_tensor_writer *begun(const odmoe_tensor *tensors, int n)
{
    odmoe_tensor_writer *w;
    if (odmoe_tensors_begin(path, tensors, n, &w, &err))
        fail_msg("%s", err.message);
    return w;
}

static void must_write(odmoe_tensor_writer *w, int tensor, int64_t first, int64_t n, const void *data)
{
    if (odmoe_tensors_write(w, tensor, first, n, data, &err))
        fail_msg("%s", err.message);
}

static void must_finish(odmoe_tensor_writer *w)
{
    if (odmoe_tensors_finish(w, &err))
        fail_msg("%s", err.message);
}

static void assert_reads(const odmoe_tensor *t, int64_t numbers, size_t length, const void *want)
{
    odmoe_tensor_file *file;
    char got[64];
    assert_true(length <= sizeof got);
    if (odmoe_tensors_open(path, &file, &err) || odmoe_tensors_read(file, t, 0, numbers, got, &err))
        fail_msg("%s", err.message);
    odmoe_tensors_close(file);
    assert_memory_equal(got, want, length);
}

static void pieces_in_any_order_make_the_whole(void **state)
{
    odmoe_tensor_writer *w = begun(three, 3);
    must_write(w, 2, 1, 3, c + 1);
    must_write(w, 0, 4, 2, a + 4);
    must_write(w, 1, 1, 1, b + 1);
    must_write(w, 0, 0, 4, a);
    must_write(w, 1, 0, 1, b);
    must_write(w, 2, 0, 1, c);
    assert_int_equal(access(path, F_OK), -1); /* not before it is whole */
    must_finish(w);
    assert_reads(&three[0], 6, sizeof a, a);
    assert_reads(&three[1], 2, sizeof b, b);
    assert_reads(&three[2], 4, sizeof c, c);
    size_t n;
    json_decref(read_header(&n));
    assert_int_equal(n, 3);
    assert_int_equal(files_in_folder(), 1);
}

static void what_the_caller_described_may_go_after_begin(void **state)
{
    char name[] = "a", type[] = "F32";
    odmoe_tensor t = {name, type, 1, {6}, NULL};
    odmoe_tensor_writer *w = begun(&t, 1);
    memset(name, 'x', 1);
    memset(type, 'x', 3);
    memset(&t, 0, sizeof t);
    must_write(w, 0, 0, 6, a);
    must_finish(w);
    assert_reads(&(odmoe_tensor){"a", "F32", 1, {6}, NULL}, 6, sizeof a, a);
}

static void tensors_that_do_not_come_leave_no_hole(void **state)
{
    odmoe_tensor_writer *w = begun(three, 3);
    must_write(w, 2, 0, 4, c);
    must_write(w, 0, 0, 6, a);
    must_finish(w);
    size_t n;
    json_t *header = read_header(&n);
    assert_int_equal(n, 2);
    assert_null(json_object_get(header, "b"));
    json_decref(header);
    assert_reads(&three[0], 6, sizeof a, a);
    assert_reads(&three[2], 4, sizeof c, c);
}

static void tensors_lie_in_the_order_of_their_first_writes_also_of_no_numbers(void **state)
{
    const odmoe_tensor t[] = {
        {"late", "F32", 1, {6}, NULL}, {"empty", "F32", 2, {0, 5}, NULL}, {"early", "I64", 1, {2}, NULL}};
    odmoe_tensor_writer *w = begun(t, 3);
    must_write(w, 2, 0, 0, NULL);
    must_write(w, 1, 0, 0, NULL);
    must_write(w, 0, 0, 6, a);
    must_write(w, 2, 0, 2, b);
    must_finish(w);
    size_t n;
    json_t *header = read_header(&n);
    static const char *const order[] = {"early", "empty", "late"};
    const char *name;
    json_t *value;
    int at = 0;
    json_object_foreach(header, name, value) assert_string_equal(name, order[at++]);
    assert_int_equal(at, 3);
    json_decref(header);
    assert_reads(&t[0], 6, sizeof a, a);
}

/* However long its names and numbers, the header fits in the room that was kept for it. */
static void long_names_and_many_tensors_have_room_in_the_header(void **state)
{
    enum { MANY = 300 };
    static char names[MANY][400];
    odmoe_tensor t[MANY];
    for (int i = 0; i < MANY; i++) {
        memset(names[i], i % 3 ? '"' : 'n', 390); /* a quote takes two characters there */
        snprintf(names[i] + 380, 20, "%d", i);
        t[i] = (odmoe_tensor){names[i], "BF16", 4, {1, i % 7, 1, 1}, NULL};
    }
    odmoe_tensor_writer *w = begun(t, MANY);
    const uint16_t zeros[7] = {0};
    for (int i = MANY - 1; i >= 0; i--)
        must_write(w, i, 0, i % 7, zeros);
    must_finish(w);
    size_t n;
    json_decref(read_header(&n));
    assert_int_equal(n, MANY);
}

static void a_tensor_that_is_not_whole_is_an_error_and_the_old_file_stays(void **state)
{
    save_text(path, "old");
    odmoe_tensor_writer *w = begun(three, 3);
    must_write(w, 0, 0, 6, a);
    must_write(w, 1, 1, 1, b);
    assert_error(&err, odmoe_tensors_finish(w, &err), ODMOE_ERR_STATE, "tensor 'b'", "1 numbers were written of 2");
    w = begun(three, 3);
    must_write(w, 1, 0, 2, b);
    must_write(w, 1, 1, 1, b); /* a number twice */
    assert_error(&err, odmoe_tensors_finish(w, &err), ODMOE_ERR_STATE, "tensor 'b'", "3 numbers were written of 2");
    assert_holds("old");
    assert_int_equal(files_in_folder(), 1);
}

static void what_lies_beyond_a_tensor_is_refused_and_finish_says_so_again(void **state)
{
    static const struct {
        int tensor;
        int64_t first, n;
        odmoe_status status;
        const char *word;
    } wrong[] = {{3, 0, 1, ODMOE_ERR_ARG, "tensor 3 of 3"}, {-1, 0, 1, ODMOE_ERR_ARG, "tensor -1 of 3"},
                 {0, 0, 7, ODMOE_ERR_RANGE, "0 + 7 of 6"},  {0, 6, 1, ODMOE_ERR_RANGE, "6 + 1 of 6"},
                 {0, -1, 1, ODMOE_ERR_RANGE, "-1 + 1"},     {0, 0, -1, ODMOE_ERR_RANGE, "0 + -1"},
                 {0, 1, INT64_MAX, ODMOE_ERR_RANGE, "of 6"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        odmoe_tensor_writer *w = begun(three, 3);
        assert_error(&err, odmoe_tensors_write(w, wrong[i].tensor, wrong[i].first, wrong[i].n, a, &err),
                     wrong[i].status, wrong[i].word, "tensor");
        assert_int_equal(odmoe_tensors_write(w, 0, 0, 6, a, NULL), wrong[i].status);
        assert_error(&err, odmoe_tensors_finish(w, &err), wrong[i].status, wrong[i].word, "tensor");
        assert_int_equal(files_in_folder(), 0);
    }
}

static void tensors_that_no_file_can_hold_are_refused_at_once(void **state)
{
    static const odmoe_tensor wrong[][2] = {
        {{"a", "F32", 1, {6}, NULL}, {"a", "I32", 1, {6}, NULL}},
        {{"a", "F32", 1, {6}, NULL}, {"q", "Q4_0", 1, {6}, NULL}},
        {{"a", "F32", 1, {6}, NULL}, {"q", "F32", 5, {6}, NULL}},
        {{"a", "F32", 1, {6}, NULL}, {"q", "F32", 1, {-6}, NULL}},
        {{"a", "F32", 1, {6}, NULL}, {"q", "F32", 2, {INT64_MAX / 2, 5}, NULL}},
        {{"a", "F32", 1, {INT64_MAX / 8}, NULL}, {"q", "F32", 1, {INT64_MAX / 8 + 2}, NULL}},
        {{"a", "F32", 1, {6}, NULL}, {"\xff", "F32", 1, {6}, NULL}},
    };
    odmoe_tensor_writer *w;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_error(&err, odmoe_tensors_begin(path, wrong[i], 2, &w, &err), ODMOE_ERR_ARG, "tensor", " ");
    assert_int_equal(files_in_folder(), 0);
    snprintf(path, sizeof path, "/nowhere/at/all");
    assert_error(&err, odmoe_tensors_begin(path, three, 3, &w, &err), ODMOE_ERR_IO, path, "No such file");
}

static void an_aborted_file_leaves_the_old_one(void **state)
{
    save_text(path, "old");
    odmoe_tensor_writer *w = begun(three, 3);
    must_write(w, 0, 0, 6, a);
    odmoe_tensors_abort(w);
    odmoe_tensors_abort(NULL);
    assert_holds("old");
    assert_int_equal(files_in_folder(), 1);
}

/* The first write that finds no room is told, by itself and at the end. */
static void a_file_size_limit_is_an_error_with_its_reason(void **state)
{
    struct rlimit old, small;
    odmoe_tensor t = {"a", "F32", 1, {4096}, NULL};
    static const float zeros[4096];
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    save_text(path, "old");
    odmoe_tensor_writer *w = begun(&t, 1);
    small = (struct rlimit){4096, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    odmoe_status status = odmoe_tensors_write(w, 0, 0, 4096, zeros, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_error(&err, status, ODMOE_ERR_IO, path, "File too large");
    assert_error(&err, odmoe_tensors_finish(w, &err), ODMOE_ERR_IO, path, "File too large");
    assert_holds("old");
    assert_int_equal(files_in_folder(), 1);
}

static void the_name_meanwhile_lies_beside_the_file(void **state)
{
    odmoe_tensor_writer *w = begun(three, 3);
    const char *partial = odmoe_tensors_partial(w);
    assert_memory_equal(partial, path, strlen(path));
    assert_null(strchr(partial + strlen(path), '/'));
    assert_string_not_equal(partial, path);
    odmoe_tensors_abort(w);
}

/* ---- files of any kind ---- */

static void bytes_at_any_place_make_a_file(void **state)
{
    odmoe_file *f;
    assert_int_equal(odmoe_file_begin(path, &f, &err), ODMOE_OK);
    assert_int_equal(odmoe_file_write(f, "world", 5, 6, &err), ODMOE_OK);
    assert_int_equal(odmoe_file_write(f, "hello ", 6, 0, &err), ODMOE_OK);
    assert_int_equal(files_in_folder(), access(odmoe_file_partial(f), F_OK) ? 0 : 1);
    assert_int_equal(odmoe_file_finish(f, &err), ODMOE_OK);
    assert_holds("hello world");
    assert_int_equal(odmoe_file_begin(path, &f, &err), ODMOE_OK);
    odmoe_file_abort(f);
    odmoe_file_abort(NULL);
    assert_holds("hello world");
    assert_int_equal(files_in_folder(), 1);
}

static void a_write_that_failed_fails_the_file(void **state)
{
    odmoe_file *f;
    save_text(path, "old");
    assert_int_equal(odmoe_file_begin(path, &f, &err), ODMOE_OK);
    assert_error(&err, odmoe_file_write(f, "x", 1, UINT64_MAX, &err), ODMOE_ERR_IO, path, "File too large");
    assert_int_equal(odmoe_file_write(f, "x", 1, 0, &err), ODMOE_OK);
    assert_error(&err, odmoe_file_finish(f, &err), ODMOE_ERR_IO, path, "File too large");
    assert_holds("old");
    assert_int_equal(files_in_folder(), 1);
    assert_error(&err, odmoe_file_begin("/nowhere/at/all", &f, &err), ODMOE_ERR_IO, "/nowhere/at/all", "No such file");
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup(test, new_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(pieces_in_any_order_make_the_whole),
        IN_FOLDER(what_the_caller_described_may_go_after_begin),
        IN_FOLDER(tensors_that_do_not_come_leave_no_hole),
        IN_FOLDER(tensors_lie_in_the_order_of_their_first_writes_also_of_no_numbers),
        IN_FOLDER(long_names_and_many_tensors_have_room_in_the_header),
        IN_FOLDER(a_tensor_that_is_not_whole_is_an_error_and_the_old_file_stays),
        IN_FOLDER(what_lies_beyond_a_tensor_is_refused_and_finish_says_so_again),
        IN_FOLDER(tensors_that_no_file_can_hold_are_refused_at_once),
        IN_FOLDER(an_aborted_file_leaves_the_old_one),
        IN_FOLDER(a_file_size_limit_is_an_error_with_its_reason),
        IN_FOLDER(the_name_meanwhile_lies_beside_the_file),
        IN_FOLDER(bytes_at_any_place_make_a_file),
        IN_FOLDER(a_write_that_failed_fails_the_file),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
