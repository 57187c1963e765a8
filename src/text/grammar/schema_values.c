#include <string.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/grammar/regex.h"
#include "text/grammar/schema_parts.h"

/* ---- bounds -------------------------------------------------------------------------------------------------------------- */

static long double wide(number_bound b)
{
    return b.whole ? (long double)b.integer : (long double)b.real;
}

/* Keep the narrower of two bounds. */
static void narrow(number_bound *kept, const json_t *v, bool open, bool low)
{
    if (!v)
        return;
    number_bound b = {.set = true, .open = open, .whole = json_is_integer(v)};
    if (b.whole)
        b.integer = json_integer_value(v);
    else
        b.real = json_real_value(v);
    long double old = wide(*kept), new = wide(b);
    if (!kept->set || (low ? new > old : new < old) || (new == old &&open))
        *kept = b;
}

static void number_bounds(const schema_part *parts, size_t n, number_bound *low, number_bound *high)
{
    *low = *high = (number_bound){0};
    for (size_t i = 0; i < n; i++) {
        narrow(low, json_object_get(parts[i].schema, "minimum"), false, true);
        narrow(low, json_object_get(parts[i].schema, "exclusiveMinimum"), true, true);
        narrow(high, json_object_get(parts[i].schema, "maximum"), false, false);
        narrow(high, json_object_get(parts[i].schema, "exclusiveMaximum"), true, false);
    }
}

bool schema_counts(const schema_part *parts, size_t n, const char *least, const char *most, uint32_t *lo, uint32_t *hi)
{
    *lo = 0;
    *hi = REPEAT_UNBOUNDED;
    for (size_t i = 0; i < n; i++) {
        const json_t *a = json_object_get(parts[i].schema, least), *b = json_object_get(parts[i].schema, most);
        if (a && json_number_value(a) > *lo)
            *lo = (uint32_t)json_number_value(a);
        if (b && json_number_value(b) < *hi)
            *hi = (uint32_t)json_number_value(b);
    }
    return *lo || *hi != REPEAT_UNBOUNDED;
}

expr_id schema_number(schema_reader *s, const schema_part *parts, size_t n, bool integer)
{
    number_bound low, high;
    number_bounds(parts, n, &low, &high);
    expr_id e = integer               ? text_integer(s->t, low, high)
                : low.set || high.set ? text_number(s->t, low, high)
                                      : text_any_number(s->t);
    return e == EXPR_NEVER ? schema_unmet(s, parts[0].path, "minimum", "no number is between the bounds") : e;
}

/* ---- enum and const ------------------------------------------------------------------------------------------------------- */

static bool in_bounds(const schema_part *part, const json_t *value)
{
    number_bound low, high, v = {.whole = json_is_integer(value)};
    number_bounds(part, 1, &low, &high);
    if (v.whole)
        v.integer = json_integer_value(value);
    else
        v.real = json_real_value(value);
    long double x = wide(v);
    return (!low.set || x > wide(low) || (x == wide(low) && !low.open)) &&
           (!high.set || x < wide(high) || (x == wide(high) && !high.open));
}

static uint32_t characters(const json_t *text)
{
    const char *p = json_string_value(text);
    uint32_t n = 0;
    for (size_t i = 0; i < json_string_length(text); i++)
        n += (p[i] & 0xC0) != 0x80;
    return n;
}

static bool known_format(const json_t *format);

/* Words beside an enum that would have to be tried on its values. */
static bool too_much_beside(schema_reader *s, const schema_part *part, const json_t *value)
{
    static const char *const object_words[] = {"properties", "required", "additionalProperties", "minProperties",
                                               "maxProperties"},
                             *const array_words[] = {"items", "prefixItems", "minItems", "maxItems"};
    const char *word = NULL;
    for (int i = 0; json_is_object(value) && i < 5; i++)
        if (json_object_get(part->schema, object_words[i]))
            word = object_words[i];
    for (int i = 0; json_is_array(value) && i < 4; i++)
        if (json_object_get(part->schema, array_words[i]))
            word = array_words[i];
    if (json_is_string(value) && json_object_get(part->schema, "pattern"))
        word = "pattern";
    if (json_is_string(value) && known_format(json_object_get(part->schema, "format")))
        word = "format";
    if (word)
        schema_fail(s, part->path, word, ODMOE_ERR_UNSUPPORTED, "cannot be enforced beside enum or const");
    return word;
}

