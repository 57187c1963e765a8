#include "text/grammar/parameter.h"

#include <string.h>

enum { REFERENCES_MAX = 16 };

/* What a local $ref names ("#/$defs/Colour"), or NULL. */
static const json_t *target(const json_t *root, const char *ref)
{
    char name[128];
    if (!ref || strncmp(ref, "#/", 2) != 0)
        return NULL;
    for (const char *at = ref + 2; root;) {
        size_t n = strcspn(at, "/");
        if (n >= sizeof name)
            return NULL;
        memcpy(name, at, n);
        name[n] = 0;
        root = json_object_get(root, name);
        if (!at[n])
            return root;
        at += n + 1;
    }
    return NULL;
}

static bool named(const json_t *type, const char *name)
{
    const json_t *one;
    size_t i;
    json_array_foreach(type, i, one) if (named(one, name)) return true;
    return json_is_string(type) && !strcmp(json_string_value(type), name);
}

/* Strings and null alone, at least one string? */
static bool all_texts(const json_t *list, bool *nullable)
{
    const json_t *one;
    size_t i;
    bool any = false;
    json_array_foreach(list, i, one)
    {
        if (!json_is_string(one) && !json_is_null(one))
            return false;
        any |= json_is_string(one);
        *nullable |= json_is_null(one);
    }
    return any;
}

bool parameter_says_nothing(const json_t *schema)
{
    static const char *const words[] = {"title", "description", "default", "examples", "example", "$comment", NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value)
    {
        bool found = false;
        for (int i = 0; words[i]; i++)
            found |= !strcmp(key, words[i]);
        if (!found)
            return false;
    }
    return true;
}

static parameter_kind kind_of(const json_t *root, const json_t *schema, int room, bool *nullable);

/* Every branch is a text or null. */
static bool branches_are_texts(const json_t *root, const json_t *list, int room, bool *nullable)
{
    const json_t *one;
    size_t i;
    bool any = false;
    json_array_foreach(list, i, one)
    {
        bool text = kind_of(root, one, room, nullable) == PARAMETER_TEXT,
             null = json_is_string(json_object_get(one, "type")) && named(json_object_get(one, "type"), "null");
        if (!text && !null)
            return false;
        any |= text;
        *nullable |= null;
    }
    return any;
}

static parameter_kind kind_of(const json_t *root, const json_t *schema, int room, bool *nullable)
{
    const json_t *ref = json_object_get(schema, "$ref"), *type = json_object_get(schema, "type"),
                 *any = json_object_get(schema, "anyOf"), *list = json_object_get(schema, "enum"),
                 *only = json_object_get(schema, "const");
    any = any ? any : json_object_get(schema, "oneOf");
    if (!schema || json_is_true(schema))
        return PARAMETER_ANY;
    if (room == 0 || !json_is_object(schema))
        return PARAMETER_JSON;
    if (ref)
        return kind_of(root, target(root, json_string_value(ref)), room - 1, nullable);
    if (type) {
        *nullable |= named(type, "null");
        return named(type, "string") ? PARAMETER_TEXT : PARAMETER_JSON;
    }
    if (any)
        return branches_are_texts(root, any, room - 1, nullable) ? PARAMETER_TEXT : PARAMETER_JSON;
    if (list || only)
        return json_is_string(only) || all_texts(list, nullable) ? PARAMETER_TEXT : PARAMETER_JSON;
    return parameter_says_nothing(schema) ? PARAMETER_ANY : PARAMETER_JSON;
}

parameter_kind parameter_kind_of(const json_t *parameters, const char *key, bool *nullable)
{
    const json_t *own = json_object_get(json_object_get(parameters, "properties"), key),
                 *others = json_object_get(parameters, "additionalProperties");
    *nullable = false;
    return kind_of(parameters, own ? own : json_is_object(others) ? others : NULL, REFERENCES_MAX, nullable);
}
