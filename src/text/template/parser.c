#include "text/template/parser.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- tokens ---- */

noreturn void parse_fail(parser *p, const char *format, ...)
{
    char text[200];
    va_list rest;
    va_start(rest, format);
    vsnprintf(text, sizeof text, format, rest);
    va_end(rest);
    p->s->line = p->now.line;
    tpl_fail(p->s, TEMPLATE_SYNTAX, "%s", text);
}

void parse_enter(parser *p)
{
    if (++p->nested > NESTED_MAX) {
        p->s->line = p->now.line;
        tpl_fail(p->s, TEMPLATE_LIMIT, "nested too deeply (%d levels)", NESTED_MAX);
    }
}

void parse_advance(parser *p)
{
    p->now = p->next;
    p->next = lexer_next(&p->lex);
}

bool parse_at_op(const parser *p, const char *sign)
{
    return p->now.kind == TOKEN_OP && !strcmp(p->now.at, sign);
}

bool parse_at_name(const parser *p, const char *name)
{
    return p->now.kind == TOKEN_NAME && p->now.length == strlen(name) && !memcmp(p->now.at, name, p->now.length);
}

bool parse_skip_op(parser *p, const char *sign)
{
    bool is = parse_at_op(p, sign);
    if (is)
        parse_advance(p);
    return is;
}

bool parse_skip_name(parser *p, const char *name)
{
    bool is = parse_at_name(p, name);
    if (is)
        parse_advance(p);
    return is;
}

void parse_expect_op(parser *p, const char *sign)
{
    if (!parse_skip_op(p, sign))
        parse_fail(p, "'%s' is missing", sign);
}

str *parse_token_text(parser *p, const token *t)
{
    return str_new(p->s, t->at, t->length, false);
}

str *parse_expect_name(parser *p)
{
    if (p->now.kind != TOKEN_NAME)
        parse_fail(p, "a name is missing");
    str *name = parse_token_text(p, &p->now);
    parse_advance(p);
    return name;
}

int parse_symbol(parser *p, const char *at, size_t length)
{
    struct chat_program *t = p->t;
    for (size_t i = 0; i < t->n_symbols; i++)
        if (t->symbols[i]->length == length && !memcmp(t->symbols[i]->flat, at, length))
            return (int)i;
    if (t->n_symbols >= 10000)
        tpl_fail(p->s, TEMPLATE_LIMIT, "more than 10000 names");
    tpl_grow(p->s, (void **)&t->symbols, &t->symbols_capacity, t->n_symbols, t->n_symbols + 1, sizeof *t->symbols);
    t->symbols[t->n_symbols] = str_new(p->s, at, length, false);
    return (int)t->n_symbols++;
}

void parse_mention(parser *p, str *name)
{
    struct chat_program *t = p->t;
    tpl_grow(p->s, (void **)&t->mentioned, &t->mentioned_capacity, t->n_mentioned, t->n_mentioned + 1,
             sizeof *t->mentioned);
    t->mentioned[t->n_mentioned++] = name;
}

node *parse_node(parser *p, node_kind kind)
{
    node *n = tpl_alloc(p->s, 1, sizeof *n);
    n->kind = (uint8_t)kind;
    n->line = p->now.line;
    return n;
}

void parse_push(parser *p, node_list *l, node *n)
{
    tpl_grow(p->s, (void **)&l->at, &l->capacity, l->n, l->n + 1, sizeof *l->at);
    l->at[l->n++] = n;
}

/* ---- bodies ---- */

static node *parse_statement(parser *p);

static void expect_block_end(parser *p)
{
    if (p->now.kind != TOKEN_BLOCK_END)
        parse_fail(p, "%%} is missing");
    parse_advance(p);
}

static bool at_any(const parser *p, const char *const *names)
{
    bool is = false;
    for (size_t i = 0; !is && names[i]; i++)
        is = parse_at_name(p, names[i]);
    return is;
}

