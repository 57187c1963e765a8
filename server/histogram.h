/* histogram.h - counts of a quantity by ranges, as Prometheus shows them. Plain data: its owner guards it. */
#ifndef ODMOE_SERVER_HISTOGRAM_H
#define ODMOE_SERVER_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS_MAX 12

typedef struct histogram {
    const double *bounds; /* [n] ascending; static */
    int n;
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* of each range; the last one has no upper bound */
    uint64_t count;
    double sum;
} histogram;

static inline void histogram_add(histogram *h, double value)
{
    int i = 0;
    while (i < h->n && value > h->bounds[i])
        i++;
    h->counts[i]++;
    h->count++;
    h->sum += value;
}

#endif
