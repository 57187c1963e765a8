/* conversation.h - messages as the library's templates take them, and what they become: text and tokens.
 *
 * Threads: any; an ask belongs to one. */
#ifndef ODMOE_SERVER_CONVERSATION_H
#define ODMOE_SERVER_CONVERSATION_H

#include "ask.h"
#include "memory.h"

/* conversation_read - check the list of messages of chat's shape at `where`, and make a->messages of it: developer becomes
 * system, function becomes tool, parts become one text, leading system messages become one, nulls are dropped, calls and
 * their results get the ids that they lack. Other protocols first write their messages in this shape; `where` is then the
 * field that these came from. */
bool conversation_read(ask *a, const json_t *messages, const char *where, problem *p);

/* content_texts - a text, or the texts of a list of parts joined by line ends, behind what is in `out`. types: the parts that count as
 * text, ended by NULL; others are 400 unsupported_parameter. null and absent: nothing. */
bool content_texts(const json_t *value, const char *where, const char *const *types, buffer *out, problem *p);

/* A rendered prompt. Zero it before use; prompt_free. */
typedef struct prompt {
    int32_t *tokens; /* [n] */
    int32_t n;
    int32_t *checkpoints; /* [checkpoint_count] as in job.h */
    size_t checkpoint_count;
    char tail[512]; /* the end of its text: the answer continues it */
    bool goes_on;   /* the tail is the beginning of the answer */
    uint64_t taken; /* of the account */
} prompt;
void prompt_free(prompt *r);

/* conversation_text - a->messages in the model's template. answer: end where the answer begins. A last message of the assistant is
 * continued. conversation_tokens - as tokens; more than the context holds: 400 context_length_exceeded.
 * prompt_from_text - of completions; special tokens of the text count. prompt_from_tokens - a copy. */
bool conversation_text(const struct server *s, const ask *a, bool answer, buffer *out, problem *p);
bool conversation_tokens(const struct server *s, const ask *a, prompt *out, problem *p);
bool prompt_from_text(const struct server *s, const char *text, size_t length, const char *param, prompt *out,
                      problem *p);
bool prompt_from_tokens(const struct server *s, const int32_t *tokens, size_t n, const char *param, prompt *out,
                        problem *p);

/* text_tokens - the ids of a text; free() and memory_give(*taken) them. Any number of them. */
bool text_tokens(const struct server *s, const char *text, size_t length, int flags, int32_t **tokens, size_t *n,
                 uint64_t *taken, problem *p);

#endif
