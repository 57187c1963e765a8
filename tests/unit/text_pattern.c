/* Patterns mean what they mean where tokenizer files come from, and none can hang the program. */
#include "format_files.h"

#include <stdlib.h>
#include <string.h>

#include "text/normalize.h"
#include "text/pattern.h"

static odmoe_error err;
static pattern_scratch *scratch;

static int setup(void **state)
{
    return pattern_scratch_create(&scratch, &err);
}

static int teardown(void **state)
{
    pattern_scratch_free(scratch);
    return 0;
}

/* All matches in text must be those of `expected`, written with a | behind each. */
static void check(const char *expression, const char *text, const char *expected)
{
    pattern *p = NULL;
    if (pattern_compile(expression, strlen(expression), false, "here", &p, &err))
        fail_msg("%s: %s", expression, err.message);
    char got[512] = "";
    pattern_walk walk = PATTERN_WALK_START;
    pattern_scratch_begin(scratch, strlen(text));
    while (!pattern_next(p, scratch, text, strlen(text), &walk, &err) && walk.found) {
        strncat(got, text + walk.start, walk.end - walk.start);
        strcat(got, "|");
    }
    assert_string_equal(got, expected);
    pattern_free(p);
}

static void white_space_is_unicodes(void **state)
{
    check("\\s+",
          "a\xC2\x85 b\xE1\xA0\x8E"
          "c\xE2\x80\x83\xE3\x80\x80",
          "\xC2\x85 |\xE2\x80\x83\xE3\x80\x80|"); /* no U+180E */
    check("[^\\s]+",
          "a\xE1\xA0\x8E b\x1C"
          "c",
          "a\xE1\xA0\x8E|b\x1C"
          "c|");
    check("\\S+",
          "a\xC2\xA0"
          "b",
          "a|b|");
    check("[\\s\\S]", "a ", "a| |");
    check("[^\\S\n]+", "a \n\xE1\xA0\x8E\t", " |\t|");
}

static void lines_and_dots_are_rubys(void **state)
{
    check("a$", "a\nba", "a|a|");
    check("^a", "a\nab", "a|a|");
    check("a.", "a\nab", "ab|");
    check("a.", "a\rb", "a\r|"); /* only \n ends a line */
}

static void words_are_onigurumas(void **state)
{
    /* e with an accent, a connector, a digit of any script, a number of letters, an A in a circle */
    check("\\w+", "e\xCC\x81_\xE2\x80\xBF\xD9\xA3-\xE2\x85\xA7 \xE2\x92\xB6",
          "e\xCC\x81_\xE2\x80\xBF\xD9\xA3|\xE2\x85\xA7|\xE2\x92\xB6|");
    check("\\W+", "a\xC2\xBD-b", "-|"); /* one half, which is none in a class */
    check("[\\w]+", "a\xC2\xBD-b", "a|b|");
    check("\\b.", "ab \u4E2D\u00BD-", "a| |\u4E2D|-|");
    check("\\B.", "ab-- ", "b|-| |");
    check("\\d{1,3}(?=(?:\\d{3})*\\b)", "1234567 12x", "1|234|567|");
    check("[\\w']+", "it's so", "it's|so|");
    check("[^\\w\\s]+", "a-+ b", "-+|");
}

static void characters_may_be_written_as_numbers(void **state)
{
    check("\\u00e9|[\\u4e00-\\u9fa5]+", "e\xC3\xA9\xE4\xB8\x80\xE4\xB8\xAD", "\xC3\xA9|\xE4\xB8\x80\xE4\xB8\xAD|");
    check("\\x{e9}|\\x41",
          "\xC3\xA9"
          "A",
          "\xC3\xA9|A|");
}

static void an_empty_match_counts_but_not_behind_another(void **state)
{
    check("x*", "abxxc", "||xx||");
    check("(?=b)", "abb", "||");
    check("x*", "", "|");
}

static void letters_and_cases_are_unicodes(void **state)
{
    check("(?i:'s)", "'S'\xC5\xBF", "'S|'\xC5\xBF|"); /* the long s */
    check("\\p{L}+|\\p{N}", "\xD0\x96q\xC2\xBD", "\xD0\x96q|\xC2\xBD|");
}

