#include "text/output/output.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/output/state.h"

/* ---- giving ---- */

void output_give(output *o, delta_kind kind, const char *text, size_t n)
{
    if (!o->any[kind]) {
        size_t front = scan_blanks(text, n);
        text += front;
        n -= front;
    }
    if (!n)
        return;
    o->any[kind] = true;
    o->sink(o->user, &(output_delta){.kind = kind, .text = text, .length = n});
}

void output_give_front(output *o, const call *c, size_t passed)
{
    output_delta d = {.kind = DELTA_CALL, .text = "", .call = o->calls, .name = c->name, .id = c->id};
    if (!o->begun)
        o->sink(o->user, &d);
    o->begun = true;
    o->passed = passed;
    d.text = c->arguments.at + o->given;
    d.length = c->arguments.n - o->given;
    if (d.length)
        o->sink(o->user, &d);
    o->given = c->arguments.n;
}

void output_give_call(output *o, const call *c)
{
    output_delta d = {DELTA_CALL, c->arguments.at, c->arguments.n, o->calls, c->name, c->id, true};
    if (o->stream && !o->begun) {
        d.text = "";
        d.length = 0;
        d.whole = false;
        o->sink(o->user, &d);
        d = (output_delta){DELTA_CALL, c->arguments.at, c->arguments.n, o->calls, c->name, c->id, true};
    }
    d.text += o->given;
    d.length -= o->given;
    o->sink(o->user, &d);
    o->calls++;
    o->begun = false;
    o->given = 0;
}

void output_leave_call(output *o)
{
    output_drop(o, o->passed);
    o->calls++;
    o->begun = false;
    o->given = 0;
}

void output_drop(output *o, size_t n)
{
    memmove(o->text, o->text + n, o->n - n);
    o->n -= n;
}

size_t output_held(const output *o, const char *const *markers)
{
    size_t held = 0;
    for (size_t i = 0; markers[i]; i++) {
        size_t part = scan_partial(o->text, o->n, markers[i]);
        held = part > held ? part : held;
    }
    return held;
}

void output_give_held(output *o, delta_kind kind, const char *const *markers)
{
    size_t n = o->n;
    if (!o->ended)
        n = scan_trim(o->text, scan_whole(o->text, n - output_held(o, markers)));
    output_give(o, kind, o->text, n);
    output_drop(o, n);
}

/* ---- reasoning ---- */

/* Before anything but blanks: does reasoning begin? */
static bool step_start(output *o)
{
    const char *open = o->f->think[0];
    size_t front = scan_blanks(o->text, o->n);
    size_t tag = open ? scan_trim(open, strlen(open)) : 0;
    char marker[64];
    memcpy(marker, open ? open : "", tag);
    marker[tag] = 0;
    scanned r = open ? scan_marker(o->text + front, o->n - front, marker) : SCAN_BAD;
    if (r == SCAN_MORE && !o->ended)
        return false;
    if (r == SCAN_DONE)
        output_drop(o, front + tag);
    o->stage = r == SCAN_DONE || o->opened ? STAGE_REASONING : STAGE_CONTENT;
    return true;
}

/* The reasoning's end: a tag, or in some formats the marker of calls. */
static bool step_reasoning(output *o)
{
    const char *markers[] = {o->f->think[1], o->tools && o->f->open_ends_thinking ? o->f->open[0] : NULL, NULL};
    size_t end = SIZE_MAX, skip = 0;
    for (size_t i = 0; markers[i]; i++) {
        size_t at = scan_find(o->text, o->n, markers[i]);
        if (at < end) {
            end = at;
            skip = i ? 0 : strlen(markers[i]);
        }
    }
    if (end == SIZE_MAX) {
        output_give_held(o, DELTA_REASONING, markers);
        return false;
    }
    output_give(o, DELTA_REASONING, o->text, scan_trim(o->text, end));
    output_drop(o, end + skip);
    o->stage = STAGE_CONTENT;
    return true;
}

/* ---- content ---- */

/* The first marker in the content; SIZE_MAX: none. */
static size_t first_marker(const output *o, const char *const *markers, size_t *which)
{
    size_t first = SIZE_MAX;
    for (size_t i = 0; markers[i]; i++) {
        size_t at = scan_find(o->text, o->n, markers[i]);
        if (at < first) {
            first = at;
            *which = i;
        }
    }
    return first;
}

/* Has the request a tool of this name? Given as they come, calls of others are text. */
static bool known_tool(const output *o, const char *name)
{
    size_t i;
    const json_t *tool;
    json_array_foreach(o->tools, i, tool)
    {
        const json_t *f = json_object_get(tool, "function"), *own = json_object_get(f ? f : tool, "name");
        if (json_is_string(own) && !strcmp(json_string_value(own), name))
            return true;
    }
    return false;
}

