/* The account of requests: what does not fit is refused, by name, and nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "../../server/fields.h"
#include "../../server/memory.h"

enum { LIMIT = 128 << 10 };

static int setup(void **state)
{
    memory_start();
    memory_hold(LIMIT);
    return 0;
}

/* Parse, expect an object or 503, and that nothing stays taken. */
static bool parses(const char *text, size_t length)
{
    problem p = {0};
    json_t *value = field_parse(text, length, &p);
    if (!value) {
        assert_int_equal(p.status, 503);
        assert_string_equal(p.code, "no_memory");
    }
    json_decref(value);
    assert_int_equal(memory_used(), 0);
    return value;
}

/* {"a": "xxx..."} with n letters */
static char *with_text(size_t n, size_t *length)
{
    char *text = malloc(n + 16);
    assert_non_null(text);
    memcpy(text, "{\"a\": \"", 7);
    memset(text + 7, 'x', n);
    memcpy(text + 7 + n, "\"}", 3);
    *length = n + 9;
    return text;
}

static void a_text_is_taken_as_long_as_it_fits_and_refused_from_then_on(void **state)
{
    bool fits = true;
    for (size_t n = 1; n < 4 * LIMIT; n += n / 7 + 1) {
        size_t length;
        char *text = with_text(n, &length);
        bool taken = parses(text, length);
        assert_true(fits || !taken);
        fits = taken;
        free(text);
    }
    assert_false(fits);
}

/* The reader's own buffer finds the account at every level of fullness. */
static void a_text_that_finds_the_account_nearly_full_is_refused(void **state)
{
    size_t length;
    char *text = with_text(LIMIT / 4, &length);
    int taken = 0, refused = 0;
    for (uint64_t full = 0; full <= LIMIT; full += 512) {
        problem p = {0};
        assert_true(memory_take(full));
        json_t *value = field_parse(text, length, &p);
        if (!value)
            assert_int_equal(p.status, 503);
        value ? taken++ : refused++;
        json_decref(value);
        assert_int_equal(memory_used(), full);
        memory_give(full);
    }
    assert_true(taken > 0 && refused > 0);
    free(text);
}

static void many_small_values_are_refused_before_they_take_much(void **state)
{
    static const char *const values[] = {"[],", "{},", "1,", "null,", "\"a\",", "{\"aaaaaaa\":1},"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        size_t each = strlen(values[i]), count = LIMIT / each, at = 6;
        char *text = malloc(count * each + 16);
        assert_non_null(text);
        memcpy(text, "{\"a\":[", at);
        for (size_t n = 0; n < count; n++, at += each)
            memcpy(text + at, values[i], each);
        memcpy(text + at, "0]}", 3);
        assert_false(parses(text, at + 3));
        free(text);
    }
}

static void what_is_no_json_is_400_also_after_memory_was_short(void **state)
{
    size_t length;
    char *text = with_text(2 * LIMIT, &length);
    problem p = {0};
    assert_false(parses(text, length));
    assert_null(field_parse("{\"a\": tru}", 10, &p));
    assert_int_equal(p.status, 400);
    assert_string_equal(p.code, "invalid_json");
    assert_true(parses("{\"a\": true}", 11));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_taken_as_long_as_it_fits_and_refused_from_then_on),
        cmocka_unit_test(a_text_that_finds_the_account_nearly_full_is_refused),
        cmocka_unit_test(many_small_values_are_refused_before_they_take_much),
        cmocka_unit_test(what_is_no_json_is_400_also_after_memory_was_short),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
