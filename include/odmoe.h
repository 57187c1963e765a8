/* odmoe.h - run Mixture-of-Experts language models whose experts stay on the SSD.
 *
 * The library keeps what every token needs in memory and reads experts when the router picks them, into a cache
 * with a hard byte budget. It never prints, exits, reads the environment or keeps mutable globals.
 *
 * Conventions
 *   Handles are opaque. X_open/X_close and X_create/X_free come in pairs; close and free take NULL.
 *   A function that can fail returns an odmoe_status and fills the caller's odmoe_error (may be NULL).
 *   Out parameters are written only on ODMOE_OK unless a comment says otherwise.
 *   Structs whose first field is `size` grow at their end: the *_init function sets it, the library reads no further.
 *   One whose size was never set is ERR_ARG.
 *   Callbacks must not call functions of the same model or its sessions: a pass holds the model.
 *   The library's own threads take no signals that are sent to the process: their handlers stay with the program's.
 *   Arrays are row-major; a shape [n, vocab] has vocab contiguous.
 *   Strings are UTF-8.
 */
#ifndef ODMOE_H
#define ODMOE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ODMOE_API __attribute__((visibility("default")))

/* ---- status and error ------------------------------------------------------------------------------------- */

/* X(name, value, text): the one list of codes; names and texts cannot drift apart. */
#define ODMOE_STATUS_LIST(X)                           \
    X(OK, 0, "done")                                   \
    X(ERR_ARG, 1, "an argument that makes no sense")   \
    X(ERR_RANGE, 2, "a number out of its range")       \
    X(ERR_MEMORY, 3, "the system gave no memory")      \
    X(ERR_BUDGET, 4, "the memory budget is too small") \
    X(ERR_IO, 5, "reading or writing failed")          \
    X(ERR_FORMAT, 6, "a file that breaks its format")  \
    X(ERR_UNSUPPORTED, 7, "valid, but not supported")  \
    X(ERR_STATE, 8, "called at the wrong time")        \
    X(ERR_CANCELLED, 9, "ended by the caller")

typedef enum odmoe_status {
#define ODMOE_STATUS_ENUM(name, value, text) ODMOE_##name = value,
    ODMOE_STATUS_LIST(ODMOE_STATUS_ENUM)
#undef ODMOE_STATUS_ENUM
} odmoe_status;

#define ODMOE_ERROR_MESSAGE_MAX 512

/* Filled by the function that failed: one line that says what, where and what to do. Owned by the caller. */
typedef struct odmoe_error {
    odmoe_status code;
    char message[ODMOE_ERROR_MESSAGE_MAX];
} odmoe_error;

/* odmoe_status_text - the code's short description; a static string, never NULL. Threads: any. */
ODMOE_API const char *odmoe_status_text(odmoe_status status);

/* ---- about the library and this machine ------------------------------------------------------------------- */

/* odmoe_version - "major.minor.patch"; a static string. */
ODMOE_API const char *odmoe_version(void);

/* odmoe_kernels_at, odmoe_io_at, odmoe_policy_at, odmoe_family_at - the kernel tables that this processor runs, the
 * back ends compiled in, the cache policies, the model families: i = 0, 1, ...; NULL at the end. Static strings. */
ODMOE_API const char *odmoe_kernels_at(int i);
ODMOE_API const char *odmoe_io_at(int i);
ODMOE_API const char *odmoe_policy_at(int i);
ODMOE_API const char *odmoe_family_at(int i);

/* odmoe_size_parse - "512MiB", "4GiB", "4G" (= GiB), "1.5G" or plain bytes; K, M, G, T with or without "iB", any case.
 * A fraction is cut to whole bytes. ERR_ARG shows the ways to write it; ERR_RANGE: more than 2^64 - 1. Threads: any. */
ODMOE_API odmoe_status odmoe_size_parse(const char *text, uint64_t *bytes, odmoe_error *err);
/* odmoe_size_format - "1.50 GiB", "23.6 MiB", "512 MiB", "17 B" into text[ODMOE_SIZE_TEXT_MAX]; returns text. */
#define ODMOE_SIZE_TEXT_MAX 32
ODMOE_API char *odmoe_size_format(uint64_t bytes, char *text);

/* ---- options ---------------------------------------------------------------------------------------------- */

typedef enum odmoe_stage {
    ODMOE_STAGE_OPEN, /* reading headers, tokenizer and resident weights: done and total are bytes */
    ODMOE_STAGE_PASS  /* inside a pass: done and total are (chunk, layer) steps */
} odmoe_stage;