/* Statements up to a tag of one of the names (its name is p->now then), or to the end of the template for NULL. */
static node_list parse_until(parser *p, const char *const *names)
{
    node_list body = {0};
    for (;;) {
        if (p->now.kind == TOKEN_TEXT) {
            node *n = parse_node(p, NODE_TEXT);
            n->text = parse_token_text(p, &p->now);
            parse_push(p, &body, n);
            parse_advance(p);
        } else if (p->now.kind == TOKEN_PRINT) {
            parse_advance(p);
            node *n = parse_node(p, NODE_PRINT);
            n->a = parse_tuple(p, true, NULL);
            if (p->now.kind != TOKEN_PRINT_END)
                parse_fail(p, "}} is missing");
            parse_push(p, &body, n);
            parse_advance(p);
        } else if (p->now.kind == TOKEN_BLOCK) {
            parse_advance(p);
            if (names && at_any(p, names))
                return body;
            parse_push(p, &body, parse_statement(p));
            expect_block_end(p);
        } else if (names) {
            parse_fail(p, "the template ends before {%% %s %%}", names[0]);
        } else {
            return body;
        }
    }
}

/* The body of a tag whose own end comes next: up to {% end %}, of which only %} is left then. */
static node_list parse_body(parser *p, const char *end)
{
    const char *const names[] = {end, NULL};
    parse_skip_op(p, ":");
    expect_block_end(p);
    node_list body = parse_until(p, names);
    parse_advance(p);
    return body;
}

static void set_body(node *n, node_list body)
{
    n->list = body.at;
    n->n = body.n;
}

/* ---- targets ---- */

static int target_symbol(parser *p)
{
    static const char *const fixed[] = {"true", "True", "false", "False", "none", "None", NULL};
    if (p->now.kind != TOKEN_NAME)
        parse_fail(p, "a name to assign to is missing");
    if (at_any(p, fixed))
        parse_fail(p, "can't assign to '%.*s'", (int)p->now.length, p->now.at);
    int symbol = parse_symbol(p, p->now.at, p->now.length);
    parse_advance(p);
    return symbol;
}

static node *parse_targets(parser *p, bool attributes, const char *stop);

static node *parse_target(parser *p, bool attributes)
{
    if (parse_skip_op(p, "(")) {
        parse_enter(p);
        node *n = parse_targets(p, attributes, NULL);
        parse_leave(p);
        parse_expect_op(p, ")");
        return n;
    }
    node *n = parse_node(p, TARGET_NAME);
    n->symbol = target_symbol(p);
    if (attributes && parse_skip_op(p, ".")) {
        n->kind = TARGET_ATTR;
        n->text = parse_expect_name(p);
    }
    return n;
}

static node *parse_targets(parser *p, bool attributes, const char *stop)
{
    node *n = parse_node(p, TARGET_TUPLE), *first = parse_target(p, attributes);
    if (!parse_at_op(p, ","))
        return first;
    node_list all = {0};
    parse_push(p, &all, first);
    while (parse_skip_op(p, ","))
        if (p->now.kind == TOKEN_NAME ? !stop || !parse_at_name(p, stop) : parse_at_op(p, "("))
            parse_push(p, &all, parse_target(p, attributes));
        else
            break;
    set_body(n, all);
    return n;
}

/* ---- statements ---- */

static node *parse_if(parser *p)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    node *n = parse_node(p, NODE_IF);
    parse_enter(p);
    p->may_skip++;
    n->a = parse_tuple(p, false, NULL);
    parse_skip_op(p, ":");
    expect_block_end(p);
    set_body(n, parse_until(p, ends));
    node_list otherwise = {0};
    if (parse_skip_name(p, "elif")) {
        parse_push(p, &otherwise, parse_if(p));
    } else if (parse_skip_name(p, "else")) {
        otherwise = parse_body(p, "endif");
    } else {
        parse_advance(p);
    }
    n->more = otherwise.at;
    n->n_more = otherwise.n;
    p->may_skip--;
    parse_leave(p);
    return n;
}

