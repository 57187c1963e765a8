#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "generate.h"
#include "line_input.h"
#include "options.h"
#include "progress.h"
#include "template_options.h"

enum { KEY_SYSTEM = KEY_COMMAND };
enum { STATUS_INTERRUPTED = 130 }; /* what shells make of SIGINT: 128 + its number */

typedef struct chat_options {
    model_options model;
    odmoe_sampler_options sampler;
    template_options template;
    const char *system;
    int64_t limit;
} chat_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    chat_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->sampler;
        state->child_inputs[1] = &o->template;
        state->child_inputs[2] = &o->model;
        return 0;
    case KEY_SYSTEM:
        o->system = arg;
        return 0;
    case 'n':
        o->limit = parse_integer("-n", arg, 1, INT64_MAX);
        return 0;
    case ARGP_KEY_END:
        if (o->model.json)
            usage_error("--json: a conversation is no JSON object; odmoe run --chat --json answers one question");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp chat_argp = {
    .options = (const struct argp_option[]){{"system", KEY_SYSTEM, "TEXT", 0,
                                             "the system message, instead of the template's own", 0},
                                            {NULL, 'n', "N", 0, "at most N tokens an answer", 0},
                                            {0}},
    .parser = parse,
    .args_doc = "-m MODEL",
    .doc =
        "Talk to a model, with its own chat template. A line that ends with \\ goes on in the next; \"\"\" opens and "
        "closes a block of lines. Ctrl-C stops the answer, Ctrl-D ends the program.\v"
        "Example: odmoe chat -m models/demo.gguf --ram 16MiB --system \"You are a dictionary.\"",
    .children = (const struct argp_child[]){{&sampler_argp, 0, "Sampling:", 2},
                                            {&template_argp, 0, "Chat template:", 3},
                                            {&chat_model_argp, 0, "Model:", 4},
                                            {0}},
};

/* The messages so far. */
typedef struct conversation {
    json_t *messages;
    chat_template template;
    size_t system; /* messages that every conversation begins with: 0 or 1 */
    bool failed;   /* a message got no answer, or half of one; not by Ctrl-C */
} conversation;

static size_t message_count(const conversation *c)
{
    return json_array_size(c->messages);
}

static void drop_messages(conversation *c, size_t keep)
{
    while (message_count(c) > keep)
        json_array_remove(c->messages, message_count(c) - 1);
}

/* The answer goes to the terminal and into the conversation. */
typedef struct answer {
    char *text;
    size_t length;
} answer;

static bool show(void *user, const char *text, size_t length)
{
    answer *a = user;
    fwrite(text, 1, length, stdout);
    a->text = must_realloc(a->text, a->length + length + 1, 1);
    memcpy(a->text + a->length, text, length);
    a->length += length;
    a->text[a->length] = 0;
    return flush_output();
}

/* Keep what the session has already read of the conversation: forget from the first token that differs. */
static size_t reuse(odmoe_session *session, const id_list *ids)
{
    const int32_t *have = odmoe_session_tokens(session);
    size_t length = (size_t)odmoe_session_length(session), same = 0;
    while (same < length && same + 1 < ids->n && have[same] == ids->ids[same])
        same++;
    int32_t reached = 0;
    odmoe_session_truncate(session, (int32_t)same, &reached, NULL);
    return (size_t)reached;
}

/* Answer the conversation's last message. false: the program cannot go on; complained, or output_done will. */
static bool answer_last(const generator *g, conversation *c)
{
    id_list ids;
    odmoe_error err;
    generate_end end = END_TOKEN;
    measure m;
    answer *a = g->user;
    if (!chat_ids(&c->template, odmoe_model_tokenizer(g->model), c->messages, &ids))
        return false;
    int32_t room = odmoe_session_context(g->session);
    if (ids.n >= (size_t)room) {
        if (message_count(c) > c->system + 1)
            complain("the conversation has %zu tokens, the context has room for %d; /reset starts a new one", ids.n,
                     room);
        else
            complain_room("the message", ids.n, g);
        drop_messages(c, message_count(c) - 1);
        c->failed = true;
        free(ids.ids);
        return true;
    }
    size_t same = reuse(g->session, &ids);
    *a = (answer){0};
    odmoe_status status = generate(g, ids.ids + same, (int64_t)(ids.n - same), &m, &end, &err);
    free(ids.ids);
    putchar('\n');
    if (!flush_output()) {
        free(a->text);
        return false;
    }
    if (status && status != ODMOE_ERR_CANCELLED) {
        fail(&err);
        c->failed = true;
    }
    if (status == ODMOE_ERR_CANCELLED || (status && a->length == 0)) {
        drop_messages(c, message_count(c) - 1); /* never answered */
    } else {
        add_message(c->messages, "assistant", a->text ? a->text : "");
        if (talkative())
            measure_summary(&m, false, stderr);
    }
    if (end == END_CONTEXT)
        complain("the context of %d tokens is full; /reset starts a new conversation, -c reserves more", room);
    free(a->text);
    interrupt_forget();
    return true;
}