static void properties_are_those_of_onigurumas_unicode(void **state)
{
    check("\\p{Han}+", "\u4E2D\u3002\u4E2D", "\u4E2D|\u4E2D|"); /* the full stop has Han in Script_Extensions only */
    check("[\\p{Hiragana}]+", "\u3042\u30FC", "\u3042|");
    check("\\p{^Greek}+", "\u03B1b", "b|");
    check("\\p{Upper-case letter}|\\p{ALPHA}", "Ab1", "A|b|");
    /* Unicode 15 and 16: CJK extension H, a letter of Garay, a symbol */
    check("\\p{L}+", "\U00031350\U00010D4A.", "\U00031350\U00010D4A|");
    check("[^\\s\\p{L}]+", "\U00031350\U0001FA75", "\U0001FA75|");
    check("\\P{L}+", "\U00031350\U0001FA75", "\U0001FA75|");
    check("\\p{Han}|\\w", "\U00031350\U00010D4A", "\U00031350|\U00010D4A|");
}

static void a_literal_is_no_expression(void **state)
{
    pattern *p = NULL;
    pattern_walk walk = PATTERN_WALK_START;
    assert_int_equal(pattern_compile("a.", 2, true, "here", &p, &err), ODMOE_OK);
    assert_int_equal(pattern_next(p, scratch, "ab a.", 5, &walk, &err), ODMOE_OK);
    assert_true(walk.found && walk.start == 3);
    assert_in_range(pattern_bytes(p), 10, 100000);
    pattern_free(p);
    pattern_free(NULL);
}

static void what_would_mean_something_else_is_refused(void **state)
{
    static const char *const bad[] = {
        "[a[bc]]", "[^a-z&&[^b]]", "[a-z&&b]", "[a&&[b]c]",   "[a&&[b&&[c]]]", "[&&[b]]",    "\\p{N}{1,3}+", "a{2}+b",
        "\\h+",    "[\\H]",        "[\\W]",    "[[:alpha:]]", "x{,3}",         "\\pL",       "\\P",          "\\Gx",
        "\\X",     "(?m:.)",       "(?s).",    "(?x: a)",     "a(?i)b|c",      "(*COMMIT)a", "(?-s:.)"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pattern *p = NULL;
        odmoe_status st = pattern_compile(bad[i], strlen(bad[i]), false, "file.json: here", &p, &err);
        assert_error(&err, st, ODMOE_ERR_UNSUPPORTED, "file.json: here", "not supported in a pattern");
    }
    check("[a-b]+|[]x]|[^]x]", "ab]-", "ab|]|-|"); /* but these mean the same everywhere */
    check("(?i)A|b", "aB", "a|B|");
    check("x[a-z&&[^b]]+[&]", "xabxac&", "xac&|"); /* a class without another's members */
    check("[\\p{Lu}\\]&&[^\\p{Han}A]]+", "BA]\u4E2D&", "B|]|");
    check("(?i:A)(?:b)(?=c)(?!d)(?<x>c)(?<=c)(?<!d)", "abc", "abc|");
    check("a{,}|[\\b]", "a{,}\b", "a{,}|\b|");
    check("a{2}b|\\{1}+", "aab{1}}", "aab|{1}}|");
}

static void a_broken_pattern_is_refused(void **state)
{
    static const char *const bad[] = {"(", "[a", "a**{", "(?<n", "\\p{Nothing}", "\\C", "(?<=a*)b", "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pattern *p = NULL;
        odmoe_status st = pattern_compile(bad[i], strlen(bad[i]), false, "file.json: here", &p, &err);
        assert_error(&err, st, ODMOE_ERR_FORMAT, "file.json: here", "the pattern is not valid");
    }
    pattern *p = NULL;
    odmoe_status st = pattern_compile("ab|c)d", 6, false, "file.json: here", &p, &err);
    assert_error(&err, st, ODMOE_ERR_FORMAT, "file.json: here", "behind \"ab|c\": ");
    assert_int_equal(pattern_compile("", 0, false, "here", &p, &err), ODMOE_ERR_FORMAT);
    char *deep = malloc(40000);
    assert_non_null(deep);
    memset(deep, '(', 20000);
    memset(deep + 20000, ')', 20000);
    assert_int_equal(pattern_compile(deep, 40000, false, "here", &p, &err), ODMOE_ERR_FORMAT);
    free(deep);
}

