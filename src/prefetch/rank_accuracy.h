/* rank_accuracy.h - how often candidates are right, by rank: a source's best grade, its second, ...
 *
 * Only candidates that would have to be read are judged: experts that are needed often are in memory anyway, and the
 * others are harder to predict. Judging needs no read, so a rank that reads nothing goes on being judged, and may come back. Old
 * counts fade, so that ranks follow a change of text. */
#ifndef ODMOE_PREFETCH_RANK_ACCURACY_H
#define ODMOE_PREFETCH_RANK_ACCURACY_H

#include <stdbool.h>

#include "prefetch/limits.h"

typedef struct rank_tally {
    float seen, right;
} rank_tally;

typedef struct rank_accuracy {
    rank_tally rank[ACCURACY_RANKS];
} rank_accuracy;

/* rank_accuracy_init - each rank counts as if ACCURACY_FIRST_SEEN candidates had been seen, a share of `first` of the
 * best rank's, and of `last` of the last rank's, right; the ranks between lie between. rank_accuracy_clear - nothing has
 * been seen. */
void rank_accuracy_init(rank_accuracy *a, float first, float last);
void rank_accuracy_clear(rank_accuracy *a);

/* rank_accuracy_share - the share of right candidates of `rank` >= 0; `pooled` (from _init) counts for what `a` has not
 * seen yet. */
float rank_accuracy_share(const rank_accuracy *a, const rank_accuracy *pooled, int rank);

/* rank_accuracy_add - a candidate of `rank` has been right or wrong. */
void rank_accuracy_add(rank_accuracy *a, int rank, bool right);

#endif
