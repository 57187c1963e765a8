/* bench_predictors.h - what the two halves of bench_predictors share: how often predictors are right, and what that is worth.
 */
#ifndef ODMOE_BENCH_BENCH_PREDICTORS_H
#define ODMOE_BENCH_BENCH_PREDICTORS_H

#include "api/handles.h"
#include "bench.h"
#include "kernels/kernels.h"
#include "odmoe_layer.h"

enum { PIECE = 512, KINDS = 8, SPAN = 4 };

/* One kind, and what has come of it. */
typedef struct contestant {
    odmoe_expert_predictor *predictor;
    odmoe_predictor p;
    double asked[SPAN], right[SPAN], right2[SPAN], named[SPAN]; /* by how many layers ahead */
    double seconds, guesses;
} contestant;

typedef struct bench {
    odmoe_model *model;
    odmoe_session *session;
    const char *path;
    int layers, experts, top_k; /* layers with experts */
    int64_t hidden;
    float **routers; /* [layers] of [experts, hidden] */
    float *x;        /* [layers, PIECE, hidden] what routers saw of this piece */
    int32_t *topk;   /* [layers, PIECE, top_k] */
    float *topw;
    int kinds;
    contestant kind[KINDS];
} bench;

static inline void check(odmoe_status status, const odmoe_error *err)
{
    if (status)
        stop("bench_predictors", err->message);
}

static inline void *room(size_t n, size_t bytes)
{
    void *p = calloc(n ? n : 1, bytes);
    if (!p)
        stop("bench_predictors", "no memory");
    return p;
}

/* What reading ahead is worth: layers that decode a piece's tokens with their experts on the disk, without a predictor
 * and with each. */
typedef struct stall_bench stall_bench;

/* cache: bytes for experts; the predictors are the bench's. */
stall_bench *stall_open(bench *b, uint64_t cache);
/* stall_piece - the n tokens that are in the bench's rows, through everybody's layers in turn. */
void stall_piece(stall_bench *s, const bench *b, int64_t n);
void stall_print(const stall_bench *s);
void stall_close(stall_bench *s);

#endif
