/* cpu_tokens.c - token-wise operations: a list of them is done token by token, so that a token's values stay in the
 * processor's nearest cache from one operation to the next. */
#include <math.h>
#include <string.h>

#include "compute/cpu.h"

typedef struct tokens_list {
    const compute *c;
    const token_op *ops;
    int count;
} tokens_list;

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* Beyond 20 the 1 is less than half of the last bit. */
static float softplus(float x)
{
    return x > 20 ? x : log1pf(expf(x));
}

void cpu_add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

void cpu_glu(const compute *c, const glu_config *g, const float *gate, const float *up, float *y, int64_t n)
{
    switch (g->kind) {
    case ODMOE_SWIGLU_CLAMPED:
        c->kernels->silu_mul_clamped(gate, up, y, n, g->alpha, g->limit, g->offset);
        break;
    case ODMOE_GEGLU_TANH:
        c->kernels->gelu_mul(gate, up, y, n);
        break;
    case ODMOE_RELU2:
        c->kernels->relu_squared(up, y, n);
        break;
    default:
        c->kernels->silu_mul(gate, up, y, n);
    }
}

/* The spans of a row: as the operation says, or the whole row. */
static spans spans_of(const spans *given, const buffer *b)
{
    return given->dim ? *given : (spans){.dim = b->cols, .count = 1, .stride = b->cols};
}

static void embed(const compute *c, const token_op *op, int64_t token, float *y)
{
    const matrix *m = op->rows;
    uint64_t row_bytes = dtype_bytes(m->type, (uint64_t)m->cols);
    c->kernels->ops[m->type].dequantise((const char *)m->data + (uint64_t)op->ids[token] * row_bytes, y, m->cols);
    for (int64_t i = 0; op->factor != 1 && i < m->cols; i++)
        y[i] *= op->factor;
}

static void rope_angles(const token_op *op, int64_t token, float *cosines, float *sines)
{
    for (int64_t i = 0; i < op->y->cols; i++) {
        float angle = (float)op->positions[token] * op->weight[i];
        cosines[i] = cosf(angle) * op->factor;
        sines[i] = sinf(angle) * op->factor;
    }
}

#define LANES 16 /* partial sums side by side, added in a fixed order */

