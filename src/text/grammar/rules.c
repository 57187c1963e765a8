#include "text/grammar/rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The two expressions that every grammar has, at their fixed places. */
static void add_constants(grammar_rules *g)
{
    static const expr constants[] = {
        [EXPR_NEVER] = {.kind = EXPR_ALT, .depth = 1}, [EXPR_EMPTY] = {.kind = EXPR_SEQ, .depth = 1}};
    g->status = mem_grow((void **)&g->exprs, &g->exprs_capacity, 2, sizeof *g->exprs, "a grammar", g->err);
    if (!g->status) {
        memcpy(g->exprs, constants, sizeof constants);
        g->exprs_count = 2;
    }
}

void rules_init(grammar_rules *g, odmoe_error *err, grammar_fault *fault)
{
    *g = (grammar_rules){.err = err, .fault = fault};
    add_constants(g);
}

void rules_free(grammar_rules *g)
{
    for (size_t i = 0; i < g->rules_count; i++)
        free(g->rules[i].name);
    free(g->rules);
    free(g->exprs);
    free(g->children);
    free(g->ranges);
    free(g->texts);
    *g = (grammar_rules){0};
}

size_t rules_bytes(const grammar_rules *g)
{
    size_t bytes = g->exprs_capacity * sizeof *g->exprs + g->children_capacity * sizeof *g->children +
                   g->ranges_capacity * sizeof *g->ranges + g->texts_capacity + g->rules_capacity * sizeof *g->rules;
    for (size_t i = 0; i < g->rules_count; i++)
        bytes += strlen(g->rules[i].name) + 1;
    return bytes;
}

