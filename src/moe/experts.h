/* experts.h - the grouped experts of one layer: tokens are sorted by expert, each needed expert is fetched once and
 * multiplied with just its own tokens.
 *
 *   y[t] = sum over chosen e, ascending:  w[t, e] * down_e(silu(gate_e(x[t])) * up_e(x[t]))
 *
 * The order of additions is fixed (ascending expert id), whatever the order in which reads complete: few rows keep the
 * experts' outputs apart and compute in arrival order, hits first; many rows take the experts in id order.
 *
 * Experts that are there at the same time are computed in one round: one parallel loop over all their gate and up rows,
 * one over their down rows. What is in a round never changes a result.
 */
#ifndef ODMOE_MOE_EXPERTS_H
#define ODMOE_MOE_EXPERTS_H

#include "moe/linear.h"
#include "moe/source.h"

typedef struct experts_shape {
    int64_t hidden, ffn;
    int experts, top_k;
    unsigned in_mask, mid_mask; /* formats that the experts' (gate, up) and down weights take */
} experts_shape;

/* experts_check - do all experts of the index have what a layer needs (gate and up, or gate_up; down), in shapes that
 * fit hidden and ffn and types whose kernels exist? Fills in_mask and mid_mask. ERR_FORMAT or ERR_UNSUPPORTED names
 * layer, expert and piece. */
odmoe_status experts_check(const expert_index *index, const kernel_table *kernels, experts_shape *shape,
                           odmoe_error *err);

/* experts_check_pieces - the same for one expert's pieces[n]; adds to the masks. The message names the piece alone. */
odmoe_status experts_check_pieces(const expert_piece *pieces, int n, const kernel_table *kernels, experts_shape *shape,
                                  odmoe_error *err);

/* One matrix of an expert as kernels take it, whatever pieces it comes from. */
typedef struct expert_matrix {
    dtype type;
    bool in_out;
    const void *at;    /* its first row */
    int64_t row_bytes; /* from row to row: an interleaved or (in, out) gate_up has the other's weights between */
} expert_matrix;

typedef struct expert_matrices {
    expert_matrix gate, up, down;
} expert_matrices;

/* experts_bind - find the matrices in a view whose pieces have been checked. */
void experts_bind(const experts_shape *shape, const pinned_expert *view, expert_matrices *out);

/* The workspace for up to max_rows rows; carve with experts_layout (arena.h). */
typedef struct experts_work {
    int64_t max_rows;
    int64_t round_rows;   /* (row, expert) pairs computed at a time: bounds the workspace */
    int32_t *counts;      /* [experts] rows of each expert */
    int32_t *first;       /* [experts + 1] start of its entries */
    int32_t *needed;      /* [experts] ids with rows, ascending */
    int32_t *entry_row;   /* [max_rows * top_k] sorted by expert, then row */
    uint8_t *entry_slot;  /* [max_rows * top_k] which of the row's choices it is */
    float *entry_weight;  /* [max_rows * top_k] */
    activations gathered; /* [round_rows, hidden] the rows of a round, side by side */
    float *gathered_f32;  /* [round_rows, hidden] when ACT_F32 is wanted */
    float *gate, *up;     /* [round_rows, ffn] */
    activations mid;      /* [round_rows, ffn] silu(gate) * up in the down weights' formats */
    float *kept;          /* [few entries, hidden] outputs of few rows, one an entry */
    float *block;         /* [threads][round_rows, block] output of one task */
} experts_work;

void experts_layout(arena *a, const experts_shape *shape, int64_t max_rows, int threads, experts_work *out);

/* experts_group - sort (row, expert) pairs by expert, rows ascending within one: fills counts, first, needed, entry_*.
 * Returns how many experts are needed. experts_layout_groups - room for just what it fills. */
int experts_group(const experts_shape *shape, experts_work *w, int64_t n, const int32_t *topk, const float *topw);
void experts_layout_groups(arena *a, const experts_shape *shape, int64_t max_rows, experts_work *out);

/* Some rows of one expert, part of a round. */
typedef struct experts_slice {
    pinned_expert view;
    bool last; /* the expert's last slice: it is released after the round */
    expert_matrices m;
    int64_t entry, rows; /* its entries */
    int64_t base;        /* their first row in the round's workspace */
} experts_slice;

#define EXPERTS_FEW 64       /* up to so many (row, expert) pairs are kept apart and computed in arrival order */
#define EXPERTS_ROUND_MAX 16 /* slices of a round */

/* One call, between experts_start and experts_finish. */
typedef struct experts_call {
    const compute *c;
    const experts_shape *shape;
    experts_work *work;
    const expert_source *source;
    int layer;
    const activations *x;
    int64_t n;
    void *batch;
    int needed; /* experts with rows */
    bool few;
    float *y;
    /* a round: experts that are there, computed together so that threads wait for each other less often */
    experts_slice slices[EXPERTS_ROUND_MAX];
    int count;
    int64_t rows;
    int64_t gate_rows, down_rows; /* weight rows of one task */
    experts_slice current;        /* the expert being cut into slices; rows: those left */
    /* NULL, or set between start and finish by who needs them afterwards: the products before silu, [n, top_k, ffn] */
    float *keep_gate, *keep_up;
} experts_call;

/* experts_start - group n rows by expert and ask the source for the experts: reads begin. What the caller computes
 * until experts_finish hides them. x: [n, hidden] in the formats of shape->in_mask; topk, topw [n, top_k] from the
 * router; both borrowed until experts_finish. 1 <= n <= work->max_rows. size: for the source. Errors: the source's; then there is nothing to
 * finish. */
odmoe_status experts_start(experts_call *call, const compute *c, const experts_shape *shape, experts_work *work,
                           const expert_source *source, int layer, const activations *x, int64_t n, fetch_size size,
                           const int32_t *topk, const float *topw, odmoe_error *err);

/* experts_finish - y [n, hidden] = the layer's output (overwritten). Ends the batch, after errors too.
 * Errors: the source's, with y undefined. */
odmoe_status experts_finish(experts_call *call, float *y, odmoe_error *err);

#endif
