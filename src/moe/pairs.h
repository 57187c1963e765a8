/* pairs.h - (token, expert) pairs sorted by expert, so that each expert meets its own tokens side by side. */
#ifndef ODMOE_MOE_PAIRS_H
#define ODMOE_MOE_PAIRS_H

#include "base/arena.h"

typedef struct expert_pairs {
    int32_t *counts;  /* [experts] tokens of each expert */
    int32_t *offsets; /* [experts + 1] an expert's first pair */
    int32_t *needed;  /* [experts] ids that have tokens, ascending; `n_needed` of them */
    int n_needed;
    int64_t n;       /* pairs */
    int32_t *token;  /* [n] sorted by expert, then token */
    uint8_t *choice; /* [n] which of the token's choices it is */
    float *weight;   /* [n] the router's */
} expert_pairs;

/* pairs_layout - room for max_tokens * top_k pairs. */
void pairs_layout(arena *a, int experts, int top_k, int64_t max_tokens, expert_pairs *out);

/* pairs_group - sort the choices topk, topw [n_tokens, top_k] of n_tokens tokens. */
void pairs_group(expert_pairs *p, int experts, int top_k, int64_t n_tokens, const int32_t *topk, const float *topw);

#endif
