/* Messages of errors: one line, with room for the reason however long the names in them are. */
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char path[4000]; /* d…d/d…d/…/file */

static void make_path(size_t length)
{
    memset(path, 'd', length);
    for (size_t i = 200; i < length; i += 201)
        path[i] = '/';
    memcpy(path + length - 5, "/file", 6);
}

static void assert_begins_and_ends(const char *text, const char *begin, const char *end)
{
    assert_memory_equal(text, begin, strlen(begin));
    assert_true(strlen(text) > strlen(end));
    assert_string_equal(text + strlen(text) - strlen(end), end);
}

static void a_message_of_any_length_keeps_its_beginning_and_its_end(void **state)
{
    odmoe_error err;
    for (size_t length = 10; length < 3000; length += length < 600 ? 1 : 97) {
        make_path(length);
        assert_int_equal(err_set(&err, ODMOE_ERR_IO, "%s: cannot open: %s", path, "No such file or directory"),
                         ODMOE_ERR_IO);
        assert_int_equal(err.code, ODMOE_ERR_IO);
        assert_begins_and_ends(err.message, "ddddd", "/file: cannot open: No such file or directory");
        size_t whole = length + strlen(": cannot open: No such file or directory"), room = ODMOE_ERROR_MESSAGE_MAX - 1;
        assert_int_equal(strlen(err.message), whole <= room ? whole : room); /* nothing lost that has room */
        assert_int_equal(strstr(err.message, "...") != NULL, whole > room);
    }
}

static void at_least_200_bytes_of_a_long_path_are_there(void **state)
{
    odmoe_error err;
    make_path(3500);
    err_set(&err, ODMOE_ERR_IO, "%s: cannot open: No such file or directory", path);
    assert_non_null(strstr(err.message, path + 3500 - 200));
}

static void a_context_in_front_leaves_the_reason(void **state)
{
    odmoe_error err;
    make_path(3500);
    err_set(&err, ODMOE_ERR_IO, "%s: cannot open: No such file or directory", path);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(err_context(&err, "layer %d, expert 17", i), ODMOE_ERR_IO);
        char begin[32];
        snprintf(begin, sizeof begin, "layer %d, expert 17: ", i);
        assert_begins_and_ends(err.message, begin, "/file: cannot open: No such file or directory");
    }
    err_set(&err, ODMOE_ERR_IO, "why");
    err_context(&err, "%s", path);
    assert_begins_and_ends(err.message, "ddddd", ": why");
}

/* The gap is not cut into a character of several bytes, wherever it falls. */
static void characters_stay_whole_at_the_gap(void **state)
{
    static const char *const letters[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (int l = 0; l < 3; l++)
        for (int shift = 0; shift < 4; shift++) {
            odmoe_error err;
            char text[2000] = "";
            memset(text, 'x', (size_t)shift);
            for (size_t at = (size_t)shift; at < 1500; at += strlen(letters[l]))
                strcpy(text + at, letters[l]);
            err_set(&err, ODMOE_ERR_FORMAT, "%s end", text);
            assert_null(strchr(err.message, '?'));
            assert_begins_and_ends(err.message, "", " end");
            assert_true(strlen(err.message) > ODMOE_ERROR_MESSAGE_MAX - 8);
        }
}

static void control_characters_and_broken_bytes_do_not_get_through(void **state)
{
    odmoe_error err;
    err_set(&err, ODMOE_ERR_FORMAT, "%s", "a\nb\x1b[31m\xff\xc3|\xc2\x9b.");
    assert_string_equal(err.message, "a?b?[31m??|??.");
    err_context(&err, "c\nd");
    assert_string_equal(err.message, "c?d: a?b?[31m??|??.");
}

static void nowhere_to_put_a_message_is_fine(void **state)
{
    assert_int_equal(err_set(NULL, ODMOE_ERR_ARG, "%s", "x"), ODMOE_ERR_ARG);
    assert_int_equal(err_context(NULL, "%s", "x"), ODMOE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_of_any_length_keeps_its_beginning_and_its_end),
        cmocka_unit_test(at_least_200_bytes_of_a_long_path_are_there),
        cmocka_unit_test(a_context_in_front_leaves_the_reason),
        cmocka_unit_test(characters_stay_whole_at_the_gap),
        cmocka_unit_test(control_characters_and_broken_bytes_do_not_get_through),
        cmocka_unit_test(nowhere_to_put_a_message_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
