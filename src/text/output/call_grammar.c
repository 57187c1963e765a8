#include "text/output/call_grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar/schema.h"
#include "text/output/format.h"

/* A tool that may be called. */
typedef struct tool_rule {
    const char *name;
    uint32_t arguments; /* a rule */
} tool_rule;

typedef struct writer {
    const call_grammar *c;
    const output_format *f;
    grammar_rules *g;
    const token_names *names;
    tool_rule *tools;
    size_t count;
} writer;

static expr_id mark(const writer *w, const char *text)
{
    return expr_marker(w->g, w->names, text);
}

/* ---- free text ------------------------------------------------------------------------------------------------------ */

static const char_range every[] = {TEXT_ALL};
static const charset everything = {(char_range *)every, 2, 2};

/* Text and tokens up to one of the markers. may_end: or to the end. */
static expr_id until(const writer *w, const char *name, const marker *markers, size_t n, bool may_end)
{
    return expr_free_text(w->g, w->names,
                          &(free_text){.name = name,
                                       .chars = &everything,
                                       .markers = markers,
                                       .count = n,
                                       .end = may_end ? EXPR_EMPTY : EXPR_NEVER,
                                       .other = EXPR_NEVER,
                                       .tokens = w->names && w->names->find});
}

/* The blanks that may stand between reasoning and what follows it. */
static expr_id gap(const writer *w)
{
    return expr_repeat(w->g, ALT(w->g, TEXT(w->g, "\n"), TEXT(w->g, " ")), 0, 2);
}

/* ---- arguments ------------------------------------------------------------------------------------------------------ */

enum { NOTATION_VALUE, NOTATION_BARE, NOTATION_KEYS, NOTATION_NAMES, NOTATIONS };

/* How a format writes arguments. */
typedef struct argument_notation {
    text_notation notations[NOTATIONS];
    json_text texts[NOTATIONS];
    schema_writing writing;
} argument_notation;

static expr_id tag(void *user, expr_id key, expr_id value, bool text)
{
    const writer *w = user;
    const char *middle = w->f->parameter[1];
    char other[64];
    if (w->f->marked && !text) { /* string="true" becomes string="false" */
        const char *at = strstr(middle, "true");
        snprintf(other, sizeof other, "%.*sfalse%s", (int)(at - middle), middle, at + 4);
        middle = other;
    }
    return SEQ(w->g, mark(w, w->f->parameter[0]), key, mark(w, middle), value, mark(w, w->f->parameter[2]));
}

static void init_notation(const writer *w, argument_notation *a)
{
    static const char_range json[] = {TEXT_JSON_PLAIN}, words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const char *const harmony_ends[] = {"<|end|>", "<|call|>", "<|return|>", "<|start|>"};
    bool tags = w->f->style == CALLS_TAGS, gemma = w->f->style == CALLS_GEMMA, python = w->f->style == CALLS_PYTHON;
    text_notation *value = &a->notations[NOTATION_VALUE], *bare = &a->notations[NOTATION_BARE];
    *value = text_json;
    value->plain = json;
    if (gemma)
        *value = (text_notation){.name = "gemma",
                                 .quote = "<|\"|>",
                                 .plain = every,
                                 .plain_count = 2,
                                 .bare_keys = true,
                                 .never = {"<|\"|>"}};
    if (tags)
        value->never[0] = w->f->value_close;
    for (int i = 0; w->f->style == CALLS_HARMONY && i < 4; i++)
        value->never[i] = harmony_ends[i];
    *bare = (text_notation){
        .name = "bare", .quote = "", .plain = every, .plain_count = 2, .never = {tags ? w->f->value_close : NULL}};
    a->notations[NOTATION_KEYS] = (text_notation){.name = "key", .quote = "", .plain = words, .plain_count = 4};
    a->notations[NOTATION_NAMES] = *value;
    a->notations[NOTATION_NAMES].name = "name";
    a->notations[NOTATION_NAMES].bare_keys = true;
    for (int i = 0; i < NOTATIONS; i++)
        text_init(&a->texts[i], w->g, &a->notations[i], w->names);
    a->writing = (schema_writing){.value = &a->texts[NOTATION_VALUE],
                                  .keys = tags || gemma || python ? &a->texts[NOTATION_KEYS] : NULL,
                                  .tag = tags || python ? tag : NULL,
                                  .user = (void *)w,
                                  .between = python ? ", " : NULL,
                                  .names = python ? &a->texts[NOTATION_NAMES] : NULL,
                                  .null_apart = w->f->marked,
                                  .bare = python ? NULL : &a->texts[NOTATION_BARE]};
}

