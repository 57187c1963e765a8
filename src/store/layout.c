#include "store/layout.h"

static bool before(const expert_extent *a, const expert_extent *b)
{
    return a->file != b->file ? a->file < b->file : a->offset < b->offset;
}

void layout_of(const expert_extent *extents, int n, expert_layout *out)
{
    int order[EXPERT_EXTENTS_MAX];
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && before(&extents[i], &extents[order[at - 1]]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    out->ranges = 0;
    out->bytes = 0;
    layout_range *x = NULL;
    for (int i = 0; i < n; i++) {
        const expert_extent *p = &extents[order[i]];
        uint64_t first = p->offset / LAYOUT_ALIGN * LAYOUT_ALIGN, end = p->offset + p->length;
        if (!x || x->file != p->file || first > x->offset + x->bytes) {
            x = &out->range[out->ranges++];
            *x = (layout_range){.file = p->file, .offset = first, .at = out->bytes};
        }
        uint64_t needed = end - x->offset;
        if (needed > x->needed) {
            out->bytes -= x->bytes;
            x->needed = needed;
            x->bytes = (needed + LAYOUT_ALIGN - 1) / LAYOUT_ALIGN * LAYOUT_ALIGN;
            out->bytes += x->bytes;
        }
        out->extent_at[order[i]] = x->at + (p->offset - x->offset);
    }
}

uint64_t layout_bytes(const expert_index *index, int layer, int expert)
{
    int n;
    const expert_extent *extents = expert_index_extents(index, layer, expert, &n);
    expert_layout layout;
    layout_of(extents, n, &layout);
    return layout.bytes;
}

uint64_t layout_largest(const expert_index *index)
{
    uint64_t most = LAYOUT_ALIGN;
    for (int l = 0; l < expert_index_layers(index); l++)
        for (int e = 0; e < expert_index_experts(index); e++) {
            uint64_t bytes = layout_bytes(index, l, e);
            most = bytes > most ? bytes : most;
        }
    return most;
}
