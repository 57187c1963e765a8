#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/grammar/parameter.h"
#include "text/grammar/schema_parts.h"

#define KEY_BYTES_MAX 200 /* of a name beside which others are allowed */
#define CHAIN_STRETCH 50  /* members until a rule breaks the chain */
#define BARE_KEY_MAX 100  /* characters of a name that stands without quotes, behind those it shares with others */

/* ---- names that are none of the schema's ------------------------------------------------------------------------------------ */

typedef struct key {
    const char *text;
    size_t length;
} key;

static int by_bytes(const void *a, const void *b)
{
    const key *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : x->length < y->length ? -1 : x->length > y->length;
}

/* How names stand that the schema does not name, where that is without quotes; NULL: as in JSON. */
static json_text *bare_names(const schema_reader *s)
{
    return s->form == FORM_TAGS || s->t->notation->bare_keys ? s->writing->keys : NULL;
}

/* What may follow the first `at` bytes, which keys[0, n) have in common, so that the name is none of them. At most
 * KEY_BYTES_MAX deep. */
static expr_id other_rest(schema_reader *s, const key *keys, size_t n, size_t at)
{
    grammar_rules *g = s->g;
    json_text *bare = bare_names(s), *t = bare ? bare : s->t;
    expr_list choices = {0};
    charset next = {0};
    size_t i = 0;
    if (n && keys[0].length == at)
        i = 1;            /* the name itself: it has to go on */
    else if (at || !bare) /* without quotes there is no empty name */
        expr_list_add(g, &choices, EXPR_EMPTY);
    while (i < n && !g->status) {
        int length = utf8_char(keys[i].text + at, keys[i].length - at);
        length = length > 0 ? length : 1; /* jansson's texts are valid */
        uint32_t c = utf8_decode(keys[i].text + at, length);
        size_t end = i + 1;
        while (end < n && keys[end].length >= at + (size_t)length &&
               !memcmp(keys[end].text + at, keys[i].text + at, (size_t)length))
            end++;
        char_range r = {c, c};
        g->status = charset_add(&next, c, c, g->err);
        expr_list_add(
            g, &choices,
            SEQ(g, text_character_of(t, &(charset){&r, 1, 1}), other_rest(s, keys + i, end - i, at + (size_t)length)));
        i = end;
    }
    if (!g->status)
        g->status = charset_normalise(&next, g->err);
    if (!g->status)
        g->status = charset_negate(&next, g->err);
    uint32_t most = bare ? BARE_KEY_MAX : REPEAT_UNBOUNDED;
    expr_list_add(g, &choices, SEQ(g, text_character_of(t, &next), expr_repeat(g, text_character(t), 0, most)));
    expr_id e = g->status ? EXPR_NEVER : expr_alt(g, choices.items, choices.count);
    free(choices.items);
    charset_free(&next);
    return e;
}

/* ---- members ------------------------------------------------------------------------------------------------------------------- */

/* Has the schema something to say on members that are not in its properties? */
static const json_t *additional(const json_t *schema)
{
    const json_t *v = json_object_get(schema, "additionalProperties");
    return json_is_true(v) ? NULL : v;
}

/* Does a tag hold the value of this member, of which all that `list` says has to hold, as a text? */
static bool is_text(const schema_reader *s, const part_list *list, const char *name)
{
    bool nullable;
    parameter_kind kind = parameter_kind_of(s->root, name ? name : "", &nullable);
    for (size_t i = 0; kind == PARAMETER_ANY && i < list->count; i++)
        if (!parameter_says_nothing(list->items[i].schema)) /* it came by allOf, which a parser does not look into */
            kind = PARAMETER_JSON;
    return kind != PARAMETER_JSON;
}

/* The tag of a member. Where tags say what is text, null is none. */
static expr_id tagged(schema_reader *s, expr_id written, const part_list *list, const char *name)
{
    const schema_writing *w = s->writing;
    if (!w->bare || !is_text(s, list, name))
        return w->tag(w->user, written, schema_value(s, list, FORM_VALUE), false);
    expr_id text = w->tag(w->user, written, schema_value(s, list, w->null_apart ? FORM_STRING : FORM_TEXT), true);
    if (!w->null_apart || !list->count)
        return text;
    return ALT(s->g, text, w->tag(w->user, written, schema_value(s, list, FORM_NULL), false));
}

/* A member as it is written. */
static expr_id write_member(schema_reader *s, expr_id written, const part_list *list, const char *name)
{
    if (s->form == FORM_TAGS)
        return tagged(s, written, list, name);
    return SEQ(s->g, written, text_colon(s->t), schema_value(s, list, FORM_VALUE));
}

