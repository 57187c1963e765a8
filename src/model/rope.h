/* rope.h - rotary position embedding (Su et al. 2021) with linear and YaRN (Peng et al. 2023) scaling, as Hugging Face
 * transformers computes it; with a part of the pairs alone (Gemma 4), with Llama 3's scaling, and with LongRoPE (Ding et
 * al. 2024). */
#ifndef ODMOE_MODEL_ROPE_H
#define ODMOE_MODEL_ROPE_H

#include "base/arena.h"
#include "model/config.h"

typedef struct rope {
    int half; /* pairs that are rotated: half of rope_set.dim */
    rope_pairing pairing;
    float scale;         /* of cos and sin (YaRN's attention factor) */
    float *inverse_freq; /* [half] */
} rope;

/* rope_is_long - are the factors (and the scale) for long contexts those to use? The context that the model is opened
 * with decides, once: transformers goes by the length of the sequence so far, and rotates the tokens after that point in
 * another way than the keys that it has kept. */
bool rope_is_long(const rope_set *s, int64_t context);

/* rope_layout - take room for the table; rope_fill - compute it. factors [half]: a frequency is divided by its own
 * (rope_freqs of GGUF; LongRoPE's, of the list that rope_is_long names); NULL: none. ERR_FORMAT: a factor that gives no
 * frequency. */
void rope_layout(arena *a, const rope_set *s, rope *out);
odmoe_status rope_fill(rope *r, const rope_set *s, const float *factors, int64_t context, odmoe_error *err);

#endif
