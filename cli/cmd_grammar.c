#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar_file.h"
#include "options.h"

/* grammar: what a grammar or schema compiles to, and whether it accepts a text. */

enum { KEY_GBNF = KEY_COMMAND, KEY_SCHEMA, KEY_CHECK, KEY_BATCH };

typedef struct grammar_command {
    const char *gbnf, *schema, *check, *model;
    bool batch;
} grammar_command;

static error_t parse_grammar(int key, char *arg, struct argp_state *state)
{
    grammar_command *o = state->input;
    switch (key) {
    case KEY_GBNF:
        o->gbnf = arg;
        return 0;
    case KEY_SCHEMA:
        o->schema = arg;
        return 0;
    case KEY_CHECK:
        o->check = arg;
        return 0;
    case KEY_BATCH:
        o->batch = true;
        return 0;
    case 'm':
        o->model = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->batch ? o->gbnf || o->schema || o->check : !o->gbnf == !o->schema)
            usage_error("one of --gbnf FILE, --schema FILE and --batch is needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp grammar_argp = {
    .options =
        (const struct argp_option[]){
            {"gbnf", KEY_GBNF, "FILE", 0, "a grammar in llama.cpp's notation", 0},
            {"schema", KEY_SCHEMA, "FILE", 0, "a JSON Schema", 0},
            {"check", KEY_CHECK, "FILE", 0, "say whether it accepts the text of FILE, and where not (status 1)", 0},
            {NULL, 'm', "MODEL", 0, "the model whose tokens a grammar names (<think>)", 0},
            {"batch", KEY_BATCH, NULL, 0,
             "read JSON lines {\"gbnf\" or \"schema\", \"text\"} from standard input, answer each with a line", 0},
            {0}},
    .parser = parse_grammar,
    .args_doc = "(--gbnf FILE | --schema FILE) [--check FILE]",
    .doc = "Print a compiled grammar as GBNF, or check a text against it.\v"
           "Example: echo '{\"type\": \"integer\", \"maximum\": 12}' > s.json && odmoe grammar --schema s.json",
    .children = (const struct argp_child[]){{&help_argp, 0, NULL, 0}, {0}},
};

/* Does the grammar accept all of text? *at: the first byte that it does not, or the text's length where more is wanted.
 * An error other than that is kept in err. */
static odmoe_status accepts(odmoe_grammar *g, const char *text, size_t length, bool *yes, size_t *at, odmoe_error *err)
{
    odmoe_grammar_state *s;
    odmoe_status st = odmoe_grammar_state_create(g, &s, err);
    if (st)
        return st;
    st = odmoe_grammar_accept_text(s, text, length, at, err);
    *yes = !st && odmoe_grammar_may_end(s);
    odmoe_grammar_state_free(s);
    return st == ODMOE_ERR_ARG ? ODMOE_OK : st;
}

/* ---- one grammar ------------------------------------------------------------------------------------------------------ */

static int print_grammar(const odmoe_grammar *g)
{
    odmoe_error err;
    size_t length;
    if (odmoe_grammar_print(g, NULL, 0, &length, &err))
        return fail(&err);
    char *text = must_alloc(length + 1, 1);
    int status = odmoe_grammar_print(g, text, length, &length, &err) ? fail(&err) : STATUS_DONE;
    if (status == STATUS_DONE)
        fwrite(text, 1, length, stdout);
    free(text);
    return status;
}

static int check_text(odmoe_grammar *g, const char *path)
{
    odmoe_error err;
    bool yes;
    size_t length, at;
    char *text = read_whole(path, &length);
    if (!text)
        return STATUS_FAILED;
    int status = STATUS_FAILED;
    length = drop_line_end(text, length);
    if (accepts(g, text, length, &yes, &at, &err)) {
        status = fail(&err);
    } else if (yes) {
        puts("accepted");
        status = STATUS_DONE;
    } else if (at == length) {
        complain("%s: not accepted: the text ends after %zu bytes, and more is wanted", path, at);
    } else {
        complain("%s: not accepted from byte %zu on", path, at);
    }
    free(text);
    return status;
}

static int one_grammar(const grammar_command *o)
{
    grammar_file f = {0};
    int status = STATUS_FAILED;
    if (grammar_file_vocab(&f, o->model, &status) &&
        grammar_file_compile(&f, o->gbnf ? ODMOE_GRAMMAR_GBNF : ODMOE_GRAMMAR_SCHEMA, o->gbnf ? o->gbnf : o->schema,
                             NULL, NULL, 0, &status))
        status = o->check ? check_text(f.grammar, o->check) : print_grammar(f.grammar);
    grammar_file_free(&f);
    return status;
}

/* ---- many -------------------------------------------------------------------------------------------------------------- */

static json_t *error_line(const char *message, const char *param)
{
    return json_pack("{s:s, s:s}", "error", message, "param", param);
}

/* The path of a schema's fault, or the place in a grammar. */
static json_t *fault_line(const odmoe_grammar_fault *f, const odmoe_error *err)
{
    char place[64];
    snprintf(place, sizeof place, "line %d, column %d", f->line, f->column);
    return error_line(err->message, f->line ? place : f->path);
}

static json_t *check_line(odmoe_grammar *g, const json_t *text)
{
    odmoe_error err;
    bool yes;
    size_t at;
    if (accepts(g, json_string_value(text), json_string_length(text), &yes, &at, &err))
        return error_line(err.message, "");
    return yes ? json_pack("{s:b}", "accepted", 1) : json_pack("{s:b, s:I}", "accepted", 0, "at", (json_int_t)at);
}

static json_t *answer(const json_t *line)
{
    const json_t *gbnf = json_object_get(line, "gbnf"), *schema = json_object_get(line, "schema"),
                 *text = json_object_get(line, "text");
    if (!json_is_object(line) || !json_is_string(text) || !gbnf == !schema || (gbnf && !json_is_string(gbnf)))
        return error_line("a line is {\"schema\": ... or \"gbnf\": text, \"text\": text}", "");
    odmoe_grammar *g;
    odmoe_error err;
    odmoe_grammar_fault fault = {.size = sizeof fault};
    char *source = schema ? json_dumps(schema, JSON_ENCODE_ANY) : NULL;
    const char *used = schema ? source : json_string_value(gbnf);
    odmoe_status st =
        !used ? ODMOE_ERR_MEMORY
              : odmoe_grammar_compile(NULL, schema ? ODMOE_GRAMMAR_SCHEMA : ODMOE_GRAMMAR_GBNF, used,
                                      schema ? strlen(used) : json_string_length(gbnf), NULL, &g, &fault, &err);
    free(source);
    if (st)
        return used ? fault_line(&fault, &err) : error_line("no memory", "");
    json_t *result = check_line(g, text);
    odmoe_grammar_free(g);
    return result;
}

static int batch(void)
{
    char *line = NULL;
    size_t room = 0;
    int status = STATUS_DONE;
    for (ssize_t n; status == STATUS_DONE && (n = getline(&line, &room, stdin)) >= 0;) {
        json_error_t bad;
        json_t *in = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &bad);
        json_t *out = in ? answer(in) : error_line(bad.text, "");
        if (!out || json_dumpf(out, stdout, JSON_COMPACT) || putchar('\n') == EOF || !flush_output())
            status = STATUS_FAILED;
        json_decref(in);
        json_decref(out);
    }
    free(line);
    return status;
}

int command_grammar(int argc, char **argv)
{
    grammar_command o = {0};
    parse_options(&grammar_argp, argc, argv, &o);
    return o.batch ? batch() : one_grammar(&o);
}
