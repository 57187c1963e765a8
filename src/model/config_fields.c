#include "model/config_fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/config.h"
#include "model/files.h"

typedef enum field_type { FIELD_TYPE_int, FIELD_TYPE_float, FIELD_TYPE_bool } field_type;

typedef struct field {
    field_type type;
    bool per_layer;
    size_t offset; /* in model_config, or in layer_config */
    const char *what, *gguf, *hf;
    double min, max, fallback;
} field;

#define FIELD_OF_MODEL(t, name, what, gguf, hf, min, max, fallback) \
    {FIELD_TYPE_##t, false, offsetof(model_config, name), what, gguf, hf, min, max, fallback},
#define FIELD_OF_ROUTER(t, name, what, gguf, hf, min, max, fallback) \
    {FIELD_TYPE_##t, false, offsetof(model_config, router.name), what, gguf, hf, min, max, fallback},
#define FIELD_OF_GLU(t, name, what, gguf, hf, min, max, fallback) \
    {FIELD_TYPE_##t, false, offsetof(model_config, glu.name), what, gguf, hf, min, max, fallback},
#define FIELD_OF_LAYER(t, name, what, gguf, hf, min, max, fallback) \
    {FIELD_TYPE_##t, true, offsetof(layer_config, name), what, gguf, hf, min, max, fallback},

static const field fields[FIELD_COUNT] = {MODEL_FIELDS(FIELD_OF_MODEL) ROUTER_FIELDS(FIELD_OF_ROUTER)
                                              GLU_FIELDS(FIELD_OF_GLU) LAYER_FIELDS(FIELD_OF_LAYER)};

/* ---- values ---- */

/* Where a field lies; layer -1 for the model's own. */
static void *place_of(const field *f, const model_config *c, int layer)
{
    return f->per_layer ? (char *)&c->layer[layer] + f->offset : (char *)c + f->offset;
}

static double value_of(const field *f, const model_config *c, int layer)
{
    const void *at = place_of(f, c, layer);
    switch (f->type) {
    case FIELD_TYPE_int:
        return *(const int *)at;
    case FIELD_TYPE_float:
        return *(const float *)at;
    case FIELD_TYPE_bool:
        return *(const bool *)at;
    }
    return 0;
}

static void put(const field *f, model_config *c, int layer, double value)
{
    void *at = place_of(f, c, layer);
    switch (f->type) {
    case FIELD_TYPE_int:
        *(int *)at = (int)value;
        break;
    case FIELD_TYPE_float:
        *(float *)at = (float)value;
        break;
    case FIELD_TYPE_bool:
        *(bool *)at = value != 0;
        break;
    }
}

static void put_everywhere(const field *f, model_config *c, double value)
{
    for (int l = 0; l < (f->per_layer ? c->layers : 1); l++)
        put(f, c, l, value);
}

static odmoe_status make_layers(model_config *c, odmoe_error *err)
{
    if (c->layers < 1) /* fields_check has the message */
        return fields_check(c, err);
    c->layer = mem_calloc((size_t)c->layers, sizeof *c->layer, "the layers' configuration", err);
    return c->layer ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

/* ---- reading ---- */

/* One way to read: a file's format gives these. */
typedef struct field_source {
    const model_files *files; /* GGUF */
    const char *prefix;
    config_object json; /* config.json */
    bool counted;       /* of the field under way: field_rule.hf_counted */
    odmoe_error *err;
} field_source;

/* Read `key`, one of a field's keys, if it is there: *found says. */
typedef odmoe_status read_key(const field_source *s, const field *f, const char *key, model_config *c, bool *found);

/* A list of n entries, one a layer: `entry` reads entry i. */
static odmoe_status put_list(const field_source *s, const field *f, const char *file, const char *key, uint64_t n,
                             odmoe_status (*entry)(const field_source *s, const field *f, const char *key, uint64_t i,
                                                   double *out),
                             model_config *c)
{
    if (c->layer && n != (uint64_t)c->layers)
        return err_set(s->err, ODMOE_ERR_FORMAT, "%s: %s is a list of %llu numbers for %d layers", file, key,
                       (unsigned long long)n, c->layers);
    double first = 0;
    for (uint64_t i = 0; i < n; i++) {
        double value = 0;
        odmoe_status status = entry(s, f, key, i, &value);
        if (status)
            return status;
        if (!f->per_layer && i > 0 && value != first)
            return err_set(s->err, ODMOE_ERR_UNSUPPORTED,
                           "%s: %s differs between layers (%g and %g): only models with one %s are supported", file,
                           key, first, value, f->what);
        first = i ? first : value;
        put(f, c, f->per_layer ? (int)i : -1, value);
    }
    return ODMOE_OK;
}

static odmoe_status gguf_entry(const field_source *s, const field *f, const char *key, uint64_t i, double *out)
{
    odmoe_status status;
    int64_t whole;
    if (f->type == FIELD_TYPE_float) {
        status = gguf_array_float(s->files->gguf, key, i, out, s->err);
    } else {
        status = gguf_array_int(s->files->gguf, key, i, &whole, s->err);
        *out = (double)whole;
    }
    if (!status && !(fabs(*out) <= f->max))
        return err_set(s->err, ODMOE_ERR_FORMAT, "%s: %s: entry %llu is %g, at most %g is possible", s->files->path,
                       key, (unsigned long long)i, *out, f->max);
    return status;
}

static odmoe_status read_gguf_key(const field_source *s, const field *f, const char *key, model_config *c, bool *found)
{
    char name[128];
    gguf_type type;
    uint64_t n;
    const gguf *g = s->files->gguf;
    snprintf(name, sizeof name, "%s.%s", s->prefix, key);
    *found = gguf_has(g, name);
    if (!*found)
        return ODMOE_OK;
    if (!gguf_get_array(g, name, &type, &n, NULL))
        return put_list(s, f, s->files->path, name, n, gguf_entry, c);
    odmoe_status status;
    double real = 0;
    int64_t whole = 0;
    bool flag = false;
    if (f->type == FIELD_TYPE_float)
        status = gguf_get_float(g, name, &real, s->err);
    else if (f->type == FIELD_TYPE_bool)
        status = gguf_get_bool(g, name, &flag, s->err);
    else
        status = gguf_get_int(g, name, 0, (int64_t)f->max, &whole, s->err);
    if (!status)
        put_everywhere(f, c, f->type == FIELD_TYPE_float ? real : f->type == FIELD_TYPE_bool ? flag : (double)whole);
    return status;
}

static odmoe_status hf_entry(const field_source *s, const field *f, const char *key, uint64_t i, double *out)
{
    const json_t *v = json_array_get(json_object_get(s->json.object, key), (size_t)i);
    if (!(f->type == FIELD_TYPE_float ? json_is_number(v) : json_is_integer(v)))
        return err_set(s->err, ODMOE_ERR_FORMAT, "%s: %s: entry %llu is no number", s->json.file, key,
                       (unsigned long long)i);
    *out = json_number_value(v);
    if (!(*out >= f->min && *out <= f->max))
        return err_set(s->err, ODMOE_ERR_FORMAT, "%s: %s: entry %llu is %g, expected %g to %g", s->json.file, key,
                       (unsigned long long)i, *out, f->min, f->max);
    return ODMOE_OK;
}

/* How many entries, or letters, a list has. */
static odmoe_status put_count(const field_source *s, const field *f, const char *key, const json_t *list,
                              model_config *c)
{
    size_t n = json_is_string(list) ? json_string_length(list) : json_array_size(list);
    if ((double)n > f->max)
        return err_set(s->err, ODMOE_ERR_FORMAT, "%s: %s has %zu entries, at most %g are possible", s->json.file, key,
                       n, f->max);
    put_everywhere(f, c, (double)n);
    return ODMOE_OK;
}

static odmoe_status read_hf_key(const field_source *s, const field *f, const char *key, model_config *c, bool *found)
{
    const json_t *v = json_object_get(s->json.object, key);
    *found = v && !json_is_null(v);
    if (!*found)
        return ODMOE_OK;
    if (s->counted && (json_is_array(v) || json_is_string(v)))
        return put_count(s, f, key, v, c);
    if (json_is_array(v) && f->type != FIELD_TYPE_bool)
        return put_list(s, f, s->json.file, key, json_array_size(v), hf_entry, c);
    odmoe_status status;
    double real = 0;
    int64_t whole = 0;
    bool flag = false;
    if (f->type == FIELD_TYPE_float)
        status = config_float(s->json, key, true, f->min == FIELD_ABOVE_0 ? 0 : f->min, f->max, 0, &real, s->err);
    else if (f->type == FIELD_TYPE_bool)
        status = config_bool(s->json, key, true, false, &flag, s->err);
    else
        status = config_int(s->json, key, true, (int64_t)f->min, (int64_t)f->max, 0, &whole, s->err);
    if (!status)
        put_everywhere(f, c, f->type == FIELD_TYPE_float ? real : f->type == FIELD_TYPE_bool ? flag : (double)whole);
    return status;
}

/* Try the keys in "a|b" one after the other. */
static odmoe_status read_keys(const field_source *s, const field *f, const char *keys, read_key *read, model_config *c,
                              bool *found)
{
    odmoe_status status = ODMOE_OK;
    *found = false;
    while (keys && *keys && !*found && !status) {
        char key[96];
        size_t length = strcspn(keys, "|");
        snprintf(key, sizeof key, "%.*s", (int)length, keys);
        status = read(s, f, key, c, found);
        keys += length + (keys[length] == '|');
    }
    return status;
}

static odmoe_status read_one(const field_source *s, const field *f, const char *keys, double fallback, read_key *read,
                             model_config *c)
{
    bool found;
    odmoe_status status = read_keys(s, f, keys, read, c, &found);
    if (status || found)
        return status;
    if (isnan(fallback) && keys) {
        const char *prefix = s->prefix ? s->prefix : "", *dot = s->prefix ? "." : "";
        const char *other = strchr(keys, '|');
        return err_set(s->err, ODMOE_ERR_FORMAT, "%s: %s%s%.*s%s%s (%s) is missing",
                       s->files ? s->files->path : s->json.file, prefix, dot, (int)strcspn(keys, "|"), keys,
                       other ? " or " : "", other ? other + 1 : "", f->what);
    }
    put_everywhere(f, c, isnan(fallback) ? 0 : fallback);
    return ODMOE_OK;
}

static const field_rule *rule_of(const field_rule *rules, config_field id)
{
    for (; rules && rules->field != FIELD_COUNT; rules++)
        if (rules->field == id)
            return rules;
    return NULL;
}

static odmoe_status read_all(field_source *s, const field_rule *rules, read_key *read, model_config *c)
{
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < FIELD_COUNT && !status; i++) {
        const field *f = &fields[i];
        const field_rule *rule = rule_of(rules, (config_field)i);
        const char *keys = read == read_gguf_key ? (rule ? rule->gguf : f->gguf) : rule ? rule->hf : f->hf;
        double fallback = rule ? rule->fallback : f->fallback;
        if (rule && rule->hf_required && read == read_hf_key)
            fallback = FIELD_REQUIRED;
        s->counted = rule && rule->hf_counted;
        status = read_one(s, f, keys, fallback, read, c);
        if (!status && i == FIELD_layers)
            status = make_layers(c, s->err);
    }
    return status;
}

odmoe_status fields_read_gguf(const model_files *files, const char *prefix, const field_rule *rules, model_config *c,
                              odmoe_error *err)
{
    field_source s = {.files = files, .prefix = prefix, .err = err};
    return read_all(&s, rules, read_gguf_key, c);
}

odmoe_status fields_read_hf(const config_object *json, const field_rule *rules, model_config *c, odmoe_error *err)
{
    field_source s = {.json = *json, .err = err};
    return read_all(&s, rules, read_hf_key, c);
}

/* ---- checking and showing ---- */

static odmoe_status check_one(const field *f, double value, odmoe_error *err)
{
    if (value >= f->min && value <= f->max)
        return ODMOE_OK;
    if (f->min == FIELD_ABOVE_0)
        return err_set(err, ODMOE_ERR_FORMAT, "%s is %g, expected more than 0 and up to %g", f->what, value, f->max);
    return err_set(err, ODMOE_ERR_FORMAT, "%s is %.10g, expected %.10g to %.10g", f->what, value, f->min, f->max);
}

odmoe_status fields_check(const model_config *c, odmoe_error *err)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        for (int l = 0; l < (fields[i].per_layer ? c->layers : 1); l++) {
            odmoe_status status = check_one(&fields[i], value_of(&fields[i], c, l), err);
            if (status)
                return status;
        }
    return ODMOE_OK;
}

void fields_visit(const model_config *c, void (*visit)(void *ctx, const char *what, int layer, double value), void *ctx)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        for (int l = 0; l < (fields[i].per_layer ? c->layers : 1); l++)
            visit(ctx, fields[i].what, fields[i].per_layer ? l : -1, value_of(&fields[i], c, l));
}

bool fields_flag(const model_config *c, config_field id, int layer)
{
    return value_of(&fields[id], c, layer) != 0;
}

const char *fields_what(config_field id)
{
    return fields[id].what;
}

const char *fields_hf_key(const field_rule *rules, config_field id)
{
    const field_rule *rule = rule_of(rules, id);
    return rule ? rule->hf : fields[id].hf;
}
