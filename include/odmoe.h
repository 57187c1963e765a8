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
 *   Callbacks must not call functions of the same model or its sessions: a forward call holds the model.
 *   The library's own threads block the signals that are sent to the process, so handlers run on the program's threads.
 *   Arrays are row-major; a shape [n, vocab] has vocab contiguous.
 *   Strings are UTF-8.
 *   A thread needs 80 KiB of stack to call any function.
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
 * A fraction is cut to whole bytes. ERR_ARG: the message shows how to write a size; ERR_RANGE: more than 2^64 - 1.
 * Threads: any. */
ODMOE_API odmoe_status odmoe_size_parse(const char *text, uint64_t *bytes, odmoe_error *err);
/* odmoe_size_format - "1.50 GiB", "23.6 MiB", "512 MiB", "17 B" into text[ODMOE_SIZE_TEXT_MAX]; returns text. */
#define ODMOE_SIZE_TEXT_MAX 32
ODMOE_API char *odmoe_size_format(uint64_t bytes, char *text);

/* ---- options ---------------------------------------------------------------------------------------------- */

typedef enum odmoe_stage {
    ODMOE_STAGE_OPEN,   /* reading headers, tokenizer and resident weights: done and total are bytes */
    ODMOE_STAGE_FORWARD /* inside a forward call: done and total are (chunk, layer) steps */
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
    /* Called between steps of opening, and of odmoe_eval, from the thread that called the library; non-zero ends the
     * call with ERR_CANCELLED and leaves everything as it was before. May be NULL. */
    int (*progress)(void *user, odmoe_stage stage, uint64_t done, uint64_t total);
    void *user;
    const char *prefetch; /* "auto": in decoding, read later layers' likely experts ahead where that pays; "off".
                             NULL: auto */
    uint64_t
        reserve_bytes; /* of ram_bytes: kept free for what the caller holds itself (conversations, grammars, requests),
                               counted in the plan's other_bytes; at most 2^60 */
    /* Of ram_bytes: room for forks beyond `sessions`, at most 2^60. A session's share of the plan's kv_bytes holds one
     * more session's worth of them. */
    uint64_t prefix_bytes;
    int32_t snapshots; /* that each session can keep (odmoe_session_snapshot), at most 8; 0: 4 */
    const char
        *embeddings; /* where a token embedding that is not the output matrix as well is kept: "memory"; "disk": its
                               rows are read when tokens name them; "auto": on the disk when the budget does not hold all
                               experts. NULL: auto */
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
    uint64_t embedding_bytes;   /* of resident_bytes: the token embedding, if it may stay on the disk; else 0 */
    int32_t prediction_layers;  /* layers for multi-token prediction that the file has: they are never read, */
    uint64_t prediction_bytes;  /* and are in none of the figures above */
    uint64_t other_parts_bytes; /* parts that see or hear, as far as their types are known: they are not read either */
} odmoe_info;

/* odmoe_inspect - read headers only. path: a .gguf file (the first part of a split one) or a Hugging Face folder.
 * Errors: ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED (a family that is not known: the message lists the known ones; a dense
 * model). */
ODMOE_API odmoe_status odmoe_inspect(const char *path, odmoe_info *info, odmoe_error *err);

/* odmoe_inspect_numbers - every number of the model's configuration, as it was read or follows from others: call
 * on_number(user, name, layer, value) for each; layer is -1 for the model's own, and a number that layers may have for
 * themselves comes once a layer. name lives for the call. Errors as odmoe_inspect's. */
ODMOE_API odmoe_status odmoe_inspect_numbers(const char *path,
                                             void (*on_number)(void *user, const char *name, int32_t layer,
                                                               double value),
                                             void *user, odmoe_error *err);

/* How the budget is divided: resident + kv + activation + other + prefix + cache <= ram. */
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
    uint64_t prefix_bytes;      /* odmoe_options.prefix_bytes: a part like the others */
    uint64_t embedding_bytes;   /* the token embedding, where it stays on the disk; 0: it is in resident_bytes */
} odmoe_plan;

/* odmoe_plan_make - compute the plan without loading anything. `plan` is filled on ODMOE_OK and on ERR_BUDGET (it does
 * not fit: the message has the figure that would be enough). Other errors as odmoe_inspect's. */
ODMOE_API odmoe_status odmoe_plan_make(const char *path, const odmoe_options *options, odmoe_plan *plan,
                                       odmoe_error *err);

/* ---- model ------------------------------------------------------------------------------------------------ */

typedef struct odmoe_model odmoe_model;
typedef struct odmoe_session odmoe_session;

/* odmoe_model_open - plan, load the resident weights, allocate the expert cache, start the I/O thread.
 * Memory   stays within options->ram_bytes until close; allocated here, not later.
 * Errors   odmoe_inspect's; ERR_BUDGET with the figure that is enough; ERR_ARG for an unknown name in the options;
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
/* odmoe_session_truncate - forget all tokens from position `length` on. Where a model keeps a recurrent state, or lets
 * layers forget what lies behind a sliding window, not every position can be restored: the session goes to the nearest
 * one at or before `length` (a snapshot's, or 0), and *reached, which may be NULL, says where it is now. ERR_RANGE:
 * length < 0 or beyond the session's. */
