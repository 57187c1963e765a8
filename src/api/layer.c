#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "api/layer_handles.h"
#include "base/cpu.h"
#include "base/mem.h"

#define LAYERS_MAX 4096
#define THREADS_MAX 256
#define SIDE_MAX (1 << 24)
#define ACTIVATION_BYTES (256u << 20)

void odmoe_layer_options_init(odmoe_layer_options *options)
{
    *options = (odmoe_layer_options){
        .size = sizeof *options, .layers = 1, .router = {.size = sizeof options->router, .renormalise = 1, .scale = 1}};
}

static odmoe_status check_range(const char *what, int64_t value, int64_t low, int64_t high, odmoe_error *err)
{
    if (value < low || value > high)
        return err_set(err, ODMOE_ERR_RANGE, "%s: %lld is out of range (%lld to %lld)", what, (long long)value,
                       (long long)low, (long long)high);
    return ODMOE_OK;
}

static odmoe_status check_options(const odmoe_layer_options *o, odmoe_error *err)
{
    odmoe_status status = check_range("layers", o->layers, 1, LAYERS_MAX, err);
    if (!status)
        status = check_range("hidden", o->hidden, 1, SIDE_MAX, err);
    if (!status)
        status = check_range("ffn", o->ffn, 1, SIDE_MAX, err);
    if (!status)
        status = check_range("threads", o->threads, 0, THREADS_MAX, err);
    if (!status)
        status = check_range("prefetch", o->prefetch, 0, ROUTER_EXPERTS_MAX, err);
    if (!status && o->router.size != sizeof o->router)
        status = err_set(err, ODMOE_ERR_ARG, "router.size is %zu, expected %zu: set it with odmoe_layer_options_init",
                         o->router.size, sizeof o->router);
    if (!status)
        status = check_range("activation.kind", o->activation.kind, 0, ODMOE_ACTIVATION_COUNT - 1, err);
    if (!status && o->activation.kind == ODMOE_SWIGLU_CLAMPED &&
        (!(o->activation.limit > 0) || !isfinite(o->activation.alpha) || !isfinite(o->activation.offset)))
        status = err_set(err, ODMOE_ERR_RANGE, "activation: limit %g must be above 0, alpha %g and offset %g finite",
                         (double)o->activation.limit, (double)o->activation.alpha, (double)o->activation.offset);
    if (!status && (!o->source || !o->weights))
        status = err_set(err, ODMOE_ERR_ARG, "a layer needs router weights and an expert source");
    for (int l = 0; !status && l < o->layers; l++)
        if (!o->weights[l])
            status = err_set(err, ODMOE_ERR_ARG, "layer %d has no router weights", l);
    return status;
}

/* The caller's predictor, which may be of an older, shorter version of the struct. */
static odmoe_status take_predictor(const odmoe_predictor *from, odmoe_predictor *out, odmoe_error *err)
{
    odmoe_status status = copy_in(out, from, sizeof *out, "sizeof(odmoe_predictor)", err);
    if (!status && !out->predict)
        status = err_set(err, ODMOE_ERR_ARG, "a predictor needs predict");
    return status;
}

#define ARRAYS 7 /* lists of the options that have an entry a layer */

/* The caller's lists of pointers, copied: the arrays behind them stay the caller's. */
static void take_arrays(odmoe_layer *layer, const odmoe_layer_options *o, layer_settings *s)
{
    const float *const *from[ARRAYS] = {o->weights,   o->linear_bias, o->selection_bias, o->expert_scale,
                                        o->gate_bias, o->up_bias,     o->down_bias};
    const float *const **to[ARRAYS] = {
        &s->weights,           &s->vectors.linear_bias, &s->vectors.selection_bias, &s->vectors.expert_scale,
        &s->vectors.gate_bias, &s->vectors.up_bias,     &s->vectors.down_bias};
    for (int i = 0; i < ARRAYS; i++) {
        const float **copy = layer->arrays + (size_t)i * (size_t)o->layers;
        if (from[i])
            memcpy(copy, from[i], (size_t)o->layers * sizeof *copy);
        *to[i] = from[i] ? copy : NULL;
    }
}

