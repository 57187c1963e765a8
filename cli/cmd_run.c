#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answer.h"
#include "generate.h"
#include "grammar_file.h"
#include "options.h"
#include "progress.h"

enum { KEY_CHAT = KEY_COMMAND, KEY_IGNORE_EOS, KEY_STATS, KEY_GRAMMAR, KEY_JSON_SCHEMA };

typedef struct run_options {
    model_options model;
    odmoe_sampler_options sampler;
    template_options template;
    answer_options answer;
    const char *prompt, *file, *stats, *grammar, *schema;
    int64_t limit;
    bool chat, ignore_eos;
    uint64_t share, grammar_memory; /* of the budget: for the conversation, for a grammar's work */
} run_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    run_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->sampler;
        state->child_inputs[1] = &o->template;
        state->child_inputs[2] = &o->answer;
        state->child_inputs[3] = &o->model;
        return 0;
    case 'p':
        o->prompt = arg;
        return 0;
    case 'f':
        o->file = arg;
        return 0;
    case 'n':
        o->limit = parse_integer("-n", arg, 0, INT64_MAX);
        return 0;
    case KEY_CHAT:
        o->chat = true;
        return 0;
    case KEY_IGNORE_EOS:
        o->ignore_eos = true;
        return 0;
    case KEY_STATS:
        o->stats = arg;
        return 0;
    case KEY_GRAMMAR:
        o->grammar = arg;
        return 0;
    case KEY_JSON_SCHEMA:
        o->schema = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->grammar && o->schema)
            usage_error("--grammar and --json-schema: one of them only");
        if (o->ignore_eos && (o->grammar || o->schema))
            usage_error("--ignore-eos: an answer under a grammar ends where the grammar does");
        if (o->prompt && o->file)
            usage_error("-p and -f: one prompt only");
        if (!o->chat && (o->template.file || o->template.keywords))
            usage_error("--template and --template-kwargs: a prompt goes into a template with --chat only");
        if (!o->chat && (o->answer.tools || o->answer.reasoning || o->answer.show_reasoning))
            usage_error("--tools, --reasoning and --show-reasoning need a chat template; add --chat");
        if (o->answer.choice && (o->grammar || o->schema))
            usage_error(
                "--tool-choice: --grammar or --json-schema already decides what the answer is; drop one of them");
        if (o->ignore_eos && o->answer.tools)
            usage_error("--ignore-eos: a call of a tool ends the answer");
        if (!o->prompt && !o->file && isatty(STDIN_FILENO))
            usage_error("a prompt is needed: -p TEXT, -f FILE or standard input");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp run_argp = {
    .options =
        (const struct argp_option[]){
            {NULL, 'p', "TEXT", 0, "the prompt", 0},
            {NULL, 'f', "FILE", 0,
             "read the prompt from FILE; without -p and -f from standard input. "
             "One line end (\\n or \\r\\n) at the end of it is dropped",
             0},
            {NULL, 'n', "N", 0, "generate at most N tokens; default until an end token, or until the context is full",
             0},
            {"chat", KEY_CHAT, NULL, 0, "the prompt is a question: put it into the model's chat template", 0},
            {"ignore-eos", KEY_IGNORE_EOS, NULL, 0, "go on after an end token", 0},
            {"grammar", KEY_GRAMMAR, "FILE", 0, "constrain the text to a grammar (GBNF)", 0},
            {"json-schema", KEY_JSON_SCHEMA, "FILE", 0, "constrain the text to a JSON Schema", 0},
            {"stats", KEY_STATS, "FILE", 0, "write what the run cost to FILE, one JSON object", 0},
            {0}},
    .parser = parse,
    .args_doc = "-m MODEL [-p TEXT | -f FILE]",
    .doc = "Continue a text. The text goes to standard output, nothing else does.\v"
           "Example: odmoe run -m models/demo.gguf --ram 16MiB -p \"In the beginning\" -n 40\n"
           "Example: odmoe run -m MODEL --ram 8G --chat --reasoning off --tools tools.json -p \"Is it warm in Rome?\"",
    .children = (const struct argp_child[]){{&sampler_argp, 0, "Sampling:", 2},
                                            {&template_argp, 0, "Chat template:", 3},
                                            {&answer_argp, 0, "Reasoning and tools (with --chat):", 4},
                                            {&run_model_argp, 0, "Model:", 5},
                                            {0}},
};

