/* forward.h - tokens of several sequences through the model. */
#ifndef ODMOE_MODEL_FORWARD_H
#define ODMOE_MODEL_FORWARD_H

#include "model/session_state.h"
#include "odmoe.h"

struct model;

/* What one sequence brings to a call, and what became of it. */
typedef struct forward_sequence {
    session_state *session;
    const int32_t *tokens; /* [n] which go on where the session stands */
    int32_t n;
    odmoe_phase phase;
    odmoe_logits_wanted want;
    odmoe_status status; /* out: this sequence's; anything but ODMOE_OK: its session is as it was */
    odmoe_error *error;  /* out, or NULL */
    int64_t logits_row;  /* the driver's: its first row of forward_call.logits */
} forward_sequence;

typedef struct forward_call {
    forward_sequence *sequences; /* [n] of different sessions */
    int32_t n;
    float *logits; /* [rows wanted, vocab] in the order of the sequences, or NULL */
    void (*on_logits)(void *user, int32_t sequence, int32_t token, const float *logits);
    void (*on_tap)(void *user, const odmoe_tap *tap);
    int (*progress)(void *user, odmoe_stage stage, uint64_t done, uint64_t total); /* non-zero cancels the call */
    int (*cancelled)(void *user, int32_t sequence);                                /* non-zero cancels the sequence */
    void *user;
} forward_call;

/* forward_run - run the call in chunks of the plan's size. A sequence that fails (a read error of an expert that one of
 * its tokens needs, no page, numbers that are none, cancelled) leaves the call; the others go on and give the bytes
 * that they give alone.
 * Result   the status and message of the first sequence, in order, that failed; ODMOE_OK when none did. ERR_ARG and
 *          ERR_RANGE of the call's own arguments: nothing was done.
 * Threads  calls over one model wait for each other. Statistics, sessions and plans do not wait for a call. */
odmoe_status forward_run(struct model *m, forward_call *call, odmoe_error *err);

#endif