/* Can the schema of a tool's parameters be enforced? Tried in rules of its own. *fault: where not. */
static odmoe_status try_parameters(const writer *w, const json_t *parameters, grammar_fault *fault, odmoe_error *err)
{
    grammar_rules scratch;
    argument_notation notation;
    writer other = *w;
    other.g = &scratch;
    *fault = (grammar_fault){0};
    rules_init(&scratch, err, fault);
    init_notation(&other, &notation);
    schema_read_arguments(&notation.writing, "arguments", parameters);
    odmoe_status status = scratch.status;
    rules_free(&scratch);
    return status;
}

/* An error of tool i of the list. */
static void fail_tool(const writer *w, size_t i, const grammar_fault *fault, odmoe_status status, const char *what)
{
    char inner[sizeof fault->path];
    snprintf(inner, sizeof inner, "%s", fault ? fault->path : "");
    grammar_fault *to = w->g->fault;
    *to = (grammar_fault){.schema = i + 1};
    snprintf(to->path, sizeof to->path, "[%zu].function.%s%s%.200s", i, fault ? "parameters" : "name",
             *inner ? "." : "", inner);
    rules_fail(w->g, status, "tools%.200s: %.250s", to->path, what);
}

/* The arguments of tool i as a rule. */
static uint32_t arguments_of(const writer *w, const argument_notation *notation, size_t i, const json_t *function)
{
    const json_t *parameters = json_object_get(function, "parameters");
    grammar_fault fault = {0};
    odmoe_error why = {0};
    json_t *other = NULL;
    if (!parameters || json_is_null(parameters))
        parameters = other = json_pack("{s:s, s:b}", "type", "object", "additionalProperties", 0);
    odmoe_status status = parameters ? try_parameters(w, parameters, &fault, &why) : ODMOE_ERR_MEMORY;
    if (status && status != ODMOE_ERR_MEMORY && !json_is_true(json_object_get(function, "strict"))) {
        json_decref(other);
        parameters = other = json_pack("{s:s}", "type", "object");
        status = parameters ? ODMOE_OK : ODMOE_ERR_MEMORY;
    }
    uint32_t rule = 0;
    char name[32];
    snprintf(name, sizeof name, "arguments-%zu", i + 1);
    if (status)
        fail_tool(w, i, &fault, status, why.message);
    else
        rule = schema_read_arguments(&notation->writing, name, parameters);
    json_decref(other);
    return rule;
}

/* A name that every format can write and read back. */
static bool can_be_written(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/$";
    size_t n = strlen(name);
    return n > 0 && n <= 128 && strspn(name, letters) == n;
}

