/* session_state.h - what a model remembers of one sequence: its tokens, pages of keys and values, recurrent states.
 *
 *   positions   each layer with keys and values has a table of pages, one entry for PAGE_POSITIONS positions. A session
 *               takes pages as it grows and gives them back when it is cut; a fork shares them, and copies a page
 *               before it writes to it. A sliding layer drops pages that its window has passed.
 *   kept        states of a fixed size for each layer that has one. What is recurrent is overwritten by each token; what
 *               belongs to a chunk, where one ends (at multiples of RECURRENT_CHUNK), and its tokens add to it. There
 *               are two copies of either: a forward call reads the committed one and overwrites the other; commit swaps
 *               the two if it has. What tokens that failed have added lies behind the session's length and means nothing.
 *   snapshots   the state at chosen positions: a copy of what is kept, and references to the pages that sliding layers
 *               will have dropped.
 *
 * A forward call: session_prepare for each of its chunks -> session_slide behind each -> session_commit, or
 * session_rollback: the session is then where it was.
 *
 * Threads: one session is used by one thread at a time; different ones at the same time. */
#ifndef ODMOE_MODEL_SESSION_STATE_H
#define ODMOE_MODEL_SESSION_STATE_H

#include "compute/compute.h"
#include "model/config.h"
#include "model/pages.h"

/* That a session can keep, at most and by default; a further one replaces the oldest. */
#define SNAPSHOTS_MAX 8
#define SNAPSHOTS_DEFAULT 4

/* What a token mixer keeps of a sequence in one layer. */
typedef struct mixer_state {
    uint64_t page_bytes;      /* of PAGE_POSITIONS positions; 0: no keys and values */
    int32_t reach;            /* a token looks at this many positions, its own included; 0: all before it */
    uint64_t recurrent_bytes; /* overwritten by each token; 0: none */
    uint64_t chunk_bytes;     /* overwritten where a chunk ends; 0: none */
} mixer_state;

typedef enum kept_kind { KEPT_RECURRENT, KEPT_CHUNK, KEPT_KINDS } kept_kind;

/* Where a layer's state lies in a session. */
typedef struct layer_place {
    int table;     /* number of its page table; -1: none of its own */
    int class;     /* of its pages */
    int32_t reach; /* 0: pages are never dropped */
    struct {
        uint64_t offset, bytes; /* bytes 0: none */
    } kept[KEPT_KINDS];
} layer_place;

/* How sessions of one model are laid out; made once for a model and a type of keys and values. */
typedef struct session_layout {
    int layers, tables, n_classes;
    layer_place *place; /* [layers] */
    uint64_t page_bytes[PAGE_CLASSES_MAX];
    uint64_t kept_bytes[KEPT_KINDS]; /* of all layers, one copy */
    bool slides;                     /* some layer drops pages */
    int snapshots;                   /* that a session keeps; SNAPSHOTS_DEFAULT, unless the caller changes it */
    int32_t chunk_most;              /* tokens of one chunk, at most: what pages are promised for */
} session_layout;

typedef struct snapshot {
    int32_t position; /* -1: none */
    uint64_t age;
    void **pages; /* [tables][pages_for(context)] of sliding layers only; NULL: none held */
} snapshot;

typedef struct session_state {
    const session_layout *layout;
    struct session_pool *pool;
    int32_t length, context;
    int32_t *tokens; /* [context] */
    void **pages;    /* [tables][pages_for(context)] NULL: none */
    char *kept;      /* [2 + layout->snapshots] copies of recurrent states and chunks: two to swap, the snapshots' */
    int committed[KEPT_KINDS];         /* which of the first two is the present one */
    snapshot snapshots[SNAPSHOTS_MAX]; /* those from layout->snapshots on are never used */
    uint64_t age;
    page_account account;
    void *memory;
    uint64_t bytes; /* of `memory`, besides pages */
} session_state;

/* Where sessions take their memory from. */
typedef struct session_pool {
    page_pool pages;
    uint64_t private_left; /* bytes for what sessions do not share; under pages.lock */
} session_pool;

/* session_layout_make - from the model's mixers. ERR_MEMORY, ERR_UNSUPPORTED (layers with too many kinds of pages).
 * session_layout_free - zeroed is fine. */
odmoe_status session_layout_make(const model_config *c, kv_type kv, int32_t chunk_most, session_layout *out,
                                 odmoe_error *err);
void session_layout_free(session_layout *l);

/* session_bytes - what a session of `context` tokens takes besides pages. session_pages - the pages that it is promised.
 * session_total_bytes - both. */
uint64_t session_bytes(const session_layout *l, int64_t context);
page_counts session_pages(const session_layout *l, int64_t context);
uint64_t session_total_bytes(const session_layout *l, int64_t context);

/* session_pool_open - room for `sessions` sessions of `context` tokens, and, within more_bytes, for as large a part of a
 * further one, or several. ERR_MEMORY. */
odmoe_status session_pool_open(session_pool *p, const session_layout *l, int sessions, int64_t context,
                               uint64_t more_bytes, odmoe_error *err);
void session_pool_close(session_pool *p); /* zeroed is fine */

/* session_create - an empty session. session_fork - one with the same tokens and state, sharing pages; context at least
 * the source's length. ERR_BUDGET: the pool has not enough; ERR_RANGE; ERR_MEMORY. session_free - zeroed is fine. */
odmoe_status session_create(session_pool *p, const session_layout *l, int32_t context, session_state *out,
                            odmoe_error *err);
odmoe_status session_fork(const session_state *from, int32_t context, session_state *out, odmoe_error *err);
void session_free(session_state *s);

/* session_truncate - go back to `length`, or to the nearest position before it that can be restored: *reached. Never
 * fails for 0 <= length <= s->length; position 0 can always be restored. */
odmoe_status session_truncate(session_state *s, int32_t length, int32_t *reached, odmoe_error *err);
/* session_snapshot - remember the present position, so that session_truncate can come back to it. Where every position
 * can be restored it does nothing. ERR_BUDGET: no page for it. */
odmoe_status session_snapshot(session_state *s, odmoe_error *err);
/* session_needs_snapshots - are there positions that only a snapshot can restore? session_forget - drop the one at a
 * position, if there is one. */
bool session_needs_snapshots(const session_state *s);
void session_forget(session_state *s, int32_t position);

/* session_prepare - pages for positions [first, first + n), which a forward call writes; pages that others hold are
 * copied. ERR_BUDGET: other sessions hold the pages that this one would need. session_slide - positions below `next` are
 * done: drop pages that neither they nor the committed state need. session_commit - the session has grown by tokens [n].
 * session_rollback - it has not. */
odmoe_status session_prepare(session_state *s, int32_t first, int32_t n, odmoe_error *err);
void session_slide(session_state *s, int32_t next);
void session_commit(session_state *s, const int32_t *tokens, int32_t n);
void session_rollback(session_state *s);

/* A layer's page table; NULL: it has none. What the layer keeps, for tokens of a forward call from `position` on. */
void *const *session_pages_of(const session_state *s, int layer);
kept_state session_kept_of(const session_state *s, int layer, kept_kind kind, int32_t position);

#endif