typedef struct odmoe_options {
    size_t size;         /* sizeof(odmoe_options), set by odmoe_options_init */
    uint64_t ram_bytes;  /* the budget; 0: three quarters of what is available (cgroup limits included) */
    int32_t context;     /* tokens of context reserved for each session; 0: min(4096, the model's) */
    int32_t sessions;    /* sessions that the budget reserves room for; 1 */
    int32_t threads;     /* compute threads; 0: physical cores that this process may use */
    int32_t chunk;       /* most rows that go through a layer together; 0: from the budget */
    int32_t logits_rows; /* rows of logits computed at a time when many are wanted, at most 64; 0: 16 */
    const char *kernels; /* "auto", or one of odmoe_kernels_at; NULL: auto */
    const char *kv;      /* "f32", "f16", "q8_0": type of the KV cache; NULL: f16, and f32 with kernels "ref" */
    const char *io;      /* "auto", "uring", "pread", "buffered"; NULL: auto */
    const char *policy;  /* one of odmoe_policy_at; NULL or "auto": the best measured */
    /* Called between steps, from the thread that called the library; non-zero ends the call with ERR_CANCELLED and
     * leaves everything as it was before. May be NULL. */
    int (*progress)(void *user, odmoe_stage stage, uint64_t done, uint64_t total);
    void *user;
    const char *ahead; /* "auto": in decoding, read the next layer's likely experts ahead where that pays; "off".
                          NULL: off */
} odmoe_options;

/* odmoe_options_init - the defaults. Call it before setting fields. */
ODMOE_API void odmoe_options_init(odmoe_options *options);

/* ---- looking at a model before it is loaded --------------------------------------------------------------- */

typedef struct odmoe_info {
    size_t size;           /* set by the caller: sizeof(odmoe_info) */
    char format[16];       /* "gguf" or "safetensors" */
    char family[32];       /* "mixtral", "olmoe", "qwen2_moe", "qwen3_moe" ... */
    char expert_types[64]; /* types of expert weights, "q4_k, q6_k" */
    int32_t layers, moe_layers, experts, top_k, shared_experts;
    int32_t hidden, expert_ffn, vocab, context;
    uint64_t expert_bytes_min, expert_bytes_max; /* smallest and largest expert */
    uint64_t resident_bytes;                     /* weights that every token needs */
    uint64_t experts_bytes;                      /* all experts */
} odmoe_info;

/* odmoe_inspect - read headers only. path: a .gguf file (the first part of a split one) or a Hugging Face folder.
 * Errors: ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED (unknown family: the message lists the known; a dense model). */
ODMOE_API odmoe_status odmoe_inspect(const char *path, odmoe_info *info, odmoe_error *err);

/* How the budget is divided: resident + kv + activation + other + cache <= ram. */
typedef struct odmoe_plan {
    size_t size; /* set by the caller: sizeof(odmoe_plan) */
    uint64_t ram_bytes, resident_bytes, kv_bytes, activation_bytes, other_bytes, cache_bytes;
    int64_t cache_experts;            /* largest experts that fit in cache_bytes */
    uint64_t token_working_set_bytes; /* moe_layers x top_k x expert: below it an LRU cannot hit from token to token */
    uint64_t experts_bytes;           /* all experts, as the file has them */
    uint64_t floor_bytes;             /* the smallest ram_bytes that works with these options */
    int32_t fits;                     /* 1, or 0: ram_bytes < floor_bytes */
    int32_t chunk, context, sessions, threads;
    uint64_t cache_all_bytes;   /* cache_bytes is at most this: with it nothing is ever read twice */
    uint64_t cache_token_bytes; /* a cache that holds token_working_set_bytes, alignment included */
    uint64_t available_bytes;   /* what this process could take now, control groups included; 0: unknown */
} odmoe_plan;

/* odmoe_plan_make - compute the plan without loading anything. `plan` is filled on ODMOE_OK and on ERR_BUDGET (it does
 * not fit: the message says the figure that would do). Other errors as odmoe_inspect's. */
ODMOE_API odmoe_status odmoe_plan_make(const char *path, const odmoe_options *options, odmoe_plan *plan,
                                       odmoe_error *err);

/* ---- model ------------------------------------------------------------------------------------------------ */

typedef struct odmoe_model odmoe_model;
typedef struct odmoe_session odmoe_session;

/* odmoe_model_open - plan, load the resident weights, allocate the expert cache, start the I/O thread.
 * Memory   stays within options->ram_bytes until close; allocated here, not later.
 * Errors   odmoe_inspect's; ERR_BUDGET with the figure that would do; ERR_ARG for an unknown name in the options;
 *          ERR_UNSUPPORTED for kernels or io that this machine refuses; ERR_CANCELLED. */
ODMOE_API odmoe_status odmoe_model_open(const char *path, const odmoe_options *options, odmoe_model **model,
                                        odmoe_error *err);
/* odmoe_model_close - free it. All sessions must have been freed. NULL is fine. */
ODMOE_API void odmoe_model_close(odmoe_model *model);

ODMOE_API void odmoe_model_info(const odmoe_model *model, odmoe_info *info); /* set info->size before */
ODMOE_API void odmoe_model_plan(const odmoe_model *model, odmoe_plan *plan); /* set plan->size before */

