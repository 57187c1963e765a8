/* chat_formats.h - the table of chat formats: what is written around each message. */
#ifndef ODMOE_TEXT_CHAT_FORMATS_H
#define ODMOE_TEXT_CHAT_FORMATS_H

#include "text/chat.h"

/* Where the system text goes. */
typedef enum chat_system {
    CHAT_SYSTEM_TURN,       /* it is a message like the others */
    CHAT_SYSTEM_GATHERED,   /* all system messages, an empty line between them, before everything else */
    CHAT_SYSTEM_FIRST_USER, /* into the first message of the user */
    CHAT_SYSTEM_LAST_USER,  /* into the last message, if that is the user's */
    CHAT_SYSTEM_NONE        /* refused */
} chat_system;

/* What becomes of <think>...</think> in the assistant's earlier answers, if the template knows </think> at all. */
typedef enum chat_thinking {
    CHAT_THINKING_KEPT,
    CHAT_THINKING_DROPPED,      /* all up to the first </think> */
    CHAT_THINKING_DROPPED_LAST, /* all up to the last one */
    CHAT_THINKING_QWQ,          /* the same, and empty lines at the beginning of what is left */
    CHAT_THINKING_QWEN3         /* the same, where there was a </think>; rewritten behind the last question */
} chat_thinking;

/* What of a message's white space at both ends is dropped. */
typedef enum chat_trim {
    CHAT_TRIM_NONE,
    CHAT_TRIM_EACH,   /* all of it */
    CHAT_TRIM_JOINED, /* the same, after a system text was put before it */
    CHAT_TRIM_ANSWERS /* all of it, of the assistant's messages */
} chat_trim;

/* In these texts \1 stands for the begin token and \2 for the end token. */
typedef struct chat_format {
    const char *name;
    const char *signs[4];   /* a template that has all of these (with default_system: first what begins a turn) ... */
    const char *one_of[4];  /* ... and one of these, if there are any ... */
    const char *without[6]; /* ... and none of these is of this format. As chat_detect.c reduces it. */
    const char *system[2], *user[2], *assistant[2]; /* before and behind each message; system: also inside a user's */
    const char *last_answer;                        /* instead of assistant[1] at the very end, or NULL */
    const char *prompt;                             /* where the assistant's answer begins */
    const char *end;                                /* the end of a text without that */
    const char *system_always;                      /* stands in the system message even without a system text */
    chat_system system_at;
    chat_thinking thinking;
    chat_trim trim;
    bool alternates;     /* user and assistant must take turns, the user first */
    bool answers_only;   /* assistant[0] and prompt stand only right behind a message of the user */
    bool default_system; /* the template may hold a system text for conversations without one */
} chat_format;

extern const chat_format chat_formats[];
extern const size_t chat_formats_count;

#endif
