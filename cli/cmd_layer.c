/* odmoe layer: a case of tests/data/layer through one layer, its experts streamed from the case's own file. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odmoe_tensors.h"
#include "odmoe_train.h"
#include "options.h"
#include "unfinished.h"

enum { KEY_CASE = KEY_COMMAND, KEY_OUT, KEY_BACKWARD, KEY_RAM, KEY_KERNELS };
enum { HEADER_BYTES_MAX = 1 << 20 };

typedef struct layer_options {
    const char *path, *out, *kernels;
    bool backward;
    uint64_t ram;
} layer_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    layer_options *o = state->input;
    switch (key) {
    case KEY_CASE:
        o->path = arg;
        return 0;
    case KEY_OUT:
        o->out = arg;
        return 0;
    case KEY_BACKWARD:
        o->backward = true;
        return 0;
    case KEY_KERNELS:
        o->kernels = arg;
        return 0;
    case KEY_RAM:
        o->ram = parse_ram(arg, "give room for experts, or leave the option out for all of them");
        return 0;
    case ARGP_KEY_END:
        if (!o->path || !o->out)
            usage_error("--case F and --out F are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp layer_argp = {
    .options = (const struct argp_option[]){{"case", KEY_CASE, "F", 0, "a safetensors file with x, router, experts", 0},
                                            {"out", KEY_OUT, "F", 0, "where the results go", 0},
                                            {"backward", KEY_BACKWARD, NULL, 0, "gradients of dy, too", 0},
                                            {"ram", KEY_RAM, "SIZE", 0, "room for experts; default: all", 0},
                                            {"kernels", KEY_KERNELS, "K", 0, "auto, ref, ...; default auto", 0},
                                            {0}},
    .parser = parse,
    .doc = "Run one layer with experts on a test case.\v"
           "Example: odmoe layer --case tests/data/layer/tiny.safetensors --out /tmp/tiny.safetensors --backward",
    .children = (const struct argp_child[]){{&help_argp, 0, NULL, 0}, {0}},
};

/* ---- the case ---- */

typedef struct layer_case {
    int fd;
    json_t *header;
    int64_t data; /* where tensors start in the file */
    int64_t n, H, F, E, k;
    int renormalise;
    double aux_coef;
    float *x, *router, *dy;
} layer_case;

static bool read_header(layer_case *c, const char *path)
{
    unsigned char prefix[8];
    uint64_t length = 0;
    c->fd = open(path, O_RDONLY | O_CLOEXEC);
    bool read_it = c->fd >= 0 && pread(c->fd, prefix, 8, 0) == 8;
    if (!read_it) {
        complain("%s: %s", path, c->fd < 0 ? strerror(errno) : "is not a safetensors file");
        return false;
    }
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    char *text = length <= HEADER_BYTES_MAX ? must_alloc(length + 1, 1) : NULL;
    if (text && pread(c->fd, text, length, 8) == (ssize_t)length)
        c->header = json_loadb(text, length, 0, NULL);
    free(text);
    c->data = 8 + (int64_t)length;
    if (!c->header)
        complain("%s: is not a safetensors file", path);
    return c->header;
}

/* A float tensor of `count` numbers; NULL: complained. */
static float *read_tensor(const layer_case *c, const char *path, const char *name, int64_t count)
{
    json_int_t first, last;
    const char *type;
    if (json_unpack(json_object_get(c->header, name), "{ss s[II]}", "dtype", &type, "data_offsets", &first, &last) ||
        strcmp(type, "F32") || last - first != count * 4) {
        complain("%s: %s is missing, or not %lld numbers of F32", path, name, (long long)count);
        return NULL;
    }
    float *out = must_alloc((size_t)count, sizeof *out);
    if (pread(c->fd, out, (size_t)(last - first), c->data + first) == last - first)
        return out;
    complain("%s: %s could not be read", path, name);
    free(out);
    return NULL;
}

/* A number of the metadata, where all values are text. */
static double meta(const layer_case *c, const char *path, const char *name, bool *bad)
{
    const char *text = json_string_value(json_object_get(json_object_get(c->header, "__metadata__"), name));
    char *end = NULL;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !isfinite(value) || fabs(value) > 1e6) {
        if (!*bad)
            complain("%s: the metadata has no usable %s", path, name);
        *bad = true;
    }
    return value;
}

