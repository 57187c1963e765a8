#include "prefetch/predictors/predictor.h"

static const predictor_kind kinds[] = {
    {"frequency", false, predictor_frequency_create}, {"previous", false, predictor_previous_create},
    {"router", true, predictor_router_create},        {"router_low_rank", true, predictor_low_rank_create},
    {"network", false, predictor_network_create},
};

const predictor_kind *predictor_kind_at(int i)
{
    return i >= 0 && i < (int)(sizeof kinds / sizeof *kinds) ? &kinds[i] : NULL;
}

void predictor_emit(const float *scores, int count, int32_t *experts, float *out, int32_t *n)
{
    *n = 0;
    for (int e = 0; e < count; e++)
        if (scores[e] > 0) {
            experts[*n] = e;
            out[(*n)++] = scores[e];
        }
}
