/* How much may be in flight ahead of a fetch: what the disk reads in half the gap between two fetches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "store/pace.h"

#define MiB (1ull << 20)

/* A disk of so many bytes a microsecond, and gaps of so many microseconds. */
static read_pace learned(uint64_t bytes_per_us, uint64_t gap_us)
{
    read_pace p = {0};
    uint64_t now = 1;
    for (int i = 0; i < 200; i++) {
        pace_read(&p, bytes_per_us * 1000, 1000000, 8 * MiB);
        pace_drained(&p, now);
        pace_drained(&p, now + 1); /* told again: the gap has begun before */
        now += gap_us * 1000;
        pace_fetch(&p, now);
    }
    return p;
}

static void before_the_rate_is_known_two_parts_may_be_in_flight(void **state)
{
    read_pace p = {0};
    assert_int_equal(pace_window(&p), 2 * MiB);
    pace_read(&p, 1000, 1000, 8 * MiB); /* too little to tell */
    assert_int_equal(pace_window(&p), 2 * MiB);
}

static void the_window_is_what_the_disk_reads_in_a_gap_and_a_fifth(void **state)
{
    read_pace p = learned(2000, 3000);
    assert_in_range(pace_window(&p), 7100000, 7200000);
}

static void what_is_read_with_little_in_flight_says_nothing_about_a_disk_that_has_had_enough_to_do(void **state)
{
    read_pace p = learned(2000, 3000);
    uint64_t before = pace_window(&p);
    for (int i = 0; i < 100; i++)
        pace_read(&p, MiB, 1000000, MiB);
    assert_int_equal(pace_window(&p), before);
}

static void small_experts_tell_as_much_as_they_can(void **state)
{
    read_pace p = {.gap_ns = 3000000};
    for (int i = 0; i < 100; i++)
        pace_read(&p, 200000, 1000000, MiB);
    assert_in_range(pace_window(&p), 715000, 725000); /* 1.2 gaps of 3 ms at 0.2 GB/s */
    for (int i = 0; i < 20; i++)
        pace_read(&p, 2000000, 1000000, 4 * MiB);
    assert_in_range(pace_window(&p), 7190000, 7210000); /* the first rate was too low, and is forgotten */
}

static void a_short_gap_lets_little_through_and_a_long_one_no_flood(void **state)
{
    read_pace p = learned(200, 100);
    assert_int_equal(pace_window(&p), 100000); /* what the disk reads while a result is on its way */
    p = learned(50, 100);
    assert_int_equal(pace_window(&p), 64 << 10);
    p = learned(7000, 50000);
    assert_int_equal(pace_window(&p), 16 * MiB);
}

static void certain_reads_delay_a_demand_by_ten_milliseconds(void **state)
{
    read_pace p = {0};
    assert_int_equal(pace_certain(&p), 32 * MiB); /* the disk is unknown */
    p = learned(1000, 3000);
    assert_int_equal(pace_certain(&p), 10000000);
    p = learned(200, 3000);
    assert_int_equal(pace_certain(&p), 4 * MiB);
    p = learned(7000, 3000);
    assert_int_equal(pace_certain(&p), 32 * MiB);
}

static void a_pause_between_calls_is_no_gap(void **state)
{
    read_pace p = learned(2000, 3000);
    uint64_t before = pace_window(&p);
    pace_drained(&p, 1);
    pace_fetch(&p, 1 + 60ull * 1000000000);
    assert_int_equal(pace_window(&p), before);
}

static void a_fetch_that_begins_while_demands_are_read_has_no_gap(void **state)
{
    read_pace p = learned(2000, 3000);
    for (int i = 0; i < 100; i++)
        pace_fetch(&p, (uint64_t)i);
    assert_int_equal(pace_window(&p), 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_rate_is_known_two_parts_may_be_in_flight),
        cmocka_unit_test(the_window_is_what_the_disk_reads_in_a_gap_and_a_fifth),
        cmocka_unit_test(what_is_read_with_little_in_flight_says_nothing_about_a_disk_that_has_had_enough_to_do),
        cmocka_unit_test(small_experts_tell_as_much_as_they_can),
        cmocka_unit_test(a_short_gap_lets_little_through_and_a_long_one_no_flood),
        cmocka_unit_test(certain_reads_delay_a_demand_by_ten_milliseconds),
        cmocka_unit_test(a_pause_between_calls_is_no_gap),
        cmocka_unit_test(a_fetch_that_begins_while_demands_are_read_has_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
