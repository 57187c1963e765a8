/* Sequences go together or take turns, whichever costs less for a token; nobody waits long. Disk and cache are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../server/turns.h"

#define TURN 1.5
#define WAIT 3.0
#define SEQUENCES 16

/* What a pass of so many sequences costs. */
typedef struct machine {
    double bytes[SEQUENCES + 1]; /* that it reads */
    double rate;                 /* of the disk, bytes a second */
    double computing;            /* seconds, whatever the size */
} machine;

typedef struct course {
    int n;
    double now;
    double served[SEQUENCES]; /* when each had its latest token */
    double longest;           /* that one waited for a token */
    int tokens[SEQUENCES];
    bool in[SEQUENCES];
    double begun[SEQUENCES]; /* its latest turn */
    int turns;               /* all that have begun */
    double passes[SEQUENCES + 1];
} course;

/* As the engine does it: the one of the pass before, or the one whose turn is longest ago. */
static void one_pass(turns *t, const machine *m, course *c)
{
    bool anew;
    int group = turns_next(t, c->n, &anew), taken = 0;
    assert_in_range(group, 1, c->n);
    for (int i = 0; i < c->n; i++)
        taken += c->in[i] = !anew && c->in[i];
    for (; taken < group; taken++) {
        int longest = -1;
        for (int i = 0; i < c->n; i++)
            if (!c->in[i] && (longest < 0 || c->begun[i] < c->begun[longest]))
                longest = i;
        c->in[longest] = true;
        c->begun[longest] = c->now + 1e-9 * (longest + 1);
        c->turns++;
    }
    assert_int_equal(taken, group);
    double stalled = m->bytes[group] / m->rate, seconds = m->computing + stalled;
    c->now += seconds;
    c->passes[group]++;
    for (int i = 0; i < c->n; i++)
        if (c->in[i]) {
            c->tokens[i]++;
            c->longest = c->now - c->served[i] > c->longest ? c->now - c->served[i] : c->longest;
            c->served[i] = c->now;
        }
    turns_passed(t, group, m->bytes[group], seconds, stalled);
}

static void go_on(turns *t, const machine *m, course *c, double seconds)
{
    for (double end = c->now + seconds; c->now < end;)
        one_pass(t, m, c);
}

/* Share of the tokens that came in passes of `group`, of those since `c` began. */
static double share(const course *c, int group)
{
    double all = 0;
    for (int i = 1; i <= c->n; i++)
        all += c->passes[i] * i;
    return c->passes[group] * group / all;
}

/* Streams with little in common and a small cache: one alone reads 72, four read 352. */
static const machine apart = {.bytes = {0, 72, 160, 256, 352}, .rate = 600, .computing = 0.01};
/* Streams that want the same experts. */
static const machine alike = {.bytes = {0, 72, 90, 105, 120}, .rate = 600, .computing = 0.01};

static void all_go_together_while_nothing_is_read(void **state)
{
    static const machine resident = {.rate = 1, .computing = 0.02};
    turns t;
    course c = {.n = 4};
    turns_init(&t, TURN, WAIT);
    go_on(&t, &resident, &c, 100);
    assert_true(share(&c, 4) == 1);
}

static void all_go_together_while_computing_takes_longer_than_the_disk(void **state)
{
    machine m = apart;
    m.computing = 1;
    turns t;
    course c = {.n = 4};
    turns_init(&t, TURN, WAIT);
    go_on(&t, &m, &c, 200);
    assert_true(share(&c, 4) == 1);
}

static void all_go_together_where_they_share_what_is_read(void **state)
{
    turns t;
    course c = {.n = 4};
    turns_init(&t, TURN, WAIT);
    go_on(&t, &alike, &c, 400);
    assert_true(share(&c, 4) > 0.9);
}

