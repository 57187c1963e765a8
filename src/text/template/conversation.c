#include "text/template/conversation.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "text/template/print.h"
#include "text/template/run.h"
#include "text/template/textops.h"

typedef struct preparing {
    const conversation *c;
    const template_caps *caps;
    char *content; /* owned, [length]: the last message's, when that is continued */
    size_t length;
} preparing;

/* ---- reading ---- */

static value read_part(tpl_state *s, const char *name, const char *json, value_kind kind)
{
    value v;
    size_t at;
    s->line = 0;
    if (!tpl_read_json(s, json, strlen(json), true, &v, &at))
        tpl_fail(s, TEMPLATE_DATA, "%s: malformed JSON near byte %zu", name, at);
    if (v.kind != kind && v.kind != VAL_NONE)
        tpl_fail(s, TEMPLATE_DATA, "%s: must be %s", name, kind == VAL_LIST ? "a list" : "an object");
    return v;
}

static value member(tpl_state *s, value v, const char *name)
{
    value *found = v.kind == VAL_DICT ? dict_get_text(s, v.d, name) : NULL;
    return found ? *found : (value){0};
}

static void set_member(tpl_state *s, value v, const char *name, value to)
{
    dict_set(s, v.d, val_text(s, name), to);
}

/* `null` counts as absent. */
static void drop_nulls(dict *d)
{
    for (size_t i = 0; i < d->n; i++)
        if (!d->at[i].gone && d->at[i].v.kind == VAL_NONE) {
            d->at[i].gone = true;
            d->live--;
        }
}

static bool is_role(tpl_state *s, value message, const char *role)
{
    value v = member(s, message, "role");
    return v.kind == VAL_STR && str_is(s, v.s, role);
}

/* ---- content ---- */

static str *part_text(tpl_state *s, value part, size_t i, size_t k)
{
    static const char *const types[] = {"text", "input_text", "output_text", "refusal"};
    if (part.kind == VAL_STR)
        return part.s;
    value type = member(s, part, "type"), text = (value){0};
    bool known = part.kind == VAL_DICT && !given(type);
    for (size_t t = 0; t < 4; t++)
        known |= type.kind == VAL_STR && str_is(s, type.s, types[t]);
    if (known)
        text = member(s, part, type.kind == VAL_STR && str_is(s, type.s, "refusal") ? "refusal" : "text");
    if (text.kind != VAL_STR)
        tpl_fail(s, TEMPLATE_DATA, "messages[%zu].content[%zu]%s: only text is taken", i, k, known ? "" : ".type");
    return text.s;
}

/* Content as one text; nothing is "". */
static str *content_text(tpl_state *s, value message, size_t i)
{
    value v = member(s, message, "content");
    if (v.kind == VAL_STR)
        return v.s;
    if (!given(v))
        return str_text(s, "");
    if (v.kind != VAL_LIST)
        tpl_fail(s, TEMPLATE_DATA, "messages[%zu].content: must be a text, a list of parts or null", i);
    builder b = {0};
    for (size_t k = 0; k < v.l->n; k++) {
        if (k)
            build_text(s, &b, "\n");
        build_str(s, &b, part_text(s, v.l->at[k], i, k));
    }
    return str_built(s, &b);
}

/* Reasoning under the three names that templates read. */
static void name_reasoning(tpl_state *s, value message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    value v = {0};
    for (size_t i = 0; i < 3 && !given(v); i++)
        v = member(s, message, names[i]);
    if (!given(v))
        return;
    if (!given(member(s, message, "thinking")))
        set_member(s, message, "thinking", v);
    if (!given(member(s, message, "reasoning_content")))
        set_member(s, message, "reasoning_content", v);
}

/* ---- calls ---- */