/* ---- sessions --------------------------------------------------------------------------------------------- */

/* odmoe_session_create - the state of one sequence, with room for `context` tokens (0: options.context), reserved now
 * from the budget. Errors: ERR_BUDGET (the reserve is used up), ERR_RANGE (beyond the model's context), ERR_MEMORY.
 * Threads: any; one session is used by one thread at a time. */
ODMOE_API odmoe_status odmoe_session_create(odmoe_model *model, int32_t context, odmoe_session **session,
                                            odmoe_error *err);
ODMOE_API void odmoe_session_free(odmoe_session *session);

ODMOE_API int32_t odmoe_session_length(const odmoe_session *session);  /* tokens so far */
ODMOE_API int32_t odmoe_session_context(const odmoe_session *session); /* room for that many */
/* odmoe_session_tokens - the ids so far, [length]; valid until the session changes. */
ODMOE_API const int32_t *odmoe_session_tokens(const odmoe_session *session);
ODMOE_API void odmoe_session_reset(odmoe_session *session); /* = truncate to 0 */
/* odmoe_session_truncate - forget all tokens from position `length` on. ERR_RANGE: length < 0 or beyond the session's.
 */
ODMOE_API odmoe_status odmoe_session_truncate(odmoe_session *session, int32_t length, odmoe_error *err);
/* odmoe_session_save - write tokens and KV cache to a file (new file, fsync, rename; a link's file is replaced, what is
 * no regular file is refused). odmoe_session_load - read it back: ERR_FORMAT when the file is damaged or made with
 * another model, KV type or kernel table; ERR_RANGE when it holds more tokens than the session has room for; the
 * session is unchanged on error, and empty after an ERR_IO that says so: the file changed between being checked and
 * being read. */
ODMOE_API odmoe_status odmoe_session_save(const odmoe_session *session, const char *path, odmoe_error *err);
ODMOE_API odmoe_status odmoe_session_load(odmoe_session *session, const char *path, odmoe_error *err);

/* ---- passes ----------------------------------------------------------------------------------------------- */

/* One token of one sequence. The rows of a session stand in ascending positions that continue it without a gap; rows of
 * several sessions may be mixed in any way. */
typedef struct odmoe_row {
    odmoe_session *session;
    int32_t position;    /* = the session's length + how many rows of it came before in this pass */
    int32_t token;       /* 0 <= token < vocab */
    int32_t want_logits; /* 1: compute logits for what follows this token */
} odmoe_row;

/* What a layer of a pass computed, for inspection; valid during the call. Rows first .. first + n - 1 of the pass. A
 * layer calls twice: before it starts with `hidden` alone, and, if it has experts, when its router has spoken with the
 * rest. Once more with layer == layers and `hidden` after the final norm. */
typedef struct odmoe_tap {
    size_t size;
    int32_t layer;
    int64_t first, n;
    const float *hidden; /* [n, hidden] residual stream entering the layer, or NULL */
    const float *router; /* [n, experts] router logits, or NULL */
    const int32_t *topk; /* [n, top_k] by falling weight, or NULL */
    const float *topw;   /* [n, top_k] as applied to the expert outputs, or NULL */
    const float *input;  /* [n, hidden] what the router saw, or NULL */
} odmoe_tap;

typedef struct odmoe_pass {
    size_t size;           /* set by odmoe_pass_init */
    const odmoe_row *rows; /* [n] borrowed for the call */
    int64_t n;
    float *logits; /* [rows that want them, vocab] in row order, caller-owned; or NULL. Undefined after an error. */
    /* or: called once for each row that wants logits, in row order; logits [vocab], valid during the call */
    void (*on_logits)(void *user, int64_t row, const float *logits);
    void (*on_tap)(void *user, const odmoe_tap *tap); /* may be NULL */
    void *user;
} odmoe_pass;

ODMOE_API void odmoe_pass_init(odmoe_pass *pass);

/* odmoe_pass_run - run rows through the model, in chunks.
 * Result   a row's logits depend on its sequence alone, not on the other rows, the chunking, threads, cache or I/O.
 * Cost     a chunk reads each expert at most once per layer; blocks until done.
 * Memory   within the budget; allocates nothing that grows with n beyond a few bytes a row.
 * Errors   ERR_RANGE  token or position out of range, no room in a context;  ERR_IO  a read failed ("layer 3, expert
 * 17:
 *          ...");  ERR_CANCELLED. All sessions are as they were before; they may go on.
 * Threads  any; passes over one model are serialised inside. */
ODMOE_API odmoe_status odmoe_pass_run(odmoe_model *model, const odmoe_pass *pass, odmoe_error *err);

/* odmoe_eval - run n tokens of one session and leave the logits of the last one.
 * tokens [n] borrowed; logits [vocab] caller-owned or NULL. Errors and threads as odmoe_pass_run. */
