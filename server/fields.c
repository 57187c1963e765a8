#include "fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"

/* jansson and everything that walks its values is recursive: deeper ones could exhaust a thread's stack. */
enum { DEPTH_MOST = 200 };

static bool fill(problem *p, int status, const char *code, const char *param, const char *format, va_list args)
{
    *p = (problem){.status = status, .code = code};
    snprintf(p->param, sizeof p->param, "%s", param ? param : "");
    vsnprintf(p->message, sizeof p->message, format, args);
    return false;
}

bool problem_set(problem *p, int status, const char *code, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(p, status, code, param, format, args);
    va_end(args);
    return false;
}

field_path field_at(const char *where, const char *key)
{
    field_path path;
    if (!key)
        snprintf(path.text, sizeof path.text, "%s", where);
    else
        snprintf(path.text, sizeof path.text, "%s%s%s", where, *where ? "." : "", key);
    return path;
}

field_path field_index(const char *where, size_t i)
{
    field_path path;
    /* Longer paths than there is room for keep their beginning. */
    if (snprintf(path.text, sizeof path.text, "%s[%zu]", where, i) >= (int)sizeof path.text)
        path.text[sizeof path.text - 1] = 0;
    return path;
}

static bool fill_field(problem *p, const char *code, const char *where, const char *key, const char *format,
                       va_list args)
{
    field_path path = field_at(where, key);
    fill(p, 400, code, path.text, format, args);
    char message[sizeof p->message];
    memcpy(message, p->message, sizeof message);
    snprintf(p->message, sizeof p->message, "%.250s: %.500s", path.text, message);
    return false;
}

bool problem_value(problem *p, const char *where, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill_field(p, "invalid_value", where, key, format, args);
    va_end(args);
    return false;
}

bool problem_unsupported(problem *p, const char *where, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill_field(p, "unsupported_parameter", where, key, format, args);
    va_end(args);
    return false;
}

bool problem_memory(problem *p)
{
    problem_set(p, 503, "no_memory", NULL,
                "the memory for requests is used up; try again, or give the server a larger --ram");
    p->retry_after = 1;
    return false;
}

json_t *field_get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

bool field_bool(const json_t *object, const char *where, const char *key, bool *out, problem *p)
{
    const json_t *value = field_get(object, key);
    if (!value)
        return true;
    if (!json_is_boolean(value))
        return problem_value(p, where, key, "true or false is wanted");
    *out = json_is_true(value);
    return true;
}

bool field_whole(const json_t *value, int64_t *out)
{
    double real = json_number_value(value);
    if (json_is_integer(value))
        *out = json_integer_value(value);
    else if (json_is_real(value) && fabs(real) < 9.2e18 && real == floor(real))
        *out = (int64_t)real;
    else
        return false;
    return true;
}

bool field_int(const json_t *object, const char *where, const char *key, int64_t low, int64_t high, int64_t *out,
               problem *p)
{
    const json_t *value = field_get(object, key);
    if (!value)
        return true;
    int64_t number = 0;
    if (!field_whole(value, &number) || number < low || number > high)
        return problem_value(p, where, key, "a whole number from %lld to %lld is wanted", (long long)low,
                             (long long)high);
    *out = number;
    return true;
}

bool field_real(const json_t *object, const char *where, const char *key, double low, double high, double *out,
                problem *p)
{
    const json_t *value = field_get(object, key);
    if (!value)
        return true;
    double number = json_number_value(value);
    if (!json_is_number(value) || !isfinite(number) || number < low || number > high)
        return problem_value(p, where, key, "a number from %g to %g is wanted", low, high);
    *out = number;
    return true;
}

bool field_text(const json_t *object, const char *where, const char *key, const char **out, problem *p)
{
    const json_t *value = field_get(object, key);
    if (!value)
        return true;
    if (!json_is_string(value))
        return problem_value(p, where, key, "a string is wanted");
    *out = json_string_value(value);
    return true;
}

bool field_object(const json_t *object, const char *where, const char *key, json_t **out, problem *p)
{
    json_t *value = field_get(object, key);
    if (!value)
        return true;
    if (!json_is_object(value))
        return problem_value(p, where, key, "an object is wanted");
    *out = value;
    return true;
}

bool field_array(const json_t *object, const char *where, const char *key, json_t **out, problem *p)
{
    json_t *value = field_get(object, key);
    if (!value)
        return true;
    if (!json_is_array(value))
        return problem_value(p, where, key, "a list is wanted");
    *out = value;
    return true;
}

/* The depth of brackets outside of strings, as far as it is well-formed. */
static int depth_of(const char *body, size_t length)
{
    int depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        char c = body[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return deepest;
}

/* What is left of a text that jansson reads. */
typedef struct rest {
    const char *text;
    size_t length;
} rest;

/* The next piece; none once memory is short. */
static size_t next_piece(void *to, size_t room, void *user)
{
    rest *r = user;
    size_t n = memory_json_short(false) ? 0 : r->length < room ? r->length : room;
    if (n)
        memcpy(to, r->text, n);
    r->text += n;
    r->length -= n;
    return n;
}

json_t *field_parse(const char *body, size_t length, problem *p)
{
    json_error_t fault;
    if (depth_of(body, length) > DEPTH_MOST) {
        problem_set(p, 400, "invalid_json", NULL, "the body is nested more than %d levels deep", DEPTH_MOST);
        return NULL;
    }
    rest r = {body ? body : "", body ? length : 0};
    memory_json_short(true);
    json_t *value = json_load_callback(next_piece, &r, 0, &fault);
    if (!value) {
        if (memory_json_short(true) || json_error_code(&fault) == json_error_out_of_memory)
            problem_memory(p);
        else if (json_error_code(&fault) == json_error_numeric_overflow)
            problem_set(p, 400, "invalid_value", NULL, "a number in line %d, column %d is too large", fault.line,
                        fault.column);
        else
            problem_set(p, 400, "invalid_json", NULL, "the body is no JSON: line %d, column %d: %s", fault.line,
                        fault.column, fault.text);
        return NULL;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        problem_set(p, 400, "invalid_json", NULL, "the body must be a JSON object: {...}");
        return NULL;
    }
    return value;
}