/* The call at o->text + at. false: it needs more text. */
static bool try_call(output *o, size_t at, size_t marker)
{
    call c = {.stream = o->stream, .cut = o->stream && o->ended};
    size_t used = 0;
    bool array = false;
    reading r = call_read(o->f, o->tools, o->text + at, o->n - at, marker == 0, &c, &used, &array);
    if (o->stream && (r == READ_DONE || c.begun) && !known_tool(o, c.name)) {
        r = r == READ_MORE && !o->ended ? READ_MORE : READ_NOT;
        c.begun = false;
    }
    if (r == READ_DONE) {
        output_give_call(o, &c);
        output_drop(o, at + used);
        o->array = marker ? array : o->array;
        o->stage = STAGE_CALLS;
    } else if (r == READ_NO_MEMORY || c.arguments.failed) {
        o->failed = true;
    } else if (r == READ_MORE && c.begun) {
        output_give_front(o, &c, o->ended ? o->n : at + c.read);
        if (o->ended) /* cut */
            output_leave_call(o);
    } else if (r == READ_NOT && c.begun) {
        output_give_front(o, &c, at + c.read);
        output_leave_call(o);
        o->stage = STAGE_CONTENT;
    } else if (r == READ_NOT || o->ended) { /* text after all: the marker first, then what follows it */
        size_t n = marker ? at + marker : at;
        output_give(o, DELTA_CONTENT, o->text, n);
        output_drop(o, n);
        o->stage = STAGE_CONTENT;
        r = READ_NOT;
    }
    call_free(&c);
    return r != READ_MORE && !o->failed;
}

/* The answer as a whole may be a call: then it is held to its end. */
static bool step_whole(output *o)
{
    size_t at = scan_blanks(o->text, o->n), used = 0;
    scanned tag = scan_marker(o->text + at, o->n - at, o->f->open[0]);
    call c = {.stream = o->stream};
    if ((tag == SCAN_MORE || at == o->n) && !o->ended)
        return false;
    if (tag == SCAN_DONE) {
        at += strlen(o->f->open[0]);
        at += scan_blanks(o->text + at, o->n - at);
    }
    reading r = call_read_json(o->text + at, o->n - at, &c, &used);
    bool alone = r == READ_DONE && at + used + scan_blanks(o->text + at + used, o->n - at - used) == o->n;
    if (c.begun && known_tool(o, c.name)) { /* given as it comes; what follows is content */
        if (r == READ_DONE) {
            output_give_call(o, &c);
            output_drop(o, at + used);
        } else {
            output_give_front(o, &c, r == READ_MORE && o->ended ? o->n : at + c.read);
            if (r == READ_NOT || o->ended)
                output_leave_call(o);
        }
        alone = false;
    } else if (alone && o->ended) {
        output_give_call(o, &c);
        output_drop(o, o->n);
    }
    o->failed |= c.arguments.failed;
    call_free(&c);
    if (!o->ended && (alone || r == READ_MORE))
        return false;
    o->failed |= r == READ_NO_MEMORY;
    o->no_call = true;
    return !o->failed;
}

/* Tags around the answer. */
static bool step_answer_tags(output *o)
{
    const char *open = o->f->answer[0];
    size_t front = scan_blanks(o->text, o->n);
    scanned r = scan_marker(o->text + front, o->n - front, open);
    if (r == SCAN_MORE && !o->ended)
        return false;
    if (r == SCAN_DONE) {
        output_drop(o, front + strlen(open));
        o->answer_open = true;
    }
    return true;
}

static bool step_content(output *o)
{
    if (o->tools && o->f->style == CALLS_WHOLE && !o->no_call && !o->any[DELTA_CONTENT] && !step_whole(o))
        return false;
    if (o->f->answer[0] && !o->any[DELTA_CONTENT] && !o->answer_open && !step_answer_tags(o))
        return false;
    const char *markers[5] = {0};
    size_t n = 0, which = 0;
    for (int i = 0; o->tools && i < 2 && o->f->style != CALLS_WHOLE && o->f->open[i]; i++)
        markers[n++] = o->f->open[i];
    size_t calls = n;
    if (o->answer_open)
        markers[n++] = o->f->answer[1];
    size_t at = first_marker(o, markers, &which);
    if (at == SIZE_MAX) {
        output_give_held(o, DELTA_CONTENT, markers);
        return false;
    }
    if (which >= calls) {
        output_give(o, DELTA_CONTENT, o->text, at);
        output_drop(o, at + strlen(markers[which]));
        o->answer_open = false;
        return true;
    }
    size_t text = scan_trim(o->text, at); /* blanks before a call belong to neither */
    output_give(o, DELTA_CONTENT, o->text, text);
    output_drop(o, text);
    return try_call(o, at - text, strlen(markers[which]));
}

/* ---- calls ---- */

