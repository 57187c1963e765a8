#include "moe/likely.h"

#define FIRST_SEEN 6.0f
#define FADE 64.0f /* counts are halved here */

static int row_of(int rank)
{
    return rank < LIKELY_RANKS ? rank : LIKELY_RANKS - 1;
}

void likely_init(likely *l, float share)
{
    for (int rank = 0; rank < LIKELY_RANKS; rank++) {
        l->seen[rank] = FIRST_SEEN;
        l->right[rank] = FIRST_SEEN * share;
    }
}

float likely_share(const likely *l, int rank)
{
    rank = row_of(rank);
    return l->right[rank] / l->seen[rank];
}

void likely_judge(likely *l, int rank, bool right)
{
    rank = row_of(rank);
    l->seen[rank] += 1;
    l->right[rank] += right;
    if (l->seen[rank] > FADE) {
        l->seen[rank] /= 2;
        l->right[rank] /= 2;
    }
}
