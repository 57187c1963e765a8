#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "odmoe.h"

#include <string.h>

static uint64_t parsed(const char *text)
{
    uint64_t bytes = 0;
    odmoe_error err = {0};
    assert_int_equal(odmoe_size_parse(text, &bytes, &err), ODMOE_OK);
    return bytes;
}

static void sizes_are_read_in_every_spelling(void **state)
{
    assert_int_equal(parsed("0"), 0);
    assert_int_equal(parsed("123456789"), 123456789);
    assert_int_equal(parsed("512MiB"), 512ull << 20);
    assert_int_equal(parsed("4GiB"), 4ull << 30);
    assert_int_equal(parsed("4G"), 4ull << 30);
    assert_int_equal(parsed("4g"), 4ull << 30);
    assert_int_equal(parsed("7kib"), 7ull << 10);
    assert_int_equal(parsed("2T"), 2ull << 40);
    assert_int_equal(parsed("1.5G"), 3ull << 29);
    assert_int_equal(parsed("0.25MiB"), 1ull << 18);
    assert_int_equal(parsed("0.000001K"), 0);
    assert_int_equal(parsed("18446744073709551615"), UINT64_MAX);
    assert_int_equal(parsed("16777215T"), 16777215ull << 40);
}

static void what_is_no_size_is_refused_with_the_right_spellings(void **state)
{
    static const char *const bad[] = {"",   " 4G", "4 G", "-1",  "G",   "4GB",  "4Gi", "4GiBs",
                                      "4Q", "1.5", "1.G", ".5G", "4G ", "0x10", "1e9", "4\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes = 77;
        odmoe_error err = {0};
        assert_int_equal(odmoe_size_parse(bad[i], &bytes, &err), ODMOE_ERR_ARG);
        assert_non_null(strstr(err.message, "512MiB"));
        assert_int_equal(bytes, 77);
    }
}

static void a_size_beyond_64_bits_is_out_of_range(void **state)
{
    static const char *const bad[] = {"18446744073709551616", "16777216T", "99999999999999999999999G",
                                      "17592186044416M"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes = 77;
        assert_int_equal(odmoe_size_parse(bad[i], &bytes, NULL), ODMOE_ERR_RANGE);
        assert_int_equal(bytes, 77);
    }
}

static void sizes_are_written_with_three_digits(void **state)
{
    char text[ODMOE_SIZE_TEXT_MAX];
    assert_string_equal(odmoe_size_format(0, text), "0 B");
    assert_string_equal(odmoe_size_format(1023, text), "1023 B");
    assert_string_equal(odmoe_size_format(1024, text), "1 KiB");
    assert_string_equal(odmoe_size_format(1536ull << 20, text), "1.50 GiB");
    assert_string_equal(odmoe_size_format(4ull << 30, text), "4 GiB");
    assert_string_equal(odmoe_size_format((23ull << 20) + (600 << 10), text), "23.6 MiB");
    assert_string_equal(odmoe_size_format((800ull << 20) + 1, text), "800 MiB");
    assert_string_equal(odmoe_size_format(UINT64_MAX, text), "16777216 TiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_in_every_spelling),
        cmocka_unit_test(what_is_no_size_is_refused_with_the_right_spellings),
        cmocka_unit_test(a_size_beyond_64_bits_is_out_of_range),
        cmocka_unit_test(sizes_are_written_with_three_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
