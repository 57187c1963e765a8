/* sampler.h - from logits to a token: the public options (odmoe_sampler_options) at work.
 *
 * The stages, in this order (llama.cpp's): repeat penalty, top-k, top-p, min-p, temperature, draw. Top-p's
 * probabilities are those of the tokens that top-k left, before the temperature. Temperature 0 takes the highest logit
 * after the penalty, the lower id of equals.
 *
 * Reproducible: the token depends on options, seed, the tokens accepted and the draws made so far, and the logits; the
 * generator is fixed (xoshiro256**, seeded by splitmix64; public domain, Blackman and Vigna), one draw a sample. */
#ifndef ODMOE_TEXT_SAMPLER_H
#define ODMOE_TEXT_SAMPLER_H

#include "base/status.h"

#define SAMPLER_WINDOW 64 /* tokens that the repeat penalty looks back on */

typedef struct sampler sampler;

/* sampler_create - for logits of `vocab` tokens; all memory that it will ever use is allocated here. Errors: ERR_RANGE
 * (names the option), ERR_MEMORY. One thread at a time. */
odmoe_status sampler_create(const odmoe_sampler_options *options, int32_t vocab, sampler **out, odmoe_error *err);
void sampler_free(sampler *s); /* NULL is fine */

/* sampler_pick - a token for logits [vocab], which stay unchanged. Logits that are no number never win (0 is returned
 * where none is one); infinite ones share all probability. Does not accept the token. */
int32_t sampler_pick(sampler *s, const float *logits);

/* sampler_accept - the text goes on with this token (prompt included): the repeat penalty's history. */
void sampler_accept(sampler *s, int32_t token);

#endif
