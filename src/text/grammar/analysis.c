#include "text/grammar/analysis.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- productive and nullable ----------------------------------------------------------------------------------- */

/* Does `e` have the property, given what is known of the expressions before it and of the rules' bodies? A sequence
 * needs it of all children, a choice of one. */
static bool judged(const grammar_rules *g, const uint8_t *known, expr_id id, bool leaf)
{
    const expr *e = &g->exprs[id];
    switch ((expr_kind)e->kind) {
    case EXPR_SEQ:
        for (uint32_t i = 0; i < e->count; i++)
            if (!known[g->children[e->first + i]])
                return false;
        return true;
    case EXPR_ALT:
        for (uint32_t i = 0; i < e->count; i++)
            if (known[g->children[e->first + i]])
                return true;
        return false;
    case EXPR_REPEAT:
        return e->count == 0 || known[e->first];
    case EXPR_RULE:
        return known[g->rules[e->first].body];
    default:
        return leaf;
    }
}

/* The least fixed point. Children stand before parents, so that only rules need further rounds; every other round goes
 * backwards, so that chains of rules take two rounds in whichever order they were written. */
static void solve(const grammar_rules *g, uint8_t *known, bool leaf)
{
    bool changed = true;
    for (int round = 0; changed; round++) {
        changed = false;
        for (size_t i = 0; i < g->exprs_count; i++) {
            expr_id id = (expr_id)(round % 2 ? g->exprs_count - 1 - i : i);
            if (!known[id] && judged(g, known, id, leaf)) {
                known[id] = 1;
                changed = true;
            }
        }
    }
}

/* ---- left recursion -------------------------------------------------------------------------------------------- */

typedef struct calls {
    uint32_t *rules; /* the rules that an expression may begin with */
    size_t count, capacity;
} calls;

/* Append the rules that `id` may call before it has read a byte. The tree is at most GRAMMAR_DEPTH_MAX deep. */
static odmoe_status first_calls(const grammar_rules *g, const grammar_analysis *a, expr_id id, calls *out,
                                odmoe_error *err)
{
    const expr *e = &g->exprs[id];
    odmoe_status st = ODMOE_OK;
    switch ((expr_kind)e->kind) {
    case EXPR_SEQ:
    case EXPR_ALT:
        for (uint32_t i = 0; i < e->count && !st; i++) {
            expr_id child = g->children[e->first + i];
            st = first_calls(g, a, child, out, err);
            if (e->kind == EXPR_SEQ && !a->nullable[child])
                break;
        }
        return st;
    case EXPR_REPEAT:
        return first_calls(g, a, e->first, out, err);
    case EXPR_RULE:
        st = mem_grow((void **)&out->rules, &out->capacity, out->count + 1, sizeof *out->rules, "a grammar", err);
        if (!st)
            out->rules[out->count++] = e->first;
        return st;
    default:
        return ODMOE_OK;
    }
}

/* The calls of all rules, and where each rule's begin: starts [rules + 1]. */
static odmoe_status all_first_calls(const grammar_rules *g, const grammar_analysis *a, calls *out, size_t *starts,
                                    odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    for (size_t r = 0; r < g->rules_count && !st; r++) {
        starts[r] = out->count;
        st = first_calls(g, a, g->rules[r].body, out, err);
    }
    starts[g->rules_count] = out->count;
    return st;
}

typedef struct visit {
    uint32_t rule;
    size_t next; /* its calls in [starts[rule], next) have been seen */
} visit;

enum { UNSEEN, OPEN, DONE };

/* Depth first along the calls, without recursion; a call to a rule that is still open is a circle. */
static bool find_circle(const calls *c, const size_t *starts, uint32_t from, uint8_t *colour, visit *path,
                        uint32_t *found)
{
    size_t depth = 0;
    path[depth++] = (visit){from, starts[from]};
    colour[from] = OPEN;
    while (depth) {
        visit *v = &path[depth - 1];
        if (v->next == starts[v->rule + 1]) {
            colour[v->rule] = DONE;
            depth--;
            continue;
        }
        uint32_t to = c->rules[v->next++];
        if (colour[to] == OPEN) {
            *found = to;
            return true;
        }
        if (colour[to] == UNSEEN) {
            colour[to] = OPEN;
            path[depth++] = (visit){to, starts[to]};
        }
    }
    return false;
}

static odmoe_status check_left_recursion(const grammar_rules *g, const grammar_analysis *a, uint32_t *rule,
                                         odmoe_error *err)
{
    calls c = {0};
    size_t *starts = mem_calloc(g->rules_count + 1, sizeof *starts, "a grammar", err);
    visit *path = mem_calloc(g->rules_count, sizeof *path, "a grammar", err);
    uint8_t *colour = mem_calloc(g->rules_count, 1, "a grammar", err);
    odmoe_status st = starts && path && colour ? all_first_calls(g, a, &c, starts, err) : ODMOE_ERR_MEMORY;
    for (uint32_t r = 0; r < g->rules_count && !st; r++)
        if (colour[r] == UNSEEN && find_circle(&c, starts, r, colour, path, rule))
            st = err_set(err, ODMOE_ERR_FORMAT,
                         "the rule %.100s may begin with itself (left recursion); put what it repeats behind, as in "
                         "a ::= b (\"+\" b)*",
                         g->rules[*rule].name);
    free(c.rules);
    free(starts);
    free(path);
    free(colour);
    return st;
}

odmoe_status grammar_analyse(const grammar_rules *g, grammar_analysis *out, uint32_t *rule, odmoe_error *err)
{
    *out = (grammar_analysis){mem_calloc(g->exprs_count, 1, "a grammar", err),
                              mem_calloc(g->exprs_count, 1, "a grammar", err)};
    odmoe_status st = out->productive && out->nullable ? ODMOE_OK : ODMOE_ERR_MEMORY;
    if (!st) {
        solve(g, out->productive, true);
        solve(g, out->nullable, false);
        st = check_left_recursion(g, out, rule, err);
    }
    if (!st && !out->productive[g->rules[g->root].body]) {
        *rule = g->root;
        st = err_set(err, ODMOE_ERR_FORMAT, "no finite text meets the rule %.100s", g->rules[g->root].name);
    }
    if (st)
        analysis_free(out);
    return st;
}

void analysis_free(grammar_analysis *a)
{
    free(a->productive);
    free(a->nullable);
    *a = (grammar_analysis){0};
}
