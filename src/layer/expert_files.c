#include "layer/expert_files.h"

#include <stdio.h>
#include <string.h>

#include "format/open_tensors.h"

#define NAME_BYTES_MAX 256
#define SIDE_MAX (1 << 24) /* hidden and ffn: products of two stay far from overflow */

/* The name with {layer} and {expert} filled in; false: it is too long. */
static bool fill_name(const char *rule, int layer, int expert, char *out)
{
    size_t used = 0;
    while (*rule) {
        bool is_layer = !strncmp(rule, "{layer}", 7), is_expert = !strncmp(rule, "{expert}", 8);
        if (is_layer || is_expert) {
            used += (size_t)snprintf(out + used, NAME_BYTES_MAX - used, "%d", is_layer ? layer : expert);
            rule += is_layer ? 7 : 8;
        } else {
            out[used++] = *rule++;
        }
        if (used >= NAME_BYTES_MAX - 12)
            return false;
    }
    out[used] = 0;
    return true;
}

typedef struct binding {
    const odmoe_source_options *o;
    expert_files *files;
    int layer, expert; /* expert -1: the tensor holds all */
    const odmoe_expert_tensor *rule;
    const tensor_info *t;
} binding;

/* w1 | w2 | w3 of one expert, at `offset` in the file. */
static odmoe_status set_flat(const binding *b, int expert, uint64_t offset, odmoe_error *err)
{
    static const uint8_t roles[] = {ODMOE_GATE, ODMOE_DOWN, ODMOE_UP};
    int64_t hidden = b->o->hidden, ffn = b->o->ffn;
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < 3 && !status; i++) {
        bool down = roles[i] == ODMOE_DOWN;
        expert_tensor tensor = {.matrix = roles[i],
                                .type = (uint8_t)b->t->type,
                                .in_out = true,
                                .rows = down ? ffn : hidden,
                                .cols = down ? hidden : ffn};
        status = expert_table_add(&b->files->experts, b->layer, expert, &tensor, b->t->file, offset, err);
        offset += dtype_bytes(b->t->type, (uint64_t)(hidden * ffn));
    }
    return status;
}

static odmoe_status bind_flat(const binding *b, odmoe_error *err)
{
    const tensor_info *t = b->t;
    uint64_t numbers = 3 * (uint64_t)b->o->hidden * (uint64_t)b->o->ffn, experts = (uint64_t)b->o->experts;
    if (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "tensor %s: a flat expert array of %s; it can be f32, f16 or bf16",
                       t->name, dtype_info(t->type)->name);
    bool fits = b->expert < 0 ? t->dims == 2 && t->shape[0] == experts && t->shape[1] == numbers
                              : t->dims == 1 && t->shape[0] == numbers;
    if (!fits)
        return err_set(err, ODMOE_ERR_FORMAT, "tensor %s: a flat expert array has shape (%s%llu)", t->name,
                       b->expert < 0 ? "experts, " : "", (unsigned long long)numbers);
    if (b->expert >= 0)
        return set_flat(b, b->expert, t->offset, err);
    odmoe_status status = ODMOE_OK;
    for (int e = 0; e < b->o->experts && !status; e++)
        status = set_flat(b, e, t->offset + (uint64_t)e * dtype_bytes(t->type, numbers), err);
    return status;
}

static odmoe_status bind_one(binding *b, odmoe_error *err)
{
    char name[NAME_BYTES_MAX];
    const odmoe_expert_tensor *r = b->rule;
    if (!fill_name(r->name, b->o->first_layer + b->layer, b->expert, name))
        return err_set(err, ODMOE_ERR_ARG, "the tensor name '%.64s...' is too long", r->name);
    b->t = tensor_index_find(b->files->tensors, name);
    if (!b->t)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: there is no tensor %s", b->o->path, name);
    if (b->t->scales)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "tensor %s: %s with scales apart: a layer on its own reads weights whose scales lie in their "
                       "blocks",
                       name, dtype_info(b->t->type)->name);
    if (r->role == ODMOE_FLAT)
        return bind_flat(b, err);
    if (r->role < 0 || r->role > ODMOE_GATE_UP)
        return err_set(err, ODMOE_ERR_ARG, "tensor %s: there is no role %d", name, r->role);
    int64_t out = r->role == ODMOE_DOWN ? b->o->hidden : r->role == ODMOE_GATE_UP ? 2 * (int64_t)b->o->ffn : b->o->ffn;
    int64_t in = r->role == ODMOE_DOWN ? b->o->ffn : b->o->hidden;
    int64_t rows = r->in_out ? in : out, cols = r->in_out ? out : in;
    expert_tensor tensor = {
        .matrix = (uint8_t)r->role, .in_out = r->in_out, .interleaved = r->interleaved, .rows = rows, .cols = cols};
    if (b->expert >= 0)
        return expert_table_add_one(&b->files->experts, b->layer, b->expert, &tensor, b->t, err);
    return expert_table_add_merged(&b->files->experts, b->layer, &tensor, b->t, err);
}

static odmoe_status bind_all(const odmoe_source_options *o, expert_files *files, odmoe_error *err)
{
    binding b = {.o = o, .files = files};
    odmoe_status status = ODMOE_OK;
    for (b.layer = 0; b.layer < o->layers; b.layer++)
        for (int i = 0; i < o->n_tensors; i++) {
            b.rule = &o->tensors[i];
            bool one = strstr(b.rule->name, "{expert}");
            for (b.expert = one ? 0 : -1; !status && b.expert < (one ? o->experts : 0); b.expert++)
                status = bind_one(&b, err);
            if (status)
                return status;
        }
    return ODMOE_OK;
}

odmoe_status expert_files_open(const odmoe_source_options *o, expert_files *out, odmoe_error *err)
{
    *out = (expert_files){0};
    if (!o->path || !o->tensors || o->n_tensors < 1)
        return err_set(err, ODMOE_ERR_ARG, "an expert source needs a path and the names of its tensors");
    if (o->hidden < 1 || o->hidden > SIDE_MAX || o->ffn < 1 || o->ffn > SIDE_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "hidden %d, ffn %d: 1 to %d are possible", o->hidden, o->ffn, SIDE_MAX);
    odmoe_status status = open_tensors(o->path, &out->tensors, err);
    if (!status)
        status = expert_table_create(&out->experts, o->layers, o->experts, err);
    if (!status)
        status = bind_all(o, out, err);
    if (!status)
        status = expert_index_check(out->experts.index, err);
    if (status)
        expert_files_close(out);
    return status;
}

void expert_files_close(expert_files *f)
{
    expert_table_clear(&f->experts);
    tensor_index_free(f->tensors);
    *f = (expert_files){0};
}
