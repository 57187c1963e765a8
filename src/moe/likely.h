/* likely.h - how often guesses are right, learned by rank: a predictor's first choice, its second, ...
 *
 * Only guesses for experts that would have to be read are judged: what is wanted often is in memory anyway, and the
 * rest is harder to guess. Judging needs no read, so a rank that reads nothing goes on being judged, and may come back.
 * Old guesses fade, so that ranks follow a change of text. */
#ifndef ODMOE_MOE_LIKELY_H
#define ODMOE_MOE_LIKELY_H

#include <stdbool.h>

#define LIKELY_RANKS 64 /* later ones count as the last */

/* A rank is worth reading from this share of right guesses on: a wrong one takes disk and memory bandwidth from what is
 * needed, a right one only comes earlier (bench/RESULTS.md, "Reading ahead in decoding", "What a guess is worth"). */
#define LIKELY_ENOUGH 0.6f

typedef struct likely {
    float seen[LIKELY_RANKS], right[LIKELY_RANKS];
} likely;

/* likely_init - to begin with each rank counts as if a few had been seen, this share of them right. */
void likely_init(likely *l, float share);
float likely_share(const likely *l, int rank);
void likely_judge(likely *l, int rank, bool right);

#endif
