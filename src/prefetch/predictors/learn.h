/* learn.h - what the predictors that learn share. */
#ifndef ODMOE_PREFETCH_PREDICTORS_LEARN_H
#define ODMOE_PREFETCH_PREDICTORS_LEARN_H

#include "prefetch/predictors/predictor.h"

/* predictor_numbers - a * b * c zeros; free() them. ERR_MEMORY, also where their number overflows. */
float *predictor_numbers(size_t a, size_t b, size_t c, odmoe_error *err);

/* predictor_scatter - w [n] at random around 0. Always the same numbers: the same calls, the same guesses. */
void predictor_scatter(float *w, size_t n, float deviation);

/* predictor_error - a guess, probs [experts], turned into the gradient by its logits of the cross entropy between what a
 * layer chose, topk and topw [top_k] divided by their sum, and the guess. False, and zeros, where either is no number:
 * there is nothing to learn from. */
bool predictor_error(float *probs, int experts, const int32_t *topk, const float *topw, int top_k);

#endif