/* Behind a call: further ones, or the end of them. */
static bool step_calls(output *o)
{
    const output_format *f = o->f;
    size_t at = scan_blanks(o->text, o->n);
    const char *passed[] = {f->call_close, f->fence, o->array ? "," : NULL, o->array ? "]" : NULL, f->close};
    bool more = at == o->n;
    for (size_t i = 0; i < 5; i++) {
        if (!passed[i])
            continue;
        scanned r = scan_marker(o->text + at, o->n - at, passed[i]);
        more |= r == SCAN_MORE;
        if (r != SCAN_DONE)
            continue;
        output_drop(o, at + strlen(passed[i]));
        if (i == 3)
            o->array = false;
        if (i == 4 || (i == 3 && !f->close))
            o->stage = STAGE_CONTENT;
        return true;
    }
    const char *next = f->style == CALLS_JSON ? "{" : f->style == CALLS_PYTHON ? "" : f->call_open;
    bool again = f->style == CALLS_PYTHON ? o->array && at < o->n : next && (f->close || o->array);
    scanned r = again ? scan_marker(o->text + at, o->n - at, next) : SCAN_BAD;
    if (r == SCAN_DONE)
        return try_call(o, at, 0);
    more |= r == SCAN_MORE;
    if (more && !o->ended)
        return false;
    o->stage = STAGE_CONTENT;
    return o->n > 0;
}

/* ---- all of it ---- */

static bool step(output *o)
{
    switch (o->stage) {
    case STAGE_START:
        return step_start(o);
    case STAGE_REASONING:
        return step_reasoning(o);
    case STAGE_CONTENT:
        return step_content(o);
    case STAGE_CALLS:
        return step_calls(o);
    default:
        return harmony_step(o);
    }
}

static odmoe_status steps(output *o, odmoe_error *err)
{
    while (!o->failed && (o->n || o->ended) && step(o))
        if (o->ended && !o->n && o->stage != STAGE_BODY)
            break;
    return o->failed ? err_set(err, ODMOE_ERR_MEMORY, "no memory for a model's output") : ODMOE_OK;
}

odmoe_status output_feed(output *o, const char *text, size_t length, odmoe_error *err)
{
    odmoe_status status = mem_grow((void **)&o->text, &o->capacity, o->n + length + 1, 1, "a model's output", err);
    if (status)
        return status;
    if (length)
        memcpy(o->text + o->n, text, length);
    o->n += length;
    return steps(o, err);
}

void output_stream_calls(output *o)
{
    o->stream = true;
}

odmoe_status output_end(output *o, odmoe_error *err)
{
    o->ended = true;
    return steps(o, err);
}

bool output_reasons(const output *o)
{
    switch (o->stage) {
    case STAGE_START:
        return o->opened;
    case STAGE_BODY:
        return o->channel == CHANNEL_ANALYSIS;
    default:
        return o->stage == STAGE_REASONING;
    }
}

static odmoe_status read_tools(output *o, const char *tools, odmoe_error *err)
{
    json_error_t fault;
    if (!tools)
        return ODMOE_OK;
    o->tools = json_loads(tools, JSON_DECODE_ANY, &fault);
    if (!o->tools || (!json_is_array(o->tools) && !json_is_null(o->tools)))
        return err_set(err, ODMOE_ERR_ARG, "tools: must be a JSON list");
    if (json_array_size(o->tools))
        return ODMOE_OK;
    json_decref(o->tools);
    o->tools = NULL;
    return ODMOE_OK;
}

static bool ends_with(const char *prompt, const char *tag)
{
    size_t n = scan_trim(prompt, strlen(prompt)), length = scan_trim(tag, strlen(tag));
    return n >= length && !memcmp(prompt + n - length, tag, length);
}

output_place output_place_of(const output_format *f, const char *prompt)
{
    if (f->style == CALLS_HARMONY)
        return harmony_place(prompt);
    if (!prompt || !f->think[0])
        return PLACE_OPEN;
    return ends_with(prompt, f->think[0])   ? PLACE_REASONING
           : ends_with(prompt, f->think[1]) ? PLACE_ANSWER
                                            : PLACE_OPEN;
}

/* Harmony's reasoning is a message; it ends with the header of another one. */
#define HARMONY_REASONING "<|channel|>analysis<|message|>"
#define HARMONY_ANSWER "<|end|><|start|>assistant<|channel|>final<|message|>"

const char *output_reasoning_open(const output_format *f)
{
    return f->style == CALLS_HARMONY ? HARMONY_REASONING : f->think[0];
}

const char *output_reasoning_close(const output_format *f)
{
    return f->style == CALLS_HARMONY ? "<|end|>" : f->think[1];
}

const char *output_reasoning_end(const output_format *f)
{
    return f->style == CALLS_HARMONY ? HARMONY_ANSWER : f->think[1];
}

odmoe_status output_create(const output_format *f, const char *prompt, const char *tools, output_sink sink, void *user,
                           output **out, odmoe_error *err)
{
    output *o = mem_calloc(1, sizeof *o, "a model's output", err);
    if (!o)
        return ODMOE_ERR_MEMORY;
    *o = (output){.f = f, .sink = sink, .user = user, .opened = output_place_of(f, prompt) == PLACE_REASONING};
    odmoe_status status = mem_grow((void **)&o->text, &o->capacity, 1, 1, "a model's output", err);
    if (!status)
        status = read_tools(o, tools, err);
    if (status) {
        output_free(o);
        return status;
    }
    if (f->style == CALLS_HARMONY)
        harmony_start(o, prompt);
    *out = o;
    return ODMOE_OK;
}

void output_free(output *o)
{
    if (!o)
        return;
    json_decref(o->tools);
    free(o->text);
    free(o->recipient);
    free(o);
}