ODMOE_API odmoe_status odmoe_session_truncate(odmoe_session *session, int32_t length, int32_t *reached,
                                              odmoe_error *err);
/* odmoe_session_snapshot - remember the present position, so that odmoe_session_truncate can come back to it. A session
 * keeps the latest four, or odmoe_options.snapshots. A snapshot costs a copy of the recurrent states. Where every position
 * can be restored anyway it does nothing, and odmoe_session_needs_snapshots is 0.
 * odmoe_session_snapshots - the positions of those that it has, ascending, into positions [room]; returns how many.
 * odmoe_session_forget - drop the snapshot at a position, if there is one. */
ODMOE_API odmoe_status odmoe_session_snapshot(odmoe_session *session, odmoe_error *err);
ODMOE_API int odmoe_session_needs_snapshots(const odmoe_session *session);
ODMOE_API int odmoe_session_snapshots(const odmoe_session *session, int32_t *positions, int room);
ODMOE_API void odmoe_session_forget(odmoe_session *session, int32_t position);
/* odmoe_session_fork - a session of the same model with the same tokens and state, without computing them again. It shares
 * the keys and values of whole pages of 64 tokens with its source, and needs room for the rest of its context alone
 * (0: as its source's). What either of them does later never shows in the other. While both live, a session that is cut
 * back does not get back the pages that the other one still uses: its growth may then end early, with ERR_BUDGET.
 * Errors: as odmoe_session_create. */
ODMOE_API odmoe_status odmoe_session_fork(const odmoe_session *session, int32_t context, odmoe_session **fork,
                                          odmoe_error *err);
/* odmoe_session_fork_at - a fork of the first `length` tokens, or of as many before them as can be restored
 * (odmoe_session_truncate): *reached, which may be NULL. context: as long as the source is, at least. ERR_RANGE also for
 * a length that the source does not have. */
ODMOE_API odmoe_status odmoe_session_fork_at(const odmoe_session *session, int32_t length, int32_t context,
                                             odmoe_session **fork, int32_t *reached, odmoe_error *err);
/* odmoe_session_save - write tokens, state and snapshots to a file (new file, fsync, rename; a link's file is replaced, what is
 * no regular file is refused). odmoe_session_load - read it back: ERR_FORMAT when the file is damaged, made by an older
 * version, or with another model, KV type or kernel table; ERR_RANGE when it holds more tokens than the session has room for. On
 * error the session is unchanged; it is empty only after an ERR_IO that says so, when the file changed after it had been
 * checked. The model's files must not change while a model is open: saving looks at their size, inode and time of
 * change, and refuses with ERR_STATE where one is another than at opening. */
ODMOE_API odmoe_status odmoe_session_save(const odmoe_session *session, const char *path, odmoe_error *err);
ODMOE_API odmoe_status odmoe_session_load(odmoe_session *session, const char *path, odmoe_error *err);
/* odmoe_session_peek - the tokens of a saved session, without reading the rest: at most `capacity` into tokens, their
 * number to *n. Errors: those of odmoe_session_load that the beginning of the file shows; the checksum is not verified.
 * odmoe_model_fingerprint - a number for what a saved session must have been made with: weights, numbers, KV type,
 * kernels. */
ODMOE_API odmoe_status odmoe_session_peek(const odmoe_model *model, const char *path, int32_t *tokens, size_t capacity,
                                          size_t *n, odmoe_error *err);
ODMOE_API uint64_t odmoe_model_fingerprint(const odmoe_model *model);

/* ---- forward calls ---------------------------------------------------------------------------------------- */

/* What a sequence's tokens are: a prompt (computed together, read-ahead by whole layers), or the next token of a text
 * that is being generated. The caller says it, the library never infers it; it may change speed, never a result. */
typedef enum odmoe_phase { ODMOE_PHASE_PROMPT, ODMOE_PHASE_DECODE } odmoe_phase;

/* Which of the tokens shall give logits (of the token that follows them). */
typedef enum odmoe_logits_wanted { ODMOE_LOGITS_NONE, ODMOE_LOGITS_LAST, ODMOE_LOGITS_ALL } odmoe_logits_wanted;

/* What one sequence brings to a forward call, and what became of it. */
typedef struct odmoe_sequence {
    odmoe_session *session;
    const int32_t *tokens; /* [n] that follow the session's tokens; 0 <= id < vocab; borrowed for the call */
    int32_t n;
    odmoe_phase phase;
    odmoe_logits_wanted want_logits;
    /* Out: this sequence's result. After anything but ODMOE_OK its session is as it was before, and may go on. */
    odmoe_status status;
    odmoe_error error;
} odmoe_sequence;

