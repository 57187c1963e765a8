#include "model/mixers/linear_attention.h"

#define NORM_EPS 1e-6f /* no file says it: flash-linear-attention's own */

odmoe_status linear_check(const model_config *c, odmoe_error *err)
{
    const struct {
        const char *what;
        int64_t value, least, most;
    } numbers[] = {
        {"heads", c->linear_heads, 1, MODEL_HEADS_MAX},
        {"key heads", c->linear_key_heads, 1, MODEL_HEADS_MAX},
        {"key length of a head", c->linear_key_dim, 1, 4096},
        {"value length of a head", c->linear_value_dim, 1, 4096},
        {"size of all keys", (int64_t)c->linear_key_heads * c->linear_key_dim, 1, MODEL_DIM_MAX},
        {"size of all values", (int64_t)c->linear_heads * c->linear_value_dim, 1, MODEL_DIM_MAX},
        {"width of the convolution", c->conv_width, 2, CONV_MOST},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value < numbers[i].least || numbers[i].value > numbers[i].most)
            return err_set(err, ODMOE_ERR_FORMAT, "linear attention: %s: %lld, expected %lld to %lld", numbers[i].what,
                           (long long)numbers[i].value, (long long)numbers[i].least, (long long)numbers[i].most);
    return ODMOE_OK;
}

token_op linear_norm_op(buffer *y, int64_t column, int64_t dim, int64_t heads, float factor)
{
    return (token_op){
        .kind = TOKEN_L2_NORM, .y = y, .x = y, .at = {column, dim, heads, dim}, .factor = factor, .eps = NORM_EPS};
}
