#include "prefetch/rank_accuracy.h"

static int row_of(int rank)
{
    return rank < ACCURACY_RANKS ? rank : ACCURACY_RANKS - 1;
}

void rank_accuracy_init(rank_accuracy *a, float first_share)
{
    for (int rank = 0; rank < ACCURACY_RANKS; rank++)
        a->rank[rank] = (rank_tally){ACCURACY_FIRST_SEEN, ACCURACY_FIRST_SEEN * first_share};
}

float rank_accuracy_share(const rank_accuracy *a, int rank)
{
    const rank_tally *t = &a->rank[row_of(rank)];
    return t->right / t->seen;
}

void rank_accuracy_add(rank_accuracy *a, int rank, bool right)
{
    rank_tally *t = &a->rank[row_of(rank)];
    t->seen += 1;
    t->right += right;
    if (t->seen > ACCURACY_FADE) {
        t->seen /= 2;
        t->right /= 2;
    }
}
