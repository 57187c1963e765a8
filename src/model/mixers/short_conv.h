/* short_conv.h - a gated short convolution (LFM2) as a token mixer: y = out(C * conv(B * x)), where B, C and x are linear in
 * the layer's input, and conv is causal, each channel by itself. It keeps the last inputs of the convolution. */
#ifndef ODMOE_MODEL_SHORT_CONV_H
#define ODMOE_MODEL_SHORT_CONV_H

#include "model/mixers/mixer.h"

typedef enum short_conv_role {
    SHORT_CONV_B,
    SHORT_CONV_C,
    SHORT_CONV_X,
    SHORT_CONV_TAPS,
    SHORT_CONV_OUT,
    SHORT_CONV_ROLES
} short_conv_role;

typedef enum short_conv_dim { DIM_SHORT_CONV_WIDTH = DIM_OF_MIXER } short_conv_dim;

extern const weight_rule short_conv_weights[];

extern const mixer mixer_short_conv;

#endif
