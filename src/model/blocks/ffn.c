#include "model/blocks/ffn.h"

#define GROUP_ROWS 256

void ffn_layout(arena *a, int64_t ffn, unsigned mask, int64_t max_rows, ffn_work *out)
{
    out->group = max_rows < GROUP_ROWS ? max_rows : GROUP_ROWS;
    out->gate = arena_take(a, (size_t)(out->group * ffn), sizeof(float));
    out->up = arena_take(a, (size_t)(out->group * ffn), sizeof(float));
    activations_layout(a, &out->mid, mask, out->group, ffn);
}

typedef struct silu_job {
    const compute *c;
    ffn_work *work;
    int64_t ffn;
} silu_job;

static void silu_row(void *ctx, int64_t row, int worker)
{
    const silu_job *job = ctx;
    float *gate = job->work->gate + row * job->ffn;
    job->c->kernels->silu_mul(gate, job->work->up + row * job->ffn, gate, job->ffn);
}

/* x from row `first` on, in the same formats */
static activations rows_from(const activations *x, int64_t first)
{
    activations part = *x;
    for (int f = 0; f < ACT_COUNT; f++)
        if (x->at[f])
            part.at[f] = (char *)x->at[f] + (size_t)first * x->bytes[f];
    return part;
}

void ffn_run(const compute *c, const weight *gate, const weight *up, const weight *down, ffn_work *work,
             const activations *x, int64_t n, float *y)
{
    int64_t ffn = gate->rows;
    work->mid.cols = ffn; /* networks of several widths share the workspace */
    for (int f = 0; f < ACT_COUNT; f++)
        work->mid.bytes[f] = act_bytes((activation)f, ffn);
    for (int64_t first = 0; first < n; first += work->group) {
        int64_t rows = n - first < work->group ? n - first : work->group;
        activations part = rows_from(x, first);
        linear_job jobs[] = {{gate, &part, work->gate, ffn}, {up, &part, work->up, ffn}};
        linear_run(c, jobs, 2, rows);
        silu_job job = {c, work, ffn};
        rows_run(c, rows, silu_row, &job);
        activations_fill(c, &work->mid, activation_mask(c->kernels, down->type), work->gate, rows);
        linear_job output = {down, &work->mid, y + first * down->rows, down->rows};
        linear_run(c, &output, 1, rows);
    }
}
