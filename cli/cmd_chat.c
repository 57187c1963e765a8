#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "generate.h"
#include "grammar_file.h"
#include "line_input.h"
#include "options.h"
#include "progress.h"

/* A grammar's work for the calls of tools, in each answer anew. */
#define GRAMMAR_MEMORY (UINT64_C(2) << 20)
#define GRAMMAR_RULES (UINT64_C(1) << 20)

enum { KEY_SYSTEM = KEY_COMMAND };
enum { STATUS_INTERRUPTED = 130 }; /* what shells make of SIGINT: 128 + its number */

typedef struct chat_options {
    model_options model;
    odmoe_sampler_options sampler;
    template_options template;
    answer_options answer;
    const char *system;
    int64_t limit;
    uint64_t share; /* of the budget: for the conversation */
} chat_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    chat_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->sampler;
        state->child_inputs[1] = &o->template;
        state->child_inputs[2] = &o->answer;
        state->child_inputs[3] = &o->model;
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
        "Example: odmoe chat -m models/demo.gguf --ram 16MiB --system \"You are a dictionary.\"\n"
        "Example: odmoe chat -m MODEL --ram 8G --reasoning on --tools tools.json",
    .children = (const struct argp_child[]){{&sampler_argp, 0, "Sampling:", 2},
                                            {&template_argp, 0, "Chat template:", 3},
                                            {&answer_argp, 0, "Reasoning and tools:", 4},
                                            {&chat_model_argp, 0, "Model:", 5},
                                            {0}},
};

/* The messages so far. */
typedef struct conversation {
    json_t *messages;
    chat_template template;
    size_t system; /* messages that every conversation begins with: 0 or 1 */
    size_t turn;   /* messages before the last question of the user */
    size_t calls;  /* in the answer; `results` of their results have been typed */
    size_t results;
    const answer_options *options;
    grammar_file grammar; /* of the calls; without tools there is none */
    bool failed;          /* a message got no answer, or half of one; not by Ctrl-C */
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

/* The id of a call: those of a conversation are numbered. */
static json_t *call_id(const conversation *c, size_t i)
{
    return json_sprintf("call_%zu_%zu", c->turn, i + 1);
}

/* The answer as a message, for the next prompt. */
static void add_answer(conversation *c, const answer *a)
{
    json_t *message = json_object(), *calls = json_array(), *one;
    size_t i;
    json_object_set_new(message, "role", json_string("assistant"));
    json_object_set_new(message, "content", json_text(a->content.text ? a->content.text : "", a->content.length));
    if (a->reasoning.length)
        json_object_set_new(message, "reasoning_content", json_text(a->reasoning.text, a->reasoning.length));
    json_array_foreach(a->calls, i, one) json_array_append_new(
        calls, json_pack("{s:o, s:s, s:O}", "id", call_id(c, i), "type", "function", "function", one));
    if (i)
        json_object_set(message, "tool_calls", calls);
    json_decref(calls);
    json_array_append_new(c->messages, message);
    c->calls = i;
    c->results = 0;
}

/* What is typed: a question, or the result of a call. true: it is to be answered now. */
static bool add_typed(conversation *c, const char *text)
{
    if (c->results == c->calls) {
        c->calls = c->results = 0;
        c->turn = message_count(c);
        add_message(c->messages, "user", text);
        return true;
    }
    json_t *message = json_pack("{s:s, s:o, s:o}", "role", "tool", "tool_call_id", call_id(c, c->results), "content",
                                json_text(text, strlen(text)));
    json_array_append_new(c->messages, message);
    return ++c->results == c->calls;
}

/* The question and all that came of it are as if never said. */
static void drop_turn(conversation *c)
{
    drop_messages(c, c->turn);
    c->calls = c->results = 0;
}

/* Hold the answer to the tools; a call that was asked for answers a question, not a result. false: complained. */
static bool hold_to_tools(generator *g, conversation *c, const id_list *ids)
{
    odmoe_error err;
    int status;
    if (!c->template.tools)
        return true;
    if (generator_set_grammar(g, NULL, &err))
        return false;
    char *tail = prompt_tail(g->model, ids);
    bool done = grammar_file_calls(&c->grammar, c->template.tools, c->calls ? NULL : c->options->choice,
                                   odmoe_template_output(c->template.t), tail, GRAMMAR_MEMORY, &status);
    free(tail);
    if (done && generator_set_grammar(g, c->grammar.grammar, &err)) {
        fail(&err);
        done = false;
    }
    return done;
}

/* Answer the conversation's last message. false: the program cannot go on; complained, or output_done will. */
static bool answer_last(generator *g, conversation *c)
{
    id_list ids;
    odmoe_error err;
    generate_end end = END_TOKEN;
    measure m;
    answer a = {0};
    if (!chat_ids(&c->template, odmoe_model_tokenizer(g->model), c->messages, &ids))
        return false;
    int32_t room = odmoe_session_context(g->session);
    if (ids.n >= (size_t)room) {
        if (message_count(c) > c->system + 1)
            complain("the conversation has %zu tokens, the context has room for %d; /reset starts a new one", ids.n,
                     room);
        else
            complain_room("the message", ids.n, g);
        drop_turn(c);
        c->failed = true;
        free(ids.ids);
        return true;
    }
    size_t same = reuse(g->session, &ids);
    if (!hold_to_tools(g, c, &ids) ||
        !answer_begin(&a, g->model, &c->template, &ids, c->options->show_reasoning, stdout)) {
        free(ids.ids);
        answer_close(&a);
        return false;
    }
    g->user = &a;
    odmoe_status status = generate(g, ids.ids + same, (int64_t)(ids.n - same), &m, &end, &err);
    free(ids.ids);
    bool shown = answer_end(&a);
    if (!json_array_size(a.calls))
        putchar('\n');
    if (!shown || !flush_output()) {
        answer_close(&a);
        return false;
    }
    if (status && status != ODMOE_ERR_CANCELLED) {
        fail(&err);
        c->failed = true;
    }
    if (status == ODMOE_ERR_CANCELLED || (status && a.content.length == 0)) {
        drop_turn(c); /* never answered */
    } else {
        add_answer(c, &a);
        if (talkative())
            measure_summary(&m, false, stderr);
        if (c->calls && isatty(STDIN_FILENO))
            fputs("Type what the tool gives, a message for each call; or /reset.\n", stderr);
    }
    if (end == END_CONTEXT)
        complain("the context of %d tokens is full; /reset starts a new conversation, -c reserves more", room);
    answer_close(&a);
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
        c->calls = c->results = 0;
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
        bool complete = add_typed(c, text);
        free(text);
        if (complete && !answer_last(g, c))
            return flush_output() ? STATUS_FAILED : STATUS_DONE;
    }
}

