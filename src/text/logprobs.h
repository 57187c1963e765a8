/* logprobs.h - log probabilities of tokens from a model's own logits: before temperature, penalties and masks. */
#ifndef ODMOE_TEXT_LOGPROBS_H
#define ODMOE_TEXT_LOGPROBS_H

#include "base/status.h"

/* logprobs - of `token` into *logprob, and the best n into best [n], falling, of equals the lower id first; the rest of
 * best is {-1, -infinity} where n > vocab. A logit that is no number counts as -infinity; infinite ones share all
 * probability. ERR_RANGE: the token is not in [0, vocab), or no logit is above -infinity. Threads: any. */
odmoe_status logprobs(const float *logits, int32_t vocab, int32_t token, float *logprob, odmoe_logprob *best, size_t n,
                      odmoe_error *err);

#endif
