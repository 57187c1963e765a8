/* kinds.h - a small model whose two layers remember what a test wants: keys and values of all positions, of a sliding
 * window, or a running sum that cannot be cut back. */
#ifndef ODMOE_TESTS_KINDS_H
#define ODMOE_TESTS_KINDS_H

#include <stdbool.h>

#include "odmoe.h"

#define KIND_CONTEXT 4096 /* that the models are made for */
#define KINDS 5

typedef struct kind {
    const char *name;
    bool sums[2];  /* layers with the running sum */
    int window[2]; /* of the others; 0: all positions */
    bool any;      /* every position can be restored */
} kind;

extern const kind kinds[KINDS];

/* kind_open - such a model, with the kernels "ref"; odmoe_model_close it. What fails ends the test. */
odmoe_model *kind_open(const kind *k, const odmoe_options *options);

#endif