static void a_match_that_goes_backwards_is_refused(void **state)
{
    /* PCRE2 takes \K in a group that a lookaround calls: this match begins before the place where the search did. */
    static const char expression[] = "(?(DEFINE)(\\Ka))(?<=(?1))";
    pattern *p = NULL;
    pattern_walk walk = PATTERN_WALK_START;
    assert_int_equal(pattern_compile(expression, strlen(expression), false, "here", &p, &err), ODMOE_OK);
    odmoe_status st = ODMOE_OK;
    for (int i = 0; !st && i < 10; i++) {
        size_t at = walk.at;
        st = pattern_next(p, scratch, "aaaa", 4, &walk, &err);
        assert_true(st || !walk.found || (walk.start >= at && walk.end >= walk.start));
    }
    assert_error(&err, st, ODMOE_ERR_FORMAT, "matches backwards", " ");
    const normalize_step step = {.kind = NORMALIZE_REPLACE, .text = "x", .length = 1, .pattern = p};
    normal_scratch s = {.patterns = scratch, .room = 100};
    const char *out;
    size_t n;
    assert_int_equal(normalize(&step, 1, &s, "aaaa", 4, &out, &n, &err), ODMOE_ERR_FORMAT);
    normal_scratch_free(&s);
    pattern_free(p);
}

static void a_text_cannot_be_appended_to_beyond_its_limit(void **state)
{
    text_buffer b = {0};
    assert_int_equal(text_append(&b, "ab", 2, &err), ODMOE_OK);
    assert_int_equal(text_append(&b, "ab", SIZE_MAX, &err), ODMOE_ERR_RANGE); /* 2 + SIZE_MAX is 1 */
    b.limit = (size_t)8 << 30; /* what may become of a long text in all */
    assert_int_equal(text_append(&b, "ab", TEXT_MAX, &err), ODMOE_ERR_RANGE);
    assert_int_equal(b.length, 2);
    free(b.at);
}

static char *repeated(char c, size_t n)
{
    char *text = malloc(n + 2);
    assert_non_null(text);
    memset(text, c, n);
    text[n] = '!';
    text[n + 1] = 0;
    return text;
}

static void a_search_that_would_not_end_is_given_up(void **state)
{
    pattern *p = NULL;
    char *text = repeated('a', 200);
    pattern_walk walk = PATTERN_WALK_START;
    pattern_scratch_begin(scratch, 200);
    assert_int_equal(pattern_compile("(a+)+$", 6, false, "here", &p, &err), ODMOE_OK);
    odmoe_status st = pattern_next(p, scratch, text, 200 + 1, &walk, &err);
    assert_error(&err, st, ODMOE_ERR_FORMAT, "\"(a+)+$\"", "too costly");
    pattern_free(p);
    free(text);
}

/* Each search is cheap enough for itself; all together would take minutes. Both with a match at each place and without
 * any. */
static void searches_of_a_text_share_one_limit(void **state)
{
    static const char *const expressions[] = {"(?=(?:a|a){20}[bc])|a", "(?=(?:a|a){20}[bc])a"};
    size_t n = 3000;
    char *text = repeated('a', n);
    for (int i = 0; i < 2; i++) {
        pattern *p = NULL;
        pattern_walk walk = PATTERN_WALK_START;
        assert_int_equal(pattern_compile(expressions[i], strlen(expressions[i]), false, "here", &p, &err), ODMOE_OK);
        pattern_scratch_begin(scratch, n);
        odmoe_status st = ODMOE_OK;
        do
            st = pattern_next(p, scratch, text, n, &walk, &err);
        while (!st && walk.found);
        assert_error(&err, st, ODMOE_ERR_FORMAT, "too costly", " ");
        pattern_free(p);
    }
    free(text);
}

/* Some places need many steps: at them the match must be the one that a search without limits finds. */
static void a_place_that_takes_many_steps_does_not_change_the_match(void **state)
{
    size_t n = 1500;
    char *text = repeated(' ', n);
    pattern *p = NULL;
    static const char expression[] = "\\s*[\\r\\n]|x\\s*y|!";
    assert_int_equal(pattern_compile(expression, strlen(expression), false, "here", &p, &err), ODMOE_OK);
    for (int i = 0; i < 4; i++) { /* blanks and "!", with another hard place between them, with a line's end at last */
        pattern_walk walk = PATTERN_WALK_START;
        memcpy(text + 7, i & 1 ? "\xC3\xA9x" : "   ", 3);
        text[n - 10] = i & 2 ? '\n' : ' ';
        pattern_scratch_begin(scratch, n);
        assert_int_equal(pattern_next(p, scratch, text, n + 1, &walk, &err), ODMOE_OK);
        assert_true(walk.found);
        assert_int_equal(walk.start, i == 0 || i == 1 ? n : i == 2 ? 0 : 10);
        assert_int_equal(walk.end, i & 2 ? n - 9 : n + 1);
    }
    pattern_free(p);
    free(text);
}

