/* state.h - a text that is being split: shared by output.c and harmony.c. */
#ifndef ODMOE_TEXT_OUTPUT_STATE_H
#define ODMOE_TEXT_OUTPUT_STATE_H

#include "text/output/format.h"

typedef enum output_stage {
    STAGE_START, /* nothing but blanks so far: reasoning may begin */
    STAGE_REASONING,
    STAGE_CONTENT,
    STAGE_CALLS,  /* behind an opening marker and at least one call */
    STAGE_HEADER, /* Harmony: before a message's text */
    STAGE_BODY    /* Harmony: in it */
} output_stage;

typedef enum harmony_channel { CHANNEL_FINAL, CHANNEL_ANALYSIS, CHANNEL_CALL } harmony_channel;

struct output {
    const output_format *f;
    json_t *tools; /* NULL: no calls */
    output_sink sink;
    void *user;
    output_stage stage;
    char *text; /* [n] not given yet */
    size_t n, capacity;
    size_t calls;
    bool stream;      /* calls are given as they come */
    bool begun;       /* the front of a call was given; its text is still held */
    size_t given;     /* bytes of its arguments that were */
    size_t passed;    /* bytes of `text` that they were read from */
    bool any[2];      /* DELTA_CONTENT, DELTA_REASONING: some was given */
    bool opened;      /* the prompt has opened the reasoning */
    bool array;       /* in the calls: a JSON array */
    bool answer_open; /* the answer's opening tag was there */
    bool no_call;     /* WHOLE: the answer is no call */
    bool ended, failed;
    harmony_channel channel;
    char *recipient; /* Harmony: of a call */
};

/* output_give - text as content or reasoning: blanks before the first of it are dropped. */
void output_give(output *o, delta_kind kind, const char *text, size_t n);
void output_give_call(output *o, const call *c);
/* output_give_front - what is new of a call that has begun and was read from text[0, passed). */
void output_give_front(output *o, const call *c, size_t passed);
/* output_leave_call - what had begun goes on as no call: its text so far is done with. */
void output_leave_call(output *o);
/* output_drop - the first n bytes of o->text are done with. */
void output_drop(output *o, size_t n);
/* output_held - the length of the longest end of o->text that may begin one of the markers (NULL ends them). */
size_t output_held(const output *o, const char *const *markers);
/* output_give_held - all of text[0, n) but blanks at its end, an unfinished character, and what may begin one of the markers
 * (NULL ends them); nothing is held at the end of the text. The bytes given are dropped. */
void output_give_held(output *o, delta_kind kind, const char *const *markers);

/* harmony_start, harmony_step - gpt-oss: messages with channels. A step returns false when more text is needed. */
void harmony_start(output *o, const char *prompt);
output_place harmony_place(const char *prompt);
bool harmony_step(output *o);

#endif