/* An id of nine letters and digits that stands for any other one. */
static value short_id(tpl_state *s, const str *id)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const char *text = str_flat(s, id);
    bool fits = id->length == 9;
    for (size_t i = 0; fits && i < 9; i++)
        fits = text[i] && strchr(digits, text[i]);
    if (fits)
        return val_str((str *)id);
    uint64_t h = str_hash(s, id);
    char out[9];
    for (size_t i = 0; i < 9; i++, h /= 62)
        out[i] = digits[h % 62];
    return val_str(str_copy(s, out, 9, true));
}

static value numbered_id(tpl_state *s, size_t message, size_t call)
{
    char text[32];
    int n = snprintf(text, sizeof text, "call%03zu%02zu", message % 1000, call % 100);
    return val_str(str_copy(s, text, (size_t)n, false));
}

static void fit_arguments(tpl_state *s, const preparing *p, value function)
{
    value v = member(s, function, "arguments"), object;
    size_t at;
    if (!given(v))
        v = val_dict(s);
    if (p->caps->text_arguments) {
        const json_style style = {0};
        v = v.kind == VAL_STR ? v : val_str(tpl_print_json(s, v, &style));
    } else if (v.kind == VAL_STR && v.s->length == 0) {
        v = val_dict(s);
    } else if (v.kind == VAL_STR && tpl_read_json(s, str_flat(s, v.s), v.s->length, true, &object, &at) &&
               object.kind == VAL_DICT) {
        v = object;
    }
    set_member(s, function, "arguments", v);
}

static void fit_call(tpl_state *s, const preparing *p, value call, size_t i, size_t k)
{
    if (call.kind == VAL_DICT)
        drop_nulls(call.d);
    value function = member(s, call, "function");
    if (function.kind != VAL_DICT || member(s, function, "name").kind != VAL_STR)
        tpl_fail(s, TEMPLATE_DATA, "messages[%zu].tool_calls[%zu].function: an object with a name is needed", i, k);
    drop_nulls(function.d);
    if (!given(member(s, call, "type")))
        set_member(s, call, "type", val_text(s, "function"));
    value id = member(s, call, "id");
    if (id.kind != VAL_STR)
        id = numbered_id(s, i, k);
    set_member(s, call, "id", p->caps->short_ids ? short_id(s, id.s) : id);
    fit_arguments(s, p, function);
}

/* Hermes' form of calls: what tools_text asks for. */
static void tell_hermes(tpl_state *s, builder *b, const list *calls)
{
    const json_style style = {0};
    for (size_t k = 0; k < calls->n; k++) {
        value function = member(s, calls->at[k], "function");
        build_text(s, b, k ? "\n<tool_call>\n{\"name\": " : "<tool_call>\n{\"name\": ");
        build_str(s, b, tpl_print_json(s, member(s, function, "name"), &style));
        build_text(s, b, ", \"arguments\": ");
        build_str(s, b, tpl_print_json(s, member(s, function, "arguments"), &style));
        build_text(s, b, "}\n</tool_call>");
    }
}

/* [NAME(key=value, ...), ...] with JSON for values, as the grammar of calls writes it. */
static void tell_python(tpl_state *s, builder *b, const list *calls)
{
    const json_style style = {0};
    build_text(s, b, "<|tool_call_start|>[");
    for (size_t k = 0; k < calls->n; k++) {
        value function = member(s, calls->at[k], "function"), arguments = member(s, function, "arguments");
        build_text(s, b, k ? ", " : "");
        build_str(s, b, member(s, function, "name").s);
        build_text(s, b, "(");
        bool first = true;
        for (size_t i = 0; arguments.kind == VAL_DICT && i < arguments.d->n; i++) {
            if (arguments.d->at[i].gone)
                continue;
            build_text(s, b, first ? "" : ", ");
            build_str(s, b, arguments.d->at[i].key.s);
            build_text(s, b, "=");
            build_str(s, b, tpl_print_json(s, arguments.d->at[i].v, &style));
            first = false;
        }
        build_text(s, b, ")");
    }
    build_text(s, b, "]<|tool_call_end|>");
}