static void read_tools(writer *w)
{
    argument_notation notation;
    size_t i;
    const json_t *tool;
    init_notation(w, &notation);
    json_array_foreach(w->c->tools, i, tool)
    {
        const json_t *function = json_object_get(tool, "function");
        function = function ? function : tool;
        const char *name = json_string_value(json_object_get(function, "name"));
        if (w->g->status)
            return;
        if (!name || !can_be_written(name))
            fail_tool(w, i, NULL, ODMOE_ERR_ARG, "a name is wanted: 1 to 128 letters, digits and _-.:/$");
        else if (!w->c->only || !strcmp(w->c->only, name))
            w->tools[w->count++] = (tool_rule){name, arguments_of(w, &notation, i, function)};
    }
    if (!w->count && !w->g->status)
        rules_fail(w->g, ODMOE_ERR_ARG, w->c->only ? "there is no tool named %.100s" : "there are no tools",
                   w->c->only ? w->c->only : "");
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

/* A text with %n %a %d %w (format.h), for one tool. */
static expr_id filled(const writer *w, const char *text, const tool_rule *tool)
{
    grammar_rules *g = w->g;
    static const char_range letters[] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}};
    expr_list list = {0};
    while (*text && !g->status) {
        size_t run = strcspn(text, "%");
        char *literal = mem_strdup(text, run, g->err);
        if (!literal)
            g->status = ODMOE_ERR_MEMORY;
        else
            expr_list_add(g, &list, mark(w, literal));
        free(literal);
        text += run;
        if (!*text)
            break;
        if (text[1] == 'n')
            expr_list_add(g, &list, expr_text(g, tool->name, strlen(tool->name)));
        else if (text[1] == 'a')
            expr_list_add(g, &list, expr_rule(g, tool->arguments));
        else if (text[1] == 'd')
            expr_list_add(g, &list, expr_repeat(g, expr_range(g, '0', '9'), 1, 4));
        else
            expr_list_add(g, &list, expr_repeat(g, expr_chars(g, &(charset){(char_range *)letters, 3, 3}), 9, 9));
        text += 2;
    }
    expr_id e = g->status ? EXPR_NEVER : expr_seq(g, list.items, list.count);
    free(list.items);
    return e;
}