static bool allows(schema_reader *s, const schema_part *part, const json_t *value)
{
    const json_t *list = json_object_get(part->schema, "enum"), *only = json_object_get(part->schema, "const"), *one;
    uint32_t lo, hi;
    size_t i;
    bool listed = !list;
    json_array_foreach(list, i, one) listed |= schema_same(one, value);
    if (!(schema_type_of(value) & schema_wanted(s->form)) || s->form == FORM_TAGS) /* an enum's object has no tags */
        return false;
    if (!listed || (only && !schema_same(only, value)) || !(schema_types(part->schema) & schema_type_of(value)))
        return false;
    if (too_much_beside(s, part, value))
        return false;
    if (json_is_number(value))
        return in_bounds(part, value);
    if (!json_is_string(value))
        return true;
    schema_counts(part, 1, "minLength", "maxLength", &lo, &hi);
    return characters(value) >= lo && characters(value) <= hi;
}

static bool all_allow(schema_reader *s, const schema_part *parts, size_t n, const json_t *value)
{
    for (size_t i = 0; i < n; i++)
        if (!allows(s, &parts[i], value))
            return false;
    return true;
}

expr_id schema_enum(schema_reader *s, const schema_part *parts, size_t n, bool *found)
{
    const json_t *list = NULL, *only = NULL, *one;
    size_t at = 0, i;
    for (; at < n && !list && !only; at++) {
        list = json_object_get(parts[at].schema, "enum");
        only = json_object_get(parts[at].schema, "const");
    }
    *found = list || only;
    if (!*found)
        return EXPR_NEVER;
    expr_list values = {0};
    if (only && all_allow(s, parts, n, only))
        expr_list_add(s->g, &values, text_literal(s->t, only));
    json_array_foreach(list, i, one) if (!only && all_allow(s, parts, n, one))
        expr_list_add(s->g, &values, text_literal(s->t, one));
    expr_id e = s->g->status ? EXPR_NEVER : expr_alt(s->g, values.items, values.count);
    free(values.items);
    if (e == EXPR_NEVER)
        return schema_unmet(s, parts[at - 1].path, only ? "const" : "enum", "none of the values meets all the rest");
    return e;
}

/* ---- strings ----------------------------------------------------------------------------------------------------------------- */

/* Formats as patterns. A date is one of the calendar: 29 February only in years that have it, no year 0. */
#define LEAP_YEAR "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define YEAR "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
#define DATE                                                                                    \
    "((" YEAR "-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|" YEAR "-(0[13-9]|1[0-2])-(29|30)|" YEAR \
    "-(0[13578]|1[02])-31)|" LEAP_YEAR "-02-29)"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

