#include <errno.h>
#include <stdlib.h>

#include "text/template/number.h"
#include "text/template/parser.h"

/* The grammar is Jinja's, one function a level of precedence, loosest first. */

static node *parse_or(parser *p);
static node *parse_unary(parser *p, bool with_filter);
static node *parse_postfix(parser *p, node *n);

static node *two(parser *p, node_kind kind, int op, node *a, node *b)
{
    node *n = parse_node(p, kind);
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    return n;
}

node *parse_expression(parser *p)
{
    parse_enter(p);
    node *n = parse_or(p);
    while (parse_at_name(p, "if")) {
        node *c = parse_node(p, NODE_IF_ELSE);
        parse_advance(p);
        p->may_skip++;
        c->b = n;
        c->a = parse_or(p);
        if (parse_skip_name(p, "else"))
            c->c = parse_expression(p);
        p->may_skip--;
        n = c;
    }
    parse_leave(p);
    return n;
}

/* ---- calls ---- */

static void add_keyword(parser *p, node_call *c, size_t *capacity, str *name, node *a)
{
    for (size_t i = 0; i < c->n_keywords; i++)
        if (str_equal(p->s, c->keywords[i].name, name))
            parse_fail(p, "the argument %.*s is given twice", (int)name->length, str_flat(p->s, name));
    tpl_grow(p->s, (void **)&c->keywords, capacity, c->n_keywords, c->n_keywords + 1, sizeof *c->keywords);
    c->keywords[c->n_keywords++] = (node_keyword){name, a};
}

static node_call *parse_arguments(parser *p)
{
    node_call *c = tpl_alloc(p->s, 1, sizeof *c);
    node_list at = {0};
    size_t capacity = 0;
    parse_expect_op(p, "(");
    for (bool first = true; !parse_at_op(p, ")"); first = false) {
        if (!first) {
            parse_expect_op(p, ",");
            if (parse_at_op(p, ")"))
                break;
        }
        if (parse_at_op(p, "**") && !c->star_star) {
            parse_advance(p);
            c->star_star = parse_expression(p);
        } else if (parse_at_op(p, "*") && !c->star && !c->star_star) {
            parse_advance(p);
            c->star = parse_expression(p);
        } else if (p->now.kind == TOKEN_NAME && p->next.kind == TOKEN_OP && !strcmp(p->next.at, "=") && !c->star_star) {
            str *name = parse_expect_name(p);
            parse_advance(p);
            add_keyword(p, c, &capacity, name, parse_expression(p));
        } else {
            if (c->n_keywords || c->star || c->star_star)
                parse_fail(p, "a positional argument behind the others");
            parse_push(p, &at, parse_expression(p));
        }
    }
    parse_expect_op(p, ")");
    c->at = at.at;
    c->n = at.n;
    return c;
}

static str *dotted_name(parser *p)
{
    str *name = parse_expect_name(p);
    while (parse_skip_op(p, "."))
        name = str_join2(p->s, str_join2(p->s, name, str_text(p->s, ".")), parse_expect_name(p));
    return name;
}

node *parse_filter_chain(parser *p, node *input, bool first_inline)
{
    node *n = input;
    while (first_inline || parse_at_op(p, "|")) {
        if (!first_inline)
            parse_advance(p);
        first_inline = false;
        node *f = parse_node(p, NODE_FILTER);
        f->a = n;
        f->text = dotted_name(p);
        f->filter = tpl_filter_find(str_flat(p->s, f->text), f->text->length);
        if (!f->filter && !p->may_skip)
            parse_fail(p, "no filter named '%.*s'", (int)f->text->length, str_flat(p->s, f->text));
        f->call = parse_at_op(p, "(") ? parse_arguments(p) : tpl_alloc(p->s, 1, sizeof *f->call);
        n = f;
    }
    return n;
}

static bool begins_operand(const parser *p)
{
    if (p->now.kind == TOKEN_NAME)
        return !parse_at_name(p, "else") && !parse_at_name(p, "or") && !parse_at_name(p, "and");
    return p->now.kind == TOKEN_STRING || p->now.kind == TOKEN_INT || p->now.kind == TOKEN_FLOAT ||
           parse_at_op(p, "[") || parse_at_op(p, "{");
}

static node *parse_primary(parser *p);

