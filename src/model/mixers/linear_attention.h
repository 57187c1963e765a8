/* linear_attention.h - what mixers of linear attention share. */
#ifndef ODMOE_MODEL_LINEAR_ATTENTION_H
#define ODMOE_MODEL_LINEAR_ATTENTION_H

#include "model/mixers/mixer.h"

/* linear_check - do the numbers of linear attention (linear_*, conv_width) size something? ERR_FORMAT names one that does
 * not; beyond it, the sizes of all heads together are at most MODEL_DIM_MAX. */
odmoe_status linear_check(const model_config *c, odmoe_error *err);

/* linear_norm_op - queries or keys, `heads` of `dim` numbers from column `column` of y on, to length `factor`. */
token_op linear_norm_op(buffer *y, int64_t column, int64_t dim, int64_t heads, float factor);

#endif