expr_id rules_fail(grammar_rules *g, odmoe_status status, const char *format, ...)
{
    if (g->status)
        return EXPR_NEVER;
    char message[ODMOE_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    g->status = err_set(g->err, status, "%s", message);
    return EXPR_NEVER;
}

static bool grow(grammar_rules *g, void *array, size_t *capacity, size_t need, size_t size)
{
    if (!g->status)
        g->status = mem_grow((void **)array, capacity, need, size, "a grammar", g->err);
    return !g->status;
}

uint32_t rules_add(grammar_rules *g, const char *name, size_t length, size_t at)
{
    if (g->rules_count == GRAMMAR_RULES_MAX) {
        rules_fail(g, ODMOE_ERR_RANGE, "more than %d rules", GRAMMAR_RULES_MAX);
        return 0;
    }
    if (!grow(g, &g->rules, &g->rules_capacity, g->rules_count + 1, sizeof *g->rules))
        return 0;
    char *copy = mem_strdup(name, length, g->err);
    if (!copy) {
        g->status = ODMOE_ERR_MEMORY;
        return 0;
    }
    g->rules[g->rules_count] = (grammar_rule){.name = copy, .body = EXPR_NEVER, .at = at};
    return (uint32_t)g->rules_count++;
}

void rules_define(grammar_rules *g, uint32_t rule, expr_id body)
{
    if (g->status)
        return;
    g->rules[rule].body = body;
    g->rules[rule].defined = true;
}

static expr_id add(grammar_rules *g, expr e)
{
    if (g->exprs_count == GRAMMAR_EXPRS_MAX)
        return rules_fail(g, ODMOE_ERR_RANGE, "too large: more than %d parts when written out", GRAMMAR_EXPRS_MAX);
    if (e.depth > GRAMMAR_DEPTH_MAX)
        return rules_fail(g, ODMOE_ERR_RANGE, "nested deeper than %d", GRAMMAR_DEPTH_MAX);
    if (!grow(g, &g->exprs, &g->exprs_capacity, g->exprs_count + 1, sizeof *g->exprs))
        return EXPR_NEVER;
    g->exprs[g->exprs_count] = e;
    return (expr_id)g->exprs_count++;
}

expr_id expr_text(grammar_rules *g, const char *bytes, size_t length)
{
    if (!length)
        return EXPR_EMPTY;
    if (!grow(g, &g->texts, &g->texts_capacity, g->texts_count + length, 1))
        return EXPR_NEVER;
    memcpy(g->texts + g->texts_count, bytes, length);
    expr e = {.kind = EXPR_TEXT, .depth = 1, .first = (uint32_t)g->texts_count, .count = (uint32_t)length};
    g->texts_count += length;
    return add(g, e);
}

expr_id expr_chars(grammar_rules *g, const charset *set)
{
    if (!set->count || !grow(g, &g->ranges, &g->ranges_capacity, g->ranges_count + set->count, sizeof *g->ranges))
        return EXPR_NEVER;
    memcpy(g->ranges + g->ranges_count, set->ranges, set->count * sizeof *set->ranges);
    expr e = {.kind = EXPR_CHARS, .depth = 1, .first = (uint32_t)g->ranges_count, .count = (uint32_t)set->count};
    g->ranges_count += set->count;
    return add(g, e);
}

expr_id expr_range(grammar_rules *g, uint32_t lo, uint32_t hi)
{
    char_range r = {lo, hi};
    return expr_chars(g, &(charset){&r, 1, 1});
}

static expr_id branch(grammar_rules *g, expr_kind kind, const expr_id *children, size_t count)
{
    if (g->status || !grow(g, &g->children, &g->children_capacity, g->children_count + count, sizeof *g->children))
        return EXPR_NEVER;
    unsigned depth = 0;
    for (size_t i = 0; i < count; i++)
        if (g->exprs[children[i]].depth > depth)
            depth = g->exprs[children[i]].depth;
    if (count)
        memcpy(g->children + g->children_count, children, count * sizeof *children);
    expr e = {.kind = (uint8_t)kind,
              .depth = (uint16_t)(depth + 1),
              .first = (uint32_t)g->children_count,
              .count = (uint32_t)count};
    g->children_count += count;
    return add(g, e);
}

expr_id expr_seq(grammar_rules *g, const expr_id *children, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (children[i] == EXPR_NEVER)
            return EXPR_NEVER;
    return count == 0 ? EXPR_EMPTY : count == 1 ? children[0] : branch(g, EXPR_SEQ, children, count);
}

expr_id expr_alt(grammar_rules *g, const expr_id *children, size_t count)
{
    return count == 0 ? EXPR_NEVER : count == 1 ? children[0] : branch(g, EXPR_ALT, children, count);
}

expr_id expr_repeat(grammar_rules *g, expr_id child, uint32_t least, uint32_t most)
{
    if (g->status || (child == EXPR_NEVER && least))
        return EXPR_NEVER;
    if (most == 0 || child == EXPR_EMPTY || child == EXPR_NEVER)
        return EXPR_EMPTY;
    if (least == 1 && most == 1)
        return child;
    return add(g, (expr){.kind = EXPR_REPEAT,
                         .depth = (uint16_t)(g->exprs[child].depth + 1),
                         .first = child,
                         .count = least,
                         .most = most});
}

expr_id expr_rule(grammar_rules *g, uint32_t rule)
{
    return g->status ? EXPR_NEVER : add(g, (expr){.kind = EXPR_RULE, .depth = 1, .first = rule});
}

expr_id expr_token(grammar_rules *g, uint32_t id, bool negated)
{
    return g->status ? EXPR_NEVER : add(g, (expr){.kind = EXPR_TOKEN, .depth = 1, .first = id, .count = negated});
}

expr_id expr_silent(grammar_rules *g, const uint32_t *ids, size_t count)
{
    if (!grow(g, &g->ranges, &g->ranges_capacity, g->ranges_count + count, sizeof *g->ranges))
        return EXPR_NEVER;
    expr e = {.kind = EXPR_SILENT, .depth = 1, .first = (uint32_t)g->ranges_count, .count = (uint32_t)count};
    for (size_t i = 0; i < count; i++)
        g->ranges[g->ranges_count++] = (char_range){ids[i], ids[i]};
    return add(g, e);
}

void expr_list_add(grammar_rules *g, expr_list *list, expr_id e)
{
    if (grow(g, &list->items, &list->capacity, list->count + 1, sizeof *list->items))
        list->items[list->count++] = e;
}
