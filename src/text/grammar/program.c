#include "text/grammar/program.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/grammar/analysis.h"

/* Expressions are compiled from behind: each gets the node that follows it and gives the node that begins it. As with
 * rules.h the first error is kept, and all later calls do nothing. */
typedef struct compiler {
    const grammar_rules *g;
    program *p;
    const program_settings *settings;
    grammar_analysis a;
    uint32_t ret; /* the one NODE_RETURN */
    odmoe_status status;
    odmoe_error *err;
} compiler;

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static bool grow(compiler *c, void *array, size_t *capacity, size_t need, size_t size)
{
    if (!c->status)
        c->status = mem_grow((void **)array, capacity, need, size, "a grammar", c->err);
    return !c->status;
}

static uint32_t add_node(compiler *c, program_node n)
{
    program *p = c->p;
    if (!c->status && p->nodes_count == PROGRAM_NODES_MAX)
        c->status =
            err_set(c->err, ODMOE_ERR_RANGE, "the grammar is too large: more than %u states", PROGRAM_NODES_MAX);
    if (!grow(c, &p->nodes, &p->nodes_capacity, p->nodes_count + 1, sizeof *p->nodes))
        return 0;
    p->nodes[p->nodes_count] = n;
    return (uint32_t)p->nodes_count++;
}

static uint32_t add_split(compiler *c, const uint32_t *targets, size_t count)
{
    program *p = c->p;
    if (!grow(c, &p->targets, &p->targets_capacity, p->targets_count + count, sizeof *p->targets))
        return 0;
    memcpy(p->targets + p->targets_count, targets, count * sizeof *targets);
    program_node n = {.kind = NODE_SPLIT, .first = (uint32_t)p->targets_count, .count = count & 0x1FFFFFFF};
    p->targets_count += count;
    return add_node(c, n);
}

static uint32_t add_bytes(compiler *c, const program_edge *edges, size_t count)
{
    program *p = c->p;
    if (!grow(c, &p->edges, &p->edges_capacity, p->edges_count + count, sizeof *p->edges))
        return 0;
    memcpy(p->edges + p->edges_count, edges, count * sizeof *edges);
    program_node n = {.kind = NODE_BYTES, .first = (uint32_t)p->edges_count, .count = count & 0x1FFFFFFF};
    p->edges_count += count;
    return add_node(c, n);
}

static uint32_t add_range(compiler *c, uint8_t lo, uint8_t hi, uint32_t next)
{
    program_edge e = {next, lo, hi};
    return add_bytes(c, &e, 1);
}

/* ---- characters to bytes ------------------------------------------------------------------------------------------ */

/* The edges of a character's first byte while they are collected, and the nodes that read 1 to 3 more bytes of any value
 * (0x80 to 0xBF) and go to `next`. */
typedef struct utf8_edges {
    program_edge *edges;
    size_t count, capacity;
    uint32_t any[4]; /* [n] reads n bytes; NODE_NONE until needed */
} utf8_edges;

static void add_edge(compiler *c, utf8_edges *u, uint8_t lo, uint8_t hi, uint32_t to)
{
    if (grow(c, &u->edges, &u->capacity, u->count + 1, sizeof *u->edges))
        u->edges[u->count++] = (program_edge){to, lo, hi};
}

static uint32_t any_bytes(compiler *c, utf8_edges *u, size_t n)
{
    for (size_t i = 1; i <= n; i++)
        if (u->any[i] == NODE_NONE)
            u->any[i] = add_range(c, 0x80, 0xBF, u->any[i - 1]);
    return u->any[n];
}

