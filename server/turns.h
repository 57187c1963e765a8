/* turns.h - do all sequences that decode go into each pass, or do they take turns of some passes?
 *
 * A pass of all reads each expert once for all of them. But each place of the expert cache gives one hit a pass at most: where
 * a pass needs more experts than the cache holds, sequences with little in common lose the hits that each would have while it
 * goes on alone, and more is read for a token. Which of the two weighs more depends on model, cache and texts. So it is
 * measured: bytes and computing a token, together and in turn. Turns are tried only while passes of all wait for the disk
 * longer than they compute.
 *
 * The longer a turn, the less is lost when another one's begins, and the longer the others wait. What is measured is a
 * period, in which each has had one turn. Results never depend on any of this: odmoe_forward's promise.
 *
 * Threads: one at a time. */
#ifndef ODMOE_SERVER_TURNS_H
#define ODMOE_SERVER_TURNS_H

#include <stdbool.h>

enum { TURNS_TOGETHER, TURNS_ALONE, TURNS_WAYS };

/* What a way costs: moving means over periods. */
typedef struct turns_cost {
    double bytes, computing; /* read, and seconds, a token */
    int periods;             /* measured, at most a number from which on old ones fade */
    int n;                   /* sequences in the latest of them */
} turns_cost;

typedef struct turns {
    double turn_most, wait;  /* turns_init */
    double seconds_per_byte; /* how long computing waits for the disk; mean of all periods */
    turns_cost cost[TURNS_WAYS];
    bool waits;      /* in the latest period together the disk took longer than computing */
    int best;        /* the way that is taken when the other one is not tried */
    unsigned period; /* counts them */
    /* The period under way. */
    int n, way;                /* sequences that are ready */
    int turns_left;            /* with the one under way; 0: the period is over */
    double turn_seconds, turn; /* how long a turn is; what has been used of it, 0: nothing */
    double tokens, bytes, seconds, stalled;
} turns;

/* turns_init - seconds, more than 0: `turn`, that a turn takes at most; `wait`, that one waits at most for the next. */
void turns_init(turns *t, double turn, double wait);

/* turns_next - n >= 1 sequences are ready: how many go into the next pass, 1 or n? *anew: if one, it is the one whose turn
 * was longest ago; else that of the pass before, if it is ready. */
int turns_next(turns *t, int n, bool *anew);

/* turns_passed - the pass that turns_next spoke of is over. It brought `tokens`, read `bytes` of experts and took
 * `seconds`; in `stalled` of these computing waited for the disk. */
void turns_passed(turns *t, int tokens, double bytes, double seconds, double stalled);

#endif
