#include "text/grammar/automaton.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define FRAME_CALL UINT32_MAX /* count of a frame that is a rule's return */
#define STACK_EMPTY 0

typedef struct frame {
    uint32_t node;  /* where to return to, or the NODE_REPEAT */
    uint32_t count; /* FRAME_CALL, or how often the repeated part has been read */
    uint32_t below; /* the frame under it */
    uint32_t depth;
} frame;

typedef struct place {
    uint32_t node, stack;
} place;

typedef struct config {
    uint32_t first, count; /* its places, in ascending order */
    config_id plain_next;
    bool accepts, plain_known, plain_one, plain_all;
} config;

/* A node and stack that the closure under way has seen; for a NODE_REPEAT the smallest count that it came with. */
typedef struct seen {
    uint32_t node, stack, stamp, count;
} seen;

struct automaton {
    const program *p;
    size_t limit, bytes;
    frame *frames;
    place *places;
    config *configs;
    config_id *rows;
    uint32_t *frame_slots, *config_slots; /* number + 1, open addressing */
    size_t frames_count, frames_capacity, places_count, places_capacity, configs_count, configs_capacity, rows_capacity,
        frame_slots_count, config_slots_count;
    /* the closure under way */
    place *work, *found;
    seen *seen;
    size_t work_count, work_capacity, found_count, found_capacity, seen_count, seen_used;
    uint32_t stamp;
    odmoe_status status;
    odmoe_error error;
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static bool fail(automaton *a, odmoe_status status, const char *what)
{
    if (!a->status)
        a->status = err_set(&a->error, status, "%s", what);
    return false;
}

/* Room for `need` elements within the limit; doubles. */
static bool grow(automaton *a, void *array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return true;
    size_t want = *capacity ? *capacity : 64;
    while (want < need)
        want *= 2;
    size_t more = (want - *capacity) * size;
    if (a->bytes + more > a->limit)
        return fail(
            a, ODMOE_ERR_BUDGET,
            "the grammar wants more working memory than it may use for one step: x{0,9} takes less than x? x? x?");
    if (mem_grow((void **)array, capacity, want, size, "a grammar's automaton", &a->error)) {
        a->status = ODMOE_ERR_MEMORY;
        return false;
    }
    a->bytes += more;
    return true;
}

static uint32_t mix(uint32_t a, uint32_t b, uint32_t c)
{
    uint64_t h =
        (a * UINT64_C(0x9E3779B97F4A7C15)) ^ (b * UINT64_C(0xC2B2AE3D27D4EB4F)) ^ (c * UINT64_C(0x165667B19E3779F9));
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    return (uint32_t)(h >> 32);
}

/* A table of twice the size, zeroed. The caller puts its numbers in again. */
static uint32_t *larger_slots(automaton *a, size_t count)
{
    size_t bytes = count * sizeof(uint32_t);
    if (a->bytes + bytes > a->limit) {
        fail(a, ODMOE_ERR_BUDGET,
             "the grammar wants more working memory than it may use for one step: x{0,9} takes less than x? x? x?");
        return NULL;
    }
    uint32_t *slots = mem_calloc(count, sizeof *slots, "a grammar's automaton", &a->error);
    if (!slots)
        a->status = ODMOE_ERR_MEMORY;
    else
        a->bytes += bytes;
    return slots;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static void put_frame(uint32_t *slots, size_t slots_count, const frame *frames, uint32_t id)
{
    const frame *f = &frames[id];
    size_t i = mix(f->node, f->count, f->below) & (slots_count - 1);
    while (slots[i])
        i = (i + 1) & (slots_count - 1);
    slots[i] = id + 1;
}

static bool room_for_frame(automaton *a)
{
    if (!grow(a, &a->frames, &a->frames_capacity, a->frames_count + 1, sizeof *a->frames))
        return false;
    if (2 * (a->frames_count + 1) < a->frame_slots_count)
        return true;
    size_t count = a->frame_slots_count ? 2 * a->frame_slots_count : 256;
    uint32_t *slots = larger_slots(a, count);
    if (!slots)
        return false;
    for (uint32_t i = 1; i < a->frames_count; i++)
        put_frame(slots, count, a->frames, i);
    free(a->frame_slots);
    a->bytes -= a->frame_slots_count * sizeof *slots;
    a->frame_slots = slots;
    a->frame_slots_count = count;
    return true;
}

/* The stack with this frame on top. false: too deep, or an error. */
static bool push(automaton *a, uint32_t node, uint32_t count, uint32_t below, uint32_t *out)
{
    size_t i = mix(node, count, below) & (a->frame_slots_count - 1);
    for (; a->frame_slots[i]; i = (i + 1) & (a->frame_slots_count - 1)) {
        const frame *f = &a->frames[a->frame_slots[i] - 1];
        if (f->node == node && f->count == count && f->below == below) {
            *out = a->frame_slots[i] - 1;
            return true;
        }
    }
    uint32_t depth = a->frames[below].depth + 1;
    if (depth > STACK_DEPTH_MAX || !room_for_frame(a))
        return false;
    uint32_t id = (uint32_t)a->frames_count++;
    a->frames[id] = (frame){node, count, below, depth};
    put_frame(a->frame_slots, a->frame_slots_count, a->frames, id);
    *out = id;
    return true;
}

/* ---- closure: from a node to all nodes that read a byte ------------------------------------------------------------ */

static bool grow_seen(automaton *a)
{
    size_t count = a->seen_count ? 2 * a->seen_count : 1024, bytes = count * sizeof *a->seen;
    if (a->bytes + bytes > a->limit)
        return fail(
            a, ODMOE_ERR_BUDGET,
            "the grammar wants more working memory than it may use for one step: x{0,9} takes less than x? x? x?");
    seen *table = mem_calloc(count, sizeof *table, "a grammar's automaton", &a->error);
    if (!table) {
        a->status = ODMOE_ERR_MEMORY;
        return false;
    }
    for (size_t i = 0; i < a->seen_count; i++)
        if (a->seen[i].stamp == a->stamp) {
            size_t at = mix(a->seen[i].node, a->seen[i].stack, 0) & (count - 1);
            while (table[at].stamp)
                at = (at + 1) & (count - 1);
            table[at] = a->seen[i];
        }
    a->bytes += bytes - a->seen_count * sizeof *table;
    free(a->seen);
    a->seen = table;
    a->seen_count = count;
    return true;
}

/* Note a node and stack; true where it is new, or came with a higher count before. */
static bool note(automaton *a, uint32_t node, uint32_t stack, uint32_t count)
{
    if (2 * (a->seen_used + 1) > a->seen_count && !grow_seen(a))
        return false;
    size_t i = mix(node, stack, 0) & (a->seen_count - 1);
    for (; a->seen[i].stamp == a->stamp; i = (i + 1) & (a->seen_count - 1))
        if (a->seen[i].node == node && a->seen[i].stack == stack) {
            bool fewer = count < a->seen[i].count;
            if (fewer)
                a->seen[i].count = count;
            return fewer;
        }
    a->seen[i] = (seen){node, stack, a->stamp, count};
    a->seen_used++;
    return true;
}

static void add_work(automaton *a, uint32_t node, uint32_t stack)
{
    if (grow(a, &a->work, &a->work_capacity, a->work_count + 1, sizeof *a->work))
        a->work[a->work_count++] = (place){node, stack};
}

static void add_found(automaton *a, uint32_t node, uint32_t stack)
{
    if (a->found_count == PLACES_MAX)
        fail(a, ODMOE_ERR_RANGE, "the grammar is too ambiguous: a text may stand at too many places of it at once");
    else if (grow(a, &a->found, &a->found_capacity, a->found_count + 1, sizeof *a->found))
        a->found[a->found_count++] = (place){node, stack};
}

/* The repeated part has been read `count` times. Of several counts that may end, the smallest allows all that the others
 * do. */
static void repeat_arrives(automaton *a, uint32_t node, uint32_t count, uint32_t stack)
{
    const program_repeat *r = &a->p->repeats[a->p->nodes[node].first];
    uint32_t top;
    if (r->most == REPEAT_UNBOUNDED && count > r->least)
        count = r->least;
    if (count >= r->least) {
        if (!note(a, node, stack, count))
            return;
        add_work(a, r->exit, stack);
    }
    if (count < r->most && push(a, node, count, stack, &top))
        add_work(a, r->body, top);
}

static void go_back(automaton *a, uint32_t node, uint32_t stack)
{
    if (stack == STACK_EMPTY) {
        if (note(a, node, stack, 0))
            add_found(a, node, stack);
        return;
    }
    frame f = a->frames[stack];
    if (f.count == FRAME_CALL)
        add_work(a, f.node, f.below);
    else
        repeat_arrives(a, f.node, f.count + 1, f.below);
}

static void visit(automaton *a, uint32_t id, uint32_t stack)
{
    program_node n = a->p->nodes[id];
    uint32_t top;
    switch ((node_kind)n.kind) {
    case NODE_BYTES:
        if (note(a, id, stack, 0))
            add_found(a, id, stack);
        break;
    case NODE_SPLIT:
        if (note(a, id, stack, 0))
            for (uint32_t i = n.count; i-- > 0;)
                add_work(a, a->p->targets[n.first + i], stack);
        break;
    case NODE_CALL:
        if (!note(a, id, stack, 0))
            break;
        if (n.back == NODE_NONE)
            add_work(a, n.first, stack);
        else if (push(a, n.back, FRAME_CALL, stack, &top))
            add_work(a, n.first, top);
        break;
    case NODE_RETURN:
        go_back(a, id, stack);
        break;
    case NODE_REPEAT:
        repeat_arrives(a, id, 0, stack);
        break;
    }
}

static void begin_closure(automaton *a)
{
    a->found_count = a->work_count = a->seen_used = 0;
    if (++a->stamp == 0) { /* after 2^32 closures */
        memset(a->seen, 0, a->seen_count * sizeof *a->seen);
        a->stamp = 1;
    }
}

static void run_closure(automaton *a)
{
    for (uint32_t steps = 0; a->work_count && !a->status; steps++) {
        if (steps == CLOSURE_STEPS_MAX) {
            fail(a, ODMOE_ERR_RANGE, "the grammar is too ambiguous: too many ways lead on at one place");
            return;
        }
        place p = a->work[--a->work_count];
        visit(a, p.node, p.stack);
    }
}

/* ---- configurations ----------------------------------------------------------------------------------------------- */

static int by_place(const void *x, const void *y)
{
    const place *a = x, *b = y;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    return a->stack < b->stack ? -1 : a->stack > b->stack;
}

static uint32_t hash_places(const place *p, size_t n)
{
    uint32_t h = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        h = mix(p[i].node, p[i].stack, h);
    return h;
}

static void put_config(automaton *a, uint32_t *slots, size_t slots_count, config_id id)
{
    const config *c = &a->configs[id];
    size_t i = hash_places(a->places + c->first, c->count) & (slots_count - 1);
    while (slots[i])
        i = (i + 1) & (slots_count - 1);
    slots[i] = id + 1;
}

static bool room_for_config(automaton *a, size_t places)
{
    size_t classes = a->p->classes;
    if (!grow(a, &a->places, &a->places_capacity, a->places_count + places, sizeof *a->places) ||
        !grow(a, &a->rows, &a->rows_capacity, (a->configs_count + 1) * classes, sizeof *a->rows) ||
        !grow(a, &a->configs, &a->configs_capacity, a->configs_count + 1, sizeof *a->configs))
        return false;
    if (2 * (a->configs_count + 1) < a->config_slots_count)
        return true;
    size_t count = a->config_slots_count ? 2 * a->config_slots_count : 256;
    uint32_t *slots = larger_slots(a, count);
    if (!slots)
        return false;
    for (config_id i = 1; i < a->configs_count; i++)
        put_config(a, slots, count, i);
    free(a->config_slots);
    a->bytes -= a->config_slots_count * sizeof *slots;
    a->config_slots = slots;
    a->config_slots_count = count;
    return true;
}

/* The configuration of the places found, which are sorted here. */
static config_id intern_found(automaton *a)
{
    size_t n = a->found_count;
    if (a->status || !n)
        return CONFIG_DEAD;
    qsort(a->found, n, sizeof *a->found, by_place);
    size_t i = hash_places(a->found, n) & (a->config_slots_count - 1);
    for (; a->config_slots[i]; i = (i + 1) & (a->config_slots_count - 1)) {
        const config *c = &a->configs[a->config_slots[i] - 1];
        if (c->count == n && !memcmp(a->places + c->first, a->found, n * sizeof *a->found))
            return a->config_slots[i] - 1;
    }
    if (!room_for_config(a, n))
        return CONFIG_DEAD;
    config_id id = (config_id)a->configs_count++;
    config c = {.first = (uint32_t)a->places_count, .count = (uint32_t)n};
    for (size_t k = 0; k < n; k++)
        c.accepts |= a->p->nodes[a->found[k].node].kind == NODE_RETURN;
    memcpy(a->places + a->places_count, a->found, n * sizeof *a->found);
    a->places_count += n;
    a->configs[id] = c;
    memset(a->rows + (size_t)id * a->p->classes, 0xFF, a->p->classes * sizeof *a->rows);
    put_config(a, a->config_slots, a->config_slots_count, id);
    return id;
}

config_id automaton_at(automaton *a, uint32_t node)
{
    if (a->status)
        return CONFIG_DEAD;
    begin_closure(a);
    add_work(a, node, STACK_EMPTY);
    run_closure(a);
    return intern_found(a);
}

static config_id compute_step(automaton *a, config_id from, uint8_t byte)
{
    begin_closure(a);
    for (uint32_t i = 0; i < a->configs[from].count && !a->status; i++) {
        place at = a->places[a->configs[from].first + i];
        program_node n = a->p->nodes[at.node];
        if (n.kind != NODE_BYTES)
            continue;
        const program_edge *edges = a->p->edges + n.first;
        for (uint32_t k = 0; k < n.count; k++)
            if (edges[k].lo <= byte && byte <= edges[k].hi)
                add_work(a, edges[k].to, at.stack);
        run_closure(a);
    }
    return intern_found(a);
}

config_id automaton_step(automaton *a, config_id from, uint8_t byte)
{
    uint8_t class = a->p->class_of[byte];
    size_t at = (size_t)from * a->p->classes + class;
    if (a->rows[at] != STEP_UNKNOWN)
        return a->rows[at];
    if (a->status)
        return CONFIG_DEAD;
    config_id to = compute_step(a, from, a->p->byte_of[class]);
    if (!a->status)
        a->rows[at] = to;
    return to;
}

config_id automaton_union(automaton *a, config_id x, config_id y)
{
    if (x == y || y == CONFIG_DEAD)
        return x;
    if (x == CONFIG_DEAD)
        return y;
    begin_closure(a);
    const config_id both[2] = {x, y};
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; i < a->configs[both[k]].count && !a->status; i++) {
            place p = a->places[a->configs[both[k]].first + i];
            if (note(a, p.node, p.stack, 0))
                add_found(a, p.node, p.stack);
        }
    return intern_found(a);
}

bool automaton_accepts(const automaton *a, config_id c)
{
    return a->configs[c].accepts;
}

/* ---- plain characters --------------------------------------------------------------------------------------------- */

typedef struct byte_range {
    uint8_t lo, hi;
} byte_range;

/* The plain characters by their bytes (the forms of UTF-8 without surrogates and what lies above U+10FFFF). */
static const struct {
    int length;
    byte_range bytes[4];
} plain_forms[] = {{1, {{0x20, 0x21}}},
                   {1, {{0x23, 0x5B}}},
                   {1, {{0x5D, 0x7E}}},
                   {2, {{0xC2, 0xDF}, {0x80, 0xBF}}},
                   {3, {{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}},
                   {3, {{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}},
                   {3, {{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}},
                   {3, {{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                   {4, {{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                   {4, {{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                   {4, {{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}}};

typedef struct plain_search {
    bool all;       /* no plain character seen so far is impossible */
    bool one;       /* those that are possible lead to `next` alone */
    config_id next; /* CONFIG_DEAD until one was possible */
} plain_search;

static void follow_form(automaton *a, config_id at, const byte_range *bytes, int left, plain_search *s)
{
    if (!left) {
        s->one &= s->next == CONFIG_DEAD || s->next == at;
        s->next = at;
        return;
    }
    int last = -1;
    config_id before = CONFIG_DEAD;
    for (unsigned b = bytes[0].lo; b <= bytes[0].hi && s->one; b++) {
        if (a->p->class_of[b] == last)
            continue;
        last = a->p->class_of[b];
        config_id to = automaton_step(a, at, (uint8_t)b);
        s->all &= to != CONFIG_DEAD;
        if (to != CONFIG_DEAD && to != before)
            follow_form(a, to, bytes + 1, left - 1, s);
        before = to;
    }
}

bool automaton_plain(automaton *a, config_id c, bool *all, config_id *next)
{
    if (!a->configs[c].plain_known) {
        plain_search s = {.all = true, .one = true, .next = CONFIG_DEAD};
        for (size_t i = 0; i < sizeof plain_forms / sizeof *plain_forms && s.one; i++)
            follow_form(a, c, plain_forms[i].bytes, plain_forms[i].length, &s);
        if (a->status)
            return false;
        config *k = &a->configs[c];
        k->plain_known = true;
        k->plain_all = s.all;
        k->plain_one = s.one;
        k->plain_next = s.next;
    }
    *all = a->configs[c].plain_all;
    *next = a->configs[c].plain_next;
    return a->configs[c].plain_one;
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

odmoe_status automaton_create(const program *p, size_t limit, automaton **out, odmoe_error *err)
{
    automaton *a = mem_calloc(1, sizeof *a, "a grammar's automaton", err);
    if (!a)
        return ODMOE_ERR_MEMORY;
    a->p = p;
    a->limit = limit;
    a->bytes = sizeof *a;
    /* frame 0 is the empty stack, configuration 0 the dead one, which leads to itself */
    if (room_for_frame(a) && room_for_config(a, 0) && grow_seen(a)) {
        a->frames[a->frames_count++] = (frame){0};
        a->configs[a->configs_count++] = (config){.plain_known = true, .plain_one = true};
        memset(a->rows, 0, p->classes * sizeof *a->rows);
    }
    odmoe_status st = automaton_status(a, err);
    if (st)
        automaton_free(a);
    else
        *out = a;
    return st;
}

void automaton_free(automaton *a)
{
    if (!a)
        return;
    free(a->frames);
    free(a->places);
    free(a->configs);
    free(a->rows);
    free(a->frame_slots);
    free(a->config_slots);
    free(a->work);
    free(a->found);
    free(a->seen);
    free(a);
}

odmoe_status automaton_status(const automaton *a, odmoe_error *err)
{
    if (a->status && err)
        *err = a->error;
    return a->status;
}

/* The stack `id` of another automaton in this one. */
static bool copy_stack(automaton *to, const automaton *from, uint32_t id, uint32_t *out)
{
    uint32_t chain[STACK_DEPTH_MAX];
    size_t n = 0;
    for (; id != STACK_EMPTY; id = from->frames[id].below)
        chain[n++] = id;
    for (*out = STACK_EMPTY; n-- > 0;) {
        const frame *f = &from->frames[chain[n]];
        if (!push(to, f->node, f->count, *out, out))
            return false;
    }
    return true;
}

static config_id copy_config(automaton *to, const automaton *from, config_id id)
{
    begin_closure(to);
    const config *c = &from->configs[id];
    for (uint32_t i = 0; i < c->count && !to->status; i++) {
        place p = from->places[c->first + i];
        if (copy_stack(to, from, p.stack, &p.stack))
            add_found(to, p.node, p.stack);
    }
    return intern_found(to);
}

odmoe_status automaton_reset(automaton *a, config_id **kept, size_t n, odmoe_error *err)
{
    automaton *fresh;
    config_id *ids = mem_calloc(n, sizeof *ids, "a grammar's automaton", err);
    odmoe_status st = ids ? automaton_create(a->p, a->limit, &fresh, err) : ODMOE_ERR_MEMORY;
    if (st) {
        free(ids);
        return st;
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = copy_config(fresh, a, *kept[i]);
    st = automaton_status(fresh, err);
    if (!st) {
        for (size_t i = 0; i < n; i++)
            *kept[i] = ids[i];
        automaton old = *a;
        *a = *fresh;
        *fresh = old;
    }
    automaton_free(fresh);
    free(ids);
    return st;
}

size_t automaton_bytes(const automaton *a)
{
    return a->bytes;
}

const config_id *automaton_rows(const automaton *a)
{
    return a->rows;
}