/* What a layer of a forward call computed, for inspection; valid during the call. It covers tokens first .. first + n - 1
 * of the call, counted through its sequences. on_tap is called before each layer, with `hidden` alone; after the routing
 * of a layer with experts, with the rest; and at the end with layer == layers and `hidden` after the final norm. */
typedef struct odmoe_tap {
    size_t size;
    int32_t layer;
    int64_t first, n;
    const float *hidden; /* [n, hidden] residual stream entering the layer, or NULL */
    const float *router; /* [n, experts] router logits, or NULL */
    const int32_t *topk; /* [n, top_k] in the order of the choice, or NULL */
    const float *topw;   /* [n, top_k] as applied to the expert outputs, or NULL */
    const float *input;  /* [n, hidden] what the router saw, or NULL */
} odmoe_tap;

/* Tokens of several sequences that go through the model together: each expert is read once for all of them. */
typedef struct odmoe_batch {
    size_t size;               /* set by odmoe_batch_init */
    odmoe_sequence *sequences; /* [n] of different sessions of one model */
    int32_t n;
    float *logits; /* [tokens that want them, vocab] in the order of the sequences, caller-owned; or NULL. Rows of a
                      sequence that fails are undefined. */
    /* or: called once for each token that wants logits; `token` is its number in its sequence; logits [vocab], valid
     * during the call */
    void (*on_logits)(void *user, int32_t sequence, int32_t token, const float *logits);
    void (*on_tap)(void *user, const odmoe_tap *tap); /* may be NULL */
    /* Asked between layers, from the thread that called; may be NULL. progress: non-zero ends the call for all
     * sequences, cancelled: for this one alone; with ERR_CANCELLED. */
    int (*progress)(void *user, odmoe_stage stage, uint64_t done, uint64_t total);
    int (*cancelled)(void *user, int32_t sequence);
    void *user;
} odmoe_batch;

ODMOE_API void odmoe_batch_init(odmoe_batch *batch);

/* odmoe_forward - run the tokens through the model, in chunks.
 * Result   a token's logits depend on its sequence alone, not on the other sequences, the chunking, threads, cache or
 *          I/O. Returns the status of the first sequence that failed (its message in err), ODMOE_OK when none did.
 * Cost     a chunk reads each expert at most once per layer; blocks until done.
 * Memory   within the budget; allocates nothing that grows with n beyond a few bytes a sequence.
 * Errors   of a sequence, which leaves the call while the others go on: ERR_IO, a read of an expert that it needs failed
 *          ("layer 3, expert 17: ..."); ERR_FORMAT, NaN or infinity in a router or its logits (the message names layer
 *          and position); ERR_BUDGET, forks hold its pages; ERR_CANCELLED.
 *          of the call, with nothing done: ERR_ARG, ERR_RANGE (a token out of range, no room in a context).
 * Threads  any; calls over one model are serialised inside. Statistics and the functions on sessions do not wait for a
 *          call under way; a session that takes part in one must not be used by another thread meanwhile. */
ODMOE_API odmoe_status odmoe_forward(odmoe_model *model, odmoe_batch *batch, odmoe_error *err);

/* odmoe_eval - run n tokens of one session and leave the logits of the last one.
 * tokens [n] borrowed; logits [vocab] caller-owned or NULL. One token counts as decoding, several as a prompt. Errors and
 * threads as odmoe_forward. */
ODMOE_API odmoe_status odmoe_eval(odmoe_session *session, const int32_t *tokens, int64_t n, float *logits,
                                  odmoe_error *err);

/* ---- text ------------------------------------------------------------------------------------------------- */

typedef struct odmoe_tokenizer odmoe_tokenizer;

/* odmoe_tokenizer_open - the tokenizer alone: a GGUF file of any architecture, also without tensors, or a folder with
 * tokenizer.json, or with tiktoken.model as Kimi's have it.
 * odmoe_model_tokenizer - the open model's own; owned by the model. A model whose tokenizer is missing, or of a kind that
 * is not known, opens; the pointer is then NULL, and odmoe_model_no_tokenizer says why (NULL where there is one; lives as
 * long as the model). */
ODMOE_API odmoe_status odmoe_tokenizer_open(const char *path, odmoe_tokenizer **tokenizer, odmoe_error *err);
ODMOE_API void odmoe_tokenizer_close(odmoe_tokenizer *tokenizer);
ODMOE_API const odmoe_tokenizer *odmoe_model_tokenizer(const odmoe_model *model);
ODMOE_API const char *odmoe_model_no_tokenizer(const odmoe_model *model);

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
/* odmoe_token_text - the bytes that one token stands for inside of a text, maybe a part of a character; a special token's
 * are its text. text, capacity, *length and errors as in odmoe_detokenize. Threads: any. */
ODMOE_API odmoe_status odmoe_token_text(const odmoe_tokenizer *tokenizer, int32_t token, char *text, size_t capacity,
                                        size_t *length, odmoe_error *err);

