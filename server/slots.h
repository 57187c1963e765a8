/* slots.h - the sequences that jobs run in, and what they hold from one job to the next.
 *
 * A job gets the session that has computed most of its prompt: a free slot's own, cut back; a fork of another slot's or of
 * a prefix in memory; or a file's. What a slot loses by that is kept (prefixes.h).
 *
 * Threads: the engine's alone. */
#ifndef ODMOE_SERVER_SLOTS_H
#define ODMOE_SERVER_SLOTS_H

#include "job_inside.h"
#include "prefixes.h"

typedef struct slot {
    int id;
    odmoe_session *session; /* NULL: no pages are free for it, for now */
    job *job;               /* NULL: free */
    slot_state state;
    bool kept; /* its tokens may serve other jobs */
    uint64_t used;
    prefix_load load;    /* in state LOAD_WAITS the session is the loading thread's */
    bool starved;        /* a pass lacked pages; it waits for forks that are being written */
    bool tried;          /* ... there were none, and the pass was tried again */
    bool unsaved;        /* its tokens are to be written */
    int32_t saved;       /* tokens that it had when it was last written */
    int32_t limit;       /* tokens to be sampled */
    int32_t next, input; /* the token that comes next, and the one that goes into the pass under way */
    bool goes_on;        /* of the pass under way: its answer has not ended */
    uint64_t turned;     /* number of its latest turn (turns.h), counted through all slots; 0: it had none */
} slot;

typedef struct slots {
    odmoe_model *model;
    int32_t n, context;
    slot *at; /* [n] */
    prefixes *prefixes;
    uint64_t clock;       /* ticks with each job */
    bool needs_snapshots; /* some positions can be restored only where a snapshot was made */
    bool no_room;         /* no job can be placed until forks are written */
} slots;

/* slots_open - done(user) is called by another thread when something was written or read. Errors: odmoe_session_create's,
 * prefix_files_open's. slots_close - writes nothing more; a failed or zeroed one is fine. slots_save_all - write all that
 * is worth it and not written, and close the folder. */
odmoe_status slots_open(slots *s, odmoe_model *model, const engine_options *options, void (*done)(void *user),
                        void *user, odmoe_error *err);
void slots_close(slots *s);
void slots_save_all(slots *s);

/* slots_may_place - is a slot free? slots_place - give one to a job; what was found is in the job's usage. Not OK: there is
 * no session for it, the slot is free again: ERR_BUDGET only until forks are written (s->no_room), or for good. *loading:
 * a file is being read first; slots_settle, once its state says so, does the rest. */
bool slots_may_place(const slots *s);
odmoe_status slots_place(slots *s, job *j, slot **out, bool *loading, odmoe_error *err);
void slots_settle(slots *s, slot *at);

/* slots_prompt_end - where rows of the prompt that begin at `done` have to end at the latest, for a snapshot to be made.
 * slots_grew - after a pass: make the snapshot, and write long prompts now and then. */
int32_t slots_prompt_end(const slots *s, const slot *at, int32_t done);
void slots_grew(slots *s, slot *at);

/* slots_starved - a pass lacked pages for this slot. False: no pages will become free. slots_retry - forks have been
 * written: waiting slots may try again. */
bool slots_starved(slots *s, slot *at);
void slots_retry(slots *s);

/* slots_release - its job has ended. slots_save - hand what is not written to the folder's thread. */
void slots_release(slots *s, slot *at);
void slots_save(slots *s);

#endif