/* Where the text goes: at once to standard output, or with --json into a string of the object. */
typedef struct sink {
    FILE *file;
    char last; /* the last byte shown */
} sink;

static bool show(void *user, const char *text, size_t length)
{
    sink *out = user;
    if (length == 0)
        return true;
    fwrite(text, 1, length, out->file);
    out->last = text[length - 1];
    return out->file != stdout || flush_output();
}

/* Warn of a text that begins with the model's start token, which stands twice then. */
static void check_start(const odmoe_tokenizer *tokenizer, const id_list *ids)
{
    id_list starts;
    if (!tokenize_all(tokenizer, "", 0, ODMOE_TOKENIZE_START, &starts))
        return;
    size_t n = starts.n;
    if (n && ids->n >= 2 * n && !memcmp(ids->ids + n, starts.ids, n * sizeof *starts.ids))
        complain(
            "warning: the prompt begins with the model's start token, which is put before it anyway: it stands twice");
    free(starts.ids);
}

/* The prompt's ids: as text, or as a question in the chat template, which is *template from then on. */
static bool prompt_ids(const run_options *o, odmoe_model *model, const char *text, size_t length,
                       chat_template *template, id_list *ids)
{
    const odmoe_tokenizer *tokenizer = odmoe_model_tokenizer(model);
    if (!tokenizer) {
        complain_no_tokenizer(model);
        return false;
    }
    if (!o->chat) {
        bool done = tokenize_all(tokenizer, text, length, ODMOE_TOKENIZE_SPECIAL | ODMOE_TOKENIZE_START, ids);
        if (done)
            check_start(tokenizer, ids);
        return done && ids_fit(model, o->model.path, ids);
    }
    if (!chat_template_of(&o->template, model, o->share, template) || !answer_prepare(&o->answer, template))
        return false;
    json_t *messages = json_array();
    add_message(messages, "user", text);
    bool done = chat_ids(template, tokenizer, messages, ids);
    json_decref(messages);
    return done;
}

/* The object of --json: what it cost, and the text; of an answer its reasoning, where it was asked for, and its calls. */
static void print_object(const run_options *o, const measure *m, const char *text, size_t length, const answer *a)
{
    json_t *object = measure_json(m);
    if (o->chat) {
        text = a->content.text ? a->content.text : "";
        length = a->content.length;
    }
    json_object_set_new(object, "text", json_text(text, length));
    if (o->answer.show_reasoning)
        json_object_set_new(object, "reasoning",
                            json_text(a->reasoning.text ? a->reasoning.text : "", a->reasoning.length));
    if (o->answer.tools)
        json_object_set(object, "tool_calls", a->calls);
    json_print(object, stdout);
}

/* Would FILE open for writing? Asked before the work; nothing is created, as the work may fail. */
static bool check_stats(const char *path)
{
    struct stat st;
    char *copy = NULL;
    bool can;
    if (!stat(path, &st)) {
        can = !S_ISDIR(st.st_mode) && !access(path, W_OK);
        errno = S_ISDIR(st.st_mode) ? EISDIR : errno;
    } else {
        copy = strdup(path);
        can = errno == ENOENT && copy && !access(dirname(copy), W_OK | X_OK);
    }
    if (!can)
        complain("--stats %s: cannot be written: %m", path);
    free(copy);
    return can;
}

static bool write_stats(const char *path, const measure *m)
{
    FILE *file = fopen(path, "we");
    if (!file) {
        complain("%s: %m", path);
        return false;
    }
    json_print(measure_json(m), file);
    bool bad = ferror(file);
    if (fclose(file) || bad) {
        complain("%s: could not be written: %m", path);
        return false;
    }
    return true;
}

/* Do standard output and standard error show their text in one place? What reads a pipe may write to the terminal. */
static bool shown_together(void)
{
    struct stat out, err;
    if (fstat(STDOUT_FILENO, &out) || fstat(STDERR_FILENO, &err))
        return false;
    return (out.st_dev == err.st_dev && out.st_ino == err.st_ino) || (S_ISFIFO(out.st_mode) && isatty(STDERR_FILENO));
}