static node *parse_for(parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    node *n = parse_node(p, NODE_FOR);
    n->b = parse_targets(p, false, "in");
    if (n->b->kind == TARGET_NAME && n->b->symbol == SYMBOL_LOOP)
        parse_fail(p, "can't assign to the special variable 'loop'");
    if (!parse_skip_name(p, "in"))
        parse_fail(p, "'in' is missing");
    n->a = parse_tuple(p, false, "recursive");
    if (parse_skip_name(p, "if"))
        n->c = parse_expression(p);
    n->recursive = parse_skip_name(p, "recursive");
    parse_skip_op(p, ":");
    expect_block_end(p);
    p->in_loop++;
    set_body(n, parse_until(p, ends));
    p->in_loop--;
    node_list otherwise = {0};
    if (parse_skip_name(p, "else"))
        otherwise = parse_body(p, "endfor");
    else
        parse_advance(p);
    n->more = otherwise.at;
    n->n_more = otherwise.n;
    return n;
}

static node *parse_set(parser *p)
{
    node *n = parse_node(p, NODE_SET);
    n->b = parse_targets(p, true, NULL);
    if (parse_skip_op(p, "=")) {
        n->a = parse_tuple(p, true, NULL);
        return n;
    }
    n->kind = NODE_SET_BLOCK;
    n->a = parse_filter_chain(p, NULL, false);
    set_body(n, parse_body(p, "endset"));
    return n;
}

static node *parse_with(parser *p)
{
    node *n = parse_node(p, NODE_WITH);
    node_list pairs = {0};
    while (p->now.kind != TOKEN_BLOCK_END) {
        if (pairs.n)
            parse_expect_op(p, ",");
        parse_push(p, &pairs, parse_target(p, false));
        parse_expect_op(p, "=");
        parse_push(p, &pairs, parse_expression(p));
    }
    n->more = pairs.at;
    n->n_more = pairs.n;
    set_body(n, parse_body(p, "endwith"));
    return n;
}

/* (a, b=1) */
static void parse_signature(parser *p, node_macro *m)
{
    size_t params = 0, defaults = 0;
    parse_expect_op(p, "(");
    while (!parse_at_op(p, ")")) {
        if (m->n)
            parse_expect_op(p, ",");
        tpl_grow(p->s, (void **)&m->params, &params, m->n, m->n + 1, sizeof *m->params);
        tpl_grow(p->s, (void **)&m->defaults, &defaults, m->n, m->n + 1, sizeof *m->defaults);
        int symbol = target_symbol(p);
        for (size_t i = 0; i < m->n; i++)
            if (m->params[i] == symbol)
                parse_fail(p, "two parameters of one name");
        node *fallback = parse_skip_op(p, "=") ? parse_expression(p) : NULL;
        if (!fallback && m->n && m->defaults[m->n - 1])
            parse_fail(p, "a parameter without a default behind one that has it");
        m->params[m->n] = symbol;
        m->defaults[m->n++] = fallback;
    }
    parse_expect_op(p, ")");
}

static void parse_macro_body(parser *p, node_macro *m, const char *end)
{
    node_macro *outer = p->in;
    int loops = p->in_loop;
    p->in = m;
    p->in_loop = 0;
    node_list body = parse_body(p, end);
    m->body = body.at;
    m->n_body = body.n;
    p->in = outer;
    p->in_loop = loops;
}

static node *parse_macro(parser *p)
{
    node *n = parse_node(p, NODE_MACRO);
    n->macro = tpl_alloc(p->s, 1, sizeof *n->macro);
    n->macro->name = parse_token_text(p, &p->now);
    n->symbol = target_symbol(p);
    parse_signature(p, n->macro);
    parse_macro_body(p, n->macro, "endmacro");
    return n;
}