static double sum_of(const float *x, float minus, bool squares, int64_t n)
{
    double lanes[LANES] = {0}, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i] - minus;
        lanes[i % LANES] += squares ? v * v : v;
    }
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static void rms_norm_plain(const float *x, float eps, float *y, int64_t n)
{
    float scale = 1.0f / sqrtf((float)(sum_of(x, 0, true, n) / (double)n) + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * scale;
}

static int64_t row_of_x(const token_op *op, int64_t token)
{
    return op->x_rows ? op->x_rows[token] : token;
}

static void layer_norm(const token_op *op, int64_t token)
{
    const float *x = cpu_values(op->x, row_of_x(op, token));
    float *y = cpu_values(op->y, token);
    int64_t n = op->y->cols;
    float mean = (float)(sum_of(x, 0, false, n) / (double)n);
    float scale = 1.0f / sqrtf((float)(sum_of(x, mean, true, n) / (double)n) + op->eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale * op->weight[i] + (op->bias ? op->bias[i] : 0);
}

static void rms_norm(const compute *c, const token_op *op, int64_t token)
{
    spans at = spans_of(&op->at, op->y), from = op->from.dim ? op->from : at;
    float *y = cpu_values(op->y, token) + at.first;
    const float *x = cpu_values(op->x, row_of_x(op, token)) + from.first;
    for (int64_t i = 0; i < at.count && !op->weight; i++)
        rms_norm_plain(x + i * from.stride, op->eps, y + i * at.stride, at.dim);
    for (int64_t i = 0; i < at.count && op->weight; i++)
        c->kernels->rms_norm(x + i * from.stride, op->weight + (op->weight_each ? i * at.dim : 0), op->eps,
                             y + i * at.stride, at.dim);
}

static void l2_norm(const compute *c, const token_op *op, int64_t token)
{
    spans at = spans_of(&op->at, op->y), from = op->from.dim ? op->from : at;
    float *y = cpu_values(op->y, token) + at.first;
    const float *x = cpu_values(op->x, row_of_x(op, token)) + from.first;
    for (int64_t i = 0; i < at.count; i++)
        c->kernels->l2_norm(x + i * from.stride, op->factor, op->eps, y + i * at.stride, at.dim);
}

static void decay(const token_op *op, int64_t token)
{
    spans at = spans_of(&op->at, op->y), from = op->from.dim ? op->from : at;
    float *y = cpu_values(op->y, token) + at.first;
    const float *x = cpu_values(op->x, row_of_x(op, token)) + from.first;
    for (int64_t i = 0; i < at.count; i++)
        for (int64_t j = 0; j < at.dim; j++)
            y[i * at.stride + j] = expf(op->weight[i] * x[i * from.stride + j]);
}

static void add_each(const compute *c, const token_op *op, int64_t token)
{
    spans at = spans_of(&op->at, op->y), from = op->from.dim ? op->from : at;
    float *y = cpu_values(op->y, token) + at.first;
    const float *x = cpu_values(op->x, row_of_x(op, token)) + from.first;
    for (int64_t i = 0; i < at.count; i++)
        c->kernels->add_scaled(y + i * at.stride, x + i * from.stride, op->weight[i], at.dim);
}

static void rope(const token_op *op, int64_t token)
{
    spans at = spans_of(&op->at, op->y);
    const float *cosines = cpu_values(op->x, token), *sines = cpu_values(op->z, token);
    int64_t half = op->x->cols;
    int64_t step = op->pairing == ROPE_HALVES ? 1 : 2, other = op->pairing == ROPE_HALVES ? half : 1;
    for (int64_t h = 0; h < at.count; h++) {
        float *head = cpu_values(op->y, token) + at.first + h * at.stride;
        for (int64_t i = 0; i < half; i++) {
            float *a = head + i * step, *b = a + other;
            float x = *a, y = *b;
            *a = x * cosines[i] - y * sines[i];
            *b = y * cosines[i] + x * sines[i];
        }
    }
}

/* Queries of later positions are sharper. */
static float temper(const token_op *op, int64_t token)
{
    int64_t position = (int64_t)op->kv_tokens[token].position + op->shift;
    return 1 + op->factor * logf(1 + (float)(position / op->every));
}

/* Operations that go through a span number by number; factor: what scales. x is NULL where the kind reads none. */
static void run_span(const compute *c, const token_op *op, float factor, float *y, const float *x, int64_t n)
{
    switch (op->kind) {
    case TOKEN_ZERO:
        memset(y, 0, (size_t)n * sizeof *y);
        break;
    case TOKEN_COPY:
        memcpy(y, x, (size_t)n * sizeof *y);
        break;
    case TOKEN_SCALE:
    case TOKEN_TEMPER:
        for (int64_t i = 0; i < n; i++)
            y[i] *= factor;
        break;
    case TOKEN_CLIP:
        for (int64_t i = 0; i < n; i++)
            y[i] = fminf(fmaxf(y[i], -op->factor), op->factor);
        break;
    case TOKEN_SIGMOID:
        for (int64_t i = 0; i < n; i++)
            y[i] = sigmoid(y[i]);
        break;
    case TOKEN_SOFTCAP:
        c->kernels->soft_cap(y, op->factor, y, n);
        break;
    case TOKEN_MULTIPLY:
        for (int64_t i = 0; i < n; i++)
            y[i] *= x[i];
        break;
    case TOKEN_SOFTPLUS:
        for (int64_t i = 0; i < n; i++)
            y[i] = softplus(y[i]);
        break;
    default: /* TOKEN_GATE */
        c->kernels->sigmoid_mul(x, y, y, n);
    }
}

static void run_spans(const compute *c, const token_op *op, int64_t token)
{
    spans at = spans_of(&op->at, op->y), from = op->from.dim ? op->from : at;
    float *y = cpu_values(op->y, token) + at.first;
    const float *x = op->x ? cpu_values(op->x, row_of_x(op, token)) + from.first : NULL;
    float factor = op->kind == TOKEN_TEMPER ? temper(op, token) : op->factor;
    for (int64_t i = 0; i < at.count; i++)
        run_span(c, op, factor, y + i * at.stride, x ? x + i * from.stride : NULL, at.dim);
}

static void run_one(const compute *c, const token_op *op, int64_t token)
{
    float *y = op->y ? cpu_values(op->y, token) : NULL;
    const float *x = op->x ? cpu_values(op->x, token) : NULL;
    float *z = op->z ? cpu_values(op->z, token) : NULL;
    switch (op->kind) {
    case TOKEN_ZERO:
    case TOKEN_COPY:
    case TOKEN_SCALE:
    case TOKEN_TEMPER:
    case TOKEN_CLIP:
    case TOKEN_SIGMOID:
    case TOKEN_SOFTCAP:
    case TOKEN_GATE:
    case TOKEN_MULTIPLY:
    case TOKEN_SOFTPLUS:
        run_spans(c, op, token);
        break;
    case TOKEN_ADD_EACH:
        add_each(c, op, token);
        break;
    case TOKEN_DECAY:
        decay(op, token);
        break;
    case TOKEN_EMBED:
        embed(c, op, token, y);
        break;
    case TOKEN_ROPE_ANGLES:
        rope_angles(op, token, y, z);
        break;
    case TOKEN_RMS_NORM:
        rms_norm(c, op, token);
        break;
    case TOKEN_L2_NORM:
        l2_norm(c, op, token);
        break;
    case TOKEN_LAYER_NORM:
        layer_norm(op, token);
        break;
    case TOKEN_ADD:
        c->kernels->add_scaled(y, x, op->scales ? op->scales->values[token] : op->factor, op->y->cols);
        break;
    case TOKEN_BIAS:
        cpu_add(y, op->weight, op->y->cols);
        break;
    case TOKEN_GLU:
        cpu_glu(c, &op->glu, x, z, y, op->y->cols);
        break;
    case TOKEN_ROPE:
        rope(op, token);
        break;
    case TOKEN_KV_STORE:
        cpu_kv_store(c, &op->kv, &op->kv_tokens[token], x, z);
        break;
    }
}

static void run_list(void *ctx, int64_t token, int worker)
{
    const tokens_list *list = ctx;
    for (int i = 0; i < list->count; i++)
        run_one(list->c, &list->ops[i], token);
}

void cpu_tokens(const compute *c, const token_op *ops, int count, int64_t n)
{
    tokens_list list = {c, ops, count};
    cpu_for_tokens(c, n, run_list, &list);
    for (int i = 0; i < count; i++) {
        if (ops[i].y)
            cpu_written(ops[i].y, n);
        if (ops[i].kind == TOKEN_ROPE_ANGLES)
            cpu_written(ops[i].z, n);
    }
}