/* End the text's line: on a terminal always; elsewhere the text stays as the model wrote it, and what is about to be
 * said begins with the line end. */
static void end_line(const sink *out, bool more_to_say)
{
    if (out->file != stdout || out->last == '\n')
        return;
    if (isatty(STDOUT_FILENO)) {
        putchar('\n');
        flush_output();
    } else if (more_to_say && shown_together()) {
        fputc('\n', stderr);
    }
}

/* After the text: why it ended, where that is not plain, and what it cost. */
static void report(generate_end end, const measure *m)
{
    if (!talkative())
        return;
    if (end == END_CONTEXT)
        fprintf(stderr, "the context of %d tokens is full; -c reserves more\n", m->plan.context);
    if (end == END_INTERRUPTED)
        fputs("stopped\n", stderr);
    measure_summary(m, true, stderr);
}

/* The grammar of a chat begins with the answer, which depends on template and prompt. */
static bool chat_grammar(const run_options *o, odmoe_model *model, const chat_template *template, const id_list *ids,
                         grammar_file *f, int *status)
{
    if (!o->grammar && !o->schema && !o->answer.tools)
        return true;
    const char *format = odmoe_template_output(template->t);
    char *tail = prompt_tail(model, ids);
    bool done = grammar_file_vocab_of(f, model, status);
    if (done && (o->grammar || o->schema))
        done = grammar_file_compile(f, o->grammar ? ODMOE_GRAMMAR_GBNF : ODMOE_GRAMMAR_SCHEMA,
                                    o->grammar ? o->grammar : o->schema, format, tail, o->grammar_memory, status);
    else if (done)
        done = grammar_file_calls(f, template->tools, o->answer.choice, format, tail, o->grammar_memory, status);
    free(tail);
    return done;
}

/* a: the answer of a chat, else NULL. */
static int run_prompt(const run_options *o, odmoe_model *model, const id_list *ids, odmoe_grammar *grammar, sink *out,
                      answer *a, measure *m)
{
    generator g = {.limit = o->limit, .ignore_end = o->ignore_eos, .show = show, .user = out};
    if (a) {
        g.show = answer_show;
        g.user = a;
        g.markers = true;
    }
    odmoe_error err;
    generate_end end = END_TOKEN;
    int status = STATUS_FAILED;
    if (!generator_prepare(&g, model, &o->sampler, &status))
        goto done;
    if (grammar && generator_set_grammar(&g, grammar, &err)) {
        status = fail(&err);
        goto done;
    }
    int32_t room = odmoe_session_context(g.session);
    if (ids->n > (size_t)room) {
        complain_room("the prompt", ids->n, &g);
        goto done;
    }
    odmoe_status failed = generate(&g, ids->ids, (int64_t)ids->n, m, &end, &err);
    if (a && !answer_end(a))
        end = END_OUTPUT;
    if (a)
        out->last = a->last;
    if (end == END_OUTPUT) {
        status = output_done(STATUS_DONE);
        goto done;
    }
    end_line(out, talkative() || failed);
    if (!failed || m->gen_tokens > 0)
        report(end, m);
    status = failed ? fail(&err) : STATUS_DONE;
done:
    generator_free(&g);
    return status;
}

static int run_model(const run_options *o, odmoe_model *model, const char *text, size_t length, grammar_file *f,
                     measure *m)
{
    id_list ids = {0};
    chat_template template = {0};
    answer a = {0};
    char *kept = NULL;
    size_t kept_length = 0;
    sink out = {.file = o->model.json ? open_memstream(&kept, &kept_length) : stdout, .last = '\n'};
    int status = STATUS_FAILED;
    if (!out.file)
        complain("no memory for the text");
    else if (!prompt_ids(o, model, text, length, &template, &ids))
        status = STATUS_FAILED;
    else if (ids.n == 0)
        complain("the prompt is empty, and this model has no start token to begin with");
    else if (!o->chat)
        status = run_prompt(o, model, &ids, f->grammar, &out, NULL, m);
    else if (chat_grammar(o, model, &template, &ids, f, &status) &&
             answer_begin(&a, model, &template, &ids, o->answer.show_reasoning && !o->model.json, out.file))
        status = run_prompt(o, model, &ids, f->grammar, &out, &a, m);
    if (out.file && out.file != stdout)
        fclose(out.file);
    if (status == STATUS_DONE && o->model.json)
        print_object(o, m, kept, kept_length, &a);
    if (status == STATUS_DONE && o->stats && !write_stats(o->stats, m))
        status = STATUS_FAILED;
    answer_close(&a);
    chat_template_free(&template);
    free(kept);
    free(ids.ids);
    return status;
}

