#include "prefetch/rank_accuracy.h"

static int row_of(int rank)
{
    return rank < ACCURACY_RANKS ? rank : ACCURACY_RANKS - 1;
}

void rank_accuracy_init(rank_accuracy *a, float first, float last)
{
    for (int rank = 0; rank < ACCURACY_RANKS; rank++) {
        float share = first + (last - first) * (float)rank / (ACCURACY_RANKS - 1);
        a->rank[rank] = (rank_tally){ACCURACY_FIRST_SEEN, ACCURACY_FIRST_SEEN * share};
    }
}

void rank_accuracy_clear(rank_accuracy *a)
{
    *a = (rank_accuracy){0};
}

float rank_accuracy_share(const rank_accuracy *a, const rank_accuracy *pooled, int rank)
{
    const rank_tally *own = &a->rank[row_of(rank)], *all = &pooled->rank[row_of(rank)];
    return (own->right + ACCURACY_POOLED_SEEN * all->right / all->seen) / (own->seen + ACCURACY_POOLED_SEEN);
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