static node *parse_test(parser *p, node *input)
{
    parse_advance(p); /* is */
    bool not = parse_skip_name(p, "not");
    node *t = parse_node(p, NODE_TEST);
    t->a = input;
    t->text = dotted_name(p);
    t->filter = tpl_test_find(str_flat(p->s, t->text), t->text->length);
    if (!t->filter && !p->may_skip)
        parse_fail(p, "no test named '%.*s'", (int)t->text->length, str_flat(p->s, t->text));
    if (parse_at_op(p, "(")) {
        t->call = parse_arguments(p);
    } else {
        t->call = tpl_alloc(p->s, 1, sizeof *t->call);
        if (begins_operand(p)) {
            if (parse_at_name(p, "is"))
                parse_fail(p, "two tests in a row");
            node_list one = {0};
            parse_push(p, &one, parse_postfix(p, parse_primary(p)));
            t->call->at = one.at;
            t->call->n = 1;
        }
    }
    return not ? two(p, NODE_NOT, 0, t, NULL) : t;
}

static node *parse_call(parser *p, node *callee)
{
    node *n = parse_node(p, NODE_CALL);
    n->a = callee;
    n->call = parse_arguments(p);
    return n;
}

static node *parse_filters(parser *p, node *n)
{
    for (;;) {
        if (parse_at_op(p, "|"))
            n = parse_filter_chain(p, n, false);
        else if (parse_at_name(p, "is"))
            n = parse_test(p, n);
        else if (parse_at_op(p, "("))
            n = parse_call(p, n);
        else
            return n;
    }
}

/* ---- subscripts ---- */

static node *constant(parser *p, value v)
{
    node *n = parse_node(p, NODE_CONST);
    n->constant = v;
    return n;
}

static node *parse_integer(parser *p)
{
    const token *t = &p->now;
    wide i = 0;
    int base = 10;
    size_t k = 0;
    if (t->length > 2 && t->at[0] == '0' && (t->at[1] | 32) > '9') {
        base = (t->at[1] | 32) == 'x' ? 16 : (t->at[1] | 32) == 'o' ? 8 : 2;
        k = 2;
    }
    for (; k < t->length; k++) {
        char c = t->at[k];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
        if (c == '_' && k + 1 < t->length)
            continue;
        if (d >= base)
            parse_fail(p, "a malformed number");
        if (__builtin_mul_overflow(i, (wide)base, &i) || __builtin_add_overflow(i, (wide)d, &i))
            tpl_fail(p->s, TEMPLATE_LIMIT, "an integer of more than 38 digits");
    }
    parse_advance(p);
    return constant(p, val_int(i));
}

static node *parse_float(parser *p)
{
    char text[64];
    size_t n = 0;
    for (size_t k = 0; k < p->now.length; k++)
        if (p->now.at[k] != '_') {
            if (n + 1 >= sizeof text)
                parse_fail(p, "a number with too many digits");
            text[n++] = p->now.at[k];
        }
    parse_advance(p);
    return constant(p, val_float(number_read(text, n)));
}

/* a[...]: an index, or a slice. */
static node *parse_subscript(parser *p, node *n)
{
    node *part[3] = {0};
    node_list indexes = {0};
    parse_advance(p); /* [ */
    node *s = parse_node(p, NODE_SLICE);
    bool slice = false;
    for (bool first = true; !parse_at_op(p, "]"); first = false) {
        if (!first)
            parse_expect_op(p, ",");
        if (!parse_at_op(p, ":"))
            part[0] = parse_expression(p);
        if (parse_at_op(p, ":")) {
            slice = true;
            parse_advance(p);
            if (!parse_at_op(p, "]") && !parse_at_op(p, ",") && !parse_at_op(p, ":"))
                part[1] = parse_expression(p);
            if (parse_skip_op(p, ":") && !parse_at_op(p, "]") && !parse_at_op(p, ","))
                part[2] = parse_expression(p);
        } else {
            parse_push(p, &indexes, part[0]);
        }
    }
    parse_expect_op(p, "]");
    if (slice && indexes.n)
        parse_fail(p, "a slice among several subscripts");
    if (!slice && !indexes.n)
        parse_fail(p, "an empty subscript");
    if (slice) {
        node_list parts = {0};
        for (int i = 0; i < 3; i++)
            parse_push(p, &parts, part[i]);
        s->a = n;
        s->list = parts.at;
        return s;
    }
    node *index = indexes.at[0];
    if (indexes.n > 1) {
        index = parse_node(p, NODE_TUPLE);
        index->list = indexes.at;
        index->n = indexes.n;
    }
    if (index->kind == NODE_CONST && index->constant.kind == VAL_STR)
        parse_mention(p, index->constant.s);
    return two(p, NODE_ITEM, 0, n, index);
}

