/* prefixes.h - which of the prompts that sequences have computed are kept for later requests, in memory and on disk.
 *
 * In memory a prefix is a fork, whose pages come out of the model's prefix_bytes; on disk a file (prefix_files.h). When
 * room is needed, the prefix that is worth least is dropped.
 *
 * Threads: the engine's alone. */
#ifndef ODMOE_SERVER_PREFIXES_H
#define ODMOE_SERVER_PREFIXES_H

#include "engine.h"
#include "prefix_files.h"

typedef struct prefixes prefixes;

/* prefixes_open - done(user) is called, by another thread, when something was written or read. prefixes_close - what waits
 * is written; forks are freed. NULL is fine. */
odmoe_status prefixes_open(odmoe_model *model, const engine_options *options, int32_t context, void (*done)(void *user),
                           void *user, prefixes **out, odmoe_error *err);
void prefixes_close(prefixes *p);

/* prefixes_common - tokens that two sequences begin with. */
int32_t prefixes_common(const int32_t *a, int32_t n, const int32_t *b, int32_t m);

/* Where the longest common beginning with some tokens is kept. */
typedef struct prefix_found {
    int32_t length;               /* 0: nowhere. Of a file whole blocks; it may have a few more */
    const odmoe_session *session; /* in memory: to be forked before the next call; NULL: in a file */
    uint64_t name;                /* of the file */
} prefix_found;
/* prefixes_in_memory, prefixes_on_disk - look for tokens [n]. What is found in memory counts as used. */
prefix_found prefixes_in_memory(prefixes *p, const int32_t *tokens, int32_t n);
prefix_found prefixes_on_disk(prefixes *p, const int32_t *tokens, int32_t n);
void prefixes_load(prefixes *p, prefix_load *load);

/* prefixes_keep - a sequence is about to lose its tokens: keep a fork of it, if there is room. `except` stays.
 * prefixes_save - write a fork of it in the background. True: that is done, under way, or not wanted; false: try again
 * later. prefixes_save_now - write it, and all that is kept in memory, now. */
void prefixes_keep(prefixes *p, const odmoe_session *s, const odmoe_session *except);
bool prefixes_save(prefixes *p, const odmoe_session *s);
void prefixes_save_now(prefixes *p, const odmoe_session *s);
void prefixes_save_all_kept(prefixes *p);

/* prefixes_evict - free what is worth least in memory, but for `except`, so that its pages can be used. False: no other is
 * kept there.
 * prefixes_saving - forks that are being written, and hold pages until then. */
bool prefixes_evict(prefixes *p, const odmoe_session *except);
bool prefixes_saving(prefixes *p);
/* prefixes_reading - the passes read from the disk now, or not. */
void prefixes_reading(prefixes *p, bool reading);

/* prefixes_stats - fill the fields of prefixes. */
void prefixes_stats(prefixes *p, engine_stats *out);

#endif
