#include "moe/pairs.h"

#include <string.h>

void pairs_layout(arena *a, int experts, int top_k, int64_t max_tokens, expert_pairs *out)
{
    size_t pairs = (size_t)max_tokens * (size_t)top_k;
    out->counts = arena_take(a, (size_t)experts, sizeof *out->counts);
    out->offsets = arena_take(a, (size_t)experts + 1, sizeof *out->offsets);
    out->needed = arena_take(a, (size_t)experts, sizeof *out->needed);
    out->token = arena_take(a, pairs, sizeof *out->token);
    out->choice = arena_take(a, pairs, sizeof *out->choice);
    out->weight = arena_take(a, pairs, sizeof *out->weight);
}

void pairs_group(expert_pairs *p, int experts, int top_k, int64_t n_tokens, const int32_t *topk, const float *topw)
{
    int32_t at = 0;
    p->n = n_tokens * top_k;
    p->n_needed = 0;
    memset(p->counts, 0, (size_t)experts * sizeof *p->counts);
    for (int64_t i = 0; i < p->n; i++)
        p->counts[topk[i]]++;
    for (int e = 0; e < experts; e++) {
        p->offsets[e] = at;
        at += p->counts[e];
        if (p->counts[e])
            p->needed[p->n_needed++] = e;
    }
    p->offsets[experts] = at;
    for (int64_t i = 0; i < p->n; i++) {
        int32_t pair = p->offsets[topk[i]]++;
        p->token[pair] = (int32_t)(i / top_k);
        p->choice[pair] = (uint8_t)(i % top_k);
        p->weight[pair] = topw[i];
    }
    for (int e = experts; e > 0; e--) /* each offset stands at its expert's end now, the next one's start */
        p->offsets[e] = p->offsets[e - 1];
    p->offsets[0] = 0;
}