/* Streaming text: push ids, get whole UTF-8 characters. */
typedef struct odmoe_stream odmoe_stream;
ODMOE_API odmoe_status odmoe_stream_create(const odmoe_tokenizer *tokenizer, odmoe_stream **stream, odmoe_error *err);
ODMOE_API void odmoe_stream_free(odmoe_stream *stream);
/* odmoe_stream_show_special - from now on special tokens give their text (shown not 0), as odmoe_output needs it. */
ODMOE_API void odmoe_stream_show_special(odmoe_stream *stream, int shown);
/* odmoe_stream_push - *text (owned by the stream, valid until the next call) gets what can be shown now, maybe nothing.
 * Special tokens give no text, unless asked for. odmoe_stream_flush - what is left, at the end. */
ODMOE_API odmoe_status odmoe_stream_push(odmoe_stream *stream, int32_t token, const char **text, size_t *length,
                                         odmoe_error *err);
ODMOE_API void odmoe_stream_flush(odmoe_stream *stream, const char **text, size_t *length);

/* ---- chat templates ---- */

/* A chat template: the program in Jinja that a model brings, which writes a conversation as the text that the model was
 * trained on. Compiled once; immutable, for any number of threads. It sees the data that it is given and nothing else,
 * and ends with an error when it takes too many steps or too much memory. */
typedef struct odmoe_template odmoe_template;

/* What is wrong with a template or its data. Set size before the call, and free message with odmoe_string_free after an error. */
typedef struct odmoe_template_fault {
    size_t size;
    const char *kind; /* "syntax", "raise" (by the template itself), "undefined", "type", "value", "security",
                         "runtime", "limit", "refused", "data" (not the JSON that is needed), "memory"; static */
    int32_t line;     /* of the template, from 1; 0: none is to blame */
    char *message;    /* whole, maybe of several lines; of "raise" the template's own words */
    size_t length;
} odmoe_template_fault;

/* odmoe_template_compile - from source[0, length), UTF-8, at most 1 MiB. fault may be NULL.
 * Errors: ERR_UNSUPPORTED with the line and the feature; ERR_RANGE (a limit), ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_template_compile(const char *source, size_t length, odmoe_template **out,
                                              odmoe_template_fault *fault, odmoe_error *err);
/* odmoe_template_open - a model's own: path as odmoe_tokenizer_open's. name: one of several ("tool_use"), or NULL.
 * ERR_UNSUPPORTED: there is none, or it does not compile. */
ODMOE_API odmoe_status odmoe_template_open(const char *path, const char *name, odmoe_template **out, odmoe_error *err);
ODMOE_API void odmoe_template_close(odmoe_template *t);
/* odmoe_template_source - its source, line ends made \n; lives as long as the template. Threads: any. */
ODMOE_API const char *odmoe_template_source(const odmoe_template *t);
/* odmoe_model_template - the open model's own; NULL, with err set, where it has none that works. */
ODMOE_API const odmoe_template *odmoe_model_template(const odmoe_model *model, odmoe_error *err);

/* A text, and which bytes of it came from outside of the template: from messages, tools and documents. Special tokens
 * count only in the others. Set size before the call; free with odmoe_template_text_free. */
typedef struct odmoe_template_text {
    size_t size;
    char *text; /* [length], terminated */
    size_t length;
    size_t *foreign; /* [2 n]: from, to, from, to ... ascending */
    size_t n;
} odmoe_template_text;
ODMOE_API void odmoe_template_text_free(odmoe_template_text *text);

/* odmoe_template_run - the template on variables as it sees them: variables[0, length) is a JSON object.
 * now: seconds since 1970, which strftime_now shows as UTC. */
ODMOE_API odmoe_status odmoe_template_run(const odmoe_template *t, const char *variables, size_t length, int64_t now,
                                          odmoe_template_text *out, odmoe_template_fault *fault, odmoe_error *err);

/* A conversation in OpenAI's shape; all members are JSON texts, terminated, borrowed for the call. odmoe_chat_init
 * first. */
typedef struct odmoe_chat {
    size_t size;
    const char *messages;  /* list: role system, developer, user, assistant or tool; content a text, text parts or null;
                             tool_calls, their arguments an object or a text; reasoning_content */
    const char *tools;     /* list of {"type": "function", "function": ...}, or NULL */
    const char *keywords;  /* object of further variables ("enable_thinking" ...), or NULL */
    int32_t answer;        /* 1: end where the assistant's answer begins */
    int32_t go_on;         /* 1: a last message of the assistant (without calls) is to be continued: end inside it */
    int64_t now;           /* as for odmoe_template_run */
    uint64_t memory_bytes; /* most that rendering may take, and most that it may write; 0: 64 MiB each */
    int32_t tell_calls; /* 1: earlier calls that the template would leave out are written into their messages' content,
                              as tools are into the system message; 0: the template decides */
} odmoe_chat;
ODMOE_API void odmoe_chat_init(odmoe_chat *chat);

