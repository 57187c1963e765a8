/* expert_residents.h - biases and scales of experts, and those scales of their weights that are few: read once, kept in
 * memory as float32. */
#ifndef ODMOE_MOE_EXPERT_RESIDENTS_H
#define ODMOE_MOE_EXPERT_RESIDENTS_H

#include "moe/expert_table.h"
#include "moe/local_executor.h"

typedef struct expert_residents {
    expert_biases *biases;        /* [layers]; NULL where the table has no bias */
    const float **scales;         /* [layers] of [experts] or NULL; NULL where the table has none */
    expert_scales *weight_scales; /* [layers]; NULL where the table has none */
    void *memory;                 /* behind all of it */
    size_t bytes;
} expert_residents;

/* expert_residents_check - do the biases and scales of the table have lengths that fit the shape, and has every
 * expert of a layer one where any has? ERR_FORMAT names tensor or layer. */
odmoe_status expert_residents_check(const expert_table *t, const experts_shape *shape, odmoe_error *err);

/* expert_residents_bytes - what expert_residents_load will allocate, for the plan. */
size_t expert_residents_bytes(const expert_table *t, const experts_shape *shape);

/* expert_residents_load - read them; the table has been checked. ERR_MEMORY, ERR_IO. expert_residents_free: zeroed is
 * fine. */
odmoe_status expert_residents_load(const expert_table *t, const tensor_index *tensors, const experts_shape *shape,
                                   expert_residents *out, odmoe_error *err);
void expert_residents_free(expert_residents *r);

#endif
