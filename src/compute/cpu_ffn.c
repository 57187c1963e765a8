/* cpu_ffn.c - a resident feed-forward network: the shared expert, and the network of dense layers. */
#include <assert.h>
#include <string.h>

#include "compute/cpu.h"

#define GROUP_TOKENS 256 /* at a time: bounds the workspace */

typedef struct ffn_work {
    int64_t group; /* tokens at a time */
    buffer gate;   /* [group, ffn] gate's products, then the activation's output, with the formats that down takes */
    float *up;     /* [group, ffn] */
} ffn_work;

static_assert(sizeof(ffn_work) <= sizeof(compute_work), "it fits in the caller's struct");

void cpu_ffn_layout(const compute *c, arena *a, int64_t ffn, dtype_set down_types, int64_t n, compute_work *out)
{
    ffn_work w = {.group = n < GROUP_TOKENS ? n : GROUP_TOKENS};
    c->op->buffer_layout(c, a, &w.gate, w.group, ffn, down_types, true);
    w.up = arena_take(a, (size_t)(w.group * ffn), sizeof(float));
    memcpy(out, &w, sizeof w);
}

void cpu_ffn(const compute *c, const ffn_weights *weights, const compute_work *work, buffer *x, buffer *y)
{
    ffn_work w;
    memcpy(&w, work, sizeof w);
    int64_t n = x->n, ffn = weights->up.rows;
    buffer up = {.cols = ffn, .values = w.up};
    w.gate.cols = ffn; /* networks of several widths share the workspace */
    for (int64_t first = 0; first < n; first += w.group) {
        int64_t tokens = cpu_run_length(n, first, w.group);
        linear_call jobs[] = {{.w = &weights->up, .x = x, .y = &up}, {.w = &weights->gate, .x = x, .y = &w.gate}};
        cpu_linear_part(c, jobs, glu_has_gate(&weights->glu) ? 2 : 1, first, tokens);
        token_op glu = {.kind = TOKEN_GLU, .x = &w.gate, .z = &up, .y = &w.gate, .glu = weights->glu};
        cpu_tokens(c, &glu, 1, tokens);
        buffer out = {.cols = y->cols, .values = cpu_values(y, first)};
        linear_call down = {.w = &weights->down, .x = &w.gate, .y = &out};
        cpu_linear_part(c, &down, 1, 0, tokens);
    }
    cpu_written(y, n);
}
