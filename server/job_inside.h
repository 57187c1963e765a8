/* job_inside.h - what the engine sees of a job. Included by engine.c, generation.c and job.c.
 *
 *   created -> submitted (queued -> running) -> ended
 *
 * From engine_submit to job_end the job is the engine's: its thread may look at it at any time. job_end is the engine's
 * last touch; job_free waits for it. */
#ifndef ODMOE_SERVER_JOB_INSIDE_H
#define ODMOE_SERVER_JOB_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "clock.h"
#include "job.h"

struct engine;
struct generation;

/* An event that waits, with all that it points to behind it. */
typedef struct job_node {
    struct job_node *next;
    size_t bytes;
    bool embedded; /* it is a part of the job, not an allocation of its own */
    job_event event;
} job_node;

struct job {
    /* The request; constant. */
    char id[64];
    int32_t *tokens; /* [n] */
    int32_t n;
    bool cache_prompt;
    int32_t *checkpoints; /* [checkpoint_count] */
    size_t checkpoint_count;

    atomic_bool cancelled;

    /* Events, and whether the job is under way; under `lock`. */
    pthread_mutex_t lock;
    int event_fd; /* readable while something is there */
    job_node *first, *last, *taken;
    size_t bytes;               /* of those that wait */
    job_node admission, ending; /* there is always memory for these */
    struct engine *engine;      /* from submission to the end; NULL otherwise. It outlives its jobs */
    pthread_cond_t left;        /* the engine has let go of the job */

    /* The engine's, under its lock or by its thread alone. */
    struct job *next; /* in the queue */
    struct generation *generation;
    job_usage usage;
    double submitted, admitted, first_token, last_token;
};

/* job_submitted - the engine has it now. job_admitted, job_delta, job_end - events; a copy is made of everything, of each
 * log probability's `best` entries too. job_delta: false where there is no memory. job_end is the last touch. */
void job_submitted(job *j, struct engine *e);
void job_admitted(job *j);
bool job_delta(job *j, const odmoe_delta *delta, const job_logprob *logprobs, size_t n, size_t best);
void job_end(job *j, job_finish finish, int stop_index, const odmoe_error *error);

/* job_full - its reader is so far behind that no more may be computed for it. */
bool job_full(job *j);

#endif