/* An odmoe_source is used directly; another table of functions goes through checks. Fills in the shape's types. */
static odmoe_status open_source(odmoe_layer *layer, const odmoe_layer_options *o, layer_settings *s,
                                experts_shape *shape, odmoe_error *err)
{
    odmoe_source_ops *ops = &layer->source_ops;
    odmoe_status status = copy_in(ops, o->source, sizeof *ops, "sizeof(odmoe_source_ops)", err);
    if (status)
        return status;
    file_source *file = file_source_behind(ops);
    if (file)
        return file_source_use(file, o->layers, &s->compute, shape, &s->source, err);
    status = table_source_init(&layer->table, ops, &s->compute, shape, err);
    s->source = table_source_of(&layer->table);
    return status;
}

static odmoe_status open_layer(odmoe_layer *layer, const odmoe_layer_options *o, odmoe_error *err)
{
    odmoe_predictor predictor = {0};
    layer_settings s = {.layers = o->layers,
                        .router = {.experts = o->experts,
                                   .top_k = o->top_k,
                                   .score = (odmoe_score)o->router.score,
                                   .groups = o->router.groups,
                                   .groups_used = o->router.groups_used,
                                   .group_score = (odmoe_group_score)o->router.group_score,
                                   .renormalise = o->router.renormalise,
                                   .sum_add = o->router.sum_add,
                                   .sum_floor = o->router.sum_floor,
                                   .scale = o->router.scale,
                                   .weight_on_input = o->router.weight_on_input,
                                   .band = o->router.band},
                        .hidden = o->hidden,
                        .ffn = o->ffn,
                        .glu = o->activation,
                        .activation_bytes = o->activation_bytes ? o->activation_bytes : ACTIVATION_BYTES,
                        .predictor = o->predictor ? &predictor : NULL,
                        .prefetch = o->prefetch ? o->prefetch : 2 * o->top_k};
    take_arrays(layer, o, &s);
    experts_shape shape = {
        .hidden = o->hidden, .ffn = o->ffn, .experts = o->experts, .top_k = o->top_k, .glu = o->activation};
    const struct kernel_table *kernels;
    odmoe_status status = o->predictor ? take_predictor(o->predictor, &predictor, err) : ODMOE_OK;
    if (!status)
        status = options_kernels(o->kernels, &kernels, err);
    if (status)
        return status;
    s.compute = compute_cpu(kernels, o->threads ? o->threads : cpu_default_threads("", NULL, 0));
    status = open_source(layer, o, &s, &shape, err);
    if (!status) /* kept in the handle, so that a call allocates nothing */
        status = balance_init(&layer->balance, o->experts, err);
    if (status)
        return status;
    s.in_types = shape.in_types;
    s.mid_types = shape.mid_types;
    return layer_open(&s, &layer->m, err);
}

odmoe_status odmoe_layer_create(const odmoe_layer_options *options, odmoe_layer **out, odmoe_error *err)
{
    odmoe_layer_options o;
    odmoe_layer_options_init(&o);
    odmoe_status status = copy_in(&o, options, sizeof o, "odmoe_layer_options_init", err);
    if (!status)
        status = check_options(&o, err);
    if (status)
        return status;
    odmoe_layer *layer = mem_calloc(1, sizeof *layer, "a layer", err);
    if (!layer)
        return ODMOE_ERR_MEMORY;
    if (pthread_mutex_init(&layer->lock, NULL)) {
        free(layer);
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a lock");
    }
    layer->since = mem_calloc((size_t)o.layers, sizeof *layer->since, "a layer's counters", err);
    layer->arrays = mem_calloc((size_t)o.layers * ARRAYS, sizeof *layer->arrays, "a layer's routers", err);
    status = layer->since && layer->arrays ? open_layer(layer, &o, err) : ODMOE_ERR_MEMORY;
    if (status)
        odmoe_layer_free(layer);
    else
        *out = layer;
    return status;
}

void odmoe_layer_free(odmoe_layer *layer)
{
    if (!layer)
        return;
    layer_close(&layer->m);
    balance_clear(&layer->balance);
    free(layer->stack);
    free(layer->arrays);
    free(layer->since);
    pthread_mutex_destroy(&layer->lock);
    free(layer);
}