ODMOE_API odmoe_status odmoe_eval(odmoe_session *session, const int32_t *tokens, int64_t n, float *logits,
                                  odmoe_error *err);

/* ---- text ------------------------------------------------------------------------------------------------- */

typedef struct odmoe_tokenizer odmoe_tokenizer;

/* odmoe_tokenizer_open - the tokenizer alone: a GGUF file of any architecture, also without tensors, or a folder with
 * tokenizer.json. odmoe_model_tokenizer - the open model's own; owned by the model.
 * A model without a tokenizer opens; the pointer is then NULL. */
ODMOE_API odmoe_status odmoe_tokenizer_open(const char *path, odmoe_tokenizer **tokenizer, odmoe_error *err);
ODMOE_API void odmoe_tokenizer_close(odmoe_tokenizer *tokenizer);
ODMOE_API const odmoe_tokenizer *odmoe_model_tokenizer(const odmoe_model *model);

#define ODMOE_TOKENIZE_SPECIAL 1 /* recognise special tokens in the text */
#define ODMOE_TOKENIZE_START 2   /* put the model's own start token before it, where the model wants one */

/* odmoe_tokenize - text[0, length) to ids. Writes at most `capacity` ids and sets *n to how many there are: call again
 * with more room when *n > capacity. ids may be NULL when capacity is 0. Threads: any. */
ODMOE_API odmoe_status odmoe_tokenize(const odmoe_tokenizer *tokenizer, const char *text, size_t length, int flags,
                                      int32_t *ids, size_t capacity, size_t *n, odmoe_error *err);
/* odmoe_detokenize - the text of n ids, not terminated; *length as *n above. Special tokens give their text. ERR_RANGE.
 */
ODMOE_API odmoe_status odmoe_detokenize(const odmoe_tokenizer *tokenizer, const int32_t *ids, size_t n, char *text,
                                        size_t capacity, size_t *length, odmoe_error *err);
ODMOE_API int32_t odmoe_vocab_size(const odmoe_tokenizer *tokenizer);
ODMOE_API int odmoe_token_is_end(const odmoe_tokenizer *tokenizer, int32_t token); /* one of the model's end tokens */

/* Streaming text: push ids, get whole UTF-8 characters. */
typedef struct odmoe_stream odmoe_stream;
ODMOE_API odmoe_status odmoe_stream_create(const odmoe_tokenizer *tokenizer, odmoe_stream **stream, odmoe_error *err);
ODMOE_API void odmoe_stream_free(odmoe_stream *stream);
/* odmoe_stream_push - *text (owned by the stream, valid until the next call) gets what can be shown now, maybe nothing.
 * Special tokens give no text. odmoe_stream_flush - what is left, at the end. */
ODMOE_API odmoe_status odmoe_stream_push(odmoe_stream *stream, int32_t token, const char **text, size_t *length,
                                         odmoe_error *err);
ODMOE_API void odmoe_stream_flush(odmoe_stream *stream, const char **text, size_t *length);

/* Chat: messages with the model's own template. */
typedef struct odmoe_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} odmoe_message;
/* odmoe_model_chat_format - the recognised template's name ("chatml", ...), or NULL. */
ODMOE_API const char *odmoe_model_chat_format(const odmoe_model *model);
/* odmoe_chat_tokenize - the conversation as ids, ending where the assistant's answer begins. Special tokens come from
 * the template only, never from a message's text. *n as in odmoe_tokenize. ERR_UNSUPPORTED: no template, or an unknown
 * one. */
ODMOE_API odmoe_status odmoe_chat_tokenize(const odmoe_model *model, const odmoe_message *messages, size_t count,
                                           int32_t *ids, size_t capacity, size_t *n, odmoe_error *err);

/* ---- sampling --------------------------------------------------------------------------------------------- */

typedef struct odmoe_sampler_options {
    size_t size;
    float temperature;    /* 0.8; 0 is greedy */
    int32_t top_k;        /* 40; 0: off */
    float top_p, min_p;   /* 0.95, 0.05 */
    float repeat_penalty; /* 1: off; over the last 64 tokens */
    uint64_t seed;
} odmoe_sampler_options;

typedef struct odmoe_sampler odmoe_sampler;
ODMOE_API void odmoe_sampler_options_init(odmoe_sampler_options *options);
ODMOE_API odmoe_status odmoe_sampler_create(const odmoe_sampler_options *options, int32_t vocab,
                                            odmoe_sampler **sampler, odmoe_error *err);
ODMOE_API void odmoe_sampler_free(odmoe_sampler *sampler);
/* odmoe_sample - pick a token from logits [vocab] (not changed). Reproducible: same seed, logits and history, same
 * token. odmoe_sampler_accept - tell the sampler a token of the text (prompt included), for the repeat penalty. */
