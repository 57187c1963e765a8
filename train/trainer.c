#include "trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, SIDE_MAX = 1 << 24, PARTS = 7 };

struct trainer {
    trainer_options o;
    size_t router_n, flat, experts_n; /* numbers: of the router, of one expert, of all */
    int64_t step;
    char path[PATH_BYTES]; /* the working copy */
    bool written;          /* the working copy is there */
    int fd;
    off_t data; /* where its experts start */
    float *router, *router_gradient, *router_m, *router_v;
    /* mapped: [experts][flat] each */
    float *mapped, *gradient, *m, *v;
    size_t mapped_bytes;
    uint8_t *touched; /* [experts] has a gradient in this step */
    double squares;   /* of the gradients so far */
    float *expert;    /* [flat] the one being updated */
    float *y, *dy;    /* [rows, hidden] */
    size_t rows;
    odmoe_source *source;
    odmoe_layer *layer;
    odmoe_tape *tape;
};

static odmoe_status failed(odmoe_error *err, odmoe_status code, const char *what, const char *path)
{
    if (err) {
        err->code = code;
        if (code == ODMOE_ERR_MEMORY)
            snprintf(err->message, sizeof err->message, "no memory for %s", what);
        else
            snprintf(err->message, sizeof err->message, "%.300s: %s: %s", path, what, strerror(errno));
    }
    return code;
}

void trainer_options_init(trainer_options *options)
{
    *options = (trainer_options){.optimiser = adamw_defaults(), .clip = 1};
}

/* ---- creating ---- */

static odmoe_status allocate(trainer *t, odmoe_error *err)
{
    t->router = malloc(t->router_n * sizeof(float));
    t->router_gradient = malloc(t->router_n * sizeof(float));
    t->router_m = calloc(t->router_n, sizeof(float));
    t->router_v = calloc(t->router_n, sizeof(float));
    t->touched = calloc((size_t)t->o.experts, 1);
    t->expert = malloc(t->flat * sizeof(float));
    if (!t->router || !t->router_gradient || !t->router_m || !t->router_v || !t->touched || !t->expert)
        return failed(err, ODMOE_ERR_MEMORY, "the trainer", NULL);
    return ODMOE_OK;
}

/* The working copy, and where its only tensor begins: after 8 bytes of length and the header. */
static odmoe_status write_copy(trainer *t, const float *experts, odmoe_error *err)
{
    const odmoe_tensor tensor = {"experts", "F32", 2, {t->o.experts, (int64_t)t->flat}, experts};
    odmoe_status status = odmoe_tensors_save(t->path, &tensor, 1, err);
    if (status)
        return status;
    t->written = true;
    unsigned char prefix[8];
    t->fd = open(t->path, O_RDWR | O_CLOEXEC);
    if (t->fd < 0 || pread(t->fd, prefix, 8, 0) != 8)
        return failed(err, ODMOE_ERR_IO, "the working copy cannot be read", t->path);
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--)
        header = header << 8 | prefix[i];
    t->data = (off_t)(8 + header);
    return ODMOE_OK;
}

