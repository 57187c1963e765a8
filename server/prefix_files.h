/* prefix_files.h - prefixes in a folder, and the thread that writes and reads them.
 *
 *   FINGERPRINT-HASH.prefix   a saved session (odmoe_session_save); FINGERPRINT of model, KV type and kernels, HASH of the
 *                             tokens, 16 digits each
 *
 * The folder is 0700, its files 0600: they hold prompts. An index in memory has a hash of each file's tokens up to every
 * PREFIX_BLOCK-th, so that looking for a common prefix opens no file. What looks damaged is removed and logged; files of
 * other models are left alone. When the files would take more than `bytes`, or leave less than a twentieth of the disk
 * free, the files that are worth least are removed.
 *
 * Threads: any. Only prefix_files_open, _close, _save_now and the folder's own thread wait for the disk. */
#ifndef ODMOE_SERVER_PREFIX_FILES_H
#define ODMOE_SERVER_PREFIX_FILES_H

#include <odmoe.h>
#include <stdatomic.h>
#include <stdbool.h>

#define PREFIX_BLOCK 16
#define PREFIX_TOKENS_MIN 64 /* shorter ones are not worth a file */
#define PREFIX_SAVES_MAX 2   /* forks that may wait to be written: each holds pages */

typedef struct prefix_files prefix_files;

typedef struct prefix_files_options {
    odmoe_model *model;
    const char *folder; /* made if need be */
    uint64_t bytes;     /* that all files may take */
    int32_t context;    /* longer files are left alone */
    void (*log)(void *log_user, const char *line);
    void *log_user;
    void (*done)(void *user); /* called by the folder's thread when something is written or read */
    void *user;
} prefix_files_options;

/* prefix_files_open - ERR_IO: the folder cannot be made or read, or others may read it. prefix_files_close - what is to be
 * written is written first. NULL is fine. */
odmoe_status prefix_files_open(const prefix_files_options *options, prefix_files **out, odmoe_error *err);
void prefix_files_close(prefix_files *f);

/* prefix_files_find - the file with the longest common beginning with tokens [n]: how many tokens of it, in whole blocks;
 * 0: none. *name: for prefix_files_load. */
int32_t prefix_files_find(prefix_files *f, const int32_t *tokens, int32_t n, uint64_t *name);

/* prefix_files_covers - is there a file with these tokens, up to the last block? */
bool prefix_files_covers(prefix_files *f, const int32_t *tokens, int32_t n);

/* prefix_files_save - write a session, a fork that nothing else uses, and free it. False: too many forks wait already;
 * the fork is still the caller's. prefix_files_save_now - write it in the caller's thread, when no fork waits; the session
 * stays the caller's. */
bool prefix_files_save(prefix_files *f, odmoe_session *fork);
void prefix_files_save_now(prefix_files *f, const odmoe_session *session);
/* prefix_files_saving - forks that are not freed yet. prefix_files_reading - the model's passes read from the disk now:
 * writing waits for a few seconds. */
int prefix_files_saving(prefix_files *f);
void prefix_files_reading(prefix_files *f, bool reading);

/* A file that is to be loaded; in the caller's memory until `state` is no longer LOAD_WAITS. */
typedef enum prefix_load_state { LOAD_NONE, LOAD_WAITS, LOAD_DONE, LOAD_FAILED } prefix_load_state;
typedef struct prefix_load {
    atomic_int state; /* prefix_load_state */
    uint64_t name;
    odmoe_session *into; /* nobody else uses it meanwhile. LOAD_FAILED: as it was, or empty */
    struct prefix_load *next;
} prefix_load;
void prefix_files_load(prefix_files *f, prefix_load *load);

typedef struct prefix_files_stats {
    uint64_t entries, bytes, saves, loads, evictions, failures;
} prefix_files_stats;
void prefix_files_stats_get(prefix_files *f, prefix_files_stats *out);

/* prefix_worth - what keeping so many tokens in so many bytes is worth, for an entry last used `age` admissions or saves
 * ago: tokens / bytes (the seconds a token are the same for all of a model), less for short ones, which are soon computed
 * again, and half of it after each 64. */
double prefix_worth(int32_t tokens, uint64_t bytes, uint64_t age);

#endif