/* Calls behind their message's content. */
static void tell_calls(tpl_state *s, const preparing *p, value message, const list *calls)
{
    builder b = {0};
    value content = member(s, message, "content");
    if (content.kind == VAL_STR && content.s->length) {
        build_str(s, &b, content.s);
        build_text(s, &b, p->caps->python_calls ? "" : "\n");
    }
    if (p->caps->python_calls)
        tell_python(s, &b, calls);
    else
        tell_hermes(s, &b, calls);
    set_member(s, message, "content", val_str(str_built(s, &b)));
}

static void fit_calls(tpl_state *s, const preparing *p, value message, size_t i)
{
    value calls = member(s, message, "tool_calls");
    if (!given(calls))
        return;
    if (calls.kind != VAL_LIST)
        tpl_fail(s, TEMPLATE_DATA, "messages[%zu].tool_calls: must be a list", i);
    if (!calls.l->n)
        dict_remove(s, message.d, val_text(s, "tool_calls"));
    for (size_t k = 0; k < calls.l->n; k++)
        fit_call(s, p, calls.l->at[k], i, k);
    value thinking = member(s, message, "thinking");
    if (calls.l->n && p->caps->thinking_or_content && thinking.kind == VAL_STR && thinking.s->length)
        set_member(s, message, "content", val_text(s, ""));
    if (calls.l->n && p->c->tell_calls && p->caps->hidden_calls)
        tell_calls(s, p, message, calls.l);
}

/* A result belongs to the call with its id, or without one to the next call in order. calls: those of the last
 * assistant message; next: how many have their result. */
static void fit_result(tpl_state *s, const preparing *p, value message, value calls, size_t next)
{
    value id = member(s, message, "tool_call_id"), call = {0};
    if (id.kind == VAL_STR && p->caps->short_ids)
        id = short_id(s, id.s);
    for (size_t k = 0; id.kind == VAL_STR && calls.kind == VAL_LIST && k < calls.l->n; k++)
        if (val_equal(s, member(s, calls.l->at[k], "id"), id))
            call = calls.l->at[k];
    if (!given(call) && calls.kind == VAL_LIST && next < calls.l->n)
        call = calls.l->at[next];
    if (id.kind != VAL_STR && given(call))
        id = member(s, call, "id");
    if (id.kind == VAL_STR)
        set_member(s, message, "tool_call_id", id);
    if (!given(member(s, message, "name")) && given(call))
        set_member(s, message, "name", member(s, member(s, call, "function"), "name"));
}

/* ---- messages ---- */

static void fit_role(tpl_state *s, value message, size_t i)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    if (is_role(s, message, "developer"))
        set_member(s, message, "role", val_text(s, "system"));
    if (is_role(s, message, "function"))
        set_member(s, message, "role", val_text(s, "tool"));
    for (size_t k = 0; k < 4; k++)
        if (is_role(s, message, roles[k])) {
            set_member(s, message, "role", val_text(s, roles[k]));
            return;
        }
    tpl_fail(s, TEMPLATE_DATA, "messages[%zu].role: must be system, developer, user, assistant or tool", i);
}

static void fit_message(tpl_state *s, const preparing *p, value message, size_t i)
{
    if (message.kind != VAL_DICT)
        tpl_fail(s, TEMPLATE_DATA, "messages[%zu]: must be an object", i);
    drop_nulls(message.d);
    fit_role(s, message, i);
    set_member(s, message, "content", val_str(content_text(s, message, i)));
    name_reasoning(s, message);
    fit_calls(s, p, message, i);
}

static value new_message(tpl_state *s, const char *role, str *content)
{
    value m = val_dict(s);
    set_member(s, m, "role", val_text(s, role));
    set_member(s, m, "content", val_str(content));
    return m;
}

static str *paragraphs(tpl_state *s, str *a, str *b)
{
    builder out = {0};
    build_str(s, &out, a);
    if (a->length && b->length)
        build_text(s, &out, "\n\n");
    build_str(s, &out, b);
    return str_built(s, &out);
}

static str *text_of(tpl_state *s, value message)
{
    return member(s, message, "content").s;
}