static const struct {
    const char *name, *pattern;
} formats[] = {{"date", "^" DATE "$"},
               {"time", "^" TIME "$"},
               {"date-time", "^" DATE "T" TIME "$"},
               {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"}};

static const char *format_pattern(const json_t *format)
{
    for (size_t i = 0; json_is_string(format) && i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(json_string_value(format), formats[i].name))
            return formats[i].pattern;
    return NULL;
}

static bool known_format(const json_t *format)
{
    return format_pattern(format);
}

/* The one pattern or format among the parts; *word says which it is. More than one is an error. */
static const char *only_pattern(schema_reader *s, const schema_part *parts, size_t n, const char **word, uint32_t *path)
{
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *pattern = json_object_get(parts[i].schema, "pattern");
        const char *texts[2] = {json_string_value(pattern), format_pattern(json_object_get(parts[i].schema, "format"))};
        for (int k = 0; k < 2; k++) {
            if (!texts[k] || (found && !strcmp(found, texts[k])))
                continue;
            if (found)
                schema_fail(s, parts[i].path, k ? "format" : "pattern", ODMOE_ERR_UNSUPPORTED,
                            "cannot be enforced together with another pattern or format");
            found = texts[k];
            *word = k ? "format" : "pattern";
            *path = parts[i].path;
        }
    }
    return found;
}

static expr_id patterned(schema_reader *s, const char *pattern, const char *word, uint32_t path, uint32_t lo,
                         uint32_t hi)
{
    grammar_rules *g = s->g;
    odmoe_error *outer = g->err, inner;
    g->err = &inner; /* the message gets the path in front */
    regex_part p = regex_read(s->t, pattern, strlen(pattern));
    odmoe_status st = g->status;
    g->err = outer;
    if (st) {
        g->status = ODMOE_OK;
        return schema_fail(s, path, word, st, "%s", inner.message);
    }
    if (p.least < lo || p.most > hi)
        return schema_fail(s, path, word, ODMOE_ERR_UNSUPPORTED,
                           "cannot be enforced together with a minLength or maxLength that it does not keep by itself");
    return SEQ(g, text_quote(s->t), p.e, text_quote(s->t));
}

expr_id schema_string(schema_reader *s, const schema_part *parts, size_t n)
{
    uint32_t lo, hi, path = 0;
    const char *word = NULL, *pattern = only_pattern(s, parts, n, &word, &path);
    schema_counts(parts, n, "minLength", "maxLength", &lo, &hi);
    if (lo > hi)
        return schema_unmet(s, parts[0].path, "minLength", "more than maxLength");
    return pattern ? patterned(s, pattern, word, path, lo, hi) : text_string(s->t, lo, hi);
}

/* ---- arrays ------------------------------------------------------------------------------------------------------------------- */

#define CHAIN_STRETCH 50 /* links of a chain of expressions until a rule breaks it */

/* Item i, or with i >= the longest prefix any later one. */
static expr_id item(schema_reader *s, const schema_part *parts, size_t n, size_t i)
{
    part_list all = {.count = 0};
    for (size_t k = 0; k < n; k++) {
        const json_t *prefix = json_object_get(parts[k].schema, "prefixItems"),
                     *rest = json_object_get(parts[k].schema, "items");
        if (i < json_array_size(prefix))
            parts_add(s, &all, json_array_get(prefix, i),
                      schema_index(s, schema_word(s, parts[k].path, "prefixItems"), i));
        else if (rest)
            parts_add(s, &all, rest, schema_key(s, parts[k].path, "items"));
    }
    return schema_value(s, &all, FORM_VALUE);
}

static uint32_t minus(uint32_t a, uint32_t b)
{
    return a == REPEAT_UNBOUNDED ? a : a > b ? a - b : 0;
}

/* Items from number i on, each behind a comma. `hi` > i unless the rest is empty. */
static expr_id items_from(schema_reader *s, const schema_part *parts, size_t n, uint32_t prefix, uint32_t lo,
                          uint32_t hi)
{
    grammar_rules *g = s->g;
    expr_id tail = EXPR_EMPTY;
    uint32_t last = hi < prefix ? hi : prefix; /* items with schemas of their own */
    if (hi > prefix) {
        expr_id rest = item(s, parts, n, prefix);
        uint32_t from = prefix ? prefix : 1; /* without a prefix the first item stands before all commas */
        tail = expr_repeat(g, SEQ(g, text_comma(s->t), rest), minus(lo, from), minus(hi, from));
        if (!prefix)
            return SEQ(g, rest, tail);
    }
    for (uint32_t i = last; i-- > 0 && !g->status;) {
        expr_id one = item(s, parts, n, i);
        tail = i ? SEQ(g, text_comma(s->t), one, tail) : SEQ(g, one, tail);
        if (i >= lo && i)
            tail = expr_repeat(g, tail, 0, 1);
        if (i % CHAIN_STRETCH == CHAIN_STRETCH - 1)
            tail = schema_add_rule(s, "items", tail);
    }
    return tail;
}

expr_id schema_array(schema_reader *s, const schema_part *parts, size_t n)
{
    grammar_rules *g = s->g;
    uint32_t lo, hi, prefix = 0;
    schema_counts(parts, n, "minItems", "maxItems", &lo, &hi);
    bool any = lo == 0 && hi == REPEAT_UNBOUNDED;
    for (size_t i = 0; i < n; i++) {
        size_t own = json_array_size(json_object_get(parts[i].schema, "prefixItems"));
        prefix = own > prefix ? (uint32_t)own : prefix;
        any &= !own && !json_object_get(parts[i].schema, "items");
    }
    if (any)
        return text_any_array(s->t);
    for (uint32_t i = 0; i <= prefix && i < hi && !g->status; i++) /* the first item that cannot be ends the array */
        if (item(s, parts, n, i) == EXPR_NEVER)
            hi = i;
    if (lo > hi)
        return schema_unmet(s, parts[0].path, "minItems", "more items than there can be");
    expr_id items = hi ? SEQ(g, items_from(s, parts, n, prefix, lo, hi), text_blank(s->t)) : EXPR_EMPTY;
    return SEQ(g, TEXT(g, "["), text_blank(s->t), lo ? items : expr_repeat(g, items, 0, 1), TEXT(g, "]"));
}