static void deep_repetition_does_not_use_the_stack_up(void **state)
{
    size_t n = 3000000;
    pattern *p = NULL;
    char *text = repeated('a', n);
    pattern_walk walk = PATTERN_WALK_START;
    pattern_scratch_begin(scratch, n);
    assert_int_equal(pattern_compile("(?:a|b)*c", 9, false, "here", &p, &err), ODMOE_OK);
    odmoe_status st = pattern_next(p, scratch, text, n, &walk, &err);
    assert_true(st == ODMOE_OK || st == ODMOE_ERR_FORMAT);
    assert_false(walk.found);
    pattern_free(p);
    free(text);
}

static void trailing_white_space_takes_linear_time(void **state)
{
    size_t n = 1000000;
    pattern *p = NULL;
    char *text = repeated(' ', n);
    pattern_walk walk = PATTERN_WALK_START;
    pattern_scratch_begin(scratch, n);
    assert_int_equal(pattern_compile("\\s+$", 4, false, "here", &p, &err), ODMOE_OK);
    assert_int_equal(pattern_next(p, scratch, text, n + 1, &walk, &err), ODMOE_OK);
    assert_false(walk.found);
    walk = PATTERN_WALK_START;
    assert_int_equal(pattern_next(p, scratch, text, n, &walk, &err), ODMOE_OK);
    assert_true(walk.found && walk.start == 0 && walk.end == n);
    pattern_free(p);
    free(text);
    check("\\s+$", " a \n b  ", " |  |");
}

/* ---- normal forms ---------------------------------------------------------------------------------------------------
 */

static void check_form(normalize_kind kind, const char *text, size_t length, const char *expected)
{
    const normalize_step step = {.kind = kind};
    normal_scratch s = {.patterns = scratch, .room = 100};
    const char *out;
    size_t n;
    assert_int_equal(normalize(&step, 1, &s, text, length, &out, &n, &err), ODMOE_OK);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(out, expected, n);
    normal_scratch_free(&s);
}

static void normal_forms_compose_decompose_and_order(void **state)
{
    check_form(NORMALIZE_NFC, "e\xCC\x81x", 4, "\xC3\xA9x");
    check_form(NORMALIZE_NFD, "\xC3\xA9", 2, "e\xCC\x81");
    check_form(NORMALIZE_NFC, "a\xCC\xA7\xCC\x81\xCC\xA7", 7, "\xC3\xA1\xCC\xA7\xCC\xA7"); /* cedillas go below */
    check_form(NORMALIZE_NFKC, "\xEF\xAC\x81", 3, "fi");
    check_form(NORMALIZE_NFC, "\xEF\xAC\x81", 3, "\xEF\xAC\x81");
    /* a mark of Unicode 15, which tokenizers' normal forms do not know, keeps its place; one of Unicode 1 does not */
    check_form(NORMALIZE_NFC, "\u0345\U00010EFE", 6, "\u0345\U00010EFE");
    check_form(NORMALIZE_NFC, "\u0345\u0327", 4, "\u0327\u0345");
    check_form(NORMALIZE_NFC, "a\U00010EFE\u0301", 7, "a\U00010EFE\u0301");
    check_form(NORMALIZE_NFKC, "\u32FF", 3, "\u32FF");
    check_form(NORMALIZE_NFC, "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", 9, "\xED\x95\x9C"); /* Hangul */
    check_form(NORMALIZE_NFKD, "plain", 5, "plain");
}

static void bytes_that_are_no_text_pass_normal_forms(void **state)
{
    check_form(NORMALIZE_NFC,
               "\xFF"
               "e\xCC\x81\xE2\x82",
               6, "\xFF\xC3\xA9\xE2\x82");
}

