/* engine.h - one thread that runs passes over all sequences, and what it shows of itself.
 *
 * A pass carries one row of every decoding sequence and at most one chunk of prompt rows, so that an expert is read once
 * for all of them; or the sequences take turns, where that reads less (turns.h). Jobs wait in a queue, first come first
 * served; an admitted job gets the session that has computed most of its prompt (slots.h).
 *
 * Threads: any, unless said. */
#ifndef ODMOE_SERVER_ENGINE_H
#define ODMOE_SERVER_ENGINE_H

#include "histogram.h"
#include "job.h"

typedef struct engine engine;

/* The model has to be opened for as many sessions as the engine has sequences, and besides with
 *   odmoe_options.prefix_bytes  at least cache_ram_bytes; with a cache_dir at least a session's share of kv_bytes, as what
 *                               is being written is a fork beyond the sequences (with less, some of it is not written)
 *   odmoe_options.snapshots     ENGINE_SNAPSHOTS: checkpoints, for models whose state cannot be cut back; others take no
 *                               memory for them */
#define ENGINE_SNAPSHOTS 8

typedef struct engine_options {
    int32_t sequences; /* that run at the same time: sessions reserved in the model's plan */
    int32_t context;   /* tokens of each */
    int32_t queue;     /* jobs that may wait */
    /* Where decoding sequences take turns (turns.h): the most seconds that a turn takes, and that a sequence waits for its
     * next turn. 0: 2 and 4. */
    double turn_seconds, wait_seconds;
    /* Prefixes (prefixes.h). cache_dir NULL: none on disk. */
    const char *cache_dir;
    uint64_t cache_disk_bytes, cache_ram_bytes;
    /* One line of the log, from any thread: evictions, damaged files, a full disk. */
    void (*log)(void *user, const char *line);
    void *user;
} engine_options;

odmoe_status engine_open(odmoe_model *model, const engine_options *options, engine **out, odmoe_error *err);
/* engine_drain - take no more jobs, end queued ones with JOB_SHUT_DOWN, let running ones finish for `seconds`, then end
 * them the same way; save prefixes. engine_close - after engine_drain; all jobs must have been freed. */
void engine_drain(engine *e, double seconds);
void engine_close(engine *e);

typedef enum engine_answer { ENGINE_TAKEN, ENGINE_QUEUE_FULL, ENGINE_CLOSING } engine_answer;
/* engine_submit - retry_after: with ENGINE_QUEUE_FULL, seconds (1 .. 60) from the measured rate. */
engine_answer engine_submit(engine *e, job *j, int *retry_after);

/* ---- for /slots, /stats, /metrics: never wait for a pass ---- */

typedef enum slot_state { SLOT_IDLE, SLOT_PROMPT, SLOT_DECODE } slot_state;
typedef struct engine_slot {
    int id;
    slot_state state;
    char request_id[64];
    int32_t context, prompt_tokens, cached_tokens, decoded_tokens, tokens; /* tokens: that the sequence holds */
    double seconds;                                                        /* in this request */
} engine_slot;
/* engine_slots - fill slots [room]; returns how many there are. */
int engine_slots(engine *e, engine_slot *slots, int room);

typedef enum prefix_where { PREFIX_MEMORY, PREFIX_DISK, PREFIX_WHERES } prefix_where;
typedef struct engine_stats {
    int running, queued;
    uint64_t prompt_tokens_computed, prompt_tokens_cached[PREFIX_WHERES], generated_tokens, passes;
    histogram pass_sequences; /* 1 2 4 8 16 */
    histogram queue_seconds, first_token_seconds, inter_token_seconds, request_seconds;
    uint64_t cancelled_queued, cancelled_prompt, cancelled_decode;
    uint64_t finished_stop, finished_length, finished_calls, finished_failed;
    uint64_t prefix_entries[PREFIX_WHERES], prefix_bytes[PREFIX_WHERES];
    uint64_t prefix_saves, prefix_loads, prefix_evictions[PREFIX_WHERES], prefix_failures;
} engine_stats;
void engine_stats_get(engine *e, engine_stats *out);

#endif
