#include "shadow/shadow.h"

static const shadow_kind kinds[] = {
    {"frequency", false, shadow_frequency_create}, {"previous", false, shadow_previous_create},
    {"router", true, shadow_router_create},        {"router_low_rank", true, shadow_low_rank_create},
    {"network", false, shadow_network_create},
};

const shadow_kind *shadow_kind_at(int i)
{
    return i >= 0 && i < (int)(sizeof kinds / sizeof *kinds) ? &kinds[i] : NULL;
}

void shadow_emit(const float *scores, int count, int32_t *experts, float *out, int32_t *n)
{
    *n = 0;
    for (int e = 0; e < count; e++)
        if (scores[e] > 0) {
            experts[*n] = e;
            out[(*n)++] = scores[e];
        }
}
