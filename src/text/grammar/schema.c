#include "text/grammar/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar/schema_parts.h"

#define JSON_NESTING_MAX 256

/* ---- paths ---------------------------------------------------------------------------------------------------------- */

static uint32_t add_path(schema_reader *s, path_node n, uint32_t deeper)
{
    grammar_rules *g = s->g;
    n.depth = s->paths_count ? s->paths[n.parent].depth + deeper : 0;
    if (!g->status)
        g->status = mem_grow((void **)&s->paths, &s->paths_capacity, s->paths_count + 1, sizeof *s->paths,
                             "a schema's paths", g->err);
    if (g->status)
        return 0;
    s->paths[s->paths_count] = n;
    return (uint32_t)s->paths_count++;
}

uint32_t schema_word(schema_reader *s, uint32_t parent, const char *word)
{
    return add_path(s, (path_node){.key = word, .parent = parent}, 0);
}

uint32_t schema_key(schema_reader *s, uint32_t parent, const char *key)
{
    return add_path(s, (path_node){.key = key, .parent = parent}, 1);
}

uint32_t schema_index(schema_reader *s, uint32_t parent, size_t index)
{
    return add_path(s, (path_node){.index = index, .parent = parent}, 1);
}

/* "properties.price.anyOf[1]" and, behind it, `key`; the front is cut off where it is too long. */
static void write_path(const schema_reader *s, uint32_t path, const char *key, char *out, size_t room)
{
    uint32_t chain[JSON_NESTING_MAX];
    size_t n = 0, used = 0;
    for (; path && n < JSON_NESTING_MAX; path = s->paths[path].parent)
        chain[n++] = path;
    out[0] = 0;
    while (n-- > 0 && used < room) {
        const path_node *p = &s->paths[chain[n]];
        if (p->key)
            used += (size_t)snprintf(out + used, room - used, "%s%s", used ? "." : "", p->key);
        else
            used += (size_t)snprintf(out + used, room - used, "[%zu]", p->index);
    }
    if (key && used < room)
        snprintf(out + used, room - used, "%s%s", used ? "." : "", key);
}

expr_id schema_fail(schema_reader *s, uint32_t path, const char *key, odmoe_status status, const char *format, ...)
{
    if (s->g->status)
        return EXPR_NEVER;
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    char *place = s->g->fault->path;
    write_path(s, path, key, place, sizeof s->g->fault->path);
    return rules_fail(s->g, status, "schema: %s%s%s", place, *place ? ": " : "", what);
}

expr_id schema_unmet(schema_reader *s, uint32_t path, const char *key, const char *what)
{
    if (!s->g->status && !s->unmet) {
        s->unmet = true;
        write_path(s, path, key, s->g->fault->path, sizeof s->g->fault->path);
        snprintf(s->g->unmet, sizeof s->g->unmet, "%s", what);
    }
    return EXPR_NEVER;
}

/* ---- what has to hold at once ------------------------------------------------------------------------------------------ */

static bool has_part(const part_list *list, const json_t *schema)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].schema == schema)
            return true;
    return false;
}

/* Add what a $ref names. References under way are kept, so that a circle of nothing but references is found. */
static void follow(schema_reader *s, part_list *list, const json_t *schema, const char *ref, uint32_t path)
{
    uint32_t target_path = path;
    const json_t *target = schema_resolve(s, ref, path, &target_path);
    bool circle = target == schema;
    for (size_t i = 0; i < s->open_count; i++)
        circle |= s->open[i] == target;
    if (circle)
        schema_fail(s, path, "$ref", ODMOE_ERR_FORMAT, "the reference leads back to itself");
    if (!target || circle)
        return;
    s->open[s->open_count++] = schema; /* each is in the list, which has an end */
    parts_add(s, list, target, target_path);
    s->open_count--;
}