static bool load_case(layer_case *c, const layer_options *o)
{
    bool bad = false;
    if (!read_header(c, o->path))
        return false;
    c->n = (int64_t)meta(c, o->path, "n", &bad);
    c->H = (int64_t)meta(c, o->path, "H", &bad);
    c->F = (int64_t)meta(c, o->path, "F", &bad);
    c->E = (int64_t)meta(c, o->path, "E", &bad);
    c->k = (int64_t)meta(c, o->path, "k", &bad);
    c->renormalise = meta(c, o->path, "norm", &bad) != 0;
    c->aux_coef = meta(c, o->path, "aux_coef", &bad);
    if (bad)
        return false;
    if (c->n < 1 || c->H < 1 || c->F < 1 || c->E < 1 || c->k < 1 || c->k > c->E) {
        complain("%s: the sizes in the metadata make no sense", o->path);
        return false;
    }
    c->x = read_tensor(c, o->path, "x", c->n * c->H);
    c->router = c->x ? read_tensor(c, o->path, "router", c->E * c->H) : NULL;
    c->dy = c->router && o->backward ? read_tensor(c, o->path, "dy", c->n * c->H) : NULL;
    return c->router && (c->dy || !o->backward);
}

static void free_case(layer_case *c)
{
    if (c->fd >= 0)
        close(c->fd);
    json_decref(c->header);
    free(c->x);
    free(c->router);
    free(c->dy);
}

/* ---- the run ---- */

typedef struct results {
    float *y, *topw, *dx, *drouter, *dexperts, aux, imbalance;
    int32_t *topk;
    int64_t *counts;
    int64_t flat; /* numbers of one expert */
} results;

static odmoe_status take_gradient(void *user, const odmoe_expert *g, odmoe_error *err)
{
    results *r = user;
    memcpy(r->dexperts + g->expert * r->flat, g->matrix[0].data, (size_t)r->flat * sizeof(float));
    return ODMOE_OK;
}

static odmoe_status open_source(const layer_case *c, const layer_options *o, odmoe_source **source, odmoe_error *err)
{
    static const odmoe_expert_tensor flat = {.name = "experts", .role = ODMOE_FLAT};
    odmoe_source_options so;
    odmoe_source_options_init(&so);
    so.path = o->path;
    so.tensors = &flat;
    so.n_tensors = 1;
    so.experts = (int32_t)c->E;
    so.hidden = (int32_t)c->H;
    so.ffn = (int32_t)c->F;
    so.cache_bytes = o->ram;
    return odmoe_source_open(&so, source, err);
}

static odmoe_status open_layer(const layer_case *c, const layer_options *o, odmoe_source *source, odmoe_layer **layer,
                               odmoe_error *err)
{
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_source_table(source, &ops);
    odmoe_layer_options lo;
    odmoe_layer_options_init(&lo);
    const float *router = c->router;
    lo.hidden = (int32_t)c->H;
    lo.ffn = (int32_t)c->F;
    lo.experts = (int32_t)c->E;
    lo.top_k = (int32_t)c->k;
    lo.router.renormalise = c->renormalise;
    lo.weights = &router;
    lo.source = &ops;
    lo.kernels = o->kernels;
    return odmoe_layer_create(&lo, layer, err);
}

