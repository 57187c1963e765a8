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

/* A frequency that is stretched (ramp 1), stays (0), or is mixed of both. */
static double mixed(double freq, double factor, double ramp)
{
    return freq / factor * ramp + freq * (1 - ramp);
}

static double yarn_ramp(const rope_set *s, int pair)
{
    double low, high;
    yarn_ends(s, &low, &high);
    return clamp((pair - low) / (high - low), 0, 1);
}

/* The same by turns over the original context. */
static double llama3_ramp(const rope_config *rc, double freq)
{
    const double two_pi = 6.283185307179586;
    double turns = (double)rc->original_context * freq / two_pi, width = rc->beta_fast - rc->beta_slow;
    return width > 0 ? clamp((rc->beta_fast - turns) / width, 0, 1) : turns < rc->beta_slow;
}

static double frequency(const rope_set *s, int pair)
{
    const rope_config *rc = &s->positions;
    double freq = 1 / pow(rc->theta, 2.0 * pair / s->dim);
    switch (rc->scaling) {
    case ROPE_LINEAR:
        return freq / rc->factor;
    case ROPE_PROPORTIONAL:
        return pair < (int)floor(rc->part * s->dim / 2) ? freq / rc->factor : 0;
    case ROPE_YARN:
        return mixed(freq, rc->factor, yarn_ramp(s, pair));
    case ROPE_LLAMA3:
        return mixed(freq, rc->factor, llama3_ramp(rc, freq));
    case ROPE_LONG:
    case ROPE_NONE:
        break;
    }
    return freq;
}

/* What multiplies cos and sin. */
static double attention_factor(const rope_config *rc, bool long_context)
{
    double given = long_context ? rc->long_attention : rc->attention_factor;
    if (rc->scaling != ROPE_YARN && rc->scaling != ROPE_LONG)
        return 1;
    if (given > 0 || rc->factor <= 1)
        return given > 0 ? given : 1;
    return rc->scaling == ROPE_YARN ? 0.1 * log(rc->factor) + 1
                                    : sqrt(1 + log(rc->factor) / log((double)rc->original_context));
}

bool rope_is_long(const rope_set *s, int64_t context)
{
    return s->positions.scaling == ROPE_LONG && context > s->positions.original_context;
}

odmoe_status rope_fill(rope *r, const rope_set *s, const float *factors, int64_t context, odmoe_error *err)
{
    r->scale = (float)attention_factor(&s->positions, rope_is_long(s, context));
    for (int i = 0; i < r->half; i++) {
        r->inverse_freq[i] = (float)frequency(s, i) / (factors ? factors[i] : 1.0f);
        if (!isfinite(r->inverse_freq[i]) || r->inverse_freq[i] < 0)
            return err_set(err, ODMOE_ERR_FORMAT, "position frequency %d is %g: rope_freqs or the rope base is wrong",
                           i, (double)r->inverse_freq[i]);
    }
    return ODMOE_OK;
}
