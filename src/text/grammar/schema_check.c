#include <stdlib.h>
#include <string.h>

#include "text/grammar/schema_parts.h"

#define BRANCHES_MAX 256 /* of a oneOf: all pairs are compared */

/* ---- types -------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned types;
} type_names[] = {{"null", TYPE_NULL},       {"boolean", TYPE_BOOLEAN},
                  {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_NUMBER},
                  {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                  {"object", TYPE_OBJECT}};

static unsigned type_named(const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < sizeof type_names / sizeof *type_names; i++)
        if (!strcmp(json_string_value(name), type_names[i].name))
            return type_names[i].types;
    return 0;
}

unsigned schema_types(const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *one;
    unsigned types = 0;
    size_t i;
    if (!type)
        return TYPE_ALL;
    json_array_foreach(type, i, one) types |= type_named(one);
    return types | type_named(type);
}

unsigned schema_type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return TYPE_BOOLEAN;
    case JSON_INTEGER:
        return TYPE_INTEGER;
    case JSON_REAL: {
        double v = json_real_value(value);
        return v >= -9e15 && v <= 9e15 && v == (double)(int64_t)v ? TYPE_INTEGER : TYPE_NUMBER;
    }
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    default:
        return TYPE_OBJECT;
    }
}

bool schema_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b) && json_typeof(a) != json_typeof(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

/* ---- words of a schema ---------------------------------------------------------------------------------------------------- */

/* Words that cannot be enforced, and why or what else to write. */
static const struct {
    const char *word, *why;
} refused[] = {{"not", "what a value is not cannot be enforced"},
               {"if", "conditions cannot be enforced; use anyOf"},
               {"then", "conditions cannot be enforced; use anyOf"},
               {"else", "conditions cannot be enforced; use anyOf"},
               {"patternProperties", "cannot be enforced; use additionalProperties"},
               {"propertyNames", "cannot be enforced"},
               {"contains", "cannot be enforced; use prefixItems or items"},
               {"minContains", "cannot be enforced"},
               {"maxContains", "cannot be enforced"},
               {"multipleOf", "cannot be enforced; use integer or enum"},
               {"dependentRequired", "cannot be enforced; use anyOf"},
               {"dependentSchemas", "cannot be enforced; use anyOf"},
               {"dependencies", "cannot be enforced; use anyOf"},
               {"unevaluatedProperties", "cannot be enforced; use additionalProperties"},
               {"unevaluatedItems", "cannot be enforced; use items"},
               {"additionalItems", "cannot be enforced; use prefixItems and items"},
               {"$dynamicRef", "cannot be enforced; use $ref"},
               {"$recursiveRef", "cannot be enforced; use $ref"}};

static void malformed(schema_reader *s, uint32_t path, const char *word, const char *what)
{
    schema_fail(s, path, word, ODMOE_ERR_FORMAT, "%s", what);
}

static void check_type(schema_reader *s, const json_t *type, uint32_t path)
{
    const json_t *one;
    size_t i;
    if (json_is_array(type) && json_array_size(type)) {
        json_array_foreach(type, i, one) if (!type_named(one))
            malformed(s, path, "type", "null boolean integer number string array object are the types");
    } else if (!type_named(type)) {
        malformed(s, path, "type", "null boolean integer number string array object are the types");
    }
}

static bool is_natural(const json_t *v)
{
    return json_is_number(v) && json_number_value(v) >= 0 && schema_type_of(v) == TYPE_INTEGER;
}

static void check_count(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (!is_natural(v))
        malformed(s, path, word, "a number from 0 on is wanted");
    else if (json_number_value(v) > GRAMMAR_REPEAT_MAX)
        schema_fail(s, path, word, ODMOE_ERR_RANGE, "more than %d repetitions cannot be enforced", GRAMMAR_REPEAT_MAX);
}

static void check_schemas(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (!json_is_array(v) || !json_array_size(v))
        malformed(s, path, word, "a list of schemas is wanted");
}

static void check_schema(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (json_is_array(v))
        malformed(s, path, word, "a list is written prefixItems");
    else if (!json_is_object(v) && !json_is_boolean(v))
        malformed(s, path, word, "a schema is an object, true or false");
}