/* The same for any of the tools. */
static expr_id for_each_tool(const writer *w, const char *text)
{
    expr_list list = {0};
    for (size_t i = 0; i < w->count; i++)
        expr_list_add(w->g, &list, filled(w, text, &w->tools[i]));
    expr_id e = w->g->status ? EXPR_NEVER : expr_alt(w->g, list.items, list.count);
    free(list.items);
    return e;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

/* All calls, behind the text that has opened them (NULL: from their beginning). */
static expr_id calls_behind(const writer *w, const char *opening)
{
    const char *const *form = w->f->written;
    size_t before = strlen(or_empty(form[0])), length = before + strlen(form[1]) + 1;
    char *first = mem_calloc(length, 1, "a grammar", w->g->err);
    if (!first) {
        w->g->status = ODMOE_ERR_MEMORY;
        return EXPR_NEVER;
    }
    snprintf(first, length, "%s%s", or_empty(form[0]), form[1]);
    const char *from = first;
    if (opening) { /* one that is not written there stands for the one that is */
        const char *at = strstr(first, opening);
        from = at ? at + strlen(opening) : first + strlen(w->f->open[0]);
    }
    expr_id more = EXPR_EMPTY;
    if (!w->c->one && w->f->style != CALLS_WHOLE)
        more = expr_repeat(w->g, SEQ(w->g, mark(w, or_empty(form[2])), for_each_tool(w, form[1])), 0, REPEAT_UNBOUNDED);
    expr_id e = SEQ(w->g, for_each_tool(w, from), more, mark(w, or_empty(form[3])));
    free(first);
    return e;
}

/* ---- reasoning ------------------------------------------------------------------------------------------------------ */

/* What may stand before `body`: reasoning that the prompt has opened, or that the model may open itself. open_calls: what
 * follows where the marker of calls ends the reasoning, or EXPR_NEVER. */
static expr_id with_reasoning(const writer *w, expr_id body, expr_id open_calls, bool may_end)
{
    const output_format *f = w->f;
    output_place place = output_place_of(f, w->c->prompt);
    if (!f->think[0] || place == PLACE_ANSWER)
        return body;
    const marker markers[] = {{f->think[1], SEQ(w->g, gap(w), body)}, {f->open[0], open_calls}};
    expr_id reasoning = until(w, "reasoning", markers, open_calls == EXPR_NEVER ? 1 : 2, may_end);
    if (place == PLACE_REASONING)
        return reasoning;
    return ALT(w->g, SEQ(w->g, gap(w), mark(w, f->think[0]), reasoning), body);
}

/* ---- Harmony -------------------------------------------------------------------------------------------------------- */

/* What may say that a message is JSON. */
static expr_id type_word(const writer *w)
{
    return expr_repeat(
        w->g, ALT(w->g, mark(w, " <|constrain|>json"), mark(w, "<|constrain|>json"), TEXT(w->g, " json")), 0, 1);
}

/* Reasoning, again and again, then `body`, which is the rest of a header. */
static expr_id harmony_lead(const writer *w, expr_id body)
{
    grammar_rules *g = w->g;
    uint32_t header = rules_add(g, "header", 6, 0);
    const marker ends[] = {{"<|end|>", SEQ(g, mark(w, "<|start|>assistant"), expr_rule(g, header))},
                           {"<|start|>", EXPR_NEVER},
                           {"<|call|>", EXPR_NEVER},
                           {"<|return|>", EXPR_NEVER}};
    expr_id reasoning = until(w, "analysis", ends, 4, false);
    rules_define(g, header, ALT(g, SEQ(g, mark(w, "<|channel|>analysis<|message|>"), reasoning), body));
    return output_place_of(w->f, w->c->prompt) == PLACE_REASONING ? reasoning : expr_rule(g, header);
}

static expr_id harmony_required(const writer *w)
{
    grammar_rules *g = w->g;
    expr_list list = {0};
    for (size_t i = 0; i < w->count; i++) {
        expr_id name = expr_text(g, w->tools[i].name, strlen(w->tools[i].name)), to = TEXT(g, " to=functions."),
                channel = mark(w, "<|channel|>commentary");
        expr_list_add(g, &list,
                      SEQ(g, ALT(g, SEQ(g, to, name, channel), SEQ(g, channel, to, name)), type_word(w),
                          mark(w, "<|message|>"), expr_rule(g, w->tools[i].arguments)));
    }
    expr_id e = harmony_lead(w, g->status ? EXPR_NEVER : expr_alt(g, list.items, list.count));
    free(list.items);
    return e;
}

/* Messages as they come; a header that names a function is held to it. */
static expr_id harmony_auto(const writer *w)
{
    grammar_rules *g = w->g;
    uint32_t header = rules_add(g, "header", 6, 0), body = rules_add(g, "body", 4, 0);
    expr_list list = {0};
    for (size_t i = 0; i < w->count; i++)
        expr_list_add(g, &list,
                      SEQ(g, expr_text(g, w->tools[i].name, strlen(w->tools[i].name)),
                          expr_repeat(g, mark(w, "<|channel|>commentary"), 0, 1), type_word(w), mark(w, "<|message|>"),
                          expr_rule(g, w->tools[i].arguments)));
    expr_id to_tool = g->status ? EXPR_NEVER : expr_alt(g, list.items, list.count), to_header = expr_rule(g, header);
    free(list.items);
    const marker in_header[] = {{"to=functions.", to_tool}, {"<|message|>", expr_rule(g, body)}},
                 in_body[] = {{"<|end|>", to_header}, {"<|start|>", to_header}};
    rules_define(g, header, until(w, "header", in_header, 2, true));
    rules_define(g, body, until(w, "body", in_body, 2, true));
    return output_place_of(w->f, w->c->prompt) == PLACE_OPEN ? to_header : expr_rule(g, body);
}

/* ---- a call that is the whole answer -------------------------------------------------------------------------------- */

/* Any text and tokens. */
static expr_id anything(const writer *w)
{
    return until(w, "text", NULL, 0, true);
}

/* An answer that is a call if it begins like one, {"name" or behind its tag. Link i has read i bytes of `begin`. */
static expr_id whole_auto(const writer *w)
{
    static const char begin[] = "{\"name\"";
    grammar_rules *g = w->g;
    expr_id text = anything(w), next = calls_behind(w, begin);
    for (size_t i = sizeof begin - 1; i-- > 0 && !g->status;) {
        charset other = {0};
        g->status = charset_add(&other, (unsigned char)begin[i], (unsigned char)begin[i], g->err);
        bool blanks = i < 2;
        for (const char *b = " \n\r\t"; blanks && *b && !g->status; b++)
            g->status = charset_add(&other, (unsigned char)*b, (unsigned char)*b, g->err);
        if (!g->status)
            g->status = charset_normalise(&other, g->err);
        if (!g->status)
            g->status = charset_negate(&other, g->err);
        expr_id blank = ALT(g, TEXT(g, " "), TEXT(g, "\n"), TEXT(g, "\r"), TEXT(g, "\t"));
        expr_id tagged = i ? EXPR_NEVER : SEQ(g, mark(w, w->f->open[0]), calls_behind(w, NULL));
        next = SEQ(
            g, blanks ? expr_repeat(g, blank, 0, REPEAT_UNBOUNDED) : EXPR_EMPTY,
            ALT(g, EXPR_EMPTY, SEQ(g, expr_chars(g, &other), text), SEQ(g, expr_text(g, begin + i, 1), next), tagged));
        charset_free(&other);
    }
    return next;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static void set_root(const writer *w, expr_id e)
{
    uint32_t root = rules_add(w->g, "output", 6, 0);
    rules_define(w->g, root, e);
    w->g->root = root;
}

/* The output from where reasoning is over. */
static expr_id answer_with_calls(const writer *w)
{
    if (w->c->required)
        return calls_behind(w, NULL);
    if (w->f->style == CALLS_WHOLE)
        return whole_auto(w);
    marker markers[2];
    size_t n = 0;
    for (; n < 2 && w->f->open[n]; n++)
        markers[n] = (marker){w->f->open[n], calls_behind(w, w->f->open[n])};
    return until(w, "text", markers, n, true);
}

void call_grammar_write(void *user, grammar_rules *g, const token_names *names)
{
    const call_grammar *c = user;
    writer w = {.c = c, .f = c->f, .g = g, .names = names};
    if (!c->f->written[1] && c->f->style != CALLS_HARMONY) {
        rules_fail(g, ODMOE_ERR_UNSUPPORTED, "outputs of the format %s have no calls of tools",
                   output_format_name(c->f));
        return;
    }
    w.tools = mem_calloc(json_array_size(c->tools), sizeof *w.tools, "a grammar", g->err);
    if (!w.tools) {
        g->status = ODMOE_ERR_MEMORY;
        return;
    }
    read_tools(&w);
    if (c->f->style == CALLS_HARMONY && !g->status)
        set_root(&w, c->required ? harmony_required(&w) : harmony_auto(&w));
    else if (!g->status)
        set_root(&w,
                 with_reasoning(&w, answer_with_calls(&w),
                                c->f->open_ends_thinking ? calls_behind(&w, c->f->open[0]) : EXPR_NEVER, !c->required));
    free(w.tools);
}

void answer_grammar_write(void *user, grammar_rules *g, const token_names *names)
{
    const call_grammar *c = user;
    writer w = {.c = c, .f = c->f, .g = g, .names = names};
    expr_id answer = expr_rule(g, g->root);
    if (c->f->style != CALLS_HARMONY)
        set_root(&w, with_reasoning(&w, answer, EXPR_NEVER, false));
    else if (output_place_of(c->f, c->prompt) != PLACE_ANSWER)
        set_root(
            &w, harmony_lead(&w, SEQ(g, mark(&w, "<|channel|>final"), type_word(&w), mark(&w, "<|message|>"), answer)));
}