static node *parse_attribute(parser *p, node *n)
{
    parse_advance(p); /* . */
    if (p->now.kind == TOKEN_INT)
        return two(p, NODE_ITEM, 0, n, parse_integer(p));
    node *a = parse_node(p, NODE_ATTR);
    a->a = n;
    a->text = parse_expect_name(p);
    parse_mention(p, a->text);
    return a;
}

static node *parse_postfix(parser *p, node *n)
{
    for (;;) {
        if (parse_at_op(p, "."))
            n = parse_attribute(p, n);
        else if (parse_at_op(p, "["))
            n = parse_subscript(p, n);
        else if (parse_at_op(p, "("))
            n = parse_call(p, n);
        else
            return n;
    }
}

/* ---- literals ---- */

static node *parse_list(parser *p)
{
    node *n = parse_node(p, NODE_LIST);
    node_list items = {0};
    parse_advance(p);
    while (!parse_at_op(p, "]")) {
        if (items.n)
            parse_expect_op(p, ",");
        if (parse_at_op(p, "]"))
            break;
        parse_push(p, &items, parse_expression(p));
    }
    parse_expect_op(p, "]");
    n->list = items.at;
    n->n = items.n;
    return n;
}

static node *parse_dict(parser *p)
{
    node *n = parse_node(p, NODE_DICT);
    node_list items = {0};
    parse_advance(p);
    while (!parse_at_op(p, "}")) {
        if (items.n)
            parse_expect_op(p, ",");
        if (parse_at_op(p, "}"))
            break;
        parse_push(p, &items, parse_expression(p));
        parse_expect_op(p, ":");
        parse_push(p, &items, parse_expression(p));
    }
    parse_expect_op(p, "}");
    n->list = items.at;
    n->n = items.n;
    return n;
}

static node *parse_strings(parser *p)
{
    builder b = {0};
    for (; p->now.kind == TOKEN_STRING; parse_advance(p))
        build_run(p->s, &b, p->now.at, p->now.length, false);
    str *text = str_built(p->s, &b);
    str_flat(p->s, text); /* compiled templates are shared by threads: nothing of them changes later */
    return constant(p, val_str(text));
}

static node *parse_parentheses(parser *p)
{
    parse_advance(p);
    node *n;
    if (parse_at_op(p, ")"))
        n = parse_node(p, NODE_TUPLE);
    else
        n = parse_tuple(p, true, NULL);
    parse_expect_op(p, ")");
    return n;
}