static void streams_with_little_in_common_take_turns(void **state)
{
    turns t;
    course c = {.n = 4};
    turns_init(&t, TURN, WAIT);
    go_on(&t, &apart, &c, 400);
    assert_true(share(&c, 1) > 0.85);
    int least = c.tokens[0], most = c.tokens[0], all = 0;
    for (int i = 0; i < 4; i++) {
        least = c.tokens[i] < least ? c.tokens[i] : least;
        most = c.tokens[i] > most ? c.tokens[i] : most;
        all += c.tokens[i];
    }
    assert_true(most - least < most / 20);
    assert_true(c.passes[1] > 0.9 * c.turns * (WAIT / 3) / (0.01 + 72.0 / 600)); /* a turn is many passes of one */
    /* trials included, hardly less than streams one after the other would make */
    assert_true(all > 0.95 * c.now / (0.01 + 72.0 / 600));
}

/* Of many the sharing outweighs the hits: four alone read less for a token than four together, sixteen more. */
static void more_streams_go_together_again(void **state)
{
    machine m = {.bytes = {0, 72}, .rate = 600, .computing = 0.01};
    for (int n = 2; n <= SEQUENCES; n++)
        m.bytes[n] = n < 8 ? 88 * n : 50 * n;
    turns t;
    turns_init(&t, TURN, WAIT);
    for (int round = 0; round < 3; round++) {
        course few = {.n = 4}, many = {.n = 16};
        go_on(&t, &m, &few, 120);
        assert_true(share(&few, 1) > 0.8);
        go_on(&t, &m, &many, 120);
        assert_true(share(&many, 16) > 0.8);
    }
}

/* The others' turns take WAIT at most, and each TURN at most. Turns end with a pass, so each may be one pass longer; then all
 * may go together for a trial. */
static void nobody_waits_longer_than_said(void **state)
{
    for (int n = 2; n <= 4; n++) {
        turns t;
        course c = {.n = n};
        turns_init(&t, TURN, WAIT);
        go_on(&t, &apart, &c, 300);
        double alone = 0.01 + apart.bytes[1] / apart.rate, together = 0.01 + apart.bytes[n] / apart.rate;
        assert_true(share(&c, 1) > 0.5);
        assert_true(c.longest < (n == 2 ? TURN : WAIT) + (n - 1) * alone + together);
    }
}

static void a_disk_that_slows_down_changes_nothing(void **state)
{
    turns t;
    course c = {.n = 4}, before;
    machine m = apart;
    turns_init(&t, TURN, WAIT);
    go_on(&t, &m, &c, 200);
    before = c;
    for (int i = 0; i < 100; i++) { /* in bursts as long as a period */
        m.rate = i % 2 ? 300 : 900;
        go_on(&t, &m, &c, 3);
    }
    double others = (c.passes[4] - before.passes[4]) * 4;
    assert_true(others < 0.15 * (c.passes[1] - before.passes[1]));
}

static void a_change_of_texts_is_noticed(void **state)
{
    turns t;
    course c = {.n = 4}, before;
    turns_init(&t, TURN, WAIT);
    go_on(&t, &apart, &c, 200);
    go_on(&t, &alike, &c, 600);
    before = c;
    go_on(&t, &alike, &c, 100);
    assert_true((c.passes[4] - before.passes[4]) * 4 > 0.8 * 100 / (0.01 + 0.2) * 4);
}

static void sequences_may_come_and_go_at_any_time(void **state)
{
    turns t;
    course c = {.n = 1};
    uint32_t seed = 7;
    turns_init(&t, TURN, WAIT);
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525u + 1013904223u;
        if (seed >> 28 == 0)
            c.n = 1 + (int)(seed >> 20 & 3);
        one_pass(&t, &apart, &c);
    }
    for (int i = 0; i < 4; i++)
        assert_true(c.tokens[i] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_go_together_while_nothing_is_read),
        cmocka_unit_test(all_go_together_while_computing_takes_longer_than_the_disk),
        cmocka_unit_test(all_go_together_where_they_share_what_is_read),
        cmocka_unit_test(streams_with_little_in_common_take_turns),
        cmocka_unit_test(more_streams_go_together_again),
        cmocka_unit_test(nobody_waits_longer_than_said),
        cmocka_unit_test(a_disk_that_slows_down_changes_nothing),
        cmocka_unit_test(a_change_of_texts_is_noticed),
        cmocka_unit_test(sequences_may_come_and_go_at_any_time),
    };
    return cmocka_run_group_tests_name("server_turns", tests, NULL, NULL);
}
