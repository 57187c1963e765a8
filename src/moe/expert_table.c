#include "moe/expert_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define SCALES_STAY_PART 1024 /* scales that, as float32, are at most such a part of their weights stay in memory */

odmoe_status expert_table_create(expert_table *t, int layers, int experts, odmoe_error *err)
{
    *t = (expert_table){.index = expert_index_create(layers, experts, err)};
    return t->index ? ODMOE_OK : err ? err->code : ODMOE_ERR_MEMORY;
}

void expert_table_clear(expert_table *t)
{
    expert_index_free(t->index);
    free(t->tensor);
    free(t->small);
    *t = (expert_table){0};
}

static bool same_tensor(const expert_tensor *a, const expert_tensor *b)
{
    return a->matrix == b->matrix && a->type == b->type && a->in_out == b->in_out && a->interleaved == b->interleaved &&
           a->scales == b->scales && a->rows == b->rows && a->cols == b->cols && a->grid.type == b->grid.type &&
           a->grid.rows == b->grid.rows && a->grid.cols == b->grid.cols;
}

/* The place of a description in the table, where it is put if it is new. */
static odmoe_status tag_of(expert_table *t, const expert_tensor *tensor, uint32_t *tag, odmoe_error *err)
{
    for (size_t i = t->n; i > 0; i--) /* the latest is the likeliest */
        if (same_tensor(&t->tensor[i - 1], tensor)) {
            *tag = (uint32_t)(i - 1);
            return ODMOE_OK;
        }
    odmoe_status status =
        mem_grow((void **)&t->tensor, &t->room, t->n + 1, sizeof *t->tensor, "the table of expert tensors", err);
    if (status)
        return status;
    *tag = (uint32_t)t->n;
    t->tensor[t->n++] = *tensor;
    return ODMOE_OK;
}

/* The bytes of a matrix; 0: it cannot be. */
static uint64_t bytes_of(const expert_tensor *t)
{
    uint64_t count;
    if (t->matrix >= EXPERT_MATRIX_COUNT || t->type >= DTYPE_COUNT || t->rows < 1 || t->cols < 1 ||
        !mem_mul((uint64_t)t->rows, (uint64_t)t->cols, &count) || count > INT64_MAX / 8 ||
        count % dtype_info((dtype)t->type)->block)
        return 0;
    if (t->scales)
        return scale_bytes(t->grid, (uint64_t)t->rows, (uint64_t)t->cols);
    return dtype_bytes((dtype)t->type, count);
}

odmoe_status expert_table_add(expert_table *t, int layer, int expert, const expert_tensor *tensor, int file,
                              uint64_t offset, odmoe_error *err)
{
    expert_extent extent = {.file = file, .offset = offset, .length = bytes_of(tensor)};
    if (!extent.length)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: matrix %d of type %d, %lld x %lld, is invalid", layer,
                       expert, tensor->matrix, tensor->type, (long long)tensor->rows, (long long)tensor->cols);
    odmoe_status status = tag_of(t, tensor, &extent.tag, err);
    return status ? status : expert_index_append(t->index, layer, expert, &extent, err);
}

static odmoe_status shape_error(const tensor_info *t, int layer, const char *wanted, odmoe_error *err)
{
    char shape[96] = "";
    for (int d = 0, at = 0; d < t->dims && at < (int)sizeof shape - 24; d++)
        at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%llu", d ? ", " : "", (unsigned long long)t->shape[d]);
    return err_set(err, ODMOE_ERR_FORMAT, "tensor %s (MoE layer %d) has shape (%s), expected %s", t->name, layer, shape,
                   wanted);
}

static odmoe_status append_small(expert_table *t, const expert_small *s, odmoe_error *err)
{
    odmoe_status status = mem_grow((void **)&t->small, &t->small_room, t->n_small + 1, sizeof *t->small,
                                   "the table of expert biases", err);
    if (!status)
        t->small[t->n_small++] = *s;
    return status;
}

/* The type of scales that are floats; only such stay in memory. */
static bool float_type(scale_grid g, dtype *type)
{
    *type = g.type == SCALE_F32 ? DTYPE_F32 : g.type == SCALE_BF16 ? DTYPE_BF16 : DTYPE_F16;
    return g.type == SCALE_F32 || g.type == SCALE_BF16 || g.type == SCALE_F16;
}

/* Are a matrix's scales so few that they stay in memory? */
static bool scales_stay(const expert_tensor *t)
{
    dtype ignored;
    uint64_t rows = t->grid.rows == SCALE_ALL ? (uint64_t)t->rows : (uint64_t)1 << t->grid.rows;
    uint64_t cols = t->grid.cols == SCALE_ALL ? (uint64_t)t->cols : (uint64_t)1 << t->grid.cols;
    return float_type(t->grid, &ignored) &&
           sizeof(float) * SCALES_STAY_PART <= dtype_bytes((dtype)t->type, rows * cols);
}

