/* expert_tensors.h - what the tensors of an expert mean: checked once, then bound to the matrices that are computed. */
#ifndef ODMOE_MOE_EXPERT_TENSORS_H
#define ODMOE_MOE_EXPERT_TENSORS_H

#include "moe/expert_table.h"
#include "moe/experts.h"
#include "store/store.h"

/* expert_tensors_check_all - do all experts have what a layer needs (gate and up, or gate_up; down), in
 * shapes that fit hidden and ffn and types that can be computed? Fills in_types and mid_types. ERR_FORMAT or
 * ERR_UNSUPPORTED names layer, expert and matrix. */
odmoe_status expert_tensors_check_all(const expert_table *experts, const compute *c, experts_shape *shape,
                                      odmoe_error *err);

/* expert_tensors_check - the same for one expert's extents[n], which tensors [tag] describe; adds to the types. The
 * message names the matrix alone. */
odmoe_status expert_tensors_check(const expert_tensor *tensors, const expert_extent *extents, int n, const compute *c,
                                  experts_shape *shape, odmoe_error *err);

/* Scales and factors of all experts of a layer that stay in memory; an entry is NULL where there are none. By matrix. */
typedef struct expert_scales {
    const float *scales[EXPERT_MATRIX_COUNT]; /* [experts, length] */
    const float *factor[EXPERT_MATRIX_COUNT]; /* [experts] */
    int64_t length[EXPERT_MATRIX_COUNT];
} expert_scales;

/* expert_tensors_bind - find the matrices of a pinned expert; tensors [tag] have been checked. resident: the layer's, or
 * NULL. */
void expert_tensors_bind(const experts_shape *shape, const expert_tensor *tensors, const pinned_expert *expert,
                         const expert_scales *resident, expert_weights *out);

#endif
