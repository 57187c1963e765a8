/* random_experts.h - made-up experts for measuring a layer: in memory, or in a file from which they are streamed.
 *
 * `distinct` of them are stored and stand for all: expert e is stored expert e * distinct / experts, so that neighbours
 * share. It shares storage only; the layer computes each expert on its own. */
#ifndef ODMOE_CLI_RANDOM_EXPERTS_H
#define ODMOE_CLI_RANDOM_EXPERTS_H

#include "cli.h"
#include "odmoe_layer.h"

typedef struct expert_shape {
    int32_t hidden, ffn, experts, distinct;
    int32_t type; /* a GGUF number */
} expert_shape;

/* expert_type_find - the types that can be made up: f32, f16, bf16, q8_0, q4_k. -1: unknown. */
int32_t expert_type_find(const char *name);
/* expert_bytes - of one expert; 0 where rows are no whole blocks of the type. */
uint64_t expert_bytes(const expert_shape *shape);

typedef struct random_experts random_experts;

/* random_experts_memory - in memory. NULL: complained. */
random_experts *random_experts_memory(const expert_shape *shape);
/* random_experts_file - written to `path` unless they are there already, then read from it on demand, cold, into a
 * cache of ram bytes (0: room for all that are stored, at most 1 GiB). *status: an exit status where it returns NULL.
 */
random_experts *random_experts_file(const expert_shape *shape, const char *path, uint64_t ram, const char *io,
                                    int *status);
void random_experts_free(random_experts *r);

/* random_experts_table - for odmoe_layer_create. */
void random_experts_table(random_experts *r, odmoe_source_ops *ops);
/* What was read so far. Zeroes in memory. */
odmoe_source_counters random_experts_counters(random_experts *r);

#endif