static void a_million_marks_are_ordered_in_no_time(void **state)
{
    size_t n = 500000;
    char *text = malloc(4 * n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        memcpy(text + 4 * i, "\xCC\x81\xCC\xA7", 4);
    const normalize_step step = {.kind = NORMALIZE_NFC};
    normal_scratch s = {.patterns = scratch, .room = normalize_room(4 * n)};
    const char *out;
    size_t length;
    assert_int_equal(normalize(&step, 1, &s, text, 4 * n, &out, &length, &err), ODMOE_OK);
    assert_int_equal(length, 4 * n);
    assert_memory_equal(out, "\xCC\xA7\xCC\xA7", 4);
    assert_memory_equal(out + length - 4, "\xCC\x81\xCC\x81", 4);
    normal_scratch_free(&s);
    free(text);
}

static void the_longest_normal_forms_are_taken(void **state)
{
    enum { COUNT = 100000 }; /* U+FDFA: 3 bytes become 33 */
    char *text = malloc(3 * COUNT);
    assert_non_null(text);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(text + 3 * i, "\xEF\xB7\xBA", 3);
    const normalize_step step = {.kind = NORMALIZE_NFKD};
    normal_scratch s = {.patterns = scratch, .room = normalize_room(3 * COUNT)};
    const char *out;
    size_t length;
    assert_int_equal(normalize(&step, 1, &s, text, 3 * COUNT, &out, &length, &err), ODMOE_OK);
    assert_int_equal(length, 33 * COUNT);
    normal_scratch_free(&s);
    free(text);
}

static void steps_that_multiply_a_text_are_refused(void **state)
{
    static char many[1000];
    memset(many, 'a', sizeof many);
    pattern *p = NULL;
    assert_int_equal(pattern_compile("a", 1, true, "here", &p, &err), ODMOE_OK);
    const normalize_step twice = {.kind = NORMALIZE_REPLACE, .text = many, .length = sizeof many, .pattern = p};
    const normalize_step steps[] = {twice, twice, twice};
    normal_scratch s = {.patterns = scratch, .room = normalize_room(1)};
    const char *out;
    size_t length;
    odmoe_status st = normalize(steps, 3, &s, "a", 1, &out, &length, &err);
    assert_error(&err, st, ODMOE_ERR_RANGE, "grows beyond 65568 bytes", " ");
    assert_in_range(s.buffers[0].capacity + s.buffers[1].capacity, 0, 300000);
    st = ODMOE_OK; /* many short stretches share the room */
    for (int i = 0; !st && i < 100; i++)
        st = normalize(steps, 1, &s, "a", 1, &out, &length, &err);
    assert_error(&err, st, ODMOE_ERR_RANGE, "grows beyond", " ");
    assert_int_equal(normalize(steps, 1, &s, "bbb", 3, &out, &length, &err), ODMOE_OK); /* there is room for that */
    normal_scratch_free(&s);
    pattern_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(lines_and_dots_are_rubys),
        cmocka_unit_test(words_are_onigurumas),
        cmocka_unit_test(characters_may_be_written_as_numbers),
        cmocka_unit_test(an_empty_match_counts_but_not_behind_another),
        cmocka_unit_test(letters_and_cases_are_unicodes),
        cmocka_unit_test(properties_are_those_of_onigurumas_unicode),
        cmocka_unit_test(a_literal_is_no_expression),
        cmocka_unit_test(what_would_mean_something_else_is_refused),
        cmocka_unit_test(a_broken_pattern_is_refused),
        cmocka_unit_test(a_match_that_goes_backwards_is_refused),
        cmocka_unit_test(a_text_cannot_be_appended_to_beyond_its_limit),
        cmocka_unit_test(a_search_that_would_not_end_is_given_up),
        cmocka_unit_test(searches_of_a_text_share_one_limit),
        cmocka_unit_test(a_place_that_takes_many_steps_does_not_change_the_match),
        cmocka_unit_test(deep_repetition_does_not_use_the_stack_up),
        cmocka_unit_test(trailing_white_space_takes_linear_time),
        cmocka_unit_test(normal_forms_compose_decompose_and_order),
        cmocka_unit_test(bytes_that_are_no_text_pass_normal_forms),
        cmocka_unit_test(a_million_marks_are_ordered_in_no_time),
        cmocka_unit_test(the_longest_normal_forms_are_taken),
        cmocka_unit_test(steps_that_multiply_a_text_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