static bool all_are(const uint8_t *bytes, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

/* The node for the continuation bytes between lo[0, n) and hi[0, n), which compare like numbers. */
static uint32_t tail(compiler *c, utf8_edges *u, const uint8_t *lo, const uint8_t *hi, size_t n)
{
    if (all_are(lo, n, 0x80) && all_are(hi, n, 0xBF))
        return any_bytes(c, u, n);
    if (lo[0] == hi[0])
        return add_range(c, lo[0], lo[0], tail(c, u, lo + 1, hi + 1, n - 1));
    static const uint8_t lowest[3] = {0x80, 0x80, 0x80}, highest[3] = {0xBF, 0xBF, 0xBF};
    program_edge parts[3];
    size_t count = 0;
    uint8_t from = lo[0], to = hi[0];
    if (!all_are(lo + 1, n - 1, 0x80)) {
        parts[count++] = (program_edge){tail(c, u, lo + 1, highest, n - 1), from, from};
        from++;
    }
    if (!all_are(hi + 1, n - 1, 0xBF)) {
        parts[count++] = (program_edge){tail(c, u, lowest, hi + 1, n - 1), to, to};
        to--;
    }
    if (from <= to)
        parts[count++] = (program_edge){any_bytes(c, u, n - 1), from, to};
    return add_bytes(c, parts, count);
}

/* Characters lo to hi, whose UTF-8 forms have the same length n. */
static void add_form(compiler *c, utf8_edges *u, uint32_t lo, uint32_t hi)
{
    char a[4], b[4];
    size_t n = utf8_encode(lo, a);
    utf8_encode(hi, b);
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
    if (n == 1) {
        add_edge(c, u, x[0], y[0], u->any[0]);
        return;
    }
    static const uint8_t lowest[3] = {0x80, 0x80, 0x80}, highest[3] = {0xBF, 0xBF, 0xBF};
    if (x[0] == y[0]) {
        add_edge(c, u, x[0], x[0], tail(c, u, x + 1, y + 1, n - 1));
        return;
    }
    uint8_t from = x[0], to = y[0];
    if (!all_are(x + 1, n - 1, 0x80)) {
        add_edge(c, u, from, from, tail(c, u, x + 1, highest, n - 1));
        from++;
    }
    if (!all_are(y + 1, n - 1, 0xBF)) {
        add_edge(c, u, to, to, tail(c, u, lowest, y + 1, n - 1));
        to--;
    }
    if (from <= to)
        add_edge(c, u, from, to, any_bytes(c, u, n - 1));
}

static uint32_t characters(compiler *c, const char_range *ranges, size_t count, uint32_t next)
{
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, CHAR_MAX_CODE};
    utf8_edges u = {.any = {next, NODE_NONE, NODE_NONE, NODE_NONE}};
    for (size_t i = 0; i < count && !c->status; i++) {
        uint32_t lo = ranges[i].lo;
        for (int form = 0; form < 4 && lo <= ranges[i].hi; form++) {
            if (lo > ends[form])
                continue;
            uint32_t hi = ranges[i].hi < ends[form] ? ranges[i].hi : ends[form];
            add_form(c, &u, lo, hi);
            lo = hi + 1;
        }
    }
    uint32_t n = add_bytes(c, u.edges, u.count);
    free(u.edges);
    return n;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------- */

static uint8_t id_byte(uint32_t id, int i)
{
    return (uint8_t)(id >> 8 * (TOKEN_ID_BYTES - 1 - i));
}

/* The node that reads byte i and the following ones of an id: ids[0, n), ascending and equal in the bytes before, go to
 * `to`, all others to `others` (NODE_NONE: nowhere). any [i]: the node that reads these bytes whatever they are. */
static uint32_t id_bytes(compiler *c, const uint32_t *ids, size_t n, int i, uint32_t to, const uint32_t *any)
{
    if (i == TOKEN_ID_BYTES)
        return to;
    program_edge edges[513];
    size_t count = 0;
    unsigned next = 0;
    for (size_t at = 0, end; at < n; at = end) {
        uint8_t b = id_byte(ids[at], i);
        for (end = at + 1; end < n && id_byte(ids[end], i) == b;)
            end++;
        if (b > next && any[i + 1] != NODE_NONE)
            edges[count++] = (program_edge){any[i + 1], (uint8_t)next, (uint8_t)(b - 1)};
        uint32_t target = id_bytes(c, ids + at, end - at, i + 1, to, any);
        if (target != NODE_NONE)
            edges[count++] = (program_edge){target, b, b};
        next = b + 1u;
    }
    if (next < 256 && any[i + 1] != NODE_NONE)
        edges[count++] = (program_edge){any[i + 1], (uint8_t)next, 0xFF};
    return add_bytes(c, edges, count);
}

/* One token behind its mark: those of ids[0, n), ascending, go to `to`, all others to `others`. */
static uint32_t tokens(compiler *c, uint8_t mark, const uint32_t *ids, size_t n, uint32_t to, uint32_t others)
{
    uint32_t any[TOKEN_ID_BYTES + 1];
    any[TOKEN_ID_BYTES] = others;
    for (int i = TOKEN_ID_BYTES - 1; i > 0; i--)
        any[i] = others == NODE_NONE ? NODE_NONE : add_range(c, 0, 0xFF, any[i + 1]);
    c->p->has_tokens = true;
    return add_range(c, mark, mark, id_bytes(c, ids, n, 0, to, any));
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Any token but end tokens and those of but[0, count). mark: TOKEN_MARK, or TOKEN_MARK_TEXTLESS for those without text. */
static uint32_t any_token_but(compiler *c, uint8_t mark, const char_range *but, size_t count, uint32_t next)
{
    size_t n = c->settings->end_count;
    uint32_t *ids = mem_calloc(n + count, sizeof *ids, "a grammar", c->err);
    if (!ids) {
        c->status = ODMOE_ERR_MEMORY;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)c->settings->ends[i];
    for (size_t i = 0; i < count; i++)
        ids[n++] = but[i].lo;
    qsort(ids, n, sizeof *ids, by_id);
    uint32_t start = tokens(c, mark, ids, n, NODE_NONE, next);
    free(ids);
    return start;
}

/* ---- expressions -------------------------------------------------------------------------------------------------- */

static uint32_t compile(compiler *c, expr_id id, uint32_t next);

static uint32_t repetition(compiler *c, const expr *e, uint32_t next)
{
    program *p = c->p;
    bool empty = c->a.nullable[e->first];
    uint32_t least = empty ? 0 : e->count; /* a part that may be empty can fill up any number */
    if (!c->a.productive[e->first])
        return next;
    if (e->most == 1)
        return add_split(c, (const uint32_t[]){compile(c, e->first, next), next}, 2);
    if (e->most == REPEAT_UNBOUNDED && least <= 1) {
        uint32_t loop = add_split(c, (const uint32_t[]){next, next}, 2);
        uint32_t body = compile(c, e->first, loop);
        if (!c->status)
            p->targets[p->nodes[loop].first] = body;
        return least ? body : loop;
    }
    uint32_t body = compile(c, e->first, c->ret);
    if (!grow(c, &p->repeats, &p->repeats_capacity, p->repeats_count + 1, sizeof *p->repeats))
        return 0;
    p->repeats[p->repeats_count] = (program_repeat){least, e->most, body, next};
    return add_node(c, (program_node){.kind = NODE_REPEAT, .first = (uint32_t)p->repeats_count++});
}

static uint32_t alternatives(compiler *c, const expr *e, uint32_t next)
{
    uint32_t *targets = mem_calloc(e->count, sizeof *targets, "a grammar", c->err);
    if (!targets) {
        c->status = ODMOE_ERR_MEMORY;
        return 0;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < e->count && !c->status; i++)
        if (c->a.productive[c->g->children[e->first + i]])
            targets[n++] = compile(c, c->g->children[e->first + i], next);
    uint32_t start = n == 1 ? targets[0] : add_split(c, targets, n);
    free(targets);
    return start;
}

/* A rule's number stands in `first` until all rules are compiled. */
static uint32_t call(compiler *c, uint32_t rule, uint32_t next)
{
    return add_node(c, (program_node){.kind = NODE_CALL, .first = rule, .back = next == c->ret ? NODE_NONE : next});
}

/* Only expressions that a finite text meets come here. Trees are at most GRAMMAR_DEPTH_MAX deep. */
static uint32_t compile(compiler *c, expr_id id, uint32_t next)
{
    const expr *e = &c->g->exprs[id];
    if (c->status)
        return 0;
    switch ((expr_kind)e->kind) {
    case EXPR_TEXT:
        for (uint32_t i = e->count; i-- > 0;) {
            uint8_t b = (uint8_t)c->g->texts[e->first + i];
            next = add_range(c, b, b, next);
        }
        return next;
    case EXPR_CHARS:
        return characters(c, c->g->ranges + e->first, e->count, next);
    case EXPR_SEQ:
        for (uint32_t i = e->count; i-- > 0;)
            next = compile(c, c->g->children[e->first + i], next);
        return next;
    case EXPR_ALT:
        return alternatives(c, e, next);
    case EXPR_REPEAT:
        return repetition(c, e, next);
    case EXPR_RULE:
        return call(c, e->first, next);
    case EXPR_TOKEN:
        return e->count ? any_token_but(c, TOKEN_MARK, &(char_range){e->first, e->first}, 1, next)
                        : tokens(c, TOKEN_MARK, &e->first, 1, next, NODE_NONE);
    case EXPR_SILENT:
        return any_token_but(c, TOKEN_MARK_TEXTLESS, c->g->ranges + e->first, e->count, next);
    }
    return 0;
}

/* Compile the rules that the root reaches, and point the calls at them. */
static void compile_rules(compiler *c)
{
    const grammar_rules *g = c->g;
    uint32_t *starts = mem_calloc(g->rules_count, sizeof *starts, "a grammar", c->err);
    if (!starts) {
        c->status = ODMOE_ERR_MEMORY;
        return;
    }
    for (size_t r = 0; r < g->rules_count && !c->status; r++)
        if (c->a.productive[g->rules[r].body])
            starts[r] = compile(c, g->rules[r].body, c->ret);
    for (size_t i = 0; i < c->p->nodes_count && !c->status; i++)
        if (c->p->nodes[i].kind == NODE_CALL)
            c->p->nodes[i].first = starts[c->p->nodes[i].first];
    c->p->start = starts[g->root];
    free(starts);
}

/* ---- triggers ----------------------------------------------------------------------------------------------------- */

/* All triggers' texts at once (Aho-Corasick): state s has read the longest beginning of a trigger that ends here. */
typedef struct trigger_states {
    uint16_t next[TRIGGERS_MAX * TRIGGER_TEXT_MAX + 1][256];
    bool found[TRIGGERS_MAX * TRIGGER_TEXT_MAX + 1];
    uint16_t fail[TRIGGERS_MAX * TRIGGER_TEXT_MAX + 1], order[TRIGGERS_MAX * TRIGGER_TEXT_MAX + 1];
    unsigned count;
} trigger_states;

static void add_text(trigger_states *t, const char *text, size_t length)
{
    unsigned s = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char b = (unsigned char)text[i];
        if (!t->next[s][b])
            t->next[s][b] = (uint16_t)++t->count;
        s = t->next[s][b];
    }
    t->found[s] = true;
}

/* Breadth first: where a state has no edge, the edge of the state that has read all but the first byte is taken. */
static void link_states(trigger_states *t)
{
    unsigned first = 0, last = 0;
    for (int b = 0; b < 256; b++)
        if (t->next[0][b])
            t->order[last++] = t->next[0][b];
    while (first < last) {
        unsigned s = t->order[first++];
        t->found[s] |= t->found[t->fail[s]];
        for (int b = 0; b < 256; b++) {
            uint16_t to = t->next[s][b], other = t->next[t->fail[s]][b];
            if (to) {
                t->fail[to] = other;
                t->order[last++] = to;
            } else {
                t->next[s][b] = other;
            }
        }
    }
}

/* The node of state s: its bytes, tokens, and the end of the text, which is allowed while nothing was found. `first` is
 * where the states' nodes begin (two each: split, bytes); `token` reads tokens. */
static void add_state(compiler *c, const trigger_states *t, unsigned s, uint32_t first, uint32_t grammar,
                      uint32_t token)
{
    program_edge edges[256];
    size_t n = 0;
    for (int b = 0; b <= TEXT_BYTE_MAX; b++) {
        unsigned to = t->next[s][b];
        uint32_t target = t->found[to] ? grammar : first + 2 * to;
        if (n && edges[n - 1].to == target)
            edges[n - 1].hi = (uint8_t)b;
        else
            edges[n++] = (program_edge){target, (uint8_t)b, (uint8_t)b};
    }
    add_split(c, (const uint32_t[]){first + 2 * s + 1, c->ret, token}, 3);
    add_bytes(c, edges, n);
}

/* Tokens while nothing was found: a trigger begins the grammar; any other one without text leaves the text free, one
 * with text counts by its bytes. */
static uint32_t waiting_tokens(compiler *c, uint32_t grammar, uint32_t start)
{
    uint32_t ids[TRIGGERS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->settings->trigger_count; i++)
        if (c->settings->triggers[i].token >= 0)
            ids[n++] = (uint32_t)c->settings->triggers[i].token;
    qsort(ids, n, sizeof *ids, by_id);
    uint32_t both[2] = {tokens(c, TOKEN_MARK, ids, n, grammar, NODE_NONE),
                        tokens(c, TOKEN_MARK_TEXTLESS, ids, n, NODE_NONE, start)};
    return add_split(c, n ? both : both + 1, n ? 2 : 1);
}

static odmoe_status check_triggers(const program_settings *s, odmoe_error *err)
{
    if (s->trigger_count > TRIGGERS_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "%zu triggers; at most %d are possible", s->trigger_count, TRIGGERS_MAX);
    for (size_t i = 0; i < s->trigger_count; i++) {
        const grammar_trigger *t = &s->triggers[i];
        if (t->token > 0xFFFFFF || (t->token < 0 && (t->length == 0 || t->length > TRIGGER_TEXT_MAX)))
            return err_set(err, ODMOE_ERR_RANGE, "a trigger is a token or a text of 1 to %d bytes", TRIGGER_TEXT_MAX);
        for (size_t j = 0; t->token < 0 && j < t->length; j++)
            if ((unsigned char)t->text[j] > TEXT_BYTE_MAX)
                return err_set(err, ODMOE_ERR_RANGE, "a trigger's text is no UTF-8");
    }
    return ODMOE_OK;
}

static void compile_triggers(compiler *c)
{
    const program_settings *list = c->settings;
    trigger_states *t = mem_calloc(1, sizeof *t, "triggers", c->err);
    if (!t) {
        c->status = ODMOE_ERR_MEMORY;
        return;
    }
    for (size_t i = 0; i < list->trigger_count; i++)
        if (list->triggers[i].token < 0)
            add_text(t, list->triggers[i].text, list->triggers[i].length);
    link_states(t);
    /* One node that begins the grammar, one for tokens; both are known before the states' nodes, which are many. */
    uint32_t begin = add_node(c, (program_node){.kind = NODE_CALL, .first = c->p->start, .back = NODE_NONE});
    uint32_t hub = add_split(c, (const uint32_t[]){0}, 1);
    uint32_t other = waiting_tokens(c, begin, hub);
    uint32_t first = (uint32_t)c->p->nodes_count;
    for (unsigned s = 0; s <= t->count && !c->status; s++)
        add_state(c, t, s, first, begin, other);
    if (!c->status) {
        c->p->targets[c->p->nodes[hub].first] = first;
        c->p->nodes[begin].back = list->again ? first : NODE_NONE;
        c->p->waiting = first;
    }
    free(t);
}

/* ---- classes of bytes --------------------------------------------------------------------------------------------- */

static void find_classes(program *p)
{
    bool begins[257] = {[0] = true};
    for (size_t i = 0; i < p->edges_count; i++)
        begins[p->edges[i].lo] = begins[p->edges[i].hi + 1] = true;
    int class = -1;
    for (int b = 0; b < 256; b++) {
        if (begins[b])
            p->byte_of[++class] = (uint8_t)b;
        p->class_of[b] = (uint8_t) class;
    }
    p->classes = (uint32_t) class + 1;
}

/* ---- together ----------------------------------------------------------------------------------------------------- */

odmoe_status program_compile(const grammar_rules *g, const program_settings *settings, program *out, uint32_t *rule,
                             odmoe_error *err)
{
    compiler c = {.g = g, .p = out, .settings = settings, .err = err};
    *out = (program){.waiting = NODE_NONE};
    c.status = grammar_analyse(g, &c.a, rule, err);
    if (!c.status)
        c.status = check_triggers(settings, err);
    c.ret = add_node(&c, (program_node){.kind = NODE_RETURN});
    if (!c.status)
        compile_rules(&c);
    if (!c.status && settings->trigger_count)
        compile_triggers(&c);
    analysis_free(&c.a);
    if (c.status)
        program_free(out);
    else
        find_classes(out);
    return c.status;
}

void program_free(program *p)
{
    free(p->nodes);
    free(p->edges);
    free(p->targets);
    free(p->repeats);
    *p = (program){0};
}

size_t program_bytes(const program *p)
{
    return p->nodes_capacity * sizeof *p->nodes + p->edges_capacity * sizeof *p->edges +
           p->targets_capacity * sizeof *p->targets + p->repeats_capacity * sizeof *p->repeats;
}