static int converse(const chat_options *o, odmoe_model *model)
{
    generator g = {.limit = o->limit, .show = answer_show, .markers = true, .model = model};
    conversation c = {.messages = json_array(), .options = &o->answer};
    line_input *in = NULL;
    int status = STATUS_FAILED;
    id_list ids;
    if (!odmoe_model_tokenizer(model)) {
        complain_no_tokenizer(model);
        goto done;
    }
    if (!chat_template_of(&o->template, model, o->share, &c.template) || !answer_prepare(&o->answer, &c.template) ||
        !probe_ids(&g, &c, &ids))
        goto done;
    free(ids.ids);
    if (!generator_prepare(&g, model, &o->sampler, &status))
        goto done;
    status = STATUS_FAILED;
    if (o->answer.tools && !grammar_file_vocab_of(&c.grammar, model, &status))
        goto done;
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
    grammar_file_free(&c.grammar);
    return status;
}

int command_chat(int argc, char **argv)
{
    chat_options o = {.limit = -1};
    model_options_init(&o.model);
    odmoe_sampler_options_init(&o.sampler);
    parse_options(&chat_argp, argc, argv, &o);
    grammar_file grammar = {0};
    int status = STATUS_FAILED;
    o.share = chat_share(o.model.lib.ram_bytes);
    o.model.lib.reserve_bytes = o.share;
    if (o.answer.tools) {
        if (!grammar_file_vocab(&grammar, o.model.path, &status))
            return status;
        o.model.lib.reserve_bytes += grammar_file_bytes(&grammar) + GRAMMAR_MEMORY + GRAMMAR_RULES;
        grammar_file_free(&grammar); /* made again of the open model's tokenizer */
    }
    interrupt_catch(true);
    odmoe_model *model;
    odmoe_error err;
    if (odmoe_model_open(o.model.path, &o.model.lib, &model, &err))
        return fail(&err);
    progress_clear();
    model_warning(model);
    interrupt_catch(false);
    status = converse(&o, model);
    odmoe_model_close(model);
    return status;
}
