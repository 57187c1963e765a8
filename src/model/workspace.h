/* workspace.h - the memory that a forward call computes in, for one chunk of tokens. Laid out once, measured and carved by
 * the same function, so that the plan and the program cannot disagree. */
#ifndef ODMOE_MODEL_WORKSPACE_H
#define ODMOE_MODEL_WORKSPACE_H

#include "model/mixers/mixer.h"
#include "model/model_prefetch.h"
#include "moe/local_executor.h"
#include "moe/routing.h"
#include "store/row_reader.h"

#define MIXERS_MAX 4 /* kinds of token mixers in one model */

typedef struct workspace {
    int64_t max_tokens, logits_rows;
    row_reader embedding;         /* where the table stays on the disk */
    buffer x;                     /* [max_tokens, hidden] residual stream */
    buffer norm;                  /* [max_tokens, hidden] what mixers, routers and FFNs take */
    buffer experts_in;            /* the same for routed experts, where they have a norm of their own */
    buffer latent, latent_out;    /* [max_tokens, latent] what latent experts take, and give */
    buffer y;                     /* [max_tokens, hidden] output of a mixer or an FFN */
    buffer shared, shared_weight; /* [max_tokens, hidden], [max_tokens, 1]: where the model has a shared expert */
    buffer cosines[ROPE_SETS_MAX], sines[ROPE_SETS_MAX]; /* [max_tokens, dim / 2] */
    routing_work route;
    int32_t *topk; /* [max_tokens, top_k] */
    float *topw;   /* [max_tokens, top_k] */
    experts_work experts;
    int32_t *all_experts; /* [experts] 0, 1, ... */
    compute_work ffn;
    model_prefetch prefetch;
    void *mixer[MIXERS_MAX]; /* of each mixer that the model has */
    buffer out;              /* [logits_rows, hidden] after the final norm */
    buffer logits;           /* [logits_rows, vocab], or the caller's rows */
    float *logits_rows_own;  /* the rows of `logits` where the caller has none */
    bool *not_finite;        /* [logits_rows] */
    /* about the tokens of the chunk */
    int32_t *ids, *positions; /* [max_tokens] */
    int32_t *owner, *place;   /* [max_tokens] the token's sequence in the call, and its number there */
    int32_t *rows;            /* [max_tokens] scratch: rows to keep */
    int32_t *embed_rows;      /* [max_tokens] where `embedding` has the tokens' rows */
    kv_token *kv;             /* [max_tokens] for the layer under way */
    sequence_run *sequences;  /* [max_tokens] */
} workspace;

struct model;

/* workspace_layout - for chunks of up to max_tokens tokens of a model whose weights are bound. */
void workspace_layout(const compute *c, arena *a, const struct model *m, const experts_shape *shape, int64_t max_tokens,
                      int logits_rows, bool prefetch, workspace *out);

#endif
