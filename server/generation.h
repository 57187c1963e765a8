/* generation.h - one answer: from logits to deltas.
 *
 *   logits -> mask (grammar) -> sample -> text -> output parser -> stop strings (content only) -> deltas
 *
 * Threads: created by a connection's thread, then used by the engine's alone. */
#ifndef ODMOE_SERVER_GENERATION_H
#define ODMOE_SERVER_GENERATION_H

#include "job.h"

typedef struct generation generation;

/* generation_create - deltas go to `to`. Owns request->grammar on success. Errors: as job_create's. */
odmoe_status generation_create(const odmoe_model *model, const job_request *request, job *to, generation **out,
                               odmoe_error *err);
void generation_free(generation *g); /* NULL is fine */

/* generation_limit - how many tokens may be sampled in a context of `context` tokens. */
int32_t generation_limit(const generation *g, int32_t context);

/* generation_next - pick a token from the raw logits behind the text so far, and hand on the text that it makes certain.
 * limit: of generation_limit. True: the answer goes on behind *token; false: it has ended, see generation_result. */
bool generation_next(generation *g, const float *logits, int32_t limit, int32_t *token);

/* generation_end - end it from outside: what is held goes out. Once it has ended this does nothing. */
void generation_end(generation *g, job_finish finish, const odmoe_error *error);

typedef struct generation_result {
    job_finish finish;
    int stop_index;
    odmoe_error error;
    int32_t sampled, reasoning, calls;
} generation_result;
const generation_result *generation_result_of(const generation *g);

#endif
