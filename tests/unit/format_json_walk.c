/* Walking JSON in place. Every text ends at a page that may not be touched: one byte read too many ends the test. */
#include "format_files.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/json_walk.h"

static char *pages; /* two; the second is forbidden */
static size_t page;

static int map_pages(void **state)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? -1 : mprotect(pages + page, page, PROT_NONE);
}

static int unmap_pages(void **state)
{
    return munmap(pages, 2 * page);
}

static json_walk at_the_pages_end(const char *text, size_t length)
{
    char *start = pages + page - length;
    assert_true(length <= page);
    memcpy(start, text, length);
    return (json_walk){start, start + length};
}

static json_walk walk(const char *text)
{
    return at_the_pages_end(text, strlen(text));
}

static void members_and_items_come_in_order(void **state)
{
    json_walk w = walk(" { \"a\" : 1 , \"b\":[ 2,3 ], \"c\":{} } ");
    bool first = true, inner = true;
    char *key;
    uint64_t n;
    assert_true(json_walk_enter(&w, '{'));
    assert_int_equal(json_walk_member(&w, &first, &key), 1);
    assert_string_equal(key, "a");
    assert_true(json_walk_uint(&w, &n));
    assert_int_equal(n, 1);
    assert_int_equal(json_walk_member(&w, &first, &key), 1);
    assert_true(json_walk_enter(&w, '['));
    for (uint64_t i = 2; i < 4; i++) {
        assert_int_equal(json_walk_item(&w, &inner), 1);
        assert_true(json_walk_uint(&w, &n));
        assert_int_equal(n, i);
    }
    assert_int_equal(json_walk_item(&w, &inner), 0);
    assert_int_equal(json_walk_member(&w, &first, &key), 1);
    assert_true(json_walk_skip(&w));
    assert_false(json_walk_done(&w));
    assert_int_equal(json_walk_member(&w, &first, &key), 0);
    assert_true(json_walk_done(&w));
}

static void malformed_separators_are_refused(void **state)
{
    static const char *const texts[] = {"{,}",      "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}",
                                        "{\"a\":1", "{"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_walk w = walk(texts[i]);
        bool first = true;
        char *key;
        int more;
        assert_true(json_walk_enter(&w, '{'));
        while ((more = json_walk_member(&w, &first, &key)) > 0)
            if (!json_walk_skip(&w)) {
                more = -1;
                break;
            }
        if (more != -1)
            fail_msg("accepted: %s", texts[i]);
    }
}

static void texts_are_decoded_in_place(void **state)
{
    static const struct {
        const char *json, *text;
    } cases[] = {{"\"\"", ""},
                 {"\"plain\"", "plain"},
                 {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
                 {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac"},
                 {"\"\\uD83D\\uDE00\"", "\xf0\x9f\x98\x80"},
                 {"\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf"},
                 {"\"\xe2\x82\xac\"", "\xe2\x82\xac"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_walk w = walk(cases[i].json);
        char *text;
        assert_true(json_walk_text(&w, &text));
        assert_string_equal(text, cases[i].text);
        assert_true(json_walk_done(&w));
    }
}

static void malformed_texts_are_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "\"",
                                        "\"a",
                                        "\"\\",
                                        "\"\\\"",
                                        "\"\\u",
                                        "\"\\u00",
                                        "\"\\u004g\"",
                                        "\"\\u0000\"",
                                        "\"\\ud800\"",
                                        "\"\\ud800x\"",
                                        "\"\\ud800\\",
                                        "\"\\udc00\"",
                                        "\"\\ud800\\u0041\"",
                                        "\"\\a\"",
                                        "\"\n\"",
                                        "\"\x01\"",
                                        "a",
                                        "'a'"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_walk w = walk(texts[i]), again = walk(texts[i]);
        char *text;
        if (json_walk_text(&w, &text))
            fail_msg("accepted: %s", texts[i]);
        json_walk_skip(&again); /* may be laxer, but touches nothing behind the end */
    }
    json_walk zero = at_the_pages_end("\"a\0b\"", 5);
    char *text;
    assert_false(json_walk_text(&zero, &text));
}

static void only_plain_integers_of_64_bits_are_numbers(void **state)
{
    static const char *const bad[] = {"",  "-1",   "+1", "01", "18446744073709551616", "99999999999999999999999",
                                      "a", "\"1\""};
    json_walk w = walk("18446744073709551615");
    uint64_t n;
    assert_true(json_walk_uint(&w, &n));
    assert_true(n == UINT64_MAX);
    w = walk("0");
    assert_true(json_walk_uint(&w, &n));
    assert_int_equal(n, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        w = walk(bad[i]);
        if (json_walk_uint(&w, &n))
            fail_msg("accepted: %s", bad[i]);
    }
    w = walk("1.5");
    assert_true(json_walk_uint(&w, &n) && !json_walk_done(&w));
}

static void skipping_passes_one_value(void **state)
{
    static const char *const values[] = {
        "1", "-1.5e+7", "true", "null", "\"a\\\"]b\"", "[]", "{}", "[1,[2,{\"a\":\"]\"}],3]", "{\"a\":{\"b\":[{}]}}"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s,x", values[i]);
        json_walk w = walk(text);
        assert_true(json_walk_skip(&w));
        assert_int_equal(*w.at, ',');
    }
}

static void skipping_refuses_what_does_not_balance(void **state)
{
    static const char *const values[] = {"",  "[", "[1",   "[}", "{]",    "[[]", "]",
                                         ",", ":", "[\"]", "\"", "[1,#]", "\x01"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        json_walk w = walk(values[i]);
        if (json_walk_skip(&w))
            fail_msg("accepted: %s", values[i]);
    }
}

static void skipping_goes_64_levels_deep_and_no_deeper(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1)];
    for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        json_walk w = at_the_pages_end(text, 2 * depth);
        assert_int_equal(json_walk_skip(&w), depth == JSON_DEPTH_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_and_items_come_in_order),
        cmocka_unit_test(malformed_separators_are_refused),
        cmocka_unit_test(texts_are_decoded_in_place),
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(only_plain_integers_of_64_bits_are_numbers),
        cmocka_unit_test(skipping_passes_one_value),
        cmocka_unit_test(skipping_refuses_what_does_not_balance),
        cmocka_unit_test(skipping_goes_64_levels_deep_and_no_deeper),
    };
    return cmocka_run_group_tests(tests, map_pages, unmap_pages);
}
