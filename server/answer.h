/* answer.h - one generation as protocols see it: started from an ask, read event by event, or collected whole.
 *
 * A protocol that streams gives an answer_writer; http.c's stream then calls it for each event, and writes the keepalive.
 *
 * Threads: an answer belongs to the thread of its connection. */
#ifndef ODMOE_SERVER_ANSWER_H
#define ODMOE_SERVER_ANSWER_H

#include "ask.h"
#include "conversation.h"
#include "http.h"
#include "job.h"

typedef struct answer {
    struct server *server;
    http_request *request;
    job *job;
    uint64_t taken; /* of the account */
    double written; /* when something was last sent, by clock_seconds: for the keepalive */
    size_t calls;   /* how many calls have begun to come */
    bool ended;     /* JOB_END has come; the rest is its */
    job_finish finish;
    int stop_index;
    odmoe_error error;
    job_usage usage; /* prompt_tokens; from JOB_ADMITTED on cached_tokens too, at the end all */
} answer;

/* answer_start - compile the grammar, create the job and queue it. prompt: as conversation.h makes it; it is not needed any more
 * afterwards. false: p is filled (400 of the grammar, 429, 503). Free it whatever comes of it. */
bool answer_start(struct server *s, http_request *request, const ask *a, const prompt *r, answer *out, problem *p);
/* answer_ask - conversation_tokens and answer_start at once. */
bool answer_ask(struct server *s, http_request *request, const ask *a, answer *out, problem *p);
/* answer_free - the job is cancelled where it still runs. Zeroed ones are fine. */
void answer_free(answer *a);

typedef enum answer_step {
    ANSWER_EVENT, /* *event is filled */
    ANSWER_QUIET, /* --keepalive seconds have passed since something was written */
    ANSWER_GONE   /* the client has left */
} answer_step;
/* answer_next - the next event. After JOB_END there is none. */
answer_step answer_next(answer *a, job_event *event);

/* answer_finish - OpenAI's finish_reason of an answer that has ended: "stop", "length" or "tool_calls"; NULL: it failed, and `p`
 * says why. */
const char *answer_finish(const answer *a, problem *p);

/* ---- a whole answer ---- */

typedef struct message_call {
    char id[48]; /* a random one, with the prefix that was asked for */
    buffer name, arguments;
} message_call;

typedef struct message {
    int best; /* alternatives of each log probability, as the ask has them */
    buffer content, reasoning;
    message_call *calls; /* [call_count] */
    size_t call_count;
    json_t *logprobs; /* list of what logprob_json makes, where they were asked for */
} message;
void message_free(message *m);
/* message_add - a delta's text behind what is there. call_prefix: of ids ("call_"). false: no memory. */
bool message_add(message *m, const struct server *s, const job_event *event, const char *call_prefix);

/* answer_collect - wait for the whole answer. ANSWER_GONE: the client has left; ANSWER_QUIET: p is filled; ANSWER_EVENT: done. */
answer_step answer_collect(answer *a, message *m, const char *call_prefix, problem *p);

/* ---- a stream ---- */

typedef struct answer_writer {
    /* An event has come: append what the client shall see. JOB_END: its last events too; answer_finish says what it was. */
    void (*event)(void *user, const job_event *event, buffer *out);
    void (*quiet)(void *user, buffer *out); /* the keepalive; NULL: a comment */
    void (*free)(void *user);               /* answer_free included */
} answer_writer;

/* answer_stream - reply with a stream of the answer's events. user: the protocol's, which holds `a`. It is freed by `free` in any
 * case, also when this fails for want of memory. writer is static. */
bool answer_stream(http_reply *reply, answer *a, const answer_writer *writer, void *user, problem *p);

/* ---- pieces of replies ---- */

/* usage_json - usage of chat and completions. timings_json - llama.cpp's names. New references. */
json_t *usage_json(const job_usage *u);
json_t *timings_json(const job_usage *u);
/* logprob_json - chat's form of a token: token, logprob, bytes, top_logprobs. */
json_t *logprob_json(const struct server *s, const job_logprob *l, int best);
/* token_bytes - a token's bytes, [length] into bytes [room]; returns their length. */
size_t token_bytes(const struct server *s, int32_t token, char *bytes, size_t room);

#endif