ODMOE_API int32_t odmoe_sample(odmoe_sampler *sampler, const float *logits);
ODMOE_API void odmoe_sampler_accept(odmoe_sampler *sampler, int32_t token);

/* ---- replaying a routing trace ---------------------------------------------------------------------------- */

/* odmoe_replay - send a routing trace through the expert cache's own code, without a model: what would a policy have
 * hit? trace    a file of routing decisions: JSON lines (one token: the experts of each layer) or CSV (docs/cache.md)
 * policy   one of odmoe_policy_at, "auto", or "belady": the optimum, which knows the future
 * result   result->size set by the caller
 * Errors   ERR_IO, ERR_FORMAT (file and line); ERR_ARG for an unknown policy; ERR_BUDGET: no room for one expert. */
typedef struct odmoe_replay_result {
    size_t size;
    double hit_pct_cum, hit_pct_decode; /* of experts asked for: all, and without prompts */
    uint64_t bytes_read;
    char policy[24]; /* the one that was run */
} odmoe_replay_result;
ODMOE_API odmoe_status odmoe_replay(const char *trace, uint64_t cache_bytes, const char *policy,
                                    odmoe_replay_result *result, odmoe_error *err);

/* ---- telemetry -------------------------------------------------------------------------------------------- */

typedef struct odmoe_stats {
    size_t size;     /* set by the caller */
    uint64_t tokens; /* rows run */
    uint64_t chunks; /* chunks run */
    uint64_t bytes_read, reads;
    double read_seconds;               /* at least one read in flight */
    double stall_seconds;              /* compute waited for the disk */
    double compute_seconds;            /* passes, less stall */
    uint64_t expert_uses;              /* (token, expert) pairs */
    uint64_t cache_hits, cache_misses; /* fetched experts */
    uint64_t evictions, cache_used_bytes;
    uint64_t peak_rss_bytes, peak_anon_bytes; /* of the process; sampled at every chunk and layer */
    const char *io, *kernels, *kv, *policy;   /* in use; static strings */
    int32_t threads;
    uint64_t ahead_bytes_read, ahead_bytes_used; /* of bytes_read: guessed before the router spoke; and those of them
                                                    that it then asked for */
} odmoe_stats;
ODMOE_API void odmoe_stats_get(odmoe_model *model, odmoe_stats *stats);

/* Counters of one expert; `layer` counts MoE layers from 0. ERR_RANGE. */
typedef struct odmoe_expert_stats {
    size_t size;
    uint64_t uses, hits, misses, bytes;
    double stall_seconds;
} odmoe_expert_stats;
ODMOE_API odmoe_status odmoe_expert_stats_get(odmoe_model *model, int32_t layer, int32_t expert,
                                              odmoe_expert_stats *stats, odmoe_error *err);
ODMOE_API void odmoe_stats_reset(odmoe_model *model);

/* ---- the layer on its own --------------------------------------------------------------------------------- */

/* A Mixture-of-Experts layer for a program of one's own, or a stack of L of them:
 *   y[t] = sum over the top_k experts e of x[t]:  w[t, e] * w2_e(silu(w1_e x[t]) * (w3_e x[t]))
 * The program keeps the router; experts come from a source. docs/layer.md has the mathematics and an example. */

/* What a matrix of an expert is for. FLAT stands for all three in one array [w1 | w2 | w3]: w1, w3 (hidden, ffn) and w2
 * (ffn, hidden), row-major, used as x * w. */
typedef enum odmoe_role {
    ODMOE_GATE,    /* w1: silu is applied to its product */
    ODMOE_UP,      /* w3 */
    ODMOE_DOWN,    /* w2 */
    ODMOE_GATE_UP, /* gate and up in one matrix */
    ODMOE_FLAT     /* in files only */
} odmoe_role;

/* Types of weights: the numbers that GGUF files use. These have names here because float sources need them. */
#define ODMOE_TYPE_F32 0
#define ODMOE_TYPE_F16 1
#define ODMOE_TYPE_BF16 30

typedef struct odmoe_matrix {
    int32_t role, type;
    int32_t in_out;      /* 0: (out, in), y = W x;  1: (in, out), y = x W, float types only */
    int32_t interleaved; /* GATE_UP, (out, in): 1: rows are gate, up, gate, up ...; 0: all gates, then all ups */
    int64_t rows, cols;  /* as stored */
    const void *data;    /* at any byte address */
} odmoe_matrix;

#define ODMOE_MATRICES_MAX 8
/* An expert that a source lends. */
typedef struct odmoe_expert {
    int32_t layer, expert; /* expert < 0: the batch is through */
    int32_t n;
    odmoe_matrix matrix[ODMOE_MATRICES_MAX];
    int64_t own; /* the source's: it gets the struct back in release */
} odmoe_expert;