static node *parse_name(parser *p)
{
    static const struct {
        const char *name;
        value v;
    } constants[] = {{"true", {.kind = VAL_BOOL, .b = true}},
                     {"True", {.kind = VAL_BOOL, .b = true}},
                     {"false", {.kind = VAL_BOOL}},
                     {"False", {.kind = VAL_BOOL}},
                     {"none", {.kind = VAL_NONE}},
                     {"None", {.kind = VAL_NONE}}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (parse_at_name(p, constants[i].name)) {
            parse_advance(p);
            return constant(p, constants[i].v);
        }
    node *n = parse_node(p, NODE_NAME);
    n->symbol = parse_symbol(p, p->now.at, p->now.length);
    if (p->in) {
        p->in->takes_caller |= n->symbol == SYMBOL_CALLER;
        p->in->takes_varargs |= n->symbol == SYMBOL_VARARGS;
        p->in->takes_kwargs |= n->symbol == SYMBOL_KWARGS;
    }
    parse_advance(p);
    return n;
}

static node *parse_primary(parser *p)
{
    switch (p->now.kind) {
    case TOKEN_NAME:
        return parse_name(p);
    case TOKEN_STRING:
        return parse_strings(p);
    case TOKEN_INT:
        return parse_integer(p);
    case TOKEN_FLOAT:
        return parse_float(p);
    default:
        break;
    }
    if (parse_at_op(p, "("))
        return parse_parentheses(p);
    if (parse_at_op(p, "["))
        return parse_list(p);
    if (parse_at_op(p, "{"))
        return parse_dict(p);
    parse_fail(p, "an expression is missing");
}

/* ---- operators ---- */

static node *parse_unary(parser *p, bool with_filter)
{
    parse_enter(p);
    node *n;
    if (parse_at_op(p, "-") || parse_at_op(p, "+")) {
        n = parse_node(p, parse_at_op(p, "-") ? NODE_NEG : NODE_POS);
        parse_advance(p);
        n->a = parse_unary(p, false);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    if (with_filter)
        n = parse_filters(p, n);
    parse_leave(p);
    return n;
}

static node *parse_pow(parser *p)
{
    node *n = parse_unary(p, true);
    while (parse_skip_op(p, "**"))
        n = two(p, NODE_BINARY, OP_POW, n, parse_unary(p, true));
    return n;
}

static node *parse_product(parser *p)
{
    node *n = parse_pow(p);
    for (;;) {
        int op = parse_at_op(p, "*")    ? OP_MUL
                 : parse_at_op(p, "/")  ? OP_DIV
                 : parse_at_op(p, "//") ? OP_FLOORDIV
                 : parse_at_op(p, "%")  ? OP_MOD
                                        : -1;
        if (op < 0)
            return n;
        parse_advance(p);
        n = two(p, NODE_BINARY, op, n, parse_pow(p));
    }
}

static node *parse_concat(parser *p)
{
    node *first = parse_product(p);
    if (!parse_at_op(p, "~"))
        return first;
    node *n = parse_node(p, NODE_CONCAT);
    node_list parts = {0};
    parse_push(p, &parts, first);
    while (parse_skip_op(p, "~"))
        parse_push(p, &parts, parse_product(p));
    n->list = parts.at;
    n->n = parts.n;
    return n;
}

static node *parse_sum(parser *p)
{
    node *n = parse_concat(p);
    for (;;) {
        int op = parse_at_op(p, "+") ? OP_ADD : parse_at_op(p, "-") ? OP_SUB : -1;
        if (op < 0)
            return n;
        parse_advance(p);
        n = two(p, NODE_BINARY, op, n, parse_concat(p));
    }
}

static int comparison(parser *p)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++)
        if (parse_skip_op(p, signs[i]))
            return i;
    if (parse_skip_name(p, "in"))
        return OP_IN;
    if (parse_at_name(p, "not") && p->next.kind == TOKEN_NAME && p->next.length == 2 && !memcmp(p->next.at, "in", 2)) {
        parse_advance(p);
        parse_advance(p);
        return OP_NOT_IN;
    }
    return -1;
}

static node *parse_compare(parser *p)
{
    node *first = parse_sum(p), *n = NULL;
    node_list parts = {0};
    uint8_t *ops = NULL;
    size_t capacity = 0;
    for (int op; (op = comparison(p)) >= 0;) {
        if (!n) {
            n = parse_node(p, NODE_COMPARE);
            parse_push(p, &parts, first);
        }
        tpl_grow(p->s, (void **)&ops, &capacity, parts.n - 1, parts.n, sizeof *ops);
        ops[parts.n - 1] = (uint8_t)op;
        parse_push(p, &parts, parse_sum(p));
    }
    if (!n)
        return first;
    n->list = parts.at;
    n->n = parts.n;
    n->ops = ops;
    return n;
}

static node *parse_not(parser *p)
{
    if (!parse_at_name(p, "not"))
        return parse_compare(p);
    parse_enter(p);
    parse_advance(p);
    node *n = two(p, NODE_NOT, 0, parse_not(p), NULL);
    parse_leave(p);
    return n;
}

static node *parse_and(parser *p)
{
    node *n = parse_not(p);
    while (parse_skip_name(p, "and"))
        n = two(p, NODE_AND, 0, n, parse_not(p));
    return n;
}

static node *parse_or(parser *p)
{
    node *n = parse_and(p);
    while (parse_skip_name(p, "or"))
        n = two(p, NODE_OR, 0, n, parse_and(p));
    return n;
}

static bool tuple_ends(const parser *p, const char *stop)
{
    return p->now.kind == TOKEN_PRINT_END || p->now.kind == TOKEN_BLOCK_END || parse_at_op(p, ")") ||
           (stop && parse_at_name(p, stop));
}

node *parse_tuple(parser *p, bool conditional, const char *stop)
{
    node_list items = {0};
    bool tuple = false;
    node *n = parse_node(p, NODE_TUPLE);
    for (;;) {
        if (tuple_ends(p, stop))
            break;
        parse_push(p, &items, conditional ? parse_expression(p) : parse_or(p));
        if (!parse_at_op(p, ","))
            break;
        parse_advance(p);
        tuple = true;
    }
    if (!tuple && !items.n)
        parse_fail(p, "an expression is missing");
    if (!tuple)
        return items.at[0];
    n->list = items.at;
    n->n = items.n;
    return n;
}
