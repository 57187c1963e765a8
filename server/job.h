/* job.h - one generation: what protocols ask for, and what the engine gives back.
 *
 * A connection's thread fills a job_request, creates a job, submits it (engine.h), and takes its events one by one
 * until JOB_END. The engine's thread computes: it never calls code of a protocol, and never waits for a reader. The job
 * keeps events until its reader takes them; the engine leaves a job with JOB_EVENTS_BYTES_MAX of them out of its passes
 * until then.
 *
 * Threads: job_next, job_free by the thread that created it; job_cancel by any. */
#ifndef ODMOE_SERVER_JOB_H
#define ODMOE_SERVER_JOB_H

#include <odmoe.h>
#include <stdbool.h>

#define JOB_EVENTS_BYTES_MAX (1 << 20)

typedef struct job job;

/* Everything is borrowed for the call of job_create, but for `grammar`. */
typedef struct job_request {
    const char *id;        /* of the request, for slots and the log */
    const int32_t *tokens; /* [n] the prompt, shorter than the context */
    int32_t n;
    int32_t max_tokens; /* to be sampled; 0: the prompt is run and kept; negative: to the end of the context */
    odmoe_sampler_options sampling; /* its bias is borrowed too */
    const char *const *stop;        /* [stop_count] they count in the content only */
    size_t stop_count;
    odmoe_grammar *grammar; /* owned by the job from job_create on, on failure too; or NULL. Its triggers say where it
                               begins */
    /* How the text is split (odmoe_output_create). format NULL: all of it is content. */
    const char *format, *prompt_tail, *tools;
    bool one_call;            /* stop behind the first whole call */
    int32_t thinking_budget;  /* tokens of reasoning, then `thinking_end` is forced; negative: no limit */
    const char *thinking_end; /* the text that ends the reasoning ("</think>"), or NULL */
    int logprobs;             /* negative: none; else the log probability of each token, and of the best 0 .. 20 */
    bool ignore_eos;          /* end tokens are never picked */
    bool cache_prompt;        /* prefixes may be reused, and this one kept */
    /* [checkpoint_count] ascending positions of the prompt worth coming back to (the end of system and tools, the beginning
     * of each user turn): models whose state cannot be cut back keep a copy there. */
    const int32_t *checkpoints;
    size_t checkpoint_count;
} job_request;

/* One token's log probability, from the raw logits. The texts are the tokens' bytes. */
typedef struct job_logprob {
    int32_t token;
    float logprob;
    const char *bytes; /* [length] */
    size_t length;
    const odmoe_logprob *best; /* [request.logprobs] */
} job_logprob;

typedef enum job_finish {
    JOB_STOPPED_AT_END,    /* an end token, or the grammar's end */
    JOB_STOPPED_AT_STRING, /* a stop string: `stop_index` */
    JOB_LENGTH,            /* max_tokens, or the context is full */
    JOB_FAILED,            /* `error` says why: ERR_IO, ERR_STATE (no token is possible), ERR_BUDGET ... */
    JOB_CANCELLED,         /* by job_cancel */
    JOB_SHUT_DOWN          /* the server ends: it was still queued, or --drain is over */
} job_finish;

typedef struct job_usage {
    int32_t prompt_tokens;
    int32_t cached_tokens; /* of them, not computed anew: from another sequence, memory or disk; at most prompt - 1 */
    int32_t cached_from_disk; /* of them */
    int32_t sampled_tokens;   /* thinking, markup and the end token included */
    int32_t reasoning_tokens; /* of them */
    int32_t calls;            /* whole calls of tools */
    double queue_seconds, prompt_seconds, decode_seconds, first_token_seconds; /* first token: since submission */
    uint64_t expert_bytes_read; /* by passes that this job took part in, divided by their sequences */
    double stall_seconds;       /* the same */
} job_usage;

typedef enum job_event_kind {
    JOB_ADMITTED, /* a sequence is there; `usage` has prompt and cached tokens */
    JOB_DELTA,    /* `delta`; with logprobs the entries of the tokens since the last delta come along */
    JOB_END       /* `finish`, `usage`; no further event comes */
} job_event_kind;

/* Valid until the next call on the job. */
typedef struct job_event {
    job_event_kind kind;
    odmoe_delta delta;           /* as in odmoe.h: calls come in pieces (odmoe_output_stream_calls) */
    const job_logprob *logprobs; /* [logprob_count] */
    size_t logprob_count;
    job_finish finish;
    int stop_index;
    odmoe_error error;
    job_usage usage;
} job_event;

/* job_create - check and copy the request. Errors: ERR_ARG, ERR_RANGE (a number of the sampling), ERR_MEMORY. */
odmoe_status job_create(const odmoe_model *model, const job_request *request, job **out, odmoe_error *err);
/* job_free - a job that is under way is cancelled first, and waited for. NULL is fine. */
void job_free(job *j);

typedef enum job_wait {
    JOB_EVENT,   /* *event is filled */
    JOB_TIMEOUT, /* nothing came in that time */
    JOB_HUNG_UP  /* the peer of `socket` has closed, or half-closed, its side */
} job_wait;

/* job_next - wait for the next event, for at most timeout_ms, and watch the client's socket meanwhile (-1: none). */
job_wait job_next(job *j, int socket, int timeout_ms, job_event *event);

/* job_cancel - end it: queued, it leaves the queue; in its prompt, after the pass under way; decoding, before the next
 * one. JOB_END with JOB_CANCELLED follows, unless it ended before. What it has computed is kept as a prefix. */
void job_cancel(job *j);

#endif
