#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/grammar/rules.h"

/* The text while it grows; the first failure is kept. */
typedef struct printer {
    const grammar_rules *g;
    char *text;
    size_t used, capacity;
    odmoe_status status;
    odmoe_error *err;
} printer;

static void put(printer *p, const char *bytes, size_t n)
{
    if (!p->status)
        p->status = mem_grow((void **)&p->text, &p->capacity, p->used + n + 1, 1, "a grammar's text", p->err);
    if (p->status)
        return;
    memcpy(p->text + p->used, bytes, n);
    p->used += n;
    p->text[p->used] = 0;
}

static void put_text(printer *p, const char *text)
{
    put(p, text, strlen(text));
}

/* A character; those of `escaped` and "\\" get a backslash. */
static void put_character(printer *p, uint32_t c, const char *escaped)
{
    char text[12];
    if (c == '\\' || (c && c < 0x80 && strchr(escaped, (int)c)))
        snprintf(text, sizeof text, "\\%c", (int)c);
    else if (c >= 0x20 && c < 0x7F && c != '^')
        snprintf(text, sizeof text, "%c", (int)c);
    else if (c < 0x100)
        snprintf(text, sizeof text, "\\x%02X", c);
    else
        snprintf(text, sizeof text, c < 0x10000 ? "\\u%04X" : "\\U%08X", c);
    put_text(p, text);
}

static void put_literal(printer *p, const char *text, size_t length)
{
    put_text(p, "\"");
    for (size_t at = 0; at < length;) {
        int n = utf8_char(text + at, length - at); /* whole characters: that is how rules are built */
        put_character(p, n > 0 ? utf8_decode(text + at, n) : (unsigned char)text[at], "\"");
        at += n > 0 ? (size_t)n : 1;
    }
    put_text(p, "\"");
}

static void put_set(printer *p, const char_range *ranges, size_t count)
{
    put_text(p, "[");
    for (size_t i = 0; i < count; i++) {
        put_character(p, ranges[i].lo, "[]-");
        if (ranges[i].hi > ranges[i].lo) {
            put_text(p, "-");
            put_character(p, ranges[i].hi, "[]-");
        }
    }
    put_text(p, "]");
}

static void put_count(printer *p, const expr *e)
{
    char text[32];
    if (e->most == REPEAT_UNBOUNDED && e->count <= 1)
        snprintf(text, sizeof text, "%s", e->count ? "+" : "*");
    else if (e->most == REPEAT_UNBOUNDED)
        snprintf(text, sizeof text, "{%u,}", e->count);
    else if (e->count == 0 && e->most == 1)
        snprintf(text, sizeof text, "?");
    else if (e->count == e->most)
        snprintf(text, sizeof text, "{%u}", e->most);
    else
        snprintf(text, sizeof text, "{%u,%u}", e->count, e->most);
    put_text(p, text);
}

/* `inside`: within a sequence or before a repetition's sign, so that choices need brackets; `repeated`: sequences, too. */
static void put_expr(printer *p, expr_id id, bool inside, bool repeated)
{
    const grammar_rules *g = p->g;
    const expr *e = &g->exprs[id];
    char number[32];
    bool brackets =
        (e->kind == EXPR_ALT && inside) || (e->kind == EXPR_SEQ && repeated) || (e->kind == EXPR_REPEAT && repeated);
    if (brackets)
        put_text(p, "(");
    switch ((expr_kind)e->kind) {
    case EXPR_TEXT:
        put_literal(p, g->texts + e->first, e->count);
        break;
    case EXPR_CHARS:
        put_set(p, g->ranges + e->first, e->count);
        break;
    case EXPR_SEQ:
        if (!e->count)
            put_text(p, "\"\"");
        for (uint32_t i = 0; i < e->count; i++) {
            put_text(p, i ? " " : "");
            put_expr(p, g->children[e->first + i], true, false);
        }
        break;
    case EXPR_ALT:
        for (uint32_t i = 0, n = 0; i < e->count; i++)
            if (g->children[e->first + i] != EXPR_NEVER) {
                put_text(p, n++ ? " | " : "");
                put_expr(p, g->children[e->first + i], false, false);
            }
        break;
    case EXPR_REPEAT:
        put_expr(p, e->first, true, true);
        put_count(p, e);
        break;
    case EXPR_RULE:
        put_text(p, g->rules[e->first].name);
        break;
    case EXPR_TOKEN:
        snprintf(number, sizeof number, "%s<[%u]>", e->count ? "!" : "", e->first);
        put_text(p, number);
        break;
    case EXPR_SILENT: /* GBNF has no word for it */
        put_text(p, "<any token without text>");
        break;
    }
    if (brackets)
        put_text(p, ")");
}

static void put_rule(printer *p, uint32_t rule)
{
    put_text(p, p->g->rules[rule].name);
    put_text(p, " ::= ");
    if (p->g->rules[rule].body == EXPR_NEVER) { /* what never ends matches nothing */
        put_text(p, "\"!\" ");
        put_text(p, p->g->rules[rule].name);
    } else {
        put_expr(p, p->g->rules[rule].body, false, false);
    }
    put_text(p, "\n");
}

char *rules_print(const grammar_rules *g, odmoe_error *err)
{
    printer p = {.g = g, .err = err};
    put_rule(&p, g->root);
    for (uint32_t i = 0; i < g->rules_count; i++)
        if (i != g->root)
            put_rule(&p, i);
    if (!p.status)
        return p.text;
    free(p.text);
    return NULL;
}