void parts_add(schema_reader *s, part_list *list, const json_t *schema, uint32_t path)
{
    if (s->g->status || json_is_true(schema) || has_part(list, schema))
        return;
    if (json_is_false(schema)) {
        list->never = true;
        return;
    }
    schema_check(s, schema, path);
    if (list->count == PARTS_MAX)
        schema_fail(s, path, NULL, ODMOE_ERR_RANGE, "more than %d schemas would have to hold at once", PARTS_MAX);
    if (s->g->status)
        return;
    list->items[list->count++] = (schema_part){schema, path, 0};
    const json_t *ref = json_object_get(schema, "$ref"), *all = json_object_get(schema, "allOf"), *part;
    size_t i;
    if (ref)
        follow(s, list, schema, json_string_value(ref), path);
    uint32_t all_path = all ? schema_word(s, path, "allOf") : 0;
    json_array_foreach(all, i, part) parts_add(s, list, part, schema_index(s, all_path, i));
}

/* ---- rules ------------------------------------------------------------------------------------------------------------- */

/* A name from the path, made unique by the rule's number; the first rule has the schema's own. */
static uint32_t named_rule(schema_reader *s, uint32_t path)
{
    char name[280];
    if (s->name) {
        snprintf(name, sizeof name, "%s", s->name);
        s->name = NULL;
    } else {
        char full[200];
        write_path(s, path, NULL, full, sizeof full);
        snprintf(name, sizeof name, "%s%s%zu", full, *full ? "-" : "part-", s->g->rules_count);
        for (char *p = name; *p; p++)
            if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
                *p = '-';
    }
    return rules_add(s->g, name, strlen(name), 0);
}

expr_id schema_add_rule(schema_reader *s, const char *name, expr_id body)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%s-%zu", name, s->g->rules_count);
    uint32_t rule = rules_add(s->g, text, (size_t)n, 0);
    rules_define(s->g, rule, body);
    return expr_rule(s->g, rule);
}

static uint64_t hash_parts(const schema_part *parts, size_t n, value_form form)
{
    uint64_t h = n << 3 | form;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uintptr_t)parts[i].schema ^ (uint64_t)parts[i].used << 60) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    return h;
}

static bool same_parts(const schema_part *a, const schema_part *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i].schema != b[i].schema || a[i].used != b[i].used)
            return false;
    return true;
}

static void put_job(schema_reader *s, uint32_t *slots, size_t count, uint32_t id)
{
    const schema_job *j = &s->jobs[id];
    size_t i = hash_parts(s->parts + j->first, j->count, j->form) & (count - 1);
    while (slots[i])
        i = (i + 1) & (count - 1);
    slots[i] = id + 1;
}

static bool room_for_job(schema_reader *s, size_t parts)
{
    grammar_rules *g = s->g;
    if (!g->status)
        g->status = mem_grow((void **)&s->parts, &s->parts_capacity, s->parts_count + parts, sizeof *s->parts,
                             "a schema's parts", g->err);
    if (!g->status)
        g->status = mem_grow((void **)&s->jobs, &s->jobs_capacity, s->jobs_count + 1, sizeof *s->jobs,
                             "a schema's parts", g->err);
    if (g->status || 2 * (s->jobs_count + 1) < s->slots_count)
        return !g->status;
    size_t count = s->slots_count ? 2 * s->slots_count : 256;
    uint32_t *slots = mem_calloc(count, sizeof *slots, "a schema's parts", g->err);
    if (!slots) {
        g->status = ODMOE_ERR_MEMORY;
        return false;
    }
    for (uint32_t i = 0; i < s->jobs_count; i++)
        put_job(s, slots, count, i);
    free(s->slots);
    s->slots = slots;
    s->slots_count = count;
    return true;
}