/* All that has to hold of the value of the member `name` (NULL: of additional ones). false: there may be none. */
static bool member_parts(schema_reader *s, const schema_part *parts, size_t n, const char *name, part_list *out)
{
    out->count = 0;
    out->never = false;
    for (size_t i = 0; i < n; i++) {
        const json_t *properties = json_object_get(parts[i].schema, "properties");
        void *own = name ? json_object_iter_at((json_t *)properties, name) : NULL;
        if (own)
            parts_add(s, out, json_object_iter_value(own),
                      schema_key(s, schema_word(s, parts[i].path, "properties"), json_object_iter_key(own)));
        else if (additional(parts[i].schema))
            parts_add(s, out, additional(parts[i].schema), schema_key(s, parts[i].path, "additionalProperties"));
    }
    return !out->never && !s->g->status;
}

/* All names that the parts mention, in their order, each with true where it is required. */
static json_t *names_of(schema_reader *s, const schema_part *parts, size_t n)
{
    json_t *names = json_object(), *one;
    const char *name;
    size_t i;
    bool failed = !names;
    for (size_t k = 0; k < n; k++)
        json_object_foreach(json_object_get(parts[k].schema, "properties"), name, one) failed |=
            json_object_set_new_nocheck(names, name, json_false());
    for (size_t k = 0; k < n; k++)
        json_array_foreach(json_object_get(parts[k].schema, "required"), i, one) failed |=
            json_object_set_new_nocheck(names, json_string_value(one), json_true());
    if (failed)
        rules_fail(s->g, ODMOE_ERR_MEMORY, "no memory for a schema's names");
    return names;
}

/* A member that is none of `names`; EXPR_NEVER where there may be none. */
static expr_id other_member(schema_reader *s, const schema_part *parts, size_t n, json_t *names)
{
    grammar_rules *g = s->g;
    part_list all;
    bool possible = member_parts(s, parts, n, NULL, &all);
    key *keys = mem_calloc(json_object_size(names), sizeof *keys, "a schema's names", g->err);
    const char *name;
    json_t *required;
    size_t count = 0;
    if (!keys) {
        g->status = g->status ? g->status : ODMOE_ERR_MEMORY;
        return EXPR_NEVER;
    }
    json_object_foreach(names, name, required)
    {
        keys[count++] = (key){name, strlen(name)};
        if (possible && strlen(name) > KEY_BYTES_MAX)
            schema_fail(s, parts[0].path, "properties", ODMOE_ERR_RANGE,
                        "a name of more than %d bytes; with additionalProperties: false it is possible", KEY_BYTES_MAX);
    }
    qsort(keys, count, sizeof *keys, by_bytes);
    expr_id quote = bare_names(s) ? EXPR_EMPTY : text_quote(s->t), e = EXPR_NEVER;
    if (possible && !g->status)
        e = write_member(s, SEQ(g, quote, other_rest(s, keys, count, 0), quote), &all, NULL);
    free(keys);
    return e;
}

/* ---- the object ------------------------------------------------------------------------------------------------------------------ */

/* A member's name as it is written. */
static expr_id member_name(schema_reader *s, const char *name)
{
    if (s->form != FORM_TAGS)
        return text_key(s->t, name);
    return s->writing->names ? text_key(s->writing->names, name) : expr_text(s->g, name, strlen(name));
}

/* What stands between two members. */
static expr_id comma_of(schema_reader *s)
{
    const char *between = s->writing->between ? s->writing->between : "";
    return s->form == FORM_TAGS ? expr_text(s->g, between, strlen(between)) : text_comma(s->t);
}

typedef struct member {
    expr_id e; /* name, colon, value */
    bool required;
} member;

/* The members that may stand, in order. false: a required one cannot be. */
static bool collect(schema_reader *s, const schema_part *parts, size_t n, json_t *names, member *out, size_t *count)
{
    grammar_rules *g = s->g;
    const char *name;
    json_t *required;
    json_object_foreach(names, name, required)
    {
        part_list all;
        if (member_parts(s, parts, n, name, &all)) {
            out[(*count)++] = (member){write_member(s, member_name(s, name), &all, name), json_is_true(required)};
        } else if (g->status) {
            return false;
        } else if (json_is_true(required)) {
            char what[112];
            snprintf(what, sizeof what, "%.80s is required and not allowed", name);
            schema_unmet(s, parts[0].path, "required", what);
            return false;
        }
    }
    return true;
}

