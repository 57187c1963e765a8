#include "prefetch/predictors/learn.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

float *predictor_numbers(size_t a, size_t b, size_t c, odmoe_error *err)
{
    uint64_t n;
    if (!mem_mul(a, b, &n) || !mem_mul(n, c, &n) || n > SIZE_MAX / sizeof(float)) {
        err_set(err, ODMOE_ERR_MEMORY, "no memory for a predictor of %zu x %zu x %zu numbers", a, b, c);
        return NULL;
    }
    return mem_calloc((size_t)n, sizeof(float), "a predictor", err);
}

void predictor_scatter(float *w, size_t n, float deviation)
{
    const float width = deviation * 3.4641016f; /* sqrt(12): of uniform numbers */
    uint64_t random = 1;
    for (size_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        w[i] = ((float)(random >> 40) * 0x1p-24f - 0.5f) * width;
    }
}

bool predictor_error(float *probs, int experts, const int32_t *topk, const float *topw, int top_k)
{
    float total = 0, sum = 0;
    for (int i = 0; i < top_k; i++)
        total += topw[i] > 0 ? topw[i] : 0;
    for (int e = 0; e < experts; e++)
        sum += probs[e];
    if (!(total > 0) || !isfinite(total) || !isfinite(sum)) {
        memset(probs, 0, (size_t)experts * sizeof *probs);
        return false;
    }
    for (int i = 0; i < top_k; i++)
        probs[topk[i]] -= topw[i] > 0 ? topw[i] / total : 0;
    return true;
}
