/* embed_layer.c - a layer of 64 experts of which memory holds 8, inside a program of one's own. */
#include <stdio.h>
#include <stdlib.h>

#include "odmoe_tensors.h"
#include "odmoe_train.h"

enum { HIDDEN = 64, FFN = 128, EXPERTS = 64, TOP_K = 4, ROWS = 32, FLAT = 3 * HIDDEN * FFN };

static float router[EXPERTS * HIDDEN], experts[EXPERTS * FLAT], x[ROWS * HIDDEN], y[ROWS * HIDDEN], dx[ROWS * HIDDEN];

static void fill(float *out, int n, float scale)
{
    for (int i = 0; i < n; i++)
        out[i] = scale * ((float)rand() / (float)RAND_MAX - 0.5f);
}

static void check(odmoe_status status, const odmoe_error *err)
{
    if (status) {
        fprintf(stderr, "embed_layer: %s\n", err->message);
        exit(1);
    }
}

static odmoe_status take_gradient(void *user, const odmoe_expert *gradient, odmoe_error *err)
{
    ++*(int *)user; /* here an optimiser would use gradient->matrix[0].data: FLAT numbers */
    return ODMOE_OK;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "embed_layer.safetensors";
    odmoe_error err;
    fill(router, EXPERTS * HIDDEN, 1);
    fill(experts, EXPERTS * FLAT, 0.3f);
    fill(x, ROWS * HIDDEN, 2);

    /* experts on the disk: one flat array, w1 | w2 | w3 */
    odmoe_tensor array = {"experts", "F32", 2, {EXPERTS, FLAT}, experts};
    check(odmoe_tensors_save(path, &array, 1, &err), &err);

    /* the source that streams them, with room for eight */
    odmoe_expert_tensor tensor = {.name = "experts", .role = ODMOE_FLAT};
    odmoe_source_options so;
    odmoe_source_options_init(&so);
    so.path = path;
    so.tensors = &tensor;
    so.n_tensors = 1;
    so.experts = EXPERTS;
    so.hidden = HIDDEN;
    so.ffn = FFN;
    so.cache_bytes = 8 * (FLAT * sizeof(float) + 4096);
    odmoe_source *source;
    check(odmoe_source_open(&so, &source, &err), &err);
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_source_table(source, &ops);

    /* the layer over it */
    const float *routers[] = {router};
    odmoe_layer_options lo;
    odmoe_layer_options_init(&lo);
    lo.hidden = HIDDEN;
    lo.ffn = FFN;
    lo.experts = EXPERTS;
    lo.top_k = TOP_K;
    lo.weights = routers;
    lo.source = &ops;
    odmoe_layer *layer;
    check(odmoe_layer_create(&lo, &layer, &err), &err);

    /* forward, and backward of sum(y * y) / 2 + 0.01 * aux */
    odmoe_routing routing;
    odmoe_tape *tape;
    int updated = 0;
    odmoe_routing_init(&routing);
    check(odmoe_tape_create(0, &tape, &err), &err);
    check(odmoe_layer_forward_train(layer, 0, x, ROWS, y, &routing, tape, &err), &err);
    odmoe_backward b;
    odmoe_backward_init(&b);
    b.dy = y;
    b.dx = dx;
    b.aux_coef = 0.01f;
    b.on_expert = take_gradient;
    b.user = &updated;
    check(odmoe_layer_backward(layer, tape, &b, &err), &err);

    char *json;
    check(odmoe_layer_stats_json(layer, 0, &json, &err), &err);
    printf("y[0] %g, dx[0] %g, aux %g, gradients of %d experts\n%s\n", y[0], dx[0], routing.aux, updated, json);
    odmoe_string_free(json);
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    odmoe_source_close(source);
    return 0;
}