/* odmoe_chat_render - the conversation as text. tokenizer gives the texts of begin and end tokens; NULL: none. What the
 * template can't take is changed first: parts are joined, later system messages move to where it shows them, arguments
 * become objects or texts, and the system message describes the tools.
 * Errors: ERR_ARG with the template's own words where it refuses the conversation, or with the place in messages;
 * ERR_FORMAT where it fails on it, with the line; ERR_RANGE for a limit; ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_chat_render(const odmoe_template *t, const odmoe_tokenizer *tokenizer,
                                         const odmoe_chat *chat, odmoe_template_text *out, odmoe_error *err);
/* odmoe_chat_tokenize - the same as ids: special tokens come from the template only. *n as in odmoe_tokenize. */
ODMOE_API odmoe_status odmoe_chat_tokenize(const odmoe_template *t, const odmoe_tokenizer *tokenizer,
                                           const odmoe_chat *chat, int32_t *ids, size_t capacity, size_t *n,
                                           odmoe_error *err);

/* odmoe_template_reasoning - the keywords (odmoe_chat) that tell a template how much to reason. level: "off", "on", "low",
 * "medium", "high". *keywords: a JSON object, odmoe_string_free it. Found out by rendering; costs some renderings of a
 * short conversation. ERR_UNSUPPORTED: the template does not know the level, the message says which it knows; ERR_ARG: no
 * such level; ERR_MEMORY. Threads: any. */
ODMOE_API odmoe_status odmoe_template_reasoning(const odmoe_template *t, const char *level, char **keywords,
                                                odmoe_error *err);

/* ---- a model's output ---- */

/* Splits a model's text, while it comes, into reasoning, answer and tool calls. Text may be fed in any pieces; the deltas
 * add up to the same message. No text is an error: what is neither call nor reasoning is content. */
typedef struct odmoe_output odmoe_output;

enum { ODMOE_DELTA_CONTENT, ODMOE_DELTA_REASONING, ODMOE_DELTA_CALL };
typedef struct odmoe_delta {
    size_t size;
    int32_t kind;
    const char *text; /* [length], valid during the call; of a call its arguments, JSON */
    size_t length;
    size_t call;      /* which call, from 0 */
    const char *name; /* of a call */
    const char *id;   /* of a call, as the model wrote it; or NULL */
    int whole;        /* of a call: 1: it is complete with this delta */
} odmoe_delta;

/* odmoe_output_format_at - the names of the formats ("hermes", "harmony" ...), then NULL. odmoe_template_output - the
 * format that models of this template write; a static string. */
ODMOE_API const char *odmoe_output_format_at(int i);
ODMOE_API const char *odmoe_template_output(const odmoe_template *t);

/* odmoe_output_create - format: one of those names. prompt: the text that the output continues (its end is enough: it
 * may have opened the reasoning), or NULL. tools: JSON as in odmoe_chat; NULL: no calls are looked for. All copied.
 * on_delta is called by feed and end. Errors: ERR_ARG (format, tools), ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_output_create(const char *format, const char *prompt, const char *tools,
                                           void (*on_delta)(void *user, const odmoe_delta *delta), void *user,
                                           odmoe_output **out, odmoe_error *err);
ODMOE_API void odmoe_output_free(odmoe_output *output);
/* odmoe_output_stream_calls - from now on calls are given as they come: first a delta without text, once the name is
 * certain, then the arguments in pieces, of which the last is `whole`. A call that the end of the text cuts keeps the
 * arguments that have come, and is never whole; a call of no tool of the request is content. Without it a call is one
 * delta, whatever its name, and one that is cut is content. */
ODMOE_API void odmoe_output_stream_calls(odmoe_output *output);
/* odmoe_output_feed - the next bytes. odmoe_output_end - there are no more: what was held is given. ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_output_feed(odmoe_output *output, const char *text, size_t length, odmoe_error *err);
ODMOE_API odmoe_status odmoe_output_end(odmoe_output *output, odmoe_error *err);
/* odmoe_output_reasons - is the text inside its reasoning now, which the prompt or the text has opened and nothing ended? */
ODMOE_API int odmoe_output_reasons(const odmoe_output *output);

/* Reasoning in a format. */
typedef struct odmoe_reasoning {
    size_t size;
    const char *open, *close; /* the texts around it ("<think>", "</think>"); NULL: the format knows none */
    const char *end;          /* what to put in to end it and to go on with the answer; NULL as above */
    int inside;               /* 1: the prompt has opened it; 0: it has not */
    int possible; /* 1: an output may begin with it, or is inside; 0: the prompt has ended it, or there is none */
} odmoe_reasoning;
/* odmoe_output_reasoning - prompt: what the output continues (its end is enough), or NULL. Static strings. ERR_ARG. */
ODMOE_API odmoe_status odmoe_output_reasoning(const char *format, const char *prompt, odmoe_reasoning *reasoning,
                                              odmoe_error *err);

/* ---- sampling --------------------------------------------------------------------------------------------- */

typedef struct odmoe_logit_bias {
    int32_t token;
    float bias; /* added to its logit; -100 practically forbids it */
} odmoe_logit_bias;

