/* rope.h - rotary position embedding (Su et al. 2021) with linear and YaRN (Peng et al. 2023) scaling, as Hugging Face
 * transformers computes it. */
#ifndef ODMOE_MODEL_ROPE_H
#define ODMOE_MODEL_ROPE_H

#include "base/arena.h"
#include "model/config.h"

typedef struct rope {
    int half; /* pairs that turn: rope_dim / 2 */
    rope_pairing pairing;
    float scale;         /* of cos and sin (YaRN's attention factor) */
    float *inverse_freq; /* [half] */
} rope;

/* rope_layout - take room for the table; rope_fill - compute it. factors [half] (GGUF's rope_freqs) or NULL.
 * ERR_FORMAT: a factor that gives no frequency. */
void rope_layout(arena *a, const rope_set *s, rope *out);
odmoe_status rope_fill(rope *r, const rope_set *s, const float *factors, odmoe_error *err);

#endif