static odmoe_status map_moments(trainer *t, odmoe_error *err)
{
    char path[PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s.moments.XXXXXX", t->path);
    t->mapped_bytes = 3 * t->experts_n * sizeof(float);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    void *mapped = MAP_FAILED;
    if (fd >= 0 && !ftruncate(fd, (off_t)t->mapped_bytes))
        mapped = mmap(NULL, t->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (mapped == MAP_FAILED)
        return failed(err, ODMOE_ERR_IO, "no room for gradients and moments", path);
    t->mapped = mapped;
    t->gradient = t->mapped;
    t->m = t->mapped + t->experts_n;
    t->v = t->m + t->experts_n;
    return ODMOE_OK;
}

static odmoe_status open_layer(trainer *t, odmoe_error *err)
{
    static const odmoe_expert_tensor flat = {.name = "experts", .role = ODMOE_FLAT};
    odmoe_source_options so;
    odmoe_source_options_init(&so);
    so.path = t->path;
    so.tensors = &flat;
    so.n_tensors = 1;
    so.experts = t->o.experts;
    so.hidden = t->o.hidden;
    so.ffn = t->o.ffn;
    so.cache_bytes = t->o.cache_bytes;
    odmoe_status status = odmoe_source_open(&so, &t->source, err);
    if (status)
        return status;
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_source_table(t->source, &ops);
    odmoe_layer_options lo;
    odmoe_layer_options_init(&lo);
    const float *router = t->router;
    lo.hidden = t->o.hidden;
    lo.ffn = t->o.ffn;
    lo.experts = t->o.experts;
    lo.top_k = t->o.top_k;
    lo.weights = &router;
    lo.source = &ops;
    lo.threads = t->o.threads;
    status = odmoe_layer_create(&lo, &t->layer, err);
    return status ? status : odmoe_tape_create(t->o.keep_activations, &t->tape, err);
}

static odmoe_status check_options(const trainer_options *o, odmoe_error *err)
{
    if (o->folder && o->hidden > 0 && o->ffn > 0 && o->experts > 0 && o->hidden <= SIDE_MAX && o->ffn <= SIDE_MAX)
        return ODMOE_OK;
    if (err) {
        err->code = ODMOE_ERR_RANGE;
        snprintf(err->message, sizeof err->message, "a trainer of hidden %d, ffn %d, %d experts in folder %.200s",
                 o->hidden, o->ffn, o->experts, o->folder ? o->folder : "(none)");
    }
    return ODMOE_ERR_RANGE;
}

/* All but the weights: memory, gradients and moments, zeroed. */
static odmoe_status make(const trainer_options *options, trainer **out, odmoe_error *err)
{
    odmoe_status status = check_options(options, err);
    if (status)
        return status;
    trainer *t = calloc(1, sizeof *t);
    if (!t)
        return failed(err, ODMOE_ERR_MEMORY, "the trainer", NULL);
    t->o = *options;
    t->fd = -1;
    t->router_n = (size_t)options->experts * (size_t)options->hidden;
    t->flat = 3 * (size_t)options->hidden * (size_t)options->ffn;
    t->experts_n = (size_t)options->experts * t->flat;
    snprintf(t->path, sizeof t->path, "%s/working-%ld-%p.safetensors", options->folder, (long)getpid(), (void *)t);
    status = allocate(t, err);
    if (!status)
        status = map_moments(t, err);
    if (status)
        trainer_free(t);
    else
        *out = t;
    return status;
}

/* The last part: the working copy and the layer over it. */
static odmoe_status finish(trainer *t, const float *experts, odmoe_status status, trainer **out, odmoe_error *err)
{
    if (!status)
        status = write_copy(t, experts, err);
    if (!status)
        status = open_layer(t, err);
    if (status)
        trainer_free(t);
    else
        *out = t;
    return status;
}

odmoe_status trainer_create(const trainer_options *options, const float *router, const float *experts, trainer **out,
                            odmoe_error *err)
{
    trainer *t;
    odmoe_status status = make(options, &t, err);
    if (status)
        return status;
    memcpy(t->router, router, t->router_n * sizeof(float));
    return finish(t, experts, ODMOE_OK, out, err);
}

void trainer_free(trainer *t)
{
    if (!t)
        return;
    odmoe_tape_free(t->tape);
    odmoe_layer_free(t->layer);
    odmoe_source_close(t->source);
    if (t->mapped)
        munmap(t->mapped, t->mapped_bytes);
    if (t->fd >= 0)
        close(t->fd);
    if (t->written)
        unlink(t->path);
    free(t->router);
    free(t->router_gradient);
    free(t->router_m);
    free(t->router_v);
    free(t->touched);
    free(t->expert);
    free(t->y);
    free(t->dy);
    free(t);
}

/* ---- a step ---- */

static odmoe_status room_for(trainer *t, size_t rows, odmoe_error *err)
{
    if (rows <= t->rows)
        return ODMOE_OK;
    size_t numbers = rows * (size_t)t->o.hidden;
    float *y = realloc(t->y, numbers * sizeof *y);
    t->y = y ? y : t->y;
    float *dy = y ? realloc(t->dy, numbers * sizeof *dy) : NULL;
    t->dy = dy ? dy : t->dy;
    if (!dy)
        return failed(err, ODMOE_ERR_MEMORY, "a batch", NULL);
    t->rows = rows;
    return ODMOE_OK;
}

static double squares_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* The gradients of an expert come as one flat array in the order of the file. */
static odmoe_status take_gradient(void *user, const odmoe_expert *g, odmoe_error *err)
{
    trainer *t = user;
    const float *from = g->matrix[0].data;
    memcpy(t->gradient + (size_t)g->expert * t->flat, from, t->flat * sizeof *from);
    t->touched[g->expert] = 1;
    t->squares += squares_of(from, t->flat);
    return ODMOE_OK;
}

static odmoe_status run_backward(trainer *t, odmoe_error *err)
{
    odmoe_backward b;
    odmoe_backward_init(&b);
    b.dy = t->dy;
    b.drouter = t->router_gradient;
    b.aux_coef = t->o.aux_coef;
    b.z_coef = t->o.z_coef;
    b.on_expert = take_gradient;
    b.user = t;
    memset(t->touched, 0, (size_t)t->o.experts);
    t->squares = 0;
    odmoe_status status = odmoe_layer_backward(t->layer, t->tape, &b, err);
    if (!status)
        t->squares += squares_of(t->router_gradient, t->router_n);
    return status;
}

/* Experts without tokens in this batch have no gradient and stay as they are, their moments too. */
static odmoe_status update_expert(trainer *t, int32_t e, float scale, odmoe_error *err)
{
    size_t first = (size_t)e * t->flat, bytes = t->flat * sizeof(float);
    off_t at = t->data + (off_t)(first * sizeof(float));
    if (pread(t->fd, t->expert, bytes, at) != (ssize_t)bytes)
        return failed(err, ODMOE_ERR_IO, "an expert cannot be read", t->path);
    adamw_update(&t->o.optimiser, t->step, t->expert, t->gradient + first, scale, t->m + first, t->v + first, t->flat);
    if (pwrite(t->fd, t->expert, bytes, at) != (ssize_t)bytes)
        return failed(err, ODMOE_ERR_IO, "an expert cannot be written", t->path);
    odmoe_source_invalidate(t->source, 0, e);
    return ODMOE_OK;
}

static odmoe_status update(trainer *t, odmoe_error *err)
{
    float scale = adamw_clip(t->squares, t->o.clip);
    odmoe_status status = ODMOE_OK;
    t->step++;
    adamw_update(&t->o.optimiser, t->step, t->router, t->router_gradient, scale, t->router_m, t->router_v, t->router_n);
    for (int32_t e = 0; e < t->o.experts && !status; e++)
        if (t->touched[e])
            status = update_expert(t, e, scale, err);
    return status;
}

odmoe_status trainer_step(trainer *t, const float *x, int64_t n, trainer_loss *loss, void *user, trainer_report *report,
                          odmoe_error *err)
{
    odmoe_routing routing;
    odmoe_layer_stats stats = {.size = sizeof stats};
    odmoe_routing_init(&routing);
    odmoe_layer_stats_reset(t->layer);
    odmoe_status status = room_for(t, (size_t)n, err);
    if (!status)
        status = odmoe_layer_forward_train(t->layer, 0, x, n, t->y, &routing, t->tape, err);
    if (!status)
        status = odmoe_layer_stats_get(t->layer, 0, &stats, NULL, err);
    if (status)
        return status;
    *report = (trainer_report){.aux = routing.aux, .z = routing.z, .imbalance = stats.imbalance};
    report->loss = loss(user, t->y, n, t->dy);
    status = run_backward(t, err);
    if (status)
        return status;
    report->norm = sqrt(t->squares);
    return update(t, err);
}

odmoe_status trainer_forward(trainer *t, const float *x, int64_t n, float *y, odmoe_routing *routing, odmoe_error *err)
{
    return odmoe_layer_forward(t->layer, 0, x, n, y, routing, err);
}

const float *trainer_router(const trainer *t)
{
    return t->router;
}

/* ---- checkpoints ---- */

/* What a checkpoint holds, in the order of its checksum; the experts' numbers are `experts`. */
static void list_parts(trainer *t, const float *experts, odmoe_tensor parts[PARTS])
{
    int64_t E = t->o.experts, H = t->o.hidden, flat = (int64_t)t->flat;
    const odmoe_tensor all[PARTS] = {
        {"router", "F32", 2, {E, H}, t->router},     {"router.m", "F32", 2, {E, H}, t->router_m},
        {"router.v", "F32", 2, {E, H}, t->router_v}, {"experts", "F32", 2, {E, flat}, experts},
        {"experts.m", "F32", 2, {E, flat}, t->m},    {"experts.v", "F32", 2, {E, flat}, t->v},
        {"step", "I64", 1, {1}, &t->step},
    };
    memcpy(parts, all, sizeof all);
}

static size_t numbers_of(const odmoe_tensor *t)
{
    return (size_t)t->shape[0] * (t->dims > 1 ? (size_t)t->shape[1] : 1);
}

/* FNV-1a over words of four bytes. A file that rots, or whose pages were never written, is not trained on. */
static int64_t checksum(const odmoe_tensor parts[PARTS])
{
    uint64_t sum = 0xcbf29ce484222325ull;
    for (int i = 0; i < PARTS; i++) {
        size_t words = numbers_of(&parts[i]) * (strcmp(parts[i].type, "I64") ? 1 : 2);
        const char *at = parts[i].data;
        for (size_t w = 0; w < words; w++) {
            uint32_t word;
            memcpy(&word, at + 4 * w, 4);
            sum = (sum ^ word) * 0x100000001b3ull;
        }
    }
    return (int64_t)sum;
}

odmoe_status trainer_save(trainer *t, const char *path, odmoe_error *err)
{
    size_t bytes = (size_t)t->data + t->experts_n * sizeof(float);
    char *copy = mmap(NULL, bytes, PROT_READ, MAP_SHARED, t->fd, 0);
    if (copy == MAP_FAILED)
        return failed(err, ODMOE_ERR_IO, "the working copy cannot be mapped", t->path);
    odmoe_tensor parts[PARTS + 1];
    list_parts(t, (const float *)(copy + t->data), parts);
    int64_t sum = checksum(parts);
    parts[PARTS] = (odmoe_tensor){"checksum", "I64", 1, {1}, &sum};
    odmoe_status status = odmoe_tensors_save(path, parts, PARTS + 1, err);
    munmap(copy, bytes);
    return status;
}

/* All of a checkpoint into the trainer; its experts where gradients will be, which are not in use yet. */
static odmoe_status read_checkpoint(trainer *t, const char *path, odmoe_error *err)
{
    odmoe_tensor_file *file;
    odmoe_tensor parts[PARTS];
    const odmoe_tensor last = {"checksum", "I64", 1, {1}, NULL};
    int64_t sum = 0;
    odmoe_status status = odmoe_tensors_open(path, &file, err);
    if (status)
        return status;
    list_parts(t, t->gradient, parts);
    for (int i = 0; i < PARTS && !status; i++)
        status = odmoe_tensors_read(file, &parts[i], 0, (int64_t)numbers_of(&parts[i]), (void *)parts[i].data, err);
    if (!status)
        status = odmoe_tensors_read(file, &last, 0, 1, &sum, err);
    odmoe_tensors_close(file);
    if (status || (sum == checksum(parts) && t->step >= 0))
        return status;
    if (err) {
        err->code = ODMOE_ERR_FORMAT;
        snprintf(err->message, sizeof err->message, "%.300s: damaged: its numbers don't agree with its checksum", path);
    }
    return ODMOE_ERR_FORMAT;
}

odmoe_status trainer_resume(const trainer_options *options, const char *path, trainer **out, odmoe_error *err)
{
    trainer *t;
    odmoe_status status = make(options, &t, err);
    return status ? status : finish(t, t->gradient, read_checkpoint(t, path, err), out, err);
}