int64_t odmoe_layer_chunk(const odmoe_layer *layer)
{
    return layer->m.chunk;
}

/* ---- forward ---- */

void odmoe_routing_init(odmoe_routing *routing)
{
    *routing = (odmoe_routing){.size = sizeof *routing};
}

static odmoe_status check_call(const odmoe_layer *layer, int32_t index, int64_t n, odmoe_error *err)
{
    odmoe_status status = check_range("layer", index, 0, layer->m.layers - 1, err);
    return status ? status : check_range("tokens", n, 1, INT64_MAX / layer->m.shape.hidden / 8, err);
}

/* y is cleared before x has been read to the end: sharing so much as one number gives nonsense. */
static odmoe_status check_apart(const odmoe_layer *layer, const float *x, const float *y, int64_t n, odmoe_error *err)
{
    uintptr_t a = (uintptr_t)x, b = (uintptr_t)y, bytes = (uintptr_t)(n * layer->m.shape.hidden) * sizeof *x;
    if (a < b ? b - a < bytes : a - b < bytes)
        return err_set(err, ODMOE_ERR_ARG, "y overlaps x: the layer needs arrays of their own for input and output");
    return ODMOE_OK;
}

odmoe_status layer_run(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y, odmoe_routing *routing,
                       layer_tape *tape, odmoe_error *err)
{
    moe_layer *m = &layer->m;
    odmoe_routing r;
    double z = 0;
    layer_outputs out = {0};
    odmoe_routing_init(&r);
    odmoe_status status = check_call(layer, index, n, err);
    if (!status && routing)
        status = copy_in(&r, routing, sizeof r, "odmoe_routing_init", err);
    if (!status && r.balance && r.balance->b.experts != m->router.experts)
        status = err_set(err, ODMOE_ERR_RANGE, "a balance of %d experts for a layer of %d", r.balance->b.experts,
                         m->router.experts);
    if (!status && tape)
        status = tape_start(tape, m, index, x, n, &out, err);
    if (!status)
        status = check_apart(layer, x, y, n, err);
    if (status)
        return status;
    if (routing) {
        balance_reset(&layer->balance);
        out.balance = &layer->balance;
        out.z = &z;
        out.probs = r.probs;
    }
    if (routing && !tape) {
        out.logits = r.logits;
        out.topk = r.topk;
        out.topw = r.topw;
    }
    status = layer_forward(m, index, x, n, y, &out, err);
    if (!status && tape)
        tape_copy(tape, r.logits, r.topk, r.topw);
    if (status || !routing)
        return status;
    r.aux = balance_loss(&layer->balance, false);
    r.z = z / (double)n;
    if (r.balance)
        balance_merge(&r.balance->b, &layer->balance);
    copy_out(routing, &r, sizeof r);
    return ODMOE_OK;
}

odmoe_status odmoe_layer_forward(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y,
                                 odmoe_routing *routing, odmoe_error *err)
{
    pthread_mutex_lock(&layer->lock);
    odmoe_status status = layer_run(layer, index, x, n, y, routing, NULL, err);
    pthread_mutex_unlock(&layer->lock);
    return status;
}

odmoe_status odmoe_layer_forward_stack(odmoe_layer *layer, const float *x, int64_t n, float *y,
                                       odmoe_routing *const *routing, odmoe_error *err)
{
    odmoe_status status = check_call(layer, 0, n, err);
    if (!status)
        status = check_apart(layer, x, y, n, err);
    if (status)
        return status;
    pthread_mutex_lock(&layer->lock);
    size_t numbers = (size_t)(n * layer->m.shape.hidden);
    status = mem_grow((void **)&layer->stack, &layer->stack_room, numbers, sizeof *y, "the rows of a stack", err);
    if (!status)
        memcpy(y, x, numbers * sizeof *y);
    for (int32_t l = 0; l < layer->m.layers && !status; l++) {
        status = layer_run(layer, l, y, n, layer->stack, routing ? routing[l] : NULL, NULL, err);
        if (!status)
            layer_add(&layer->m, y, layer->stack, n);
    }
    pthread_mutex_unlock(&layer->lock);
    return status;
}