expr_id schema_value(schema_reader *s, const part_list *list, value_form form)
{
    if (s->g->status || list->never)
        return EXPR_NEVER;
    if (!list->count)
        return form == FORM_TEXT || form == FORM_STRING ? text_string(s->writing->bare, 0, REPEAT_UNBOUNDED)
                                                        : text_any_value(s->writing->value);
    uint32_t path = list->items[0].path;
    if (s->paths[path].depth > SCHEMA_DEPTH_MAX)
        return schema_fail(s, path, NULL, ODMOE_ERR_RANGE, "nested deeper than %d", SCHEMA_DEPTH_MAX);
    for (size_t i = s->slots_count ? hash_parts(list->items, list->count, form) & (s->slots_count - 1) : 0;
         s->slots_count && s->slots[i]; i = (i + 1) & (s->slots_count - 1)) {
        const schema_job *j = &s->jobs[s->slots[i] - 1];
        if (j->form == form && j->count == list->count && same_parts(s->parts + j->first, list->items, j->count))
            return expr_rule(s->g, j->rule);
    }
    if (!room_for_job(s, list->count))
        return EXPR_NEVER;
    uint32_t rule = named_rule(s, path), id = (uint32_t)s->jobs_count++;
    s->jobs[id] = (schema_job){s->parts_count, list->count, rule, form};
    memcpy(s->parts + s->parts_count, list->items, list->count * sizeof *list->items);
    s->parts_count += list->count;
    put_job(s, s->slots, s->slots_count, id);
    return expr_rule(s->g, rule);
}

/* ---- bodies ------------------------------------------------------------------------------------------------------------ */

/* Parts [0, n) with each branch of part k's anyOf (or oneOf) in turn. */
static expr_id branches(schema_reader *s, const schema_part *parts, size_t n, size_t k, bool any)
{
    const char *word = any ? "anyOf" : "oneOf";
    const json_t *list = json_object_get(parts[k].schema, word), *branch;
    uint32_t path = schema_word(s, parts[k].path, word);
    expr_list choices = {0};
    size_t i;
    if (!any)
        schema_check_one_of(s, list, path);
    part_list all;
    json_array_foreach(list, i, branch)
    {
        if (s->g->status)
            break;
        all.count = n;
        all.never = false;
        memcpy(all.items, parts, n * sizeof *parts);
        all.items[k].used |= any ? USED_ANY_OF : USED_ONE_OF;
        parts_add(s, &all, branch, schema_index(s, path, i));
        expr_list_add(s->g, &choices, schema_value(s, &all, s->form));
    }
    expr_id e = s->g->status ? EXPR_NEVER : expr_alt(s->g, choices.items, choices.count);
    free(choices.items);
    return e;
}

unsigned schema_wanted(value_form form)
{
    switch (form) {
    case FORM_OBJECT:
    case FORM_TAGS:
        return TYPE_OBJECT;
    case FORM_TEXT:
        return TYPE_STRING | TYPE_NULL;
    case FORM_STRING:
        return TYPE_STRING;
    case FORM_NULL:
        return TYPE_NULL;
    default:
        return TYPE_ALL;
    }
}

static expr_id by_type(schema_reader *s, const schema_part *parts, size_t n)
{
    unsigned types = schema_wanted(s->form);
    expr_id e[7];
    size_t count = 0;
    bool listed = false;
    for (size_t i = 0; i < n; i++)
        types &= schema_types(parts[i].schema);
    expr_id values = schema_enum(s, parts, n, &listed);
    if (listed)
        return values;
    if (!types)
        return schema_unmet(s, parts[0].path, "type", "no type is left that all of it allows");
    if (types & TYPE_OBJECT)
        e[count++] = schema_object(s, parts, n);
    if (types & TYPE_ARRAY)
        e[count++] = schema_array(s, parts, n);
    if (types & TYPE_STRING)
        e[count++] = schema_string(s, parts, n);
    if (types & (TYPE_NUMBER | TYPE_INTEGER))
        e[count++] = schema_number(s, parts, n, !(types & TYPE_NUMBER));
    if (types & TYPE_BOOLEAN)
        e[count++] = ALT(s->g, TEXT(s->g, "true"), TEXT(s->g, "false"));
    if (types & TYPE_NULL)
        e[count++] = TEXT(s->g, "null");
    return s->g->status ? EXPR_NEVER : expr_alt(s->g, e, count);
}