typedef enum odmoe_order {
    ODMOE_ORDER_ARRIVAL, /* as experts become ready */
    ODMOE_ORDER_LISTED   /* in the order of the list */
} odmoe_order;

typedef struct odmoe_source_counters {
    uint64_t hits, misses, bytes; /* fetched experts found in memory or not; bytes read */
    double stall_seconds;         /* next waited */
    double read_seconds;          /* at least one read was in flight, whatever layer it was for */
} odmoe_source_counters;

/* Where experts come from: fill this table, or take that of an odmoe_source. All functions get ctx; begin to end of one
 * batch run on one thread, prefetch, cancel and missing may be called from another meanwhile. An error that begin or
 * next returns ends the layer's call and travels up as it is. */
typedef struct odmoe_source_ops {
    size_t size; /* sizeof(odmoe_source_ops) */
    void *ctx;
    const int32_t *types; /* [n_types] of the matrices that it will lend; NULL: f32 */
    int32_t n_types;
    /* Ask for n different experts of a layer, ascending; *batch is the source's own. */
    odmoe_status (*begin)(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order, void **batch,
                          odmoe_error *err);
    /* Wait for the next expert and lend it until release. */
    odmoe_status (*next)(void *ctx, void *batch, odmoe_expert *expert, odmoe_error *err);
    void (*release)(void *ctx, void *batch, const odmoe_expert *expert); /* in any order */
    void (*end)(void *ctx, void *batch); /* after errors too; what is left need not be fetched */
    /* The rest may be NULL. */
    /* As next, but without waiting: expert < 0 when none is ready now, or when next has an error to
     * report. Without it experts are computed one by one, with
     * it those that are there go through together; up to 17 are lent at a time. */
    odmoe_status (*poll)(void *ctx, void *batch, odmoe_expert *expert, odmoe_error *err);
    /* Read ahead, best first (scores fall): return at once, whatever the disk does. */
    void (*prefetch)(void *ctx, int32_t layer, const int32_t *experts, const float *scores, int32_t n);
    void (*cancel)(void *ctx, int32_t layer);                                    /* forget what of it is not read yet */
    void (*counters)(void *ctx, int32_t layer, odmoe_source_counters *counters); /* since the source was opened */
    /* 1: the expert would have to be read, 0: it is in memory or on its way. Without it a predictor is judged by all
     * that it names, not by what would have to be read. */
    int32_t (*missing)(void *ctx, int32_t layer, int32_t expert);
} odmoe_source_ops;

/* The source that ships: experts in a file, read on demand into a cache with a byte budget. */
typedef struct odmoe_source odmoe_source;

/* Which tensors hold experts. In a name, {layer} stands for the layer's number and {expert} for the expert's: with
 * {expert} a tensor holds one expert's matrix, without it all experts', (experts, rows, cols) or, FLAT, (experts, 3 *
 * hidden * ffn). */
typedef struct odmoe_expert_tensor {
    const char *name; /* "blk.{layer}.ffn_gate_exps.weight" */
    int32_t role, in_out, interleaved;
} odmoe_expert_tensor;

typedef struct odmoe_source_options {
    size_t size;
    const char *path; /* .gguf (first part of a split one), .safetensors, or a folder of shards */
    const odmoe_expert_tensor *tensors;
    int32_t n_tensors;
    int32_t layers, experts, hidden, ffn;
    int32_t first_layer;     /* what {layer} is for layer 0 */
    uint64_t cache_bytes;    /* 0: room for all; more than that is not taken */
    const char *io, *policy; /* as in odmoe_options */
} odmoe_source_options;

ODMOE_API void odmoe_source_options_init(odmoe_source_options *options);
/* odmoe_source_open - find the tensors, allocate the cache, start the I/O thread. Errors: ERR_FORMAT names a tensor
 * that is missing or of another shape; ERR_BUDGET (below one expert, with the figure); ERR_IO; ERR_UNSUPPORTED. */
ODMOE_API odmoe_status odmoe_source_open(const odmoe_source_options *options, odmoe_source **source, odmoe_error *err);
ODMOE_API void odmoe_source_close(odmoe_source *source); /* no layer may use it any more; NULL is fine */
/* odmoe_source_table - set ops->size before. Valid until close. */
ODMOE_API void odmoe_source_table(odmoe_source *source, odmoe_source_ops *ops);
/* odmoe_source_invalidate - the file has changed: forget an expert, or all (-1). */
ODMOE_API void odmoe_source_invalidate(odmoe_source *source, int32_t layer, int32_t expert);
/* odmoe_source_floor - the bytes that one expert takes in the cache, the largest: the smallest cache_bytes. */
ODMOE_API uint64_t odmoe_source_floor(const odmoe_source *source);
ODMOE_API const char *odmoe_source_io(const odmoe_source *source); /* the back end in use */

