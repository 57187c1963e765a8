#include "answer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"

enum { KEY_TOOLS = KEY_ANSWER, KEY_CHOICE, KEY_REASONING, KEY_SHOW };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    answer_options *o = state->input;
    switch (key) {
    case KEY_TOOLS:
        o->tools = arg;
        return 0;
    case KEY_CHOICE:
        o->choice = arg;
        return 0;
    case KEY_REASONING:
        o->reasoning = arg;
        return 0;
    case KEY_SHOW:
        o->show_reasoning = true;
        return 0;
    case ARGP_KEY_END:
        if (o->choice && !o->tools)
            usage_error("--tool-choice: there are no tools; --tools FILE names them");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp answer_argp = {
    .options =
        (const struct argp_option[]){
            {"tools", KEY_TOOLS, "FILE", 0,
             "tools that the model may call, a JSON list as OpenAI writes it; calls are printed, one a line", 0},
            {"tool-choice", KEY_CHOICE, "CHOICE", 0, "auto (default), required, or the name of the tool to call", 0},
            {"reasoning", KEY_REASONING, "LEVEL", 0, "on, off, low, medium or high, as far as the template knows it",
             0},
            {"show-reasoning", KEY_SHOW, NULL, 0, "print the reasoning too, not only dimmed on a terminal", 0},
            {0}},
    .parser = parse,
};

/* ---- before the answer ---- */

static bool read_tools(const char *path, chat_template *template)
{
    json_error_t fault;
    size_t length;
    char *text = read_whole(path, &length);
    if (!text)
        return false;
    json_t *list = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
    free(text);
    if (!list)
        complain("%s: line %d, column %d: %s", path, fault.line, fault.column, fault.text);
    else if (!json_is_array(list))
        complain("%s: tools are a JSON list", path);
    else
        template->tools = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return template->tools != NULL;
}

/* The template's keywords for the level; what --template-kwargs says goes before. */
static bool add_reasoning(const char *level, chat_template *template)
{
    char *keywords;
    odmoe_error err;
    if (odmoe_template_reasoning(template->t, level, &keywords, &err)) {
        complain("--%s", err.message);
        return false;
    }
    json_t *all = json_loads(keywords, 0, NULL),
           *own = template->keywords ? json_loads(template->keywords, 0, NULL) : NULL;
    odmoe_string_free(keywords);
    json_object_update(all, own);
    template->keywords = template->own_keywords = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    json_decref(own);
    return template->keywords != NULL;
}

bool answer_prepare(const answer_options *o, chat_template *template)
{
    return (!o->tools || read_tools(o->tools, template)) && (!o->reasoning || add_reasoning(o->reasoning, template));
}

enum { TAIL_TOKENS = 64 };

char *prompt_tail(const odmoe_model *model, const id_list *ids)
{
    size_t n = ids->n < TAIL_TOKENS ? ids->n : TAIL_TOKENS, length = 0, room = 4096;
    char *text = must_alloc(room, 1);
    if (odmoe_detokenize(odmoe_model_tokenizer(model), ids->ids + ids->n - n, n, text, room - 1, &length, NULL))
        length = 0;
    text[length < room ? length : room - 1] = 0;
    return text;
}

/* ---- while it comes ---- */

static void append(text_part *p, const char *text, size_t length)
{
    p->text = must_realloc(p->text, p->length + length + 1, 1);
    memcpy(p->text + p->length, text, length);
    p->length += length;
    p->text[p->length] = 0;
}

/* Does the terminal know how to dim? */
static bool can_dim(FILE *file)
{
    const char *term = getenv("TERM");
    return isatty(fileno(file)) && term && *term && strcmp(term, "dumb") != 0;
}

static void put(answer *a, const char *text, size_t length)
{
    if (!length)
        return;
    fwrite(text, 1, length, a->file);
    a->last = text[length - 1];
    a->lost |= a->file == stdout && !flush_output();
}

/* End the reasoning that is shown: what follows begins a line of its own. */
static void end_dimmed(answer *a)
{
    if (!a->dimmed)
        return;
    fputs(can_dim(a->dimmed) ? "\033[22m\n\n" : "\n\n", a->dimmed);
    fflush(a->dimmed);
    a->dimmed = NULL;
}

static void show_reasoning(answer *a, const char *text, size_t length)
{
    FILE *to = a->show_reasoning ? a->file : stderr;
    append(&a->reasoning, text, length);
    if (!a->show_reasoning && !can_dim(stderr))
        return;
    if (!a->dimmed && can_dim(to))
        fputs("\033[2m", to);
    a->dimmed = to;
    fwrite(text, 1, length, to);
    fflush(to);
}

static void show_call(answer *a, const odmoe_delta *d)
{
    char *arguments = must_alloc(d->length + 1, 1), *name, *line;
    json_t *text = json_text(d->name, strlen(d->name));
    memcpy(arguments, d->text, d->length);
    for (char *p = arguments; (p = strpbrk(p, "\n\r")); p++) /* between tokens alone: one call is one line */
        *p = ' ';
    json_array_append_new(a->calls, json_pack("{s:O, s:s}", "name", text, "arguments", arguments));
    if (a->content.length && a->last != '\n')
        put(a, "\n", 1);
    name = json_dumps(text, JSON_ENCODE_ANY);
    int n = asprintf(&line, "{\"name\": %s, \"arguments\": %s}\n", name ? name : "\"\"", arguments);
    if (n > 0)
        put(a, line, (size_t)n);
    if (n > 0)
        free(line);
    free(name);
    free(arguments);
    json_decref(text);
}

static void take(void *user, const odmoe_delta *d)
{
    answer *a = user;
    if (d->kind == ODMOE_DELTA_REASONING) {
        show_reasoning(a, d->text, d->length);
        return;
    }
    end_dimmed(a);
    if (d->kind == ODMOE_DELTA_CALL) {
        show_call(a, d);
        return;
    }
    append(&a->content, d->text, d->length);
    put(a, d->text, d->length);
}

bool answer_begin(answer *a, const odmoe_model *model, const chat_template *template, const id_list *ids,
                  bool show_reasoning, FILE *file)
{
    odmoe_error err;
    *a = (answer){.file = file, .show_reasoning = show_reasoning, .last = '\n', .calls = json_array()};
    char *tail = prompt_tail(model, ids);
    odmoe_status status =
        odmoe_output_create(odmoe_template_output(template->t), tail, template->tools, take, a, &a->output, &err);
    free(tail);
    if (status)
        fail(&err);
    return !status;
}

bool answer_show(void *user, const char *text, size_t length)
{
    answer *a = user;
    odmoe_error err;
    if (odmoe_output_feed(a->output, text, length, &err)) {
        fail(&err);
        return false;
    }
    return !a->lost;
}

bool answer_end(answer *a)
{
    odmoe_error err;
    odmoe_status status = odmoe_output_end(a->output, &err);
    if (a->dimmed) { /* it never came to an answer */
        fputs(can_dim(a->dimmed) ? "\033[22m\n" : "\n", a->dimmed);
        fflush(a->dimmed);
        a->dimmed = NULL;
    }
    if (status)
        fail(&err);
    return !status && !a->lost;
}

void answer_close(answer *a)
{
    odmoe_output_free(a->output);
    json_decref(a->calls);
    free(a->content.text);
    free(a->reasoning.text);
    *a = (answer){0};
}
