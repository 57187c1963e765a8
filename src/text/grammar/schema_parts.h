/* schema_parts.h - what the files schema*.c share: a schema as the list of those that have to hold at once.
 *
 * A schema, what its $ref and allOf name, a branch chosen from its anyOf: all have to hold. Such a list is reduced to one
 * rule; equal lists have the same rule, which is how recursive schemas end. Rules wait in a queue until their turn, so
 * that nothing here recurses as deep as a schema can. */
#ifndef ODMOE_TEXT_GRAMMAR_SCHEMA_PARTS_H
#define ODMOE_TEXT_GRAMMAR_SCHEMA_PARTS_H

#include "text/grammar/schema.h"

#define PARTS_MAX 128 /* schemas that have to hold at once */

enum { USED_ANY_OF = 1, USED_ONE_OF = 2 }; /* a branch has been chosen */

typedef struct schema_part {
    const json_t *schema; /* an object */
    uint32_t path;        /* in paths */
    uint32_t used;
} schema_part;

typedef struct part_list {
    schema_part items[PARTS_MAX];
    size_t count;
    bool never; /* `false` is among them */
} part_list;

/* A member's place: a key, or an index where key is NULL. Path 0 is the whole schema. */
typedef struct path_node {
    const char *key;
    size_t index;
    uint32_t parent, depth; /* schemas around it */
} path_node;

/* What is wanted of the values that meet a schema. */
typedef enum value_form {
    FORM_VALUE,  /* any */
    FORM_OBJECT, /* objects alone: the arguments of a call */
    FORM_TAGS,   /* the same, a tag for each member */
    FORM_TEXT,   /* strings as they stand, and null: what a tag holds */
    FORM_STRING, /* strings as they stand */
    FORM_NULL    /* null alone */
} value_form;

/* The types that a form wants, as bits. */
unsigned schema_wanted(value_form form);

typedef struct schema_job {
    size_t first, count; /* in `parts` */
    uint32_t rule;
    value_form form;
} schema_job;

typedef struct schema_reader {
    grammar_rules *g;
    json_text *t;    /* parts of JSON that several schemas share; for FORM_TEXT that of bare texts */
    value_form form; /* of the job that is done */
    const schema_writing *writing;
    const char *name; /* of the first rule, until that is made */
    const json_t *root;
    path_node *paths;
    schema_part *parts; /* of all jobs */
    schema_job *jobs;
    uint32_t *slots; /* job + 1 by its parts, open addressing */
    size_t paths_count, paths_capacity, parts_count, parts_capacity, jobs_count, jobs_capacity, slots_count;
    const json_t *open[PARTS_MAX]; /* schemas whose $ref is being followed */
    size_t open_count;
    bool unmet; /* a place that no value can meet has been noted */
} schema_reader;

/* schema_fail - keep an error at `key` of the schema at `path` (key may be NULL). Returns EXPR_NEVER. */
expr_id schema_fail(schema_reader *s, uint32_t path, const char *key, odmoe_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* schema_unmet - no value meets the schema here; told if that leaves nothing for the whole. Returns EXPR_NEVER. */
expr_id schema_unmet(schema_reader *s, uint32_t path, const char *key, const char *what);

/* schema_word - the place of a word's value ("properties"); schema_key, schema_index - of a schema in it. Only schemas
 * count as depth. */
uint32_t schema_word(schema_reader *s, uint32_t parent, const char *word);
uint32_t schema_key(schema_reader *s, uint32_t parent, const char *key);
uint32_t schema_index(schema_reader *s, uint32_t parent, size_t index);

/* parts_add - one more schema that has to hold, with what its $ref and allOf name. */
void parts_add(schema_reader *s, part_list *list, const json_t *schema, uint32_t path);

/* schema_value - the values that meet all parts; EXPR_NEVER where that is plain at once. */
expr_id schema_value(schema_reader *s, const part_list *parts, value_form form);

/* schema_add_rule - a rule with this body, so that long chains are not deep trees. */
expr_id schema_add_rule(schema_reader *s, const char *name, expr_id body);

/* The kinds of values, as bits. */
enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_NUMBER = 8, /* those that are no integers */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};
unsigned schema_types(const json_t *schema); /* what its `type` allows */
unsigned schema_type_of(const json_t *value);
bool schema_same(const json_t *a, const json_t *b); /* equal values, 1 and 1.0 too */

/* schema_counts - the highest of all parts' word `least`, the lowest of their word `most`. false: none has any. */
bool schema_counts(const schema_part *parts, size_t n, const char *least, const char *most, uint32_t *lo, uint32_t *hi);

/* The expressions of one type (schema_values.c, schema_object.c). */
expr_id schema_enum(schema_reader *s, const schema_part *parts, size_t n, bool *found);
expr_id schema_string(schema_reader *s, const schema_part *parts, size_t n);
expr_id schema_number(schema_reader *s, const schema_part *parts, size_t n, bool integer);
expr_id schema_array(schema_reader *s, const schema_part *parts, size_t n);
expr_id schema_object(schema_reader *s, const schema_part *parts, size_t n);

/* schema_check - words that are malformed or cannot be enforced, in one schema (schema_check.c). */
void schema_check(schema_reader *s, const json_t *schema, uint32_t path);
/* schema_check_one_of - are the branches told apart? */
void schema_check_one_of(schema_reader *s, const json_t *branches, uint32_t path);
/* schema_resolve - what a $ref names, through other $refs not; NULL with an error kept. */
const json_t *schema_resolve(schema_reader *s, const char *ref, uint32_t path, uint32_t *target);

#endif