/* Put a text before a user's message. */
static void put_before(tpl_state *s, value user, str *text)
{
    set_member(s, user, "content", val_str(paragraphs(s, text, text_of(s, user))));
}

/* A text to the user's turn at the end: many templates refuse two in a row. */
static void tell_user(tpl_state *s, list *messages, str *text)
{
    value last = messages->n ? messages->at[messages->n - 1] : (value){0};
    if (given(last) && is_role(s, last, "user"))
        set_member(s, last, "content", val_str(paragraphs(s, text_of(s, last), text)));
    else
        list_push(s, messages, new_message(s, "user", text));
}

/* System messages: those at the front become one, at its place or in the first message of the user; later ones stay
 * where the template shows them, and else are told to the user's turn. */
static value fit_system(tpl_state *s, const preparing *p, const list *in)
{
    value out = val_list(s, VAL_LIST, in->n + 1);
    str *waiting = NULL; /* for the next message of the user */
    size_t i = 0;
    for (; i < in->n && is_role(s, in->at[i], "system"); i++)
        waiting = waiting ? paragraphs(s, waiting, text_of(s, in->at[i])) : text_of(s, in->at[i]);
    if (waiting && p->caps->system) {
        value first = in->at[0];
        set_member(s, first, "content", val_str(waiting));
        list_push(s, out.l, first);
        waiting = NULL;
    }
    for (; i < in->n; i++) {
        value m = in->at[i];
        if (is_role(s, m, "system") && !p->caps->later_system) {
            str *marked = str_join2(s, str_text(s, "System message: "), text_of(s, m));
            waiting = waiting ? paragraphs(s, waiting, marked) : marked;
            continue;
        }
        if (waiting && is_role(s, m, "user"))
            put_before(s, m, waiting);
        else if (waiting)
            tell_user(s, out.l, waiting);
        waiting = NULL;
        list_push(s, out.l, m);
    }
    if (waiting)
        tell_user(s, out.l, waiting);
    return out;
}

static void fit_results(tpl_state *s, const preparing *p, const list *messages)
{
    value calls = {0};
    size_t next = 0;
    for (size_t i = 0; i < messages->n; i++) {
        value m = messages->at[i];
        if (is_role(s, m, "assistant")) {
            calls = member(s, m, "tool_calls");
            next = 0;
        } else if (is_role(s, m, "tool")) {
            fit_result(s, p, m, calls, next++);
        }
    }
}

/* ---- tools for templates that know none ---- */

/* Hermes' form: what most models without one of their own have seen. */
static str *tools_text(tpl_state *s, value tools)
{
    const json_style style = {0};
    builder b = {0};
    build_text(s, &b,
               "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
               "function "
               "signatures within <tools></tools> XML tags:\n<tools>");
    for (size_t i = 0; i < tools.l->n; i++) {
        build_text(s, &b, "\n");
        build_str(s, &b, tpl_print_json(s, tools.l->at[i], &style));
    }
    build_text(s, &b,
               "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
               "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
               "<args-json-object>}\n</tool_call>");
    return str_built(s, &b);
}

static void tell_tools(tpl_state *s, list *messages, value tools)
{
    str *text = tools_text(s, tools);
    if (messages->n && is_role(s, messages->at[0], "system")) {
        set_member(s, messages->at[0], "content", val_str(paragraphs(s, text_of(s, messages->at[0]), text)));
        return;
    }
    list_push(s, messages, val_none());
    memmove(messages->at + 1, messages->at, (messages->n - 1) * sizeof *messages->at);
    messages->at[0] = new_message(s, "system", text);
}

/* ---- all of it ---- */

static void set_keywords(tpl_state *s, const char *json)
{
    value v = json ? read_part(s, "the template's keywords", json, VAL_DICT) : (value){0};
    if (v.kind != VAL_DICT)
        return;
    for (size_t i = 0; i < v.d->n; i++)
        if (!v.d->at[i].gone)
            tpl_run_set(s, str_flat(s, v.d->at[i].key.s), v.d->at[i].key.s->length, v.d->at[i].v);
}