static const char help[] = "/help   this text\n"
                           "/reset  forget the conversation\n"
                           "/exit   end the program (or Ctrl-D)\n"
                           "A line that ends with \\ goes on in the next; \"\"\" opens and closes a block of lines.\n"
                           "Ctrl-C stops the answer.\n";

/* A line that is one of the commands. true: it was, and *over says whether to end. */
static bool command_line(const char *text, conversation *c, generator *g, const odmoe_sampler_options *sampler,
                         bool *over)
{
    *over = !strcmp(text, "/exit");
    if (*over)
        return true;
    if (!strcmp(text, "/reset")) {
        drop_messages(c, c->system);
        odmoe_session_reset(g->session);
        odmoe_error err;
        if (generator_new_sampler(g, sampler, &err))
            fail(&err);
        return true;
    }
    if (text[0] != '/' || strchr(text, ' ') || strchr(text + 1, '/') || strchr(text, '\n'))
        return false; /* a path or a sentence is no command */
    fputs(help, stderr);
    return true;
}

/* What an empty question would become: says why there is no template to use, before a message is typed. */
static bool probe_ids(const generator *g, const conversation *c, id_list *ids)
{
    json_t *probe = json_copy(c->messages);
    add_message(probe, "user", "");
    bool done = chat_ids(&c->template, odmoe_model_tokenizer(g->model), probe, ids);
    json_decref(probe);
    return done;
}

/* The text that every conversation begins with; it must leave room for a question. false: complained. */
static bool add_system(const generator *g, conversation *c, const char *text)
{
    id_list ids;
    add_message(c->messages, "system", text);
    c->system = 1;
    if (!probe_ids(g, c, &ids))
        return false;
    free(ids.ids);
    if (ids.n < (size_t)odmoe_session_context(g->session))
        return true;
    complain_room("the system message", ids.n, g);
    return false;
}

/* What the program ends with when no message follows. A person has seen what failed; a script has the status alone. */
static int end_status(message_result result, const conversation *c)
{
    if (result == MESSAGE_INTERRUPTED)
        return STATUS_INTERRUPTED;
    bool failed = result == MESSAGE_FAILED || (c->failed && !isatty(STDIN_FILENO));
    return failed ? STATUS_FAILED : STATUS_DONE;
}

/* Message and answer in turn; the exit status. */
static int talk(generator *g, const odmoe_sampler_options *sampler, conversation *c, line_input *in)
{
    for (;;) {
        char *text;
        bool over = false;
        interrupt_forget();
        message_result result = line_input_message(in, &text);
        if (result == MESSAGE_REFUSED) {
            c->failed = true;
            continue;
        }
        if (result != MESSAGE_READ)
            return end_status(result, c);
        if (!*text || command_line(text, c, g, sampler, &over)) {
            free(text);
            if (over)
                return end_status(MESSAGE_END, c);
            continue;
        }
        add_message(c->messages, "user", text);
        free(text);
        if (!answer_last(g, c))
            return flush_output() ? STATUS_FAILED : STATUS_DONE;
    }
}

static int converse(const chat_options *o, odmoe_model *model)
{
    answer a = {0};
    generator g = {.limit = o->limit, .show = show, .user = &a, .model = model};
    conversation c = {.messages = json_array()};
    line_input *in = NULL;
    int status = STATUS_FAILED;
    id_list ids;
    if (!odmoe_model_tokenizer(model)) {
        complain_no_tokenizer(model);
        goto done;
    }
    if (!chat_template_of(&o->template, model, &c.template) || !probe_ids(&g, &c, &ids))
        goto done;
    free(ids.ids);
    if (!generator_prepare(&g, model, &o->sampler, &status))
        goto done;
    status = STATUS_FAILED;
    if (o->system && !add_system(&g, &c, o->system))
        goto done;
    in = line_input_open();
    if (isatty(STDIN_FILENO))
        fputs("Type a message; /help shows the commands.\n", stderr);
    status = talk(&g, &o->sampler, &c, in);
done:
    line_input_close(in);
    json_decref(c.messages);
    chat_template_free(&c.template);
    generator_free(&g);
    return status;
}

int command_chat(int argc, char **argv)
{
    chat_options o = {.limit = -1};
    model_options_init(&o.model);
    odmoe_sampler_options_init(&o.sampler);
    parse_options(&chat_argp, argc, argv, &o);
    interrupt_catch(true);
    odmoe_model *model;
    odmoe_error err;
    if (odmoe_model_open(o.model.path, &o.model.lib, &model, &err))
        return fail(&err);
    progress_clear();
    model_warning(model);
    interrupt_catch(false);
    int status = converse(&o, model);
    odmoe_model_close(model);
    return status;
}