typedef struct odmoe_sampler_options {
    size_t size;
    float temperature;    /* 0.8; 0 is greedy */
    int32_t top_k;        /* 40; 0: off */
    float top_p, min_p;   /* 0.95, 0.05 */
    float repeat_penalty; /* 1: off; over the last 64 tokens */
    uint64_t seed;
    /* 0: off. Taken from a token's logit: presence once, frequency for each time that this sampler has picked it. */
    float presence_penalty, frequency_penalty;
    const odmoe_logit_bias *bias; /* [bias_count], borrowed for the call of odmoe_sampler_create */
    size_t bias_count;
} odmoe_sampler_options;

typedef struct odmoe_sampler odmoe_sampler;
ODMOE_API void odmoe_sampler_options_init(odmoe_sampler_options *options);
ODMOE_API odmoe_status odmoe_sampler_create(const odmoe_sampler_options *options, int32_t vocab,
                                            odmoe_sampler **sampler, odmoe_error *err);
ODMOE_API void odmoe_sampler_free(odmoe_sampler *sampler);
/* odmoe_sample - pick a token from logits [vocab] (not changed). mask: bit (id % 32) of mask[id / 32] is set where a token
 * may be picked (odmoe_grammar_mask); NULL: all may. Reproducible: same seed, logits, masks and history, same token.
 * ERR_RANGE: no token is possible, all logits are -infinity or no number; the sampler is as before.
 * odmoe_sampler_accept - tell the sampler a token of the text (prompt included), for the repeat penalty. */
ODMOE_API odmoe_status odmoe_sample(odmoe_sampler *sampler, const float *logits, const uint32_t *mask, int32_t *token,
                                    odmoe_error *err);
ODMOE_API void odmoe_sampler_accept(odmoe_sampler *sampler, int32_t token);

/* odmoe_logprobs - log probabilities from raw logits [vocab]: of `token`, and of the best n into best [n], falling; beyond
 * the vocabulary {-1, -infinity}. ERR_RANGE: the token is not in the vocabulary, or no logit is a number. Threads: any. */
typedef struct odmoe_logprob {
    int32_t token;
    float logprob;
} odmoe_logprob;
ODMOE_API odmoe_status odmoe_logprobs(const float *logits, int32_t vocab, int32_t token, float *logprob,
                                      odmoe_logprob *best, size_t n, odmoe_error *err);

/* Stop strings: text is let through until one of them comes; no byte of the stop string is. Empty ones are ignored; at most
 * 64, each of at most 4,096 bytes. odmoe_stop_push - *out (owned by the filter, valid until the next call) gets what can be shown now; when
 * a stop string has come, *found is 1 and *out what stood before it. odmoe_stop_flush - what still waits at the end. */
typedef struct odmoe_stop odmoe_stop;
ODMOE_API odmoe_status odmoe_stop_create(const char *const *texts, size_t count, odmoe_stop **stop, odmoe_error *err);
ODMOE_API void odmoe_stop_free(odmoe_stop *stop);
ODMOE_API odmoe_status odmoe_stop_push(odmoe_stop *stop, const char *text, size_t length, const char **out,
                                       size_t *out_length, int *found, odmoe_error *err);
ODMOE_API void odmoe_stop_flush(odmoe_stop *stop, const char **out, size_t *out_length);

/* ---- grammars --------------------------------------------------------------------------------------------- */

/* The vocabulary as prefix trees, built once a model and used by all its grammars. Copies what it needs, but grammars that
 * name tokens by their text (<think>) look into the tokenizer: it has to outlive the calls of odmoe_grammar_compile.
 * odmoe_grammar_vocab_bytes - the memory that it holds (about 5 MB for 150,000 tokens). ERR_MEMORY, ERR_RANGE.
 * Threads: any. */
typedef struct odmoe_grammar_vocab odmoe_grammar_vocab;
ODMOE_API odmoe_status odmoe_grammar_vocab_create(const odmoe_tokenizer *tokenizer, odmoe_grammar_vocab **vocab,
                                                  odmoe_error *err);
ODMOE_API void odmoe_grammar_vocab_free(odmoe_grammar_vocab *vocab);
ODMOE_API uint64_t odmoe_grammar_vocab_bytes(const odmoe_grammar_vocab *vocab);

typedef enum odmoe_grammar_kind {
    ODMOE_GRAMMAR_GBNF,   /* llama.cpp's notation */
    ODMOE_GRAMMAR_SCHEMA, /* a JSON Schema; the text is a JSON value that meets it */
    ODMOE_GRAMMAR_CALLS   /* a list of tools as in odmoe_chat; the text is an output that calls them */
} odmoe_grammar_kind;

/* A JSON Schema that a GBNF grammar refers to like a rule: the arguments of a tool inside its family's form of a call. */
typedef struct odmoe_grammar_schema {
    const char *name; /* letters, digits and "-" */
    const char *text; /* [length] */
    size_t length;
} odmoe_grammar_schema;