/* A shadow runner: sees what the router saw, and guesses what the next layer will ask for. It runs on a thread of its
 * own beside the layer: one that errs, is slow or hangs costs speed, never the result; whoever frees the layer waits
 * for a call under way. What it names is held against what the next layer then chooses, by rank: ranks that are seldom
 * right (below 60% of what would have to be read) read nothing until they are right again. */
typedef struct odmoe_observation {
    size_t size;
    int64_t n;           /* rows, the last of the call, at most 64 */
    const float *x;      /* [n, hidden] what the router saw */
    const int32_t *topk; /* [n, top_k] what it chose, and the weights */
    const float *topw;
} odmoe_observation;

typedef struct odmoe_predictor {
    size_t size;
    void *ctx;
    odmoe_status (*observe)(void *ctx, int32_t layer, const odmoe_observation *rows, odmoe_error *err);
    /* Up to `capacity` experts of next_layer with scores, any order. Ids that don't exist are skipped. */
    odmoe_status (*predict)(void *ctx, int32_t next_layer, int32_t *experts, float *scores, int32_t capacity,
                            int32_t *n, odmoe_error *err);
} odmoe_predictor;

typedef enum odmoe_score { ODMOE_SCORE_SOFTMAX, ODMOE_SCORE_SIGMOID } odmoe_score;
typedef enum odmoe_activation { ODMOE_SWIGLU } odmoe_activation;

/* The variants of routers, as data. Ties go to the lower index. */
typedef struct odmoe_router {
    int32_t score;
    int32_t renormalise; /* 1: the chosen weights sum to 1 (before scale) */
    float scale;
    int32_t groups, groups_used; /* selection limited to the best groups (DeepSeek-V3); 0: off */
} odmoe_router;

typedef struct odmoe_layer_options {
    size_t size;
    int32_t layers; /* 1 */
    int32_t hidden, ffn, experts, top_k;
    odmoe_router router;            /* softmax, renormalised, scale 1 */
    int32_t activation;             /* ODMOE_SWIGLU */
    const float *const *weights;    /* [layers] router matrices [experts, hidden]; the matrices are borrowed, and may
                                    change between calls */
    const float *const *bias;       /* NULL, or [layers] of [experts] or NULL: added for the selection only; borrowed */
    const odmoe_source_ops *source; /* copied; what its ctx is stays borrowed */
    const odmoe_predictor *predictor; /* NULL, or copied */
    int32_t prefetch;                 /* experts of the next layer to read ahead, at most; 0: 2 * top_k */
    int32_t threads;                  /* 0: physical cores */
    const char *kernels;              /* as in odmoe_options */
    uint64_t activation_bytes;        /* workspace; more rows than fit go through in chunks; 0: 256 MiB */
} odmoe_layer_options;

typedef struct odmoe_layer odmoe_layer;

/* Predictors that ship: "frequency", "previous", "router", "router_low_rank", "network" (src/shadow/README.md). */
typedef struct odmoe_shadow odmoe_shadow;
ODMOE_API const char *odmoe_shadow_at(int i); /* their names: i = 0, 1, ...; NULL at the end */
/* odmoe_shadow_create - for a layer with these options (sizes, router weights, kernels; nothing else is looked at).
 * odmoe_shadow_table - set predictor->size before; for the layer's options. Free it after the layer. */
ODMOE_API odmoe_status odmoe_shadow_create(const char *kind, const odmoe_layer_options *layer, odmoe_shadow **shadow,
                                           odmoe_error *err);
ODMOE_API void odmoe_shadow_free(odmoe_shadow *shadow);
ODMOE_API void odmoe_shadow_table(odmoe_shadow *shadow, odmoe_predictor *predictor);
/* odmoe_shadow_freeze - 1: stop learning, 0: go on. Kinds that learn nothing take no notice.
 * odmoe_shadow_save - what router_low_rank or network has learned, to a safetensors file: a new file, fsync, rename.
 * odmoe_shadow_load - the same back, into one of the same kind, made for the same sizes.
 * Errors   ERR_ARG: another kind, there is nothing to keep; ERR_IO; ERR_FORMAT names the tensor that is missing, of
 *          another shape or type, or not finite; ERR_MEMORY. What was learned is unchanged then, but for an error of
 *          reading after all had been checked.
 * Threads  any, also while a layer works: its thread waits, and what it would have guessed meanwhile is not read. */
ODMOE_API void odmoe_shadow_freeze(odmoe_shadow *shadow, int frozen);
ODMOE_API odmoe_status odmoe_shadow_save(odmoe_shadow *shadow, const char *path, odmoe_error *err);
ODMOE_API odmoe_status odmoe_shadow_load(odmoe_shadow *shadow, const char *path, odmoe_error *err);

