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

/* rope_angles - cos and sin [half] of a position. rope_turn - turn one head in place. */
void rope_angles(const rope *r, int32_t position, float *cosines, float *sines);
void rope_turn(const rope *r, float *head, const float *cosines, const float *sines);

#endif
