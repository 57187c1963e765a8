/* sampler.h - from logits to a token: the public options (odmoe_sampler_options) at work.
 *
 * The stages, in this order (llama.cpp's): logit bias, repeat penalty, frequency and presence penalty, mask, top-k, top-p,
 * min-p, temperature, draw. Top-p's probabilities are those of the tokens that top-k left, before the temperature.
 * Temperature 0 takes the highest logit after the penalties, the lower id of equals.
 *
 * Reproducible: the token depends on options, seed, the tokens accepted and picked, the draws made so far, the mask and the
 * logits; the generator is fixed (xoshiro256**, seeded by splitmix64; public domain, Blackman and Vigna), one draw a
 * sample. */
#ifndef ODMOE_TEXT_SAMPLER_H
#define ODMOE_TEXT_SAMPLER_H

#include "base/status.h"

#define SAMPLER_WINDOW 64 /* tokens that the repeat penalty looks back on */

typedef struct sampler sampler;

/* sampler_create - for logits of `vocab` tokens; all memory that it will ever use is allocated here. Copies the biases.
 * Errors: ERR_RANGE (names the option), ERR_MEMORY. One thread at a time. */
odmoe_status sampler_create(const odmoe_sampler_options *options, int32_t vocab, sampler **out, odmoe_error *err);
void sampler_free(sampler *s); /* NULL is fine */

/* sampler_pick - a token for logits [vocab], which stay unchanged; mask: bit (id % 32) of word id / 32 is set where a token
 * may be picked, NULL: all may. Logits that are no number or -infinity are never picked; +infinite ones share all
 * probability. The token counts for the frequency and presence penalties. ERR_RANGE: no token is possible; the sampler is
 * as before. */
odmoe_status sampler_pick(sampler *s, const float *logits, const uint32_t *mask, int32_t *token, odmoe_error *err);

/* sampler_accept - the text goes on with this token (prompt included): the repeat penalty's history. */
void sampler_accept(sampler *s, int32_t token);

#endif
