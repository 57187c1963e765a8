/* layer_case.h - a case of tests/data/layer opened as a layer: its experts streamed from the file. */
#ifndef ODMOE_TESTS_LAYER_CASE_H
#define ODMOE_TESTS_LAYER_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "odmoe_tensors.h"
#include "odmoe_train.h"
#include "support/golden.h"

typedef struct layer_case_info {
    const char *name;
    int renormalise;
    float aux_coef;
} layer_case_info;

/* norm and aux_coef stand in the files' metadata; here for the tests. */
static const layer_case_info layer_cases[] = {
    {"tiny", 1, 0.01f},         {"sixteen_experts", 1, 0.01f}, {"one_token", 1, 0.01f},
    {"top1", 0, 0.02f},         {"all_experts", 1, 0.0f},      {"collapsed", 1, 0.1f},
    {"unnormalised", 0, 0.01f}, {"odd_sizes", 1, 0.01f},       {"large_values", 1, 0.01f},
};
enum { LAYER_CASES = sizeof layer_cases / sizeof *layer_cases };

typedef struct layer_case {
    const layer_case_info *info;
    golden *g;
    char path[1024];
    int32_t n, H, F, E, k;
    const float *x, *dy, *router;
    odmoe_source *source;
    odmoe_layer *layer;
    odmoe_error err;
} layer_case;

/* The numbers alone; the layer is opened by layer_case_open. */
static inline void layer_case_load(layer_case *c, const layer_case_info *info)
{
    size_t n;
    *c = (layer_case){.info = info};
    snprintf(c->path, sizeof c->path, "%s", test_path("layer/%s.safetensors", info->name));
    c->g = golden_open(c->path);
    golden_i64(c->g, &n, "counts");
    c->E = (int32_t)n;
    c->router = golden_f32(c->g, &n, "router");
    c->H = (int32_t)n / c->E;
    c->x = golden_f32(c->g, &n, "x");
    c->n = (int32_t)n / c->H;
    c->dy = golden_f32(c->g, NULL, "dy");
    golden_i32(c->g, &n, "topk");
    c->k = (int32_t)n / c->n;
    golden_f32(c->g, &n, "experts");
    c->F = (int32_t)(n / (size_t)c->E / (size_t)c->H / 3);
}

/* room: experts that fit in the cache, 0: all. kernels, activation_bytes as in odmoe_layer_options. */
static inline void layer_case_open(layer_case *c, int room, const char *kernels, uint64_t activation_bytes)
{
    static const odmoe_expert_tensor flat = {.name = "experts", .role = ODMOE_FLAT};
    odmoe_source_options so;
    odmoe_source_options_init(&so);
    so.path = c->path;
    so.tensors = &flat;
    so.n_tensors = 1;
    so.experts = c->E;
    so.hidden = c->H;
    so.ffn = c->F;
    if (odmoe_source_open(&so, &c->source, &c->err))
        fail_msg("%s", c->err.message);
    if (room) {
        so.cache_bytes = odmoe_source_floor(c->source) * (uint64_t)room;
        odmoe_source_close(c->source);
        if (odmoe_source_open(&so, &c->source, &c->err))
            fail_msg("%s", c->err.message);
    }
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_source_table(c->source, &ops);
    odmoe_layer_options o;
    odmoe_layer_options_init(&o);
    o.hidden = c->H;
    o.ffn = c->F;
    o.experts = c->E;
    o.top_k = c->k;
    o.router.renormalise = c->info->renormalise;
    o.weights = &c->router;
    o.source = &ops;
    o.kernels = kernels;
    o.threads = 2;
    o.activation_bytes = activation_bytes;
    if (odmoe_layer_create(&o, &c->layer, &c->err))
        fail_msg("%s", c->err.message);
}

static inline void layer_case_shut(layer_case *c)
{
    odmoe_layer_free(c->layer);
    odmoe_source_close(c->source);
    c->layer = NULL;
    c->source = NULL;
}

static inline void layer_case_close(layer_case *c)
{
    layer_case_shut(c);
    golden_close(c->g);
}

/* Largest difference, relative to the largest expected value. */
static inline double relative_error(const float *got, const float *expected, size_t n)
{
    double worst = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - expected[i], a = expected[i];
        worst = d > worst ? d : -d > worst ? -d : worst;
        scale = a > scale ? a : -a > scale ? -a : scale;
        if (!(got[i] == got[i]))
            return 1e30;
    }
    return scale > 0 ? worst / scale : worst;
}

#endif