static void check_members(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (!json_is_object(v))
        malformed(s, path, word, "an object of schemas is wanted");
}

static void check_names(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    const json_t *name;
    size_t i;
    if (!json_is_array(v))
        malformed(s, path, word, "a list of names is wanted");
    json_array_foreach(v, i, name) if (!json_is_string(name)) malformed(s, path, word, "a list of names is wanted");
}

static void check_enum(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (!json_is_array(v) || !json_array_size(v))
        malformed(s, path, word, "a list of at least one value is wanted");
}

static void check_number(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (!json_is_number(v))
        malformed(s, path, word, "a number is wanted");
}

static void check_text(schema_reader *s, const json_t *v, uint32_t path, const char *word)
{
    if (!json_is_string(v))
        malformed(s, path, word, "a text is wanted");
}

static const struct {
    const char *word;
    void (*check)(schema_reader *s, const json_t *v, uint32_t path, const char *word);
} words[] = {{"minLength", check_count},
             {"maxLength", check_count},
             {"minProperties", check_count},
             {"maxProperties", check_count},
             {"minItems", check_count},
             {"maxItems", check_count},
             {"anyOf", check_schemas},
             {"oneOf", check_schemas},
             {"allOf", check_schemas},
             {"prefixItems", check_schemas},
             {"items", check_schema},
             {"additionalProperties", check_schema},
             {"properties", check_members},
             {"required", check_names},
             {"enum", check_enum},
             {"minimum", check_number},
             {"maximum", check_number},
             {"exclusiveMinimum", check_number},
             {"exclusiveMaximum", check_number},
             {"pattern", check_text},
             {"format", check_text},
             {"$ref", check_text}};

void schema_check(schema_reader *s, const json_t *schema, uint32_t path)
{
    if (!json_is_object(schema)) {
        malformed(s, path, NULL, "a schema is an object, true or false");
        return;
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (json_object_get(schema, refused[i].word))
            schema_fail(s, path, refused[i].word, ODMOE_ERR_UNSUPPORTED, "%s", refused[i].why);
    const json_t *v = json_object_get(schema, "uniqueItems");
    if (v && !json_is_false(v))
        schema_fail(s, path, "uniqueItems", ODMOE_ERR_UNSUPPORTED, "cannot be enforced");
    v = json_object_get(schema, "type");
    if (v)
        check_type(s, v, path);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        v = json_object_get(schema, words[i].word);
        if (v)
            words[i].check(s, v, path, words[i].word);
    }
}

/* ---- $ref ------------------------------------------------------------------------------------------------------------------ */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One step of a JSON pointer, decoded into out [strlen(p) + 1]; returns what is left. */
static const char *step(const char *p, char *out)
{
    size_t n = 0;
    for (; *p && *p != '/'; p++) {
        char c = *p;
        if (c == '%' && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
            c = (char)(hex(p[1]) << 4 | hex(p[2]));
            p += 2;
        }
        if (c == '~' && (p[1] == '0' || p[1] == '1'))
            c = *++p == '0' ? '~' : '/';
        out[n++] = c;
    }
    out[n] = 0;
    return p;
}

/* The member of `at` named by a step; *key is the name as it lives in the schema. */
static const json_t *member(const json_t *at, const char *name, const char **key, size_t *index)
{
    *key = NULL;
    if (json_is_array(at)) {
        char *end;
        unsigned long i = strtoul(name, &end, 10);
        *index = i;
        return *name && !*end && *name != '-' ? json_array_get(at, i) : NULL;
    }
    void *found = json_object_iter_at((json_t *)at, name);
    if (!found)
        return NULL;
    *key = json_object_iter_key(found);
    return json_object_iter_value(found);
}

const json_t *schema_resolve(schema_reader *s, const char *ref, uint32_t path, uint32_t *target)
{
    if (!ref || ref[0] != '#' || (ref[1] && ref[1] != '/')) {
        schema_fail(s, path, "$ref", ODMOE_ERR_UNSUPPORTED, "only references inside the schema (#/...) are supported");
        return NULL;
    }
    const json_t *at = s->root;
    *target = 0;
    char *name = malloc(strlen(ref) + 1);
    if (!name) {
        schema_fail(s, path, "$ref", ODMOE_ERR_MEMORY, "no memory for a reference");
        return NULL;
    }
    for (const char *p = ref + 1; at && *p == '/';) {
        const char *key;
        size_t index = 0;
        p = step(p + 1, name);
        at = member(at, name, &key, &index);
        *target = key ? schema_word(s, *target, key) : schema_index(s, *target, index);
    }
    free(name);
    if (!at)
        schema_fail(s, path, "$ref", ODMOE_ERR_FORMAT, "%.100s is not in the schema", ref);
    return at;
}

