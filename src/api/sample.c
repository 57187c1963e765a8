#include <string.h>

#include "api/handles.h"
#include "text/sampler.h"

/* The public handle is the sampler itself. */

void odmoe_sampler_options_init(odmoe_sampler_options *options)
{
    *options = (odmoe_sampler_options){
        .size = sizeof *options, .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1};
}

odmoe_status odmoe_sampler_create(const odmoe_sampler_options *options, int32_t vocab, odmoe_sampler **out,
                                  odmoe_error *err)
{
    odmoe_sampler_options all;
    odmoe_sampler_options_init(&all);
    odmoe_status status = options ? copy_in(&all, options, sizeof all, "odmoe_sampler_options_init", err) : ODMOE_OK;
    sampler *s;
    if (!status)
        status = sampler_create(&all, vocab, &s, err);
    if (!status)
        *out = (odmoe_sampler *)s;
    return status;
}

void odmoe_sampler_free(odmoe_sampler *handle)
{
    sampler_free((sampler *)handle);
}

int32_t odmoe_sample(odmoe_sampler *handle, const float *logits)
{
    return sampler_pick((sampler *)handle, logits);
}

void odmoe_sampler_accept(odmoe_sampler *handle, int32_t token)
{
    sampler_accept((sampler *)handle, token);
}