/* Members in their order, optional ones or not, then others: without the first comma. EXPR_NEVER: none is possible. */
static expr_id chain(schema_reader *s, const member *members, size_t n, expr_id other)
{
    grammar_rules *g = s->g;
    expr_id comma = comma_of(s), first = n;
    /* tail: what may follow when something stands before; head: what may stand first */
    expr_id tail = expr_repeat(g, SEQ(g, comma, other), 0, REPEAT_UNBOUNDED);
    expr_id head = SEQ(g, other, tail);
    for (size_t i = 0; i < n && first == n; i++)
        if (members[i].required)
            first = (expr_id)i;
    for (size_t i = n; i-- > 0 && !g->status;) {
        expr_id here = SEQ(g, members[i].e, tail);
        head = members[i].required ? here : ALT(g, here, head);
        expr_id next = SEQ(g, comma, members[i].e);
        tail = SEQ(g, members[i].required ? next : expr_repeat(g, next, 0, 1), tail);
        if (i <= first || i % CHAIN_STRETCH == 0) { /* used twice, in tail and head */
            tail = schema_add_rule(s, "members", tail);
            head = schema_add_rule(s, "members", head);
        }
    }
    return head;
}

/* Members behind c named ones of the object, none of which the schema names, so that there are lo to hi in all. Of those
 * only the first counts for lo: others may have its name again. */
static expr_id counted_others(schema_reader *s, expr_id other, uint32_t c, uint32_t lo, uint32_t hi)
{
    grammar_rules *g = s->g;
    expr_id comma = comma_of(s);
    uint32_t least = c < lo, most = hi == REPEAT_UNBOUNDED ? hi : hi - c;
    if (c > hi || c + 1 < lo || least > most)
        return EXPR_NEVER;
    if (c)
        return expr_repeat(g, SEQ(g, comma, other), least, most);
    uint32_t more = most == REPEAT_UNBOUNDED || !most ? most : most - 1;
    return expr_repeat(g, SEQ(g, other, expr_repeat(g, SEQ(g, comma, other), 0, more)), least, most ? 1 : 0);
}

/* As chain, of lo to hi members; may be empty. at[c]: what follows member i where c of those before it are there. */
static expr_id counted_chain(schema_reader *s, const member *members, size_t n, expr_id other, uint32_t lo, uint32_t hi)
{
    grammar_rules *g = s->g;
    expr_id comma = comma_of(s);
    expr_id *at = mem_calloc(n + 1, sizeof *at, "a schema's members", g->err);
    if (!at) {
        g->status = ODMOE_ERR_MEMORY;
        return EXPR_NEVER;
    }
    for (size_t c = 0; c <= n; c++)
        at[c] = counted_others(s, other, (uint32_t)c, lo, hi);
    for (size_t i = n; i-- > 0;)
        for (size_t c = 0; c <= i && !g->status; c++) {
            expr_id with = c < hi ? SEQ(g, c ? comma : EXPR_EMPTY, members[i].e, at[c + 1]) : EXPR_NEVER,
                    without = members[i].required ? EXPR_NEVER : at[c];
            at[c] = with == EXPR_NEVER ? without : schema_add_rule(s, "members", ALT(g, with, without));
        }
    expr_id e = g->status ? EXPR_NEVER : at[0];
    free(at);
    return e;
}

expr_id schema_object(schema_reader *s, const schema_part *parts, size_t n)
{
    grammar_rules *g = s->g;
    uint32_t lo, hi;
    bool counted = schema_counts(parts, n, "minProperties", "maxProperties", &lo, &hi), any = !counted, needed = lo > 0;
    for (size_t i = 0; i < n; i++)
        any &= !json_object_get(parts[i].schema, "properties") && !json_object_get(parts[i].schema, "required") &&
               !additional(parts[i].schema);
    if (any && s->form != FORM_TAGS)
        return text_any_object(s->t);
    json_t *names = names_of(s, parts, n);
    member *members = mem_calloc(json_object_size(names), sizeof *members, "a schema's members", g->err);
    size_t count = 0;
    expr_id e = EXPR_NEVER;
    if (!members)
        g->status = g->status ? g->status : ODMOE_ERR_MEMORY;
    if (!g->status && collect(s, parts, n, names, members, &count)) {
        for (size_t i = 0; i < count; i++)
            needed |= members[i].required;
        expr_id other = other_member(s, parts, n, names);
        if (lo > count + (other != EXPR_NEVER) && other != EXPR_NEVER)
            schema_fail(s, parts[0].path, "minProperties", ODMOE_ERR_UNSUPPORTED,
                        "of members that the schema does not name only one can be counted; use required");
        expr_id inside = counted ? counted_chain(s, members, count, other, lo, hi) : chain(s, members, count, other);
        if (inside == EXPR_NEVER && counted)
            schema_unmet(s, parts[0].path, lo ? "minProperties" : "maxProperties", "no number of members is allowed");
        if (s->form == FORM_TAGS)
            e = needed ? inside : expr_repeat(g, inside, 0, 1);
        inside = SEQ(g, inside, text_blank(s->t));
        if (s->form != FORM_TAGS)
            e = SEQ(g, TEXT(g, "{"), text_blank(s->t), needed ? inside : expr_repeat(g, inside, 0, 1), TEXT(g, "}"));
    }
    free(members);
    json_decref(names);
    return e;
}
