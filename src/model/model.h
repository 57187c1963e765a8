/* model.h - an open model: headers first (model_prepare), then the plan, then everything in memory (model_load). */
#ifndef ODMOE_MODEL_MODEL_H
#define ODMOE_MODEL_MODEL_H

#include <pthread.h>

#include "model/arch/arch.h"
#include "model/rope.h"
#include "model/session_state.h"
#include "model/workspace.h"
#include "moe/expert_residents.h"

/* Where a token embedding that is not the output matrix as well is kept. On the disk: its rows are read when tokens name
 * them. */
typedef enum embeddings_place {
    EMBEDDINGS_AUTO, /* on the disk when the budget does not hold all experts */
    EMBEDDINGS_MEMORY,
    EMBEDDINGS_DISK
} embeddings_place;

/* What the options come to. */
typedef struct model_settings {
    uint64_t ram_bytes;
    uint64_t reserve_bytes; /* of them: the caller's own, at most 2^60 */
    uint64_t prefix_bytes;  /* of them: for forks beyond `sessions`, at most 2^60 */
    int snapshots;          /* of each session */
    int context;            /* per session; 0: min(4096, the model's) */
    int sessions, threads;
    int chunk; /* 0: from the budget */
    int logits_rows;
    const struct kernel_table *kernels;
    kv_type kv;
    io_mode io;
    const char *policy;
    bool prefetch; /* read later layers' likely experts ahead in decoding, where that pays */
    embeddings_place embeddings;
    int (*progress)(void *user, odmoe_stage stage, uint64_t done, uint64_t total);
    void *user;
} model_settings;

typedef struct model {
    /* after model_prepare */
    model_files files;
    const arch *arch;
    model_config config;
    model_weights weights;
    expert_residents residents; /* biases and scales of experts */
    char format[16];
    const struct mixer *mixers[MIXERS_MAX]; /* those that its layers have, each once; NULL at the end */
    /* after model_load */
    model_settings settings;
    odmoe_plan plan;
    compute compute;
    experts_shape shape;
    store *store;
    expert_source source;
    local_executor local;
    expert_executor executor;
    rope ropes[ROPE_SETS_MAX];
    workspace work;
    void *memory; /* workspace and rope tables */
    size_t memory_bytes;
    session_layout sessions;
    session_pool pool;
    pthread_mutex_t lock;          /* held during a forward call */
    pthread_mutex_t counters_lock; /* for the figures below, a few instructions long */
    bool locks_made;
    uint64_t fingerprint; /* what a saved sequence must have come from; fingerprint.h */
    uint64_t tokens, chunks;
    double forward_seconds;
    row_counters rows;        /* of the embedding on the disk: the reader's, as of the end of a chunk, ... */
    row_counters rows_before; /* ... and when they were reset */
    uint64_t peak_anon;
} model;

/* model_prepare - open the files, recognise the family, bind every tensor. Reads headers only. */
odmoe_status model_prepare(const char *path, model *out, odmoe_error *err);
/* model_describe - the figures of `inspect`; fills all but size. */
void model_describe(const model *m, odmoe_info *info);
/* model_drop_metadata - free what only model_prepare (and the tokenizer) needed. Call it before model_load. */
void model_drop_metadata(model *m);

/* model_plan - divide the budget; nothing is loaded. extra_bytes: what the caller holds besides (the tokenizer).
 * `plan` is filled on ODMOE_OK and ERR_BUDGET; the model remembers where its embedding is to be. ERR_UNSUPPORTED, ERR_FORMAT:
 * the experts don't suit the kernels; ERR_RANGE: settings beyond the model's context. */
odmoe_status model_plan(model *m, const model_settings *s, uint64_t extra_bytes, odmoe_plan *plan, odmoe_error *err);

/* model_load - everything into memory as planned. On failure call model_close all the same. */
odmoe_status model_load(model *m, const model_settings *s, const odmoe_plan *plan, odmoe_error *err);
void model_close(model *m); /* zeroed is fine */

/* plan_sessions - how sessions are laid out with these settings; session_layout_free it. ERR_MEMORY, ERR_UNSUPPORTED. */
odmoe_status plan_sessions(const model *m, const model_settings *s, session_layout *out, odmoe_error *err);
/* model_list_mixers - fill m->mixers from the layers; after a change of a layer's mixer. ERR_UNSUPPORTED: too many. */
odmoe_status model_list_mixers(model *m, odmoe_error *err);
/* model_output - the output matrix, or the embedding that stands for it. */
static inline const resident *model_output(const model *m)
{
    return m->weights.model[W_OUTPUT].info ? &m->weights.model[W_OUTPUT] : &m->weights.model[W_EMBED];
}
/* model_norm - the norm of the frame that has this weight and bias (NULL: none), without its buffers; a copy where it has
 * no weight. */
token_op model_norm(const model *m, const resident *weight, const resident *bias);
/* model_shape - what the layers' experts have in common. model_router - the router of a layer with experts. */
experts_shape model_shape(const model *m);
router_weights model_router(const model *m, int layer);

/* ---- session_file.c ---- */

/* session_save - tokens, pages, recurrent states and snapshots to a file. session_load - the reverse: ERR_FORMAT when the
 * file is damaged, of an older version (by name), or made with another model, KV type or kernels; ERR_RANGE when it
 * holds more tokens than the session has room for; ERR_IO, ERR_BUDGET. The session is unchanged on error, and empty
 * after an ERR_IO that says so. */
odmoe_status session_save(const model *m, const session_state *s, const char *path, odmoe_error *err);
odmoe_status session_load(const model *m, session_state *s, const char *path, odmoe_error *err);
/* session_peek - the tokens alone, as odmoe_session_peek says. */
odmoe_status session_peek(const model *m, const char *path, int32_t *tokens, size_t capacity, size_t *n,
                          odmoe_error *err);

#endif
