#include "moe/expert_tensors.h"

static odmoe_status check_tensor(const expert_tensor *p, const compute *c, int64_t in, int64_t out, dtype_set *types,
                                 odmoe_error *err)
{
    static const char *const names[EXPERT_MATRIX_COUNT] = {"gate", "up", "down", "gate_up"};
    const dtype_traits *t = dtype_info((dtype)p->type);
    int64_t rows = p->in_out ? in : out, cols = p->in_out ? out : in;
    if (p->rows != rows || p->cols != cols)
        return err_set(err, ODMOE_ERR_FORMAT, "%s has shape %lld x %lld, expected %lld x %lld", names[p->matrix],
                       (long long)p->rows, (long long)p->cols, (long long)rows, (long long)cols);
    if (cols % t->block)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: rows of %lld weights are no multiple of %s's block of %u",
                       names[p->matrix], (long long)cols, t->name, t->block);
    bool shared = p->grid.rows && p->grid.rows != SCALE_ALL; /* rows share scales: they must be gate's or up's alone */
    if (p->matrix == ODMOE_GATE_UP && shared && (p->interleaved || out / 2 % ((int64_t)1 << p->grid.rows)))
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: rows of gate and of up share scales", names[p->matrix]);
    if (!compute_takes(c, (dtype)p->type, p->in_out))
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: type %s is not supported in this orientation", names[p->matrix],
                       t->name);
    *types |= dtype_bit((dtype)p->type);
    return ODMOE_OK;
}

odmoe_status expert_tensors_check(const expert_tensor *tensors, const expert_extent *extents, int n, const compute *c,
                                  experts_shape *shape, odmoe_error *err)
{
    unsigned seen = 0, scales = 0;
    for (int i = 0; i < n; i++) {
        const expert_tensor *p = &tensors[extents[i].tag];
        odmoe_status status;
        unsigned *of = p->scales ? &scales : &seen;
        if (*of >> p->matrix & 1)
            return err_set(err, ODMOE_ERR_FORMAT, "a matrix is there twice");
        *of |= 1u << p->matrix;
        if (p->scales)
            continue;
        if (p->matrix == ODMOE_DOWN)
            status = check_tensor(p, c, shape->ffn, shape->hidden, &shape->mid_types, err);
        else
            status = check_tensor(p, c, shape->hidden, shape->ffn * (p->matrix == ODMOE_GATE_UP ? 2 : 1),
                                  &shape->in_types, err);
        if (status)
            return status;
    }
    const unsigned gate = 1u << ODMOE_GATE, up = 1u << ODMOE_UP, down = 1u << ODMOE_DOWN, both = 1u << ODMOE_GATE_UP;
    if (glu_has_gate(&shape->glu) ? seen != (gate | up | down) && seen != (both | down) : seen != (up | down))
        return err_set(err, ODMOE_ERR_FORMAT, "an expert needs %s",
                       glu_has_gate(&shape->glu) ? "gate, up and down, or gate_up and down"
                                                 : "up and down alone: its activation has no gate");
    return ODMOE_OK;
}

odmoe_status expert_tensors_check_all(const expert_table *experts, const compute *c, experts_shape *shape,
                                      odmoe_error *err)
{
    const expert_index *index = experts->index;
    odmoe_status status = expert_index_check(index, err);
    shape->in_types = shape->mid_types = 0;
    for (int l = 0; l < expert_index_layers(index) && !status; l++) { /* experts of a layer have the same tensors */
        int n;
        const expert_extent *extents = expert_index_extents(index, l, 0, &n);
        status = expert_tensors_check(experts->tensor, extents, n, c, shape, err);
        if (status)
            err_context(err, "layer %d", l);
    }
    return status;
}

/* The scales of a matrix of an expert: read with it, or resident and float32. */
static void set_scales(matrix *m, const expert_tensor *tensors, const pinned_expert *expert,
                       const expert_scales *resident, int role)
{
    for (int i = 0; i < expert->n && !m->scales; i++) {
        const expert_tensor *p = &tensors[expert->extents[i].tag];
        if (p->scales && p->matrix == role)
            m->scales = expert->data[i];
    }
    if (!m->scales && resident && resident->scales[role]) {
        m->scales = resident->scales[role] + expert->expert * resident->length[role];
        m->grid.type = SCALE_F32;
    }
    m->scale_row_bytes = (int64_t)scale_bytes(m->grid, 1, (uint64_t)m->cols);
}

void expert_tensors_bind(const experts_shape *shape, const expert_tensor *tensors, const pinned_expert *expert,
                         const expert_scales *resident, expert_weights *out)
{
    *out = (expert_weights){0};
    for (int i = 0; i < expert->n; i++) {
        const expert_tensor *p = &tensors[expert->extents[i].tag];
        bool down = p->matrix == ODMOE_DOWN;
        if (p->scales)
            continue;
        matrix m = {.type = (dtype)p->type,
                    .in_out = p->in_out,
                    .rows = down ? shape->hidden : shape->ffn,
                    .cols = down ? shape->ffn : shape->hidden,
                    .data = expert->data[i],
                    .row_bytes = (int64_t)dtype_bytes((dtype)p->type, (uint64_t)p->cols),
                    .grid = p->grid};
        set_scales(&m, tensors, expert, resident, p->matrix);
        if (resident && resident->factor[p->matrix])
            m.factor = resident->factor[p->matrix][expert->expert];
        if (p->matrix == ODMOE_GATE)
            out->gate = m;
        else if (p->matrix == ODMOE_UP)
            out->up = m;
        else if (p->matrix == ODMOE_DOWN)
            out->down = m;
        if (p->matrix != ODMOE_GATE_UP)
            continue;
        if (p->in_out && p->interleaved) {
            m.rows *= 2;
            out->gate = m;
            out->interleaved = true;
            continue;
        }
        /* (in, out): a row is ffn gate weights, then ffn up weights; (out, in): rows apart, or in turn */
        int64_t one = m.row_bytes;
        int64_t skip = p->in_out ? one / 2 : p->interleaved ? one : shape->ffn * one;
        m.row_bytes = p->interleaved ? 2 * one : one;
        int64_t scale_row = m.scale_row_bytes;
        m.scale_row_bytes = p->interleaved ? 2 * scale_row : scale_row;
        out->gate = out->up = m;
        out->up.data = (const char *)m.data + skip;
        if (m.scales)
            out->up.scales = (const char *)m.scales + ((p->interleaved ? 1 : shape->ffn) >> m.grid.rows) * scale_row;
    }
}
