#include <string.h>

#include "api/handles.h"
#include "text/logprobs.h"
#include "text/sampler.h"
#include "text/stop_filter.h"

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

odmoe_status odmoe_sample(odmoe_sampler *handle, const float *logits, const uint32_t *mask, int32_t *token,
                          odmoe_error *err)
{
    return sampler_pick((sampler *)handle, logits, mask, token, err);
}

void odmoe_sampler_accept(odmoe_sampler *handle, int32_t token)
{
    sampler_accept((sampler *)handle, token);
}

odmoe_status odmoe_logprobs(const float *logits, int32_t vocab, int32_t token, float *logprob, odmoe_logprob *best,
                            size_t n, odmoe_error *err)
{
    return logprobs(logits, vocab, token, logprob, best, n, err);
}

/* ---- stop strings ---- */

odmoe_status odmoe_stop_create(const char *const *texts, size_t count, odmoe_stop **out, odmoe_error *err)
{
    return stop_filter_create(texts, count, (stop_filter **)out, err);
}

void odmoe_stop_free(odmoe_stop *handle)
{
    stop_filter_free((stop_filter *)handle);
}

odmoe_status odmoe_stop_push(odmoe_stop *handle, const char *text, size_t length, const char **out, size_t *out_length,
                             int *found, odmoe_error *err)
{
    bool hit;
    odmoe_status st = stop_filter_push((stop_filter *)handle, text, length, out, out_length, &hit, err);
    if (!st)
        *found = hit;
    return st;
}

void odmoe_stop_flush(odmoe_stop *handle, const char **out, size_t *out_length)
{
    stop_filter_flush((stop_filter *)handle, out, out_length);
}
