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

/* expert_tensors_bind - find the matrices of a pinned expert; tensors [tag] have been checked. */
void expert_tensors_bind(const experts_shape *shape, const expert_tensor *tensors, const pinned_expert *expert,
                         expert_weights *out);

#endif