static void set_text(tpl_state *s, const char *name, const char *text)
{
    tpl_run_set(s, name, strlen(name), val_str(str_text(s, text ? text : "")));
}

static void prepare(tpl_state *s, void *user)
{
    preparing *p = user;
    const conversation *c = p->c;
    value tools = c->tools ? read_part(s, "tools", c->tools, VAL_LIST) : val_none();
    value messages = read_part(s, "messages", c->messages, VAL_LIST);
    if (messages.kind != VAL_LIST || !messages.l->n)
        tpl_fail(s, TEMPLATE_DATA, "messages: there are none");
    for (size_t i = 0; i < messages.l->n; i++)
        fit_message(s, p, messages.l->at[i], i);
    fit_results(s, p, messages.l);
    if (tools.kind == VAL_LIST && !tools.l->n)
        tools = val_none();
    if (tools.kind == VAL_LIST && !p->caps->tools)
        tell_tools(s, messages.l, tools);
    value last = messages.l->at[messages.l->n - 1];
    bool go_on =
        c->go_on && is_role(s, last, "assistant") && !given(member(s, last, "tool_calls")) && text_of(s, last)->length;
    if (go_on) {
        p->length = text_of(s, last)->length;
        p->content = mem_strdup(str_flat(s, text_of(s, last)), p->length, NULL);
        if (!p->content)
            tpl_fail(s, TEMPLATE_MEMORY, "no memory for a message (%zu bytes)", p->length);
    }
    messages = fit_system(s, p, messages.l);
    tpl_run_set(s, "documents", 9, val_none());
    set_text(s, "bos_token", c->bos);
    set_text(s, "eos_token", c->eos);
    set_keywords(s, c->keywords);
    tpl_run_set(s, "add_generation_prompt", 21, val_bool(c->prompt && !go_on));
    tpl_run_set(s, "tools", 5, tools);
    tpl_run_set(s, "messages", 8, messages);
}

static bool is_foreign(const template_text *out, size_t from, size_t to)
{
    size_t i = 0;
    while (i < out->n && out->foreign[i].to < to)
        i++;
    return i < out->n && out->foreign[i].from <= from;
}

/* Cut the text behind the last message's content, which may have lost its outer white space. */
static bool cut_behind(template_text *out, const char *content, size_t length)
{
    size_t from = 0, to = length;
    while (from < to && strchr(" \t\r\n\f\v", content[from]))
        from++;
    while (to > from && strchr(" \t\r\n\f\v", content[to - 1]))
        to--;
    for (size_t at = out->length - (to - from) + 1; out->length >= to - from && at-- > 0;) {
        if (memcmp(out->text + at, content + from, to - from) != 0 ||
            !is_foreign(out, at + to - from - 1, at + to - from))
            continue;
        size_t end = at + to - from, blanks = length - to;
        if (out->length - end >= blanks && !memcmp(out->text + end, content + to, blanks) &&
            is_foreign(out, end - 1, end + blanks))
            end += blanks; /* the message's own, not the template's */
        out->length = end;
        out->text[end] = 0;
        while (out->n && out->foreign[out->n - 1].from >= end)
            out->n--;
        if (out->n && out->foreign[out->n - 1].to > end)
            out->foreign[out->n - 1].to = end;
        return true;
    }
    return false;
}

template_error conversation_render(const chat_program *t, const template_caps *caps, const conversation *c,
                                   const template_limits *limits, template_text *out, template_fault *fault)
{
    preparing p = {.c = c, .caps = caps};
    template_error e = template_run_with(t, prepare, &p, c->now, limits, out, fault);
    if (!e && p.content && !cut_behind(out, p.content, p.length)) {
        static const char text[] = "the template changes the last message: it can't be continued";
        template_text_free(out);
        fault->kind = e = TEMPLATE_VALUE;
        fault->message = mem_strdup(text, strlen(text), NULL);
        fault->length = fault->message ? strlen(text) : 0;
    }
    free(p.content);
    return e;
}