static node *parse_call_block(parser *p)
{
    node *n = parse_node(p, NODE_CALL_BLOCK);
    n->macro = tpl_alloc(p->s, 1, sizeof *n->macro);
    n->macro->name = str_text(p->s, "caller");
    if (parse_at_op(p, "("))
        parse_signature(p, n->macro);
    n->a = parse_expression(p);
    if (n->a->kind != NODE_CALL)
        parse_fail(p, "a call is missing");
    parse_macro_body(p, n->macro, "endcall");
    return n;
}

static node *parse_filter_block(parser *p)
{
    node *n = parse_node(p, NODE_FILTER_BLOCK);
    n->a = parse_filter_chain(p, NULL, true);
    set_body(n, parse_body(p, "endfilter"));
    return n;
}

static node *parse_generation(parser *p)
{
    node *n = parse_node(p, NODE_SCOPE);
    set_body(n, parse_body(p, "endgeneration"));
    return n;
}

static node *parse_block(parser *p)
{
    node *n = parse_node(p, NODE_SCOPE);
    parse_expect_name(p);
    parse_skip_name(p, "scoped");
    parse_skip_name(p, "required");
    static const char *const ends[] = {"endblock", NULL};
    expect_block_end(p);
    set_body(n, parse_until(p, ends));
    parse_advance(p);
    if (p->now.kind == TOKEN_NAME)
        parse_advance(p);
    return n;
}

static node *parse_autoescape(parser *p)
{
    node *n = parse_node(p, NODE_AUTOESCAPE);
    n->a = parse_expression(p);
    set_body(n, parse_body(p, "endautoescape"));
    return n;
}

static node *parse_print(parser *p)
{
    node *n = parse_node(p, NODE_PRINT);
    n->a = parse_tuple(p, true, NULL);
    return n;
}

static node *parse_jump(parser *p, node_kind kind, const char *name)
{
    if (!p->in_loop)
        parse_fail(p, "'%s' outside of a loop", name);
    return parse_node(p, kind);
}

static node *parse_break(parser *p)
{
    return parse_jump(p, NODE_BREAK, "break");
}

static node *parse_continue(parser *p)
{
    return parse_jump(p, NODE_CONTINUE, "continue");
}

static node *parse_refused(parser *p)
{
    p->s->line = p->now.line;
    tpl_fail(p->s, TEMPLATE_REFUSED, "templates may not read other templates (include, import, extends)");
}

static node *parse_statement(parser *p)
{
    static const struct {
        const char *name;
        node *(*parse)(parser *p);
    } tags[] = {{"if", parse_if},           {"for", parse_for},
                {"set", parse_set},         {"macro", parse_macro},
                {"call", parse_call_block}, {"filter", parse_filter_block},
                {"with", parse_with},       {"generation", parse_generation},
                {"break", parse_break},     {"continue", parse_continue},
                {"block", parse_block},     {"autoescape", parse_autoescape},
                {"print", parse_print},     {"include", parse_refused},
                {"import", parse_refused},  {"from", parse_refused},
                {"extends", parse_refused}};
    if (p->now.kind != TOKEN_NAME)
        parse_fail(p, "the name of a tag is missing");
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (parse_skip_name(p, tags[i].name)) {
            parse_enter(p);
            node *n = tags[i].parse(p);
            parse_leave(p);
            return n;
        }
    parse_fail(p, "unknown tag '%.*s'", (int)(p->now.length < 60 ? p->now.length : 60), p->now.at);
}

void parse_template(tpl_state *s, struct chat_program *t)
{
    static const char *const own[] = {"loop", "caller", "varargs", "kwargs"};
    parser p = {.s = s, .t = t, .lex = lexer_start(s, t->source, t->length)};
    for (int i = 0; i < SYMBOLS_OWN; i++)
        parse_symbol(&p, own[i], strlen(own[i]));
    p.now = lexer_next(&p.lex);
    p.next = p.now.kind == TOKEN_END ? p.now : lexer_next(&p.lex);
    node_list body = parse_until(&p, NULL);
    t->body = body.at;
    t->n = body.n;
}
