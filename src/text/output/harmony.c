#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/output/state.h"

/* gpt-oss: <|start|>ROLE to=RECIPIENT<|channel|>CHANNEL <|constrain|>TYPE<|message|>TEXT<|end|>, again and again. The
 * prompt ends behind the role, so that the text begins with the rest of a header. */

enum { HEADER_MAX = 512 };

static const char *const ends[] = {"<|end|>", "<|call|>", "<|return|>", "<|start|>", NULL};

/* The message that the prompt has begun, or NULL: it ends in a header. */
static const char *begun_message(const char *prompt)
{
    static const char start[] = "<|start|>";
    const char *last = NULL;
    for (const char *at = prompt; at && (at = strstr(at, start)); at += strlen(start))
        last = at;
    return last && strstr(last, "<|message|>") ? last : NULL;
}

void harmony_start(output *o, const char *prompt)
{
    const char *message = begun_message(prompt);
    o->stage = STAGE_HEADER;
    if (message)
        output_feed(o, message, strlen(message), NULL);
}

/* Whom a header calls: the last to=functions.NAME of it. */
static bool set_recipient(output *o, const char *header, size_t n)
{
    static const char sign[] = "to=functions.";
    free(o->recipient);
    o->recipient = NULL;
    for (size_t at = 0, found; (found = scan_find(header + at, n - at, sign)) != SIZE_MAX;) {
        at += found + strlen(sign);
        size_t length = 0;
        while (at + length < n && (unsigned char)header[at + length] > ' ' && header[at + length] != '<')
            length++;
        if (!length)
            continue;
        free(o->recipient);
        o->recipient = mem_strdup(header + at, length, NULL);
        if (!o->recipient)
            return false;
    }
    return true;
}

/* The last channel that a header names. */
static bool is_analysis(const char *header, size_t n)
{
    static const char sign[] = "<|channel|>";
    bool is = false;
    for (size_t at = 0, found; (found = scan_find(header + at, n - at, sign)) != SIZE_MAX;) {
        at += found + strlen(sign);
        is = n - at >= 8 && !memcmp(header + at, "analysis", 8);
    }
    return is;
}

output_place harmony_place(const char *prompt)
{
    const char *message = begun_message(prompt), *body = message ? strstr(message, "<|message|>") : NULL;
    if (!message)
        return PLACE_OPEN;
    return is_analysis(message, (size_t)(body - message)) ? PLACE_REASONING : PLACE_ANSWER;
}

/* How a header begins, blanks aside. A model that begins otherwise means its answer. */
static scanned begins_header(const output *o)
{
    static const char *const begins[] = {"<|", "to=", "assistant", NULL};
    size_t front = scan_blanks(o->text, o->n);
    scanned all = SCAN_BAD;
    for (size_t i = 0; begins[i] && all != SCAN_DONE; i++) {
        scanned r = scan_marker(o->text + front, o->n - front, begins[i]);
        all = r == SCAN_BAD ? all : r;
    }
    return all;
}

static bool step_header(output *o)
{
    static const char sign[] = "<|message|>";
    size_t message = scan_find(o->text, o->n, sign);
    scanned begins = begins_header(o);
    bool too_long = message > HEADER_MAX && (message != SIZE_MAX || o->n >= HEADER_MAX + strlen(sign));
    if (begins == SCAN_BAD || too_long) {
        if (too_long) { /* its first sign may be one that ends a text: pass it */
            size_t n = scan_blanks(o->text, o->n) + 1;
            output_give(o, DELTA_CONTENT, o->text, n);
            output_drop(o, n);
        }
        o->channel = CHANNEL_FINAL;
        o->stage = STAGE_BODY;
        return true;
    }
    if (message == SIZE_MAX) {
        if (o->ended)
            output_drop(o, o->n); /* a header that was cut off */
        return false;
    }
    if (!set_recipient(o, o->text, message)) {
        o->failed = true;
        return false;
    }
    o->channel = o->recipient ? CHANNEL_CALL : is_analysis(o->text, message) ? CHANNEL_ANALYSIS : CHANNEL_FINAL;
    delta_kind kind = o->channel == CHANNEL_ANALYSIS ? DELTA_REASONING : DELTA_CONTENT;
    output_drop(o, message + strlen("<|message|>"));
    o->stage = STAGE_BODY;
    if (o->channel != CHANNEL_CALL && o->any[kind])
        output_give(o, kind, "\n", 1);
    return true;
}