typedef struct odmoe_grammar_options {
    size_t size;
    /* The grammar begins after the first of these texts ("</think>"); until then all tokens are allowed, end tokens too. A
     * text that is the text of a special token stands for that token as well. Without triggers the grammar begins at once.
     * At most 16. */
    const char *const *triggers; /* [trigger_count] */
    size_t trigger_count;
    int again;       /* not 0: behind the grammar's end the text is free again, up to the next trigger */
    uint64_t memory; /* working memory in bytes, at least 256 KiB; 0: 8 MiB */
    const odmoe_grammar_schema *schemas; /* [schema_count], at most 256; for GBNF alone. Borrowed for the call */
    size_t schema_count;
    /* The format of an output (odmoe_output_format_at) and the prompt that it continues (its end is enough; may be NULL).
     * With them the grammar begins where the answer does: reasoning and headers in front of it are free, as far as the
     * format has them and the prompt leaves room for them. Not together with triggers. NULL: the text is the answer. */
    const char *format, *prompt;
    /* ODMOE_GRAMMAR_CALLS, which needs a format: calls are written in the format's own way, and odmoe_output reads back
     * what the grammar allows. The arguments match the tool's parameters; where these cannot be enforced, any object is
     * allowed, but with "strict": true that is an error. After the calls the output ends. */
    int calls_required; /* 0: text is free up to a marker that opens a call, which must then follow; 1: a call must come */
    int calls_single; /* not 0: at most one call */
    const char *tool; /* the name of the only tool that may be called; NULL: any */
} odmoe_grammar_options;
ODMOE_API void odmoe_grammar_options_init(odmoe_grammar_options *options);

/* Where a grammar or schema is wrong. */
typedef struct odmoe_grammar_fault {
    size_t size;
    size_t offset;    /* bytes before the place */
    int line, column; /* 1 and up; 0 where there is none: a JSON Schema has a path */
    char path[256]; /* "properties.price.multipleOf"; of tools "[2].function.parameters.properties.price.multipleOf" */
    int schema;     /* which of options.schemas, or which tool, it is in, from 1; 0: the text itself */
} odmoe_grammar_fault;

/* odmoe_grammar_compile - from GBNF, JSON Schema (docs/cli.md says what is enforced) or tools. vocab: outlives the grammar; NULL:
 * texts can be checked, but there are no masks. options, fault (size set): may be NULL.
 * Memory   odmoe_grammar_bytes is the most that it will hold, its states included but for some bytes each.
 * Errors   ERR_FORMAT  malformed, left-recursive, or met by no text;  ERR_UNSUPPORTED  cannot be enforced;
 *          ERR_RANGE  larger than the limits (64 KiB of text, 2,000 repetitions, ...): all with the place in fault;
 *          ERR_ARG  a format, tool or name that is not known or cannot be written, options that exclude each other.
 * Threads  any; all calls on a grammar and its states are serialised inside. */
typedef struct odmoe_grammar odmoe_grammar;
ODMOE_API odmoe_status odmoe_grammar_compile(const odmoe_grammar_vocab *vocab, odmoe_grammar_kind kind,
                                             const char *text, size_t length, const odmoe_grammar_options *options,
                                             odmoe_grammar **grammar, odmoe_grammar_fault *fault, odmoe_error *err);
ODMOE_API void odmoe_grammar_free(odmoe_grammar *grammar); /* after all its states */
ODMOE_API uint64_t odmoe_grammar_bytes(const odmoe_grammar *grammar);
/* odmoe_grammar_print - the compiled rules as GBNF, not terminated; *length as in odmoe_detokenize. ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_grammar_print(const odmoe_grammar *grammar, char *text, size_t capacity, size_t *length,
                                           odmoe_error *err);

/* A place in a text under a grammar. create: at its beginning; copy: at the same place, as when a session is forked. */
typedef struct odmoe_grammar_state odmoe_grammar_state;
ODMOE_API odmoe_status odmoe_grammar_state_create(odmoe_grammar *grammar, odmoe_grammar_state **state,
                                                  odmoe_error *err);
ODMOE_API odmoe_status odmoe_grammar_state_copy(const odmoe_grammar_state *state, odmoe_grammar_state **copy,
                                                odmoe_error *err);
ODMOE_API void odmoe_grammar_state_free(odmoe_grammar_state *state);

/* odmoe_grammar_mask - the tokens that may come next: bit (id % 32) of mask[id / 32]; words: (vocab + 31) / 32 of the
 * model, bits beyond the tokenizer's are 0. End tokens are among them exactly where the text may end.
 * Errors   the mask is all 0. ERR_STATE: no token is possible, or no vocabulary;  ERR_RANGE, ERR_BUDGET: the grammar is
 *          too ambiguous for its limits;  ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_grammar_mask(odmoe_grammar_state *state, uint32_t *mask, size_t words, odmoe_error *err);
/* odmoe_grammar_accept - the text goes on with a token. ERR_ARG: not allowed here, nothing changed; others as above. */
ODMOE_API odmoe_status odmoe_grammar_accept(odmoe_grammar_state *state, int32_t token, odmoe_error *err);
/* odmoe_grammar_accept_text - the text goes on with bytes; *taken (may be NULL) of them were allowed. ERR_ARG: not all. */
ODMOE_API odmoe_status odmoe_grammar_accept_text(odmoe_grammar_state *state, const char *text, size_t length,
                                                 size_t *taken, odmoe_error *err);