static odmoe_status run_layer(const layer_case *c, const layer_options *o, odmoe_layer *layer, results *r,
                              odmoe_error *err)
{
    odmoe_routing routing;
    odmoe_tape *tape = NULL;
    odmoe_layer_stats stats = {.size = sizeof stats};
    uint64_t *counts = must_alloc((size_t)c->E, sizeof *counts);
    odmoe_routing_init(&routing);
    routing.topk = r->topk;
    routing.topw = r->topw;
    odmoe_status status = o->backward ? odmoe_tape_create(0, &tape, err) : ODMOE_OK;
    if (!status && o->backward)
        status = odmoe_layer_forward_train(layer, 0, c->x, c->n, r->y, &routing, tape, err);
    else if (!status)
        status = odmoe_layer_forward(layer, 0, c->x, c->n, r->y, &routing, err);
    if (!status)
        status = odmoe_layer_stats_get(layer, 0, &stats, counts, err);
    if (!status && o->backward) {
        odmoe_backward b;
        odmoe_backward_init(&b);
        b.dy = c->dy;
        b.dx = r->dx;
        b.drouter = r->drouter;
        b.aux_coef = (float)c->aux_coef;
        b.on_expert = take_gradient;
        b.user = r;
        status = odmoe_layer_backward(layer, tape, &b, err);
    }
    r->aux = (float)routing.aux;
    r->imbalance = (float)stats.imbalance;
    for (int64_t e = 0; e < c->E; e++)
        r->counts[e] = (int64_t)counts[e];
    odmoe_tape_free(tape);
    free(counts);
    return status;
}

static int64_t numbers_of(const odmoe_tensor *t)
{
    int64_t n = 1;
    for (int32_t d = 0; d < t->dims; d++)
        n *= t->shape[d];
    return n;
}

static odmoe_status save(const layer_case *c, const layer_options *o, const results *r, odmoe_error *err)
{
    const odmoe_tensor tensors[] = {
        {"y", "F32", 2, {c->n, c->H}, r->y},
        {"topk", "I32", 2, {c->n, c->k}, r->topk},
        {"topw", "F32", 2, {c->n, c->k}, r->topw},
        {"aux", "F32", 1, {1}, &r->aux},
        {"counts", "I64", 1, {c->E}, r->counts},
        {"imbalance", "F32", 1, {1}, &r->imbalance},
        {"dx", "F32", 2, {c->n, c->H}, r->dx},
        {"drouter", "F32", 2, {c->E, c->H}, r->drouter},
        {"dexperts", "F32", 2, {c->E, r->flat}, r->dexperts},
    };
    const int32_t count = o->backward ? 9 : 6;
    odmoe_tensor_writer *writer;
    odmoe_status status = odmoe_tensors_begin(o->out, tensors, count, &writer, err);
    if (status)
        return status;
    unfinished_begin(odmoe_tensors_partial(writer));
    for (int32_t i = 0; i < count && !status; i++)
        status = odmoe_tensors_write(writer, i, 0, numbers_of(&tensors[i]), tensors[i].data, NULL);
    status = odmoe_tensors_finish(writer, err);
    unfinished_end();
    return status;
}

static int run_case(const layer_case *c, const layer_options *o)
{
    odmoe_error err;
    odmoe_source *source = NULL;
    odmoe_layer *layer = NULL;
    size_t rows = (size_t)c->n, H = (size_t)c->H, E = (size_t)c->E, k = (size_t)c->k;
    results r = {.flat = 3 * c->H * c->F};
    odmoe_status status = open_source(c, o, &source, &err);
    if (!status)
        status = open_layer(c, o, source, &layer, &err);
    if (!status) {
        r.y = must_alloc(rows * H, sizeof *r.y);
        r.topw = must_alloc(rows * k, sizeof *r.topw);
        r.topk = must_alloc(rows * k, sizeof *r.topk);
        r.counts = must_alloc(E, sizeof *r.counts);
        r.dx = o->backward ? must_alloc(rows * H, sizeof *r.dx) : NULL;
        r.drouter = o->backward ? must_alloc(E * H, sizeof *r.drouter) : NULL;
        r.dexperts = o->backward ? must_alloc(E * (size_t)r.flat, sizeof *r.dexperts) : NULL;
        status = run_layer(c, o, layer, &r, &err);
    }
    if (!status)
        status = save(c, o, &r, &err);
    odmoe_layer_free(layer);
    odmoe_source_close(source);
    free(r.y);
    free(r.topw);
    free(r.topk);
    free(r.counts);
    free(r.dx);
    free(r.drouter);
    free(r.dexperts);
    return status ? fail(&err) : STATUS_DONE;
}

int command_layer(int argc, char **argv)
{
    layer_options o = {0};
    parse_options(&layer_argp, argc, argv, &o);
    layer_case c = {.fd = -1};
    int status = load_case(&c, &o) ? run_case(&c, &o) : STATUS_FAILED;
    free_case(&c);
    return status;
}