/* A call's text is all here: its arguments. closed: an end marker follows. */
static void end_call(output *o, size_t n, bool closed)
{
    size_t front = scan_blanks(o->text, n), length = scan_trim(o->text + front, n - front);
    if (o->tools && (scan_is_json(o->text + front, length) || (closed && !length))) {
        call c = {.name = o->recipient};
        out_word(&c.arguments, length ? "" : "{}");
        out_put(&c.arguments, o->text + front, length);
        o->failed |= c.arguments.failed;
        if (!o->failed)
            output_give_call(o, &c);
        free(c.arguments.at);
    } else {
        output_give(o, DELTA_CONTENT, o->text + front, length);
    }
}

/* The text of a call, text[0, n) so far, while it comes. over: there is no more of it, and `next` is what follows. */
static bool stream_call(output *o, size_t n, bool over, size_t next)
{
    size_t front = scan_blanks(o->text, n), used = 0;
    if (front == n || o->text[front] != '{') { /* held to its end */
        if (!over)
            return false;
        end_call(o, n, next > n);
        output_drop(o, next);
        o->stage = STAGE_HEADER;
        return o->n > 0;
    }
    call c = {.name = o->recipient};
    call_take_front(o->text, n, front, &c);
    scanned r = scan_json(o->text + front, n - front, false, &used);
    bool whole = r == SCAN_DONE && c.read == front + used,
         alone = whole && c.read + scan_blanks(o->text + c.read, n - c.read) == n;
    bool more = !over && (alone || r == SCAN_MORE);
    o->failed |= c.arguments.failed;
    if (!o->failed && whole && !more)
        output_give_call(o, &c);
    else if (!o->failed)
        output_give_front(o, &c, c.read);
    free(c.arguments.at);
    if (o->failed || more)
        return false;
    bool over_now = alone || r == SCAN_MORE; /* else what follows is content */
    if (!whole)
        output_leave_call(o);
    output_drop(o, over_now ? next - (whole ? 0 : c.read) : whole ? c.read : 0);
    o->channel = CHANNEL_FINAL;
    o->stage = over_now ? STAGE_HEADER : STAGE_BODY;
    return o->n > 0;
}

static bool step_body(output *o)
{
    size_t end = SIZE_MAX, skip = 0;
    for (size_t i = 0; ends[i]; i++) {
        size_t at = scan_find(o->text, o->n, ends[i]);
        if (at < end) {
            end = at;
            skip = i == 3 ? 0 : strlen(ends[i]);
        }
    }
    bool over = end != SIZE_MAX || o->ended;
    if (o->stream && o->channel == CHANNEL_CALL && o->tools)
        return stream_call(o, end != SIZE_MAX ? end : o->n - (over ? 0 : output_held(o, ends)), over,
                           end != SIZE_MAX ? end + skip : o->n);
    if (!over && o->channel == CHANNEL_CALL)
        return false;
    if (!over) {
        output_give_held(o, o->channel == CHANNEL_ANALYSIS ? DELTA_REASONING : DELTA_CONTENT, ends);
        return false;
    }
    size_t n = end != SIZE_MAX ? end : o->n;
    if (o->channel == CHANNEL_CALL)
        end_call(o, n, end != SIZE_MAX);
    else
        output_give(o, o->channel == CHANNEL_ANALYSIS ? DELTA_REASONING : DELTA_CONTENT, o->text, n);
    output_drop(o, end != SIZE_MAX ? end + skip : o->n);
    o->stage = STAGE_HEADER;
    return o->n > 0;
}

bool harmony_step(output *o)
{
    return o->stage == STAGE_HEADER ? step_header(o) : step_body(o);
}