/* odmoe_grammar_may_end, _must_end - may the text end here; is its end the only thing possible? */
ODMOE_API int odmoe_grammar_may_end(const odmoe_grammar_state *state);
ODMOE_API int odmoe_grammar_must_end(const odmoe_grammar_state *state);

/* ---- replaying a routing trace ---------------------------------------------------------------------------- */

typedef struct odmoe_replay_options {
    size_t size;          /* odmoe_replay_options_init */
    uint64_t cache_bytes; /* room for experts */
    const char *policy;   /* one of odmoe_policy_at, "auto" (also NULL), or "belady": the optimum, which knows the
                             future */
    int32_t sequences;    /* 1: the trace as it is; n: n copies of it, begun at different places, decode together, so
                             that each decoding step needs the experts of n tokens; at most 1,024 */
} odmoe_replay_options;
ODMOE_API void odmoe_replay_options_init(odmoe_replay_options *options);

/* odmoe_replay - send a routing trace through the expert cache's own code, without a model: what would a policy have
 * hit?
 *
 * trace    a file of routing decisions: JSON lines (one token: the experts of each layer) or CSV (docs/cache.md)
 * result   result->size set by the caller
 * Errors   ERR_IO, ERR_FORMAT (file and line; or a trace of prompts alone, with several sequences); ERR_ARG for an
 *          unknown policy; ERR_BUDGET: no room for one expert; ERR_RANGE for sequences. */
typedef struct odmoe_replay_result {
    size_t size;
    double hit_pct_cum, hit_pct_decode; /* of experts asked for: all, and without prompts */
    uint64_t bytes_read;
    char policy[24]; /* the one that was run */
} odmoe_replay_result;
ODMOE_API odmoe_status odmoe_replay(const char *trace, const odmoe_replay_options *options, odmoe_replay_result *result,
                                    odmoe_error *err);

/* ---- telemetry -------------------------------------------------------------------------------------------- */

typedef struct odmoe_stats {
    size_t size;     /* set by the caller */
    uint64_t tokens; /* of forward calls */
    uint64_t chunks; /* chunks run */
    uint64_t bytes_read, reads;
    double read_seconds;               /* at least one read in flight */
    double stall_seconds;              /* compute waited for the disk */
    double compute_seconds;            /* forward calls, less stall */
    uint64_t expert_uses;              /* (token, expert) pairs */
    uint64_t cache_hits, cache_misses; /* fetched experts */
    uint64_t evictions, cache_used_bytes;
    uint64_t peak_rss_bytes, peak_anon_bytes; /* of the process; sampled at every chunk and layer */
    const char *io, *kernels, *kv, *policy;   /* in use; static strings */
    int32_t threads;
    uint64_t prefetch_bytes_read, prefetch_bytes_used; /* of bytes_read: read before the router had chosen; and those of
                                                          them that the router then chose */
    /* rows of a token embedding on the disk: found in memory, or read; these bytes are not in bytes_read */
    uint64_t embedding_hits, embedding_misses, embedding_bytes_read;
} odmoe_stats;
ODMOE_API void odmoe_stats_get(odmoe_model *model, odmoe_stats *stats);

/* Counters of one expert; `layer` counts MoE layers from 0. ERR_RANGE. */
typedef struct odmoe_expert_stats {
    size_t size;
    uint64_t uses, hits, misses, bytes;
    double stall_seconds;
    int32_t cached; /* 1: it is in the cache now */
} odmoe_expert_stats;
ODMOE_API odmoe_status odmoe_expert_stats_get(odmoe_model *model, int32_t layer, int32_t expert,
                                              odmoe_expert_stats *stats, odmoe_error *err);

/* Counters of one MoE layer, its experts' summed up. A pass fetches once a chunk and layer; stalls: how many fetches
 * waited for the disk for at most 1 ms, 10 ms, 0.1 s, 1 s, 10 s, and longer. ERR_RANGE. */
#define ODMOE_STALL_RANGES 6
typedef struct odmoe_moe_layer_stats {
    size_t size;
    uint64_t uses, hits, misses, bytes;
    double stall_seconds;
    uint64_t stalls[ODMOE_STALL_RANGES];
} odmoe_moe_layer_stats;
ODMOE_API odmoe_status odmoe_moe_layer_stats_get(odmoe_model *model, int32_t layer, odmoe_moe_layer_stats *stats,
                                                 odmoe_error *err);
ODMOE_API void odmoe_stats_reset(odmoe_model *model);

/* odmoe_string_free - free a string that a function of this library made for the caller. NULL is fine. */
ODMOE_API void odmoe_string_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