/* Working memory of a grammar: a sixteenth of the budget between these. Rules of tools: what they take beside it. */
#define GRAMMAR_MEMORY_LEAST (UINT64_C(1) << 20)
#define GRAMMAR_MEMORY_MOST (UINT64_C(8) << 20)
#define TOOL_RULES (UINT64_C(1) << 20)

/* The grammar that was asked for, if any; what it holds is reserved in the budget. That of a chat is compiled anew when the
 * prompt is known. false: complained. */
static bool read_grammar(run_options *o, grammar_file *f, int *status)
{
    if (!o->grammar && !o->schema && !o->answer.tools)
        return true;
    uint64_t ram = o->model.lib.ram_bytes, memory = ram / 16;
    memory = memory < GRAMMAR_MEMORY_LEAST ? GRAMMAR_MEMORY_LEAST : memory;
    if (!ram || memory > GRAMMAR_MEMORY_MOST)
        memory = GRAMMAR_MEMORY_MOST;
    o->grammar_memory = memory;
    if (!grammar_file_vocab(f, o->model.path, status))
        return false;
    if ((o->grammar || o->schema) &&
        !grammar_file_compile(f, o->grammar ? ODMOE_GRAMMAR_GBNF : ODMOE_GRAMMAR_SCHEMA,
                              o->grammar ? o->grammar : o->schema, NULL, NULL, memory, status))
        return false;
    o->model.lib.reserve_bytes += grammar_file_bytes(f) + (f->grammar ? 0 : memory + TOOL_RULES);
    if (o->chat)
        grammar_file_free(f); /* made again of the open model's tokenizer */
    else
        grammar_file_close_tokenizer(f);
    return true;
}

int command_run(int argc, char **argv)
{
    run_options o = {.limit = -1};
    model_options_init(&o.model);
    odmoe_sampler_options_init(&o.sampler);
    parse_options(&run_argp, argc, argv, &o);

    if (o.stats && !check_stats(o.stats))
        return STATUS_FAILED;
    size_t length = o.prompt ? strlen(o.prompt) : 0;
    o.share = o.chat ? chat_share(o.model.lib.ram_bytes) : 0;
    o.model.lib.reserve_bytes = o.share;
    char *text = o.prompt ? strdup(o.prompt)
                 : o.chat
                     ? read_most(o.file, chat_text_most(o.share),
                                 "a chat's share of the memory budget has no room for it; a larger --ram has", &length)
                     : read_whole(o.file, &length);
    if (!text)
        return STATUS_FAILED;
    if (!o.prompt)
        length = drop_line_end(text, length);

    if (o.chat && memchr(text, 0, length)) { /* the template would stop there */
        complain("%s: the question holds a NUL byte: a chat takes text only", o.file ? o.file : "standard input");
        free(text);
        return STATUS_FAILED;
    }

    grammar_file f = {0};
    int status = STATUS_FAILED;
    if (!read_grammar(&o, &f, &status)) {
        grammar_file_free(&f);
        free(text);
        return status;
    }
    interrupt_catch(true);
    measure m = {0};
    odmoe_model *model;
    odmoe_error err;
    if (odmoe_model_open(o.model.path, &o.model.lib, &model, &err)) {
        status = fail(&err);
    } else {
        progress_clear();
        model_warning(model);
        status = run_model(&o, model, text, length, &f, &m);
        odmoe_model_close(model);
        if (status == STATUS_DONE && talkative())
            measure_hint(&m, o.model.path, &o.model.lib, stderr);
    }
    grammar_file_free(&f);
    free(text);
    return status;
}
