#include "adamw.h"

#include <math.h>

adamw adamw_defaults(void)
{
    return (adamw){.rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .weight_decay = 0.01f};
}

void adamw_update(const adamw *a, int64_t step, float *w, const float *gradient, float scale, float *m, float *v,
                  size_t n)
{
    float first = (float)(1 - pow(a->beta1, (double)step)), second = (float)(1 - pow(a->beta2, (double)step));
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * scale;
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * g;
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * g * g;
        w[i] -= a->rate * (m[i] / first / (sqrtf(v[i] / second) + a->epsilon) + a->weight_decay * w[i]);
    }
}

float adamw_clip(double squares, double limit)
{
    double norm = sqrt(squares);
    return limit > 0 && norm > limit ? (float)(limit / norm) : 1.0f;
}
