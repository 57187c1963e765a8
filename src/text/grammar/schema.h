/* schema.h - read a JSON Schema (draft 2020-12, and what older drafts write alike) as a grammar of JSON texts.
 *
 * Enforced: type (lists, too), properties required additionalProperties minProperties maxProperties, items prefixItems
 * minItems maxItems, enum const, anyOf, oneOf whose branches a type or a constant tells apart, allOf, local $ref
 * (recursive, too), minLength maxLength pattern (regex.h), format date, time, date-time, uuid, minimum maximum
 * exclusiveMinimum exclusiveMaximum. Annotations, unknown keywords and other formats are ignored. A keyword that cannot be
 * enforced is an error that names its path.
 *
 * Texts: members in the order of the schema, then additional ones; at most one blank between two tokens; numbers of at
 * most 20 digits before and behind the point. So the language is a part of what the schema allows, never more. */
#ifndef ODMOE_TEXT_GRAMMAR_SCHEMA_H
#define ODMOE_TEXT_GRAMMAR_SCHEMA_H

#include "text/grammar/json_text.h"

#define SCHEMA_DEPTH_MAX 64 /* schemas in schemas */

/* How the values are written. */
typedef struct schema_writing {
    json_text *value; /* JSON, or what a family has in its place */
    json_text *keys;  /* of members that the schema does not name, where they stand without quotes; or NULL */
    /* The arguments of a call as tags: a member with its name and value; NULL: as an object. `text`: the value is a text,
     * not JSON. */
    expr_id (*tag)(void *user, expr_id key, expr_id value, bool text);
    void *user;
    const char *between; /* two tags; or NULL */
    json_text *names;    /* of members in tags; NULL: they stand as they are */
    bool null_apart;     /* a tag that holds a text cannot hold null */
    json_text *bare;     /* texts in tags; NULL: they are written as all values are */
} schema_writing;

/* schema_read_arguments - the objects that meet the schema of a tool's parameters, which outlives the call; as schema_read
 * otherwise. */
uint32_t schema_read_arguments(const schema_writing *writing, const char *name, const json_t *parameters);

/* schema_read - text[0, length) as rules of t->g; the result is the rule for the whole, which gets the name. Errors are
 * kept in g, with the path in g->fault: ERR_FORMAT (no JSON, or no schema), ERR_RANGE (a limit), ERR_UNSUPPORTED (cannot
 * be enforced), ERR_MEMORY. */
uint32_t schema_read(json_text *t, const char *name, const char *text, size_t length);

#endif
