/* memory.h - the account of what requests may hold: `server_bytes` of the plan.
 *
 * Bodies, parsed JSON, rendered prompts, grammars and replies are taken from it before they are allocated; what does not
 * fit is refused (413, 503), so that the budget of the process holds whatever is sent. jansson's allocators count here
 * by themselves, the library's JSON included.
 *
 * Threads: any. */
#ifndef ODMOE_SERVER_MEMORY_H
#define ODMOE_SERVER_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* memory_start - count from now on; to be called once, while no JSON of jansson exists. memory_hold - from now on refuse what
 * goes beyond `limit` bytes on top of what is taken now (the model's own JSON, as a rule). */
void memory_start(void);
void memory_hold(uint64_t limit);
uint64_t memory_limit(void);
/* memory_used - taken now. */
uint64_t memory_used(void);

/* memory_json_short - did jansson ask for more than there is, in this thread, since the last call with `forget`? Code that
 * reads JSON then stops, since only few of jansson's allocations can be refused safely. */
bool memory_json_short(bool forget);

/* memory_take - note that `bytes` are about to be allocated; false: they do not fit, nothing is noted. memory_give - they are
 * free again. memory_take_up_to - as much as fits between `least` and `most`; 0: not even the least. */
bool memory_take(uint64_t bytes);
uint64_t memory_take_up_to(uint64_t least, uint64_t most);
/* memory_lend - on: this thread gets all that it asks for, counted, until it is turned off. For the events of a stream, which
 * are small and cannot be refused any more. */
void memory_lend(bool on);
void memory_give(uint64_t bytes);

/* A growing text of the account. Zero it before use. `failed`: something did not fit; what is appended later is dropped. */
typedef struct buffer {
    char *data; /* [length], and a terminating 0 where there is any */
    size_t length, capacity;
    bool failed;
} buffer;

/* buffer_reserve - room for `more` bytes behind the text. false: failed. */
bool buffer_reserve(buffer *b, size_t more);
void buffer_add(buffer *b, const void *data, size_t length);
void buffer_text(buffer *b, const char *text);
void buffer_print(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_free(buffer *b); /* may be used again */

#endif