ODMOE_API void odmoe_layer_options_init(odmoe_layer_options *options);
/* odmoe_layer_create - ERR_RANGE or ERR_ARG names what makes no sense; ERR_BUDGET: activation_bytes is too small for
 * one row, with the figure; ERR_UNSUPPORTED: kernels, activation or types; ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_layer_create(const odmoe_layer_options *options, odmoe_layer **layer, odmoe_error *err);
ODMOE_API void odmoe_layer_free(odmoe_layer *layer);
ODMOE_API int64_t odmoe_layer_chunk(const odmoe_layer *layer); /* rows that go through together */

/* How evenly rows went to experts: f_i = slots of expert i / rows, P_i = mean router probability (sigmoid scores are
 * divided by their sum). A balance of its own for each layer gives the loss per layer; one balance for all layers gives
 * the loss over concatenated layers, as Hugging Face computes it. */
typedef struct odmoe_balance odmoe_balance;
ODMOE_API odmoe_status odmoe_balance_create(int32_t experts, odmoe_balance **balance, odmoe_error *err);
ODMOE_API void odmoe_balance_free(odmoe_balance *balance);
ODMOE_API void odmoe_balance_reset(odmoe_balance *balance);
/* odmoe_balance_loss - E * sum_i f_i * P_i: top_k when balanced, E for a collapsed top-1. With mean_normalised divided
 * by the slots a row has: 1 when balanced. 0 without rows. */
ODMOE_API double odmoe_balance_loss(const odmoe_balance *balance, int mean_normalised);
/* odmoe_balance_update_bias - DeepSeek-V3's balancing without a loss: bias[i] += rate for experts below the mean load,
 * -= rate above it. bias [experts]. */
ODMOE_API void odmoe_balance_update_bias(const odmoe_balance *balance, float rate, float *bias);

/* What a call computed besides y. Pointers may be NULL; those that are not are the caller's arrays, filled for all n.
 */
typedef struct odmoe_routing {
    size_t size;            /* set by odmoe_routing_init */
    float *logits, *probs;  /* [n, experts] */
    int32_t *topk;          /* [n, top_k] by falling score */
    float *topw;            /* [n, top_k] */
    odmoe_balance *balance; /* this call's rows are added to it */
    double aux, z;          /* out: E * sum f_i P_i, and mean(logsumexp(logits)^2), of this call */
} odmoe_routing;
ODMOE_API void odmoe_routing_init(odmoe_routing *routing);

/* odmoe_layer_forward - one layer: y [n, hidden] from x [n, hidden], n >= 1. routing may be NULL. y may not overlap x.
 * Result   a row's depends on that row alone, not on chunks, threads, cache or I/O.
 * Cost     each needed expert is fetched once per chunk. After the router has spoken the predictor is told, and the
 *          next layer's experts are read ahead while this one computes; past the last layer nobody is asked.
 * Memory   allocates nothing.
 * Errors   ERR_RANGE; ERR_ARG: y overlaps x; the source's: y is undefined then; the layer may be used again.
 * Threads  any; calls are serialised inside. */
ODMOE_API odmoe_status odmoe_layer_forward(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y,
                                           odmoe_routing *routing, odmoe_error *err);
/* odmoe_layer_forward_stack - all layers, each added to its input: h = x; h += layer_l(h); y = h. y may not overlap
 * x (ERR_ARG). routing: NULL, or [layers] of pointers, NULL or one layer's. Memory: keeps room for n rows of its own.
 */
ODMOE_API odmoe_status odmoe_layer_forward_stack(odmoe_layer *layer, const float *x, int64_t n, float *y,
                                                 odmoe_routing *const *routing, odmoe_error *err);

/* Telemetry of one layer, always on. */
typedef struct odmoe_layer_stats {
    size_t size; /* set by the caller */
    uint64_t rows, calls;
    uint64_t selections;          /* rows * top_k */
    double imbalance;             /* 1 + std / mean of the counts over all experts; 1 is perfect */
    double max_violation;         /* max / mean - 1 */
    double entropy;               /* of the counts, divided by log(experts): 1 even, 0 collapsed to one */
    uint64_t hits, misses, bytes; /* of the source; 0 where it does not count */
    double stall_seconds;
    uint64_t predictions, prediction_failures; /* asked for this layer; erred, or skipped because one was slow */
} odmoe_layer_stats;
/* ERR_RANGE: no such layer. counts: NULL, or [experts] selections of each expert. */
ODMOE_API odmoe_status odmoe_layer_stats_get(odmoe_layer *layer, int32_t index, odmoe_layer_stats *stats,
                                             uint64_t *counts, odmoe_error *err);
/* odmoe_layer_stats_json - the same as one JSON object, a new string; odmoe_string_free it. */
ODMOE_API odmoe_status odmoe_layer_stats_json(odmoe_layer *layer, int32_t index, char **json, odmoe_error *err);
ODMOE_API void odmoe_string_free(char *text);
ODMOE_API void odmoe_layer_stats_reset(odmoe_layer *layer); /* all layers */

#ifdef __cplusplus
}
#endif
#endif