/* The resident numbers that belong to a matrix: few scales, and factors. expert -1: `from` holds all experts. */
static odmoe_status add_resident_scales(expert_table *t, int layer, int expert, const expert_tensor *tensor,
                                        const tensor_info *from, odmoe_error *err)
{
    const tensor_scales *scales = from->scales;
    expert_small s = {.layer = layer, .expert = expert, .matrix = tensor->matrix, .tensor = *from};
    odmoe_status status = ODMOE_OK;
    if (scales->length && scales_stay(tensor)) {
        s.part = PART_SCALES;
        s.length = (int64_t)scale_count(tensor->grid, (uint64_t)tensor->rows, (uint64_t)tensor->cols);
        float_type(tensor->grid, &s.tensor.type);
        s.tensor.file = scales->file;
        s.tensor.offset = scales->offset;
        s.tensor.length = scales->length;
        status = append_small(t, &s, err);
    }
    if (status || !scales->factors)
        return status;
    s.part = PART_FACTOR;
    s.length = 1;
    s.inverse = scales->factor_divides;
    s.tensor.type = DTYPE_F32;
    s.tensor.file = scales->factor_file;
    s.tensor.offset = scales->factor_offset;
    s.tensor.length = scales->factors * sizeof(float);
    return append_small(t, &s, err);
}

/* Matrix number `which` of `from` for one expert, and, where they are streamed, its scales. */
static odmoe_status add_streamed(expert_table *t, int layer, int expert, const expert_tensor *tensor,
                                 const tensor_info *from, uint64_t which, odmoe_error *err)
{
    odmoe_status status =
        expert_table_add(t, layer, expert, tensor, from->file, from->offset + which * bytes_of(tensor), err);
    if (status || !from->scales || !from->scales->length || scales_stay(tensor))
        return status;
    expert_tensor scales = *tensor;
    scales.scales = true;
    return expert_table_add(t, layer, expert, &scales, from->scales->file,
                            from->scales->offset + which * bytes_of(&scales), err);
}

/* What the tensor says of a matrix. */
static void set_type(expert_tensor *t, const tensor_info *from)
{
    t->type = (uint8_t)from->type;
    t->grid = from->scales ? from->scales->grid : (scale_grid){0};
}

odmoe_status expert_table_add_merged(expert_table *t, int layer, const expert_tensor *like, const tensor_info *from,
                                     odmoe_error *err)
{
    int experts = expert_index_experts(t->index);
    if (from->dims != 3 || from->shape[0] != (uint64_t)experts || like->rows < 1 || like->cols < 1 ||
        from->shape[1] != (uint64_t)like->rows || from->shape[2] != (uint64_t)like->cols) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "(%d, %lld, %lld)", experts, (long long)like->rows, (long long)like->cols);
        return shape_error(from, layer, wanted, err);
    }
    expert_tensor tensor = *like;
    set_type(&tensor, from);
    odmoe_status status = ODMOE_OK;
    for (int e = 0; e < experts && !status; e++)
        status = add_streamed(t, layer, e, &tensor, from, (uint64_t)e, err);
    return status || !from->scales ? status : add_resident_scales(t, layer, -1, &tensor, from, err);
}

odmoe_status expert_table_add_one(expert_table *t, int layer, int expert, const expert_tensor *like,
                                  const tensor_info *from, odmoe_error *err)
{
    if (from->dims != 2 || like->rows < 1 || like->cols < 1 || from->shape[0] != (uint64_t)like->rows ||
        from->shape[1] != (uint64_t)like->cols) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "(%lld, %lld)", (long long)like->rows, (long long)like->cols);
        return shape_error(from, layer, wanted, err);
    }
    expert_tensor tensor = *like;
    set_type(&tensor, from);
    odmoe_status status = add_streamed(t, layer, expert, &tensor, from, 0, err);
    return status || !from->scales ? status : add_resident_scales(t, layer, expert, &tensor, from, err);
}

static bool small_fits(const expert_small *s, int experts)
{
    const tensor_info *t = &s->tensor;
    uint64_t length = (uint64_t)s->length;
    if (s->expert >= 0)
        return (t->dims == 1 && t->shape[0] == length) || (t->dims == 0 && length == 1);
    return (t->dims == 2 && t->shape[0] == (uint64_t)experts && t->shape[1] == length) ||
           (t->dims == 1 && t->shape[0] == (uint64_t)experts && length == 1);
}

odmoe_status expert_table_add_small(expert_table *t, int layer, int expert, odmoe_role matrix, expert_part part,
                                    bool interleaved, int64_t length, const tensor_info *from, odmoe_error *err)
{
    int experts = expert_index_experts(t->index);
    expert_small s = {.layer = layer,
                      .expert = expert,
                      .matrix = (uint8_t)matrix,
                      .part = (uint8_t)part,
                      .interleaved = interleaved,
                      .length = length,
                      .tensor = *from};
    bool known = part == PART_BIAS || (part == PART_SCALE && matrix == ODMOE_DOWN && length == 1);
    if (layer < 0 || layer >= expert_index_layers(t->index) || expert < -1 || expert >= experts || length < 1 ||
        matrix >= EXPERT_MATRIX_COUNT || !known || dtype_info(from->type)->block != 1)
        return err_set(err, ODMOE_ERR_ARG, "tensor %s (MoE layer %d): part %d of matrix %d, type %s, is invalid",
                       from->name, layer, part, matrix, dtype_info(from->type)->name);
    if (!small_fits(&s, experts)) {
        char wanted[80];
        if (expert < 0)
            snprintf(wanted, sizeof wanted, "(%d, %lld)", experts, (long long)length);
        else
            snprintf(wanted, sizeof wanted, "(%lld)", (long long)length);
        return shape_error(from, layer, wanted, err);
    }
    return append_small(t, &s, err);
}
