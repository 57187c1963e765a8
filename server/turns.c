#include "turns.h"

#define PERIODS_MOST 4 /* that a mean remembers */
#define TRY_EVERY 16   /* one period in so many goes the other way: what has changed shows */
#define BETTER 0.95    /* the other way is taken when it costs less than this share */

void turns_init(turns *t, double turn, double wait)
{
    *t = (turns){.turn_most = turn, .wait = wait};
}

/* ---- what a way costs ---- */

/* Seconds a token. The disk's share is reckoned from bytes: its speed changes from one period to the next, what has to
 * be read for a token hardly does. */
static double cost_of(const turns *t, int way)
{
    return t->cost[way].computing + t->cost[way].bytes * t->seconds_per_byte;
}

/* What so many sequences cost says little about so many others. */
static bool is_far(int n, int m)
{
    return n >= 2 * m || m >= 2 * n;
}

static void measure(turns *t)
{
    turns_cost *c = &t->cost[t->way];
    double computing = t->seconds - t->stalled;
    c->periods = is_far(c->n, t->n) ? 1 : c->periods < PERIODS_MOST ? c->periods + 1 : PERIODS_MOST;
    c->n = t->n;
    c->bytes += (t->bytes / t->tokens - c->bytes) / c->periods;
    c->computing += (computing / t->tokens - c->computing) / c->periods;
    if (t->way == TURNS_TOGETHER)
        t->waits = t->stalled > computing;
    if (t->bytes > 0) {
        double now = t->stalled / t->bytes;
        t->seconds_per_byte += t->seconds_per_byte > 0 ? (now - t->seconds_per_byte) / PERIODS_MOST : now;
    }
}

/* ---- which way is next ---- */

static int choose(turns *t, int n)
{
    if (n == 1 || !t->waits)
        return TURNS_TOGETHER;
    if (!t->cost[TURNS_ALONE].periods)
        return TURNS_ALONE;
    int other = !t->best;
    if (cost_of(t, other) < BETTER * cost_of(t, t->best)) {
        t->best = other;
        other = !other;
    }
    return t->period % TRY_EVERY == 0 || is_far(t->cost[other].n, n) ? other : t->best;
}

/* Periods of both ways take the same time, so that a trial costs a known share of it. */
static void begin_period(turns *t, int n)
{
    double turn = t->wait < t->turn_most * (n - 1) ? t->wait / (n - 1) : t->turn_most;
    t->period++;
    t->way = choose(t, n);
    t->n = n;
    t->turns_left = t->way == TURNS_ALONE ? n : 1;
    t->turn_seconds = t->way == TURNS_ALONE ? turn : n * turn;
    t->turn = t->tokens = t->bytes = t->seconds = t->stalled = 0;
}

/* ---- passes ---- */

int turns_next(turns *t, int n, bool *anew)
{
    if (n != t->n || !t->turns_left)
        begin_period(t, n);
    *anew = !t->turn;
    return t->way == TURNS_ALONE ? 1 : n;
}

void turns_passed(turns *t, int tokens, double bytes, double seconds, double stalled)
{
    t->tokens += tokens;
    t->bytes += bytes;
    t->seconds += seconds;
    t->stalled += stalled;
    t->turn += seconds;
    if (t->turn < t->turn_seconds)
        return;
    t->turn = 0;
    t->turns_left--;
    if (!t->turns_left && t->n > 1) /* one that is all there is takes no turns */
        measure(t);
}
