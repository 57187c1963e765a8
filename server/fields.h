/* fields.h - reading the fields of a request, and what is wrong with one.
 *
 * A field that is null is absent. Readers leave *out as it was for an absent field, and return false with `p` filled
 * for one of another type or out of its range. `where` is the path of the object that holds the field: "" for the
 * request itself, else "messages[2]" or "stream_options".
 *
 * Threads: any. */
#ifndef ODMOE_SERVER_FIELDS_H
#define ODMOE_SERVER_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Why a request gets no answer. */
typedef struct problem {
    int status;       /* of HTTP */
    const char *code; /* "invalid_value" ...; static */
    char param[256];  /* path of the field; empty: none is to blame */
    char message[768];
    int retry_after;                    /* seconds; 0: no such header */
    const char *allow;                  /* methods, for 405; or NULL */
    int64_t n_prompt_tokens, n_context; /* of a prompt that is too long; 0: another problem */
} problem;

/* problem_set - fill p; param may be NULL. Returns false, for `return problem_set(...)`. */
bool problem_set(problem *p, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* problem_value - 400 invalid_value of field `key` of the object at `where`; the message begins with the field's path. key
 * NULL: of the object itself. problem_unsupported - 400 unsupported_parameter, likewise. */
bool problem_value(problem *p, const char *where, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool problem_unsupported(problem *p, const char *where, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* problem_memory - 503 no_memory. */
bool problem_memory(problem *p);

/* A path of a field, as `where` wants it. */
typedef struct field_path {
    char text[256];
} field_path;
field_path field_at(const char *where, const char *key); /* "where.key"; where "": "key" */
field_path field_index(const char *where, size_t i);     /* "where[i]" */

/* field_get - the value of a field; NULL: absent or null. */
json_t *field_get(const json_t *object, const char *key);

bool field_bool(const json_t *object, const char *where, const char *key, bool *out, problem *p);
/* field_whole - a whole number, which may be written 8.0. false: it is not one, or int64_t cannot hold it. field_int - a
 * field with such a number. */
bool field_whole(const json_t *value, int64_t *out);
bool field_int(const json_t *object, const char *where, const char *key, int64_t low, int64_t high, int64_t *out,
               problem *p);
bool field_real(const json_t *object, const char *where, const char *key, double low, double high, double *out,
                problem *p);
/* The values are borrowed from the object. */
bool field_text(const json_t *object, const char *where, const char *key, const char **out, problem *p);
bool field_object(const json_t *object, const char *where, const char *key, json_t **out, problem *p);
bool field_array(const json_t *object, const char *where, const char *key, json_t **out, problem *p);

/* field_parse - one JSON object from body[0, length): nothing behind it, valid UTF-8, no \u0000, at most 200 levels deep. A new reference;
 * NULL: 400 invalid_json; invalid_value for a number that 64 bits do not hold; 503 when it is too large for the account (memory.h). */
json_t *field_parse(const char *body, size_t length, problem *p);

#endif