/* ---- oneOf ------------------------------------------------------------------------------------------------------------------ */

/* What a schema is for telling branches apart: itself, or what its $ref names. */
static const json_t *plain(schema_reader *s, const json_t *schema, uint32_t path)
{
    for (int i = 0; i < 16 && json_object_get(schema, "$ref"); i++) {
        uint32_t unused;
        const json_t *to = schema_resolve(s, json_string_value(json_object_get(schema, "$ref")), path, &unused);
        if (!json_is_object(to))
            break;
        schema = to;
    }
    return schema;
}

/* The constants that a schema names: its enum, or a list of its const in *own; NULL where there are none. */
static const json_t *constants(const json_t *schema, json_t **own)
{
    const json_t *one = json_object_get(schema, "const");
    *own = NULL;
    if (!one)
        return json_object_get(schema, "enum");
    *own = json_array();
    json_array_append(*own, (json_t *)one);
    return *own;
}

/* Both name constants, and none is in both lists; or constants of one that the other's type excludes. */
static bool constants_apart(const json_t *a, const json_t *b)
{
    json_t *own_a, *own_b, *x, *y;
    const json_t *list_a = constants(a, &own_a), *list_b = constants(b, &own_b);
    bool apart = list_a && list_b;
    size_t i, k;
    json_array_foreach(list_a, i, x) json_array_foreach(list_b, k, y) apart &= !schema_same(x, y);
    bool outside_b = list_a != NULL, outside_a = list_b != NULL;
    json_array_foreach(list_a, i, x) outside_b &= !(schema_type_of(x) & schema_types(b));
    json_array_foreach(list_b, i, x) outside_a &= !(schema_type_of(x) & schema_types(a));
    json_decref(own_a);
    json_decref(own_b);
    return apart || outside_a || outside_b;
}

static bool requires(const json_t *schema, const char *name)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i,
                       one) if (!strcmp(json_string_value(one) ? json_string_value(one) : "", name)) return true;
    return false;
}

static bool apart(schema_reader *s, const json_t *a, const json_t *b, uint32_t path)
{
    a = plain(s, a, path);
    b = plain(s, b, path);
    if (json_is_false(a) || json_is_false(b))
        return true;
    if (!json_is_object(a) || !json_is_object(b))
        return false;
    if (!(schema_types(a) & schema_types(b)) || constants_apart(a, b))
        return true;
    if (schema_types(a) != TYPE_OBJECT || schema_types(b) != TYPE_OBJECT)
        return false;
    const char *name;
    json_t *x;
    json_object_foreach(json_object_get(a, "properties"), name, x)
    {
        const json_t *y = json_object_get(json_object_get(b, "properties"), name);
        if (!y || !requires(a, name) || !requires(b, name))
            continue;
        const json_t *p = plain(s, x, path), *q = plain(s, y, path);
        if (json_is_object(p) && json_is_object(q) && (!(schema_types(p) & schema_types(q)) || constants_apart(p, q)))
            return true;
    }
    return false;
}

void schema_check_one_of(schema_reader *s, const json_t *branches, uint32_t path)
{
    size_t n = json_array_size(branches);
    if (n > BRANCHES_MAX)
        schema_fail(s, path, NULL, ODMOE_ERR_RANGE, "more than %d branches; use anyOf", BRANCHES_MAX);
    for (size_t i = 0; i < n && !s->g->status; i++)
        for (size_t k = i + 1; k < n && !s->g->status; k++)
            if (!apart(s, json_array_get(branches, i), json_array_get(branches, k), path))
                schema_fail(s, path, NULL, ODMOE_ERR_UNSUPPORTED,
                            "branches %zu and %zu are not told apart by a type or a required constant; use anyOf", i,
                            k);
}
