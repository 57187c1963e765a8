/* replay.h - what a cache policy would have done: a routing trace through the store's own directory and policies,
 * without files or a model. */
#ifndef ODMOE_STORE_REPLAY_H
#define ODMOE_STORE_REPLAY_H

#include "store/trace.h"

typedef struct replay_result {
    char policy[24];
    uint64_t fetched, hits;               /* experts asked for, once a fetch; found cached when it began */
    uint64_t decode_fetched, decode_hits; /* of these, not in a prompt */
    uint64_t bytes_read;
    double hit_pct_cum, hit_pct_decode; /* 0 where nothing was fetched */
} replay_result;

/* replay_run - send the trace through a cache of cache_bytes with one policy: a name from policy.h, or "belady": the
 * expert that is needed again last goes first. That is the optimum among those that have to cache what they read (no
 * bypass), provided all experts have the same size; so with belady, and with any policy when equal_sizes is set, each
 * takes the room of the average one (bytes_read counts real bytes). Errors: ERR_ARG (unknown policy), ERR_BUDGET (no
 * room for one expert), ERR_MEMORY. */
odmoe_status replay_run(const trace *t, uint64_t cache_bytes, const char *policy_name, bool equal_sizes,
                        replay_result *out, odmoe_error *err);

/* replay_uniform - a made-up trace: `passes` decoded tokens, each using top_k of `experts` in each layer, drawn evenly.
 * Free it with trace_clear. */
odmoe_status replay_uniform(int layers, int experts, int top_k, int passes, uint64_t seed, trace *out,
                            odmoe_error *err);

#endif
