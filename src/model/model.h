/* model.h - an open model: headers first (model_prepare), then the plan, then everything in memory (model_load). */
#ifndef ODMOE_MODEL_MODEL_H
#define ODMOE_MODEL_MODEL_H

#include <pthread.h>

#include "model/arch/arch.h"
#include "model/blocks/ffn.h"
#include "model/mixers/mixer.h"
#include "model/model_prefetch.h"
#include "moe/local_executor.h"

#define MIXERS_MAX 4 /* kinds of token mixers in one model */

/* What the options come to. */
typedef struct model_settings {
    uint64_t ram_bytes;
    int context; /* per session; 0: min(4096, the model's) */
    int sessions, threads;
    int chunk; /* 0: from the budget */
    int logits_rows;
    const kernel_table *kernels;
    kv_type kv;
    io_mode io;
    const char *policy;
    bool prefetch; /* read later layers' likely experts ahead in decoding, where that pays */
    int (*progress)(void *user, odmoe_stage stage, uint64_t done, uint64_t total);
    void *user;
} model_settings;

/* The workspace of a pass, for up to max_rows rows (pass.c lays it out). */
typedef struct pass_work {
    int64_t max_rows, logits_rows;
    float *x;               /* [max_rows, hidden] residual stream */
    activations in;         /* [max_rows, hidden] normalised, in all formats that some weight takes */
    float *norm;            /* its float rows */
    float *y;               /* [max_rows, hidden] output of a mixer or an FFN */
    float *shared;          /* [max_rows, hidden] output of the shared expert; NULL without one */
    float *shared_gate;     /* [max_rows] its weight */
    float *router;          /* [max_rows, experts] logits */
    float *probs;           /* [threads, experts] scratch */
    int32_t *topk;          /* [max_rows, top_k] */
    float *topw;            /* [max_rows, top_k] */
    float *cosines[ROPE_SETS_MAX], *sines[ROPE_SETS_MAX]; /* [max_rows, half] of each rope set */
    mixer_row *rows;        /* [max_rows] */
    void *mixer[MIXERS_MAX]; /* workspace of each mixer that the model has */
    experts_work experts;
    int32_t *all_experts;    /* [experts] 0, 1, ... */
    model_prefetch prefetch; /* when prefetching is on */
    ffn_work ffn;
    activations out; /* [logits_rows, hidden] after the final norm */
    float *out_rows; /* its float rows */
    float *logits;   /* [logits_rows, vocab] */
} pass_work;

typedef struct model {
    /* after model_prepare */
    model_files files;
    const arch *arch;
    model_config config;
    model_weights weights;
    char format[16];
    const mixer *mixers[MIXERS_MAX]; /* those that its layers have, each once; NULL at the end */
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
    pass_work work;
    void *memory; /* workspace and rope table */
    size_t memory_bytes;
    pthread_mutex_t lock; /* held during a pass, and for the figures below */
    bool lock_made;
    uint64_t fingerprint; /* what a saved sequence must have come from; fingerprint.h */
    uint64_t kv_left;     /* of the plan's kv_bytes, not taken by a session */
    uint64_t tokens, chunks;
    double pass_seconds;
    uint64_t peak_anon;
} model;

/* model_prepare - open the files, recognise the family, bind every tensor. Reads headers only. */
odmoe_status model_prepare(const char *path, model *out, odmoe_error *err);
/* model_describe - the figures of `inspect`; fills all but size. */
void model_describe(const model *m, odmoe_info *info);
/* model_drop_metadata - free what only model_prepare (and the tokenizer) needed. Call it before model_load. */
void model_drop_metadata(model *m);

/* model_plan - divide the budget; nothing is loaded. extra_bytes: what the caller holds besides (the tokenizer).
 * `plan` is filled on ODMOE_OK and ERR_BUDGET. ERR_UNSUPPORTED, ERR_FORMAT: the experts don't suit the kernels;
 * ERR_RANGE: settings beyond the model's context. */
odmoe_status model_plan(model *m, const model_settings *s, uint64_t extra_bytes, odmoe_plan *plan, odmoe_error *err);

/* model_load - everything into memory as planned. On failure call model_close all the same. */
odmoe_status model_load(model *m, const model_settings *s, const odmoe_plan *plan, odmoe_error *err);
void model_close(model *m); /* zeroed is fine */

/* ---- sequence.c ---- */

/* The state of one sequence. */
typedef struct sequence {
    model *m;
    int32_t length, context;
    int32_t *tokens; /* [context] */
    char *state;     /* [layers][state_bytes] */
    uint64_t bytes;  /* of tokens and state: one allocation at `tokens`' page */
    void *memory;
} sequence;

/* sequence_bytes - what one takes. sequence_create - from the plan's reserve, or ERR_BUDGET. */
uint64_t sequence_bytes(const model_config *c, kv_type kv, int64_t context);
odmoe_status sequence_create(model *m, int32_t context, sequence *out, odmoe_error *err);
void sequence_free(sequence *s);
void *sequence_state(const sequence *s, int layer);
odmoe_status sequence_truncate(sequence *s, int32_t length, odmoe_error *err);
odmoe_status sequence_save(const sequence *s, const char *path, odmoe_error *err);
odmoe_status sequence_load(sequence *s, const char *path, odmoe_error *err);

/* ---- pass.c ---- */

/* One row as the layer stack sees it. */
typedef struct stack_row {
    sequence *seq;
    int32_t position, token;
    bool want_logits;
} stack_row;

typedef struct stack_pass {
    const stack_row *rows;
    int64_t n;
    float *logits; /* [rows that want them, vocab] or NULL */
    void (*on_logits)(void *user, int64_t row, const float *logits);
    void (*on_tap)(void *user, const odmoe_tap *tap);
    void *user;
} stack_pass;

/* pass_layout - the workspace for max_rows rows; measures with an arena without base. */
void pass_layout(arena *a, const model *m, const experts_shape *shape, const model_settings *s, int64_t max_rows,
                 pass_work *out);
/* pass_run - as odmoe_pass_run. Takes the model's lock. */
odmoe_status pass_run(model *m, const stack_pass *pass, odmoe_error *err);

#endif