static expr_id body(schema_reader *s, const schema_part *parts, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        if (!(parts[k].used & USED_ANY_OF) && json_object_get(parts[k].schema, "anyOf"))
            return branches(s, parts, n, k, true);
        if (!(parts[k].used & USED_ONE_OF) && json_object_get(parts[k].schema, "oneOf"))
            return branches(s, parts, n, k, false);
    }
    return by_type(s, parts, n);
}

/* All that the root wants, until no job is left. */
static void run_jobs(schema_reader *s)
{
    schema_part parts[PARTS_MAX];
    for (size_t i = 0; i < s->jobs_count && !s->g->status; i++) {
        schema_job j = s->jobs[i];
        memcpy(parts, s->parts + j.first, j.count * sizeof *parts); /* the array moves while the job adds others */
        s->form = j.form;
        s->t = j.form == FORM_TEXT || j.form == FORM_STRING ? s->writing->bare : s->writing->value;
        rules_define(s->g, j.rule, body(s, parts, j.count));
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static bool too_deep(const json_t *v, int room)
{
    const char *key;
    json_t *child;
    size_t i;
    if (room == 0)
        return json_is_object(v) || json_is_array(v);
    json_array_foreach(v, i, child) if (too_deep(child, room - 1)) return true;
    json_object_foreach((json_t *)v, key, child) if (too_deep(child, room - 1)) return true;
    return false;
}

static uint32_t read_root(schema_reader *s, value_form form)
{
    part_list all = {.count = 0};
    add_path(s, (path_node){0}, 0);
    if (too_deep(s->root, JSON_NESTING_MAX - 8))
        schema_fail(s, 0, NULL, ODMOE_ERR_RANGE, "JSON nested deeper than %d", JSON_NESTING_MAX - 8);
    parts_add(s, &all, s->root, 0);
    if (s->g->status)
        return 0;
    if (all.never) {
        schema_fail(s, 0, NULL, ODMOE_ERR_FORMAT, "no value meets `false`");
        return 0;
    }
    uint32_t rule = (uint32_t)s->g->rules_count; /* the next one that is made */
    if (!all.count) {
        rule = named_rule(s, 0);
        rules_define(s->g, rule, text_any_value(s->writing->value));
    } else {
        schema_value(s, &all, form);
    }
    run_jobs(s);
    return rule;
}

static void reader_free(schema_reader *s)
{
    free(s->paths);
    free(s->parts);
    free(s->jobs);
    free(s->slots);
}

uint32_t schema_read(json_text *t, const char *name, const char *text, size_t length)
{
    grammar_rules *g = t->g;
    schema_writing writing = {.value = t};
    schema_reader s = {.g = g, .writing = &writing, .name = name};
    json_error_t fault;
    uint32_t rule = 0;
    if (length > GRAMMAR_SOURCE_MAX) {
        schema_fail(&s, 0, NULL, ODMOE_ERR_RANGE, "more than 64 KiB of text");
        return 0;
    }
    json_t *root = json_loadb(text, length, JSON_DECODE_ANY, &fault);
    s.root = root;
    if (!root && json_error_code(&fault) == json_error_out_of_memory) {
        rules_fail(g, ODMOE_ERR_MEMORY, "no memory for a schema of %zu bytes", length);
    } else if (!root) {
        g->fault->offset = (size_t)(fault.position > 0 ? fault.position : 0);
        g->fault->line = (uint32_t)(fault.line > 0 ? fault.line : 1);
        g->fault->column = (uint32_t)(fault.column > 0 ? fault.column : 1);
        rules_fail(g, ODMOE_ERR_FORMAT, "schema: line %u, column %u: %.150s", g->fault->line, g->fault->column,
                   fault.text);
    } else {
        rule = read_root(&s, FORM_VALUE);
    }
    json_decref(root);
    reader_free(&s);
    return rule;
}

uint32_t schema_read_arguments(const schema_writing *writing, const char *name, const json_t *parameters)
{
    schema_reader s = {.g = writing->value->g, .writing = writing, .name = name, .root = parameters};
    uint32_t rule = read_root(&s, writing->tag ? FORM_TAGS : FORM_OBJECT);
    reader_free(&s);
    return rule;
}
