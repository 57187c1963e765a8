#include "model/rope.h"

#include <math.h>

void rope_layout(arena *a, const rope_set *s, rope *out)
{
    out->half = s->dim / 2;
    out->pairing = s->pairing;
    out->inverse_freq = arena_take(a, (size_t)out->half, sizeof(float));
}

/* The dimension whose wavelength makes `turns` turns over the original context. */
static double yarn_dimension(const rope_set *s, double turns)
{
    const double two_pi = 6.283185307179586;
    return s->dim * log((double)s->positions.original_context / (turns * two_pi)) / (2 * log(s->positions.theta));
}

/* Where the mixed dimensions begin and end. Only the outer sides are held to the head, as in transformers: with a very
 * short original context the ends can come out in the wrong order, and the ramp falls. llama.cpp makes it a step then.
 */
static void yarn_ends(const rope_set *s, double *low, double *high)
{
    const rope_config *rc = &s->positions;
    *low = yarn_dimension(s, rc->beta_fast);
    *high = yarn_dimension(s, rc->beta_slow);
    *low = fmax(rc->truncate ? floor(*low) : *low, 0);
    *high = fmin(rc->truncate ? ceil(*high) : *high, s->dim - 1);
    if (rc->step_ramp)
        *high = fmax(*high, *low + 0.001);
    else if (*low == *high)
        *high += 0.001;
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : (x > high ? high : x);
}

odmoe_status rope_fill(rope *r, const rope_set *s, const float *factors, odmoe_error *err)
{
    const rope_config *rc = &s->positions;
    bool yarn = rc->scaling == ROPE_YARN;
    double low = 0, high = 0;
    r->scale = 1;
    if (yarn) {
        yarn_ends(s, &low, &high);
        r->scale =
            (float)(rc->attention_factor > 0 ? rc->attention_factor : (rc->factor > 1 ? 0.1 * log(rc->factor) + 1 : 1));
    }
    for (int i = 0; i < r->half; i++) {
        double freq = 1 / pow(rc->theta, 2.0 * i / s->dim);
        if (rc->scaling == ROPE_LINEAR)
            freq /= rc->factor;
        if (yarn) { /* fast dimensions stay, slow ones are stretched, those between are mixed */
            double ramp = clamp((i - low) / (high - low), 0, 1);
            freq = freq / rc->factor * ramp + freq * (1 - ramp);
        }
        r->inverse_freq[i] = (float)freq / (factors ? factors[i] : 1.0f);
        if (!isfinite(r->inverse_freq[i]) || r->inverse_freq[i] < 0)
            return err_set(err, ODMOE_ERR_FORMAT, "position frequency %d is %g: rope_freqs or the rope base is wrong",
                           i, (double)r->inverse_freq[i]);
    }
    return ODMOE_OK;
}