/* ---- balance ---- */

odmoe_status odmoe_balance_create(int32_t experts, odmoe_balance **out, odmoe_error *err)
{
    odmoe_balance *b = mem_calloc(1, sizeof *b, "a balance", err);
    if (!b)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = balance_init(&b->b, experts, err);
    if (status)
        free(b);
    else
        *out = b;
    return status;
}

void odmoe_balance_free(odmoe_balance *b)
{
    if (!b)
        return;
    balance_clear(&b->b);
    free(b);
}

void odmoe_balance_reset(odmoe_balance *b)
{
    balance_reset(&b->b);
}

double odmoe_balance_loss(const odmoe_balance *b, int mean_normalised)
{
    return balance_loss(&b->b, mean_normalised);
}

void odmoe_balance_update_bias(const odmoe_balance *b, float rate, float *bias)
{
    balance_update_bias(&b->b, rate, bias);
}

/* ---- telemetry ---- */

static odmoe_source_counters source_now(const odmoe_layer *layer, int32_t index)
{
    const odmoe_source_ops *ops = &layer->source_ops;
    odmoe_source_counters c = {0};
    if (ops->counters)
        ops->counters(ops->ctx, index, &c);
    return c;
}

/* The lock is held. */
static void fill_stats(odmoe_layer *layer, int32_t index, odmoe_layer_stats *out)
{
    const telemetry *t = &layer->m.telemetry[index];
    telemetry_figures f = telemetry_figures_of(t->counts, t->experts);
    odmoe_source_counters c = source_now(layer, index), since = layer->since[index];
    *out = (odmoe_layer_stats){.size = sizeof *out,
                               .rows = t->rows,
                               .calls = t->calls,
                               .selections = f.selections,
                               .imbalance = f.imbalance,
                               .max_violation = f.max_violation,
                               .entropy = f.entropy,
                               .hits = c.hits - since.hits,
                               .misses = c.misses - since.misses,
                               .bytes = c.bytes - since.bytes,
                               .stall_seconds = c.stall_seconds - since.stall_seconds};
    if (layer->m.predictor)
        predictor_thread_counts(layer->m.predictor, index, &out->predictions, &out->prediction_failures);
}

odmoe_status odmoe_layer_stats_get(odmoe_layer *layer, int32_t index, odmoe_layer_stats *stats, uint64_t *counts,
                                   odmoe_error *err)
{
    odmoe_layer_stats all;
    odmoe_status status = check_call(layer, index, 1, err);
    if (status)
        return status;
    pthread_mutex_lock(&layer->lock);
    fill_stats(layer, index, &all);
    copy_out(stats, &all, sizeof all);
    if (counts)
        memcpy(counts, layer->m.telemetry[index].counts, (size_t)layer->m.router.experts * sizeof *counts);
    pthread_mutex_unlock(&layer->lock);
    return ODMOE_OK;
}

odmoe_status odmoe_layer_stats_json(odmoe_layer *layer, int32_t index, char **json, odmoe_error *err)
{
    odmoe_layer_stats all;
    odmoe_status status = check_call(layer, index, 1, err);
    if (status)
        return status;
    pthread_mutex_lock(&layer->lock);
    fill_stats(layer, index, &all);
    char *text = telemetry_json(index, &all, layer->m.telemetry[index].counts, layer->m.router.experts, err);
    pthread_mutex_unlock(&layer->lock);
    if (!text)
        return ODMOE_ERR_MEMORY;
    *json = text;
    return ODMOE_OK;
}

void odmoe_string_free(char *text)
{
    free(text);
}

void odmoe_layer_stats_reset(odmoe_layer *layer)
{
    pthread_mutex_lock(&layer->lock);
    for (int32_t l = 0; l < layer->m.layers; l++) {
        telemetry_reset(&layer->m.telemetry[l]);
        layer->since[l] = source_now(layer, l);
    }
    if (layer->m.predictor)
        predictor_thread_reset(layer->m.predictor);
    pthread_mutex_unlock(&layer->lock);
}
