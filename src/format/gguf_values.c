/* Metadata that gguf.c has checked: find a key, convert its value. */
#include "format/gguf_private.h"

#include <math.h>
#include <string.h>

#include "format/file.h"

/* X(type, bytes, name) */
#define TYPES(X)                \
    X(GGUF_U8, 1, "u8")         \
    X(GGUF_I8, 1, "i8")         \
    X(GGUF_U16, 2, "u16")       \
    X(GGUF_I16, 2, "i16")       \
    X(GGUF_U32, 4, "u32")       \
    X(GGUF_I32, 4, "i32")       \
    X(GGUF_F32, 4, "f32")       \
    X(GGUF_BOOL, 1, "bool")     \
    X(GGUF_STRING, 0, "string") \
    X(GGUF_ARRAY, 0, "array")   \
    X(GGUF_U64, 8, "u64")       \
    X(GGUF_I64, 8, "i64")       \
    X(GGUF_F64, 8, "f64")

int gguf_type_bytes(gguf_type type)
{
    static const uint8_t bytes[GGUF_TYPE_COUNT] = {
#define BYTES(type, bytes, name) [type] = bytes,
        TYPES(BYTES)
#undef BYTES
    };
    return bytes[type];
}

const char *gguf_type_name(uint64_t type)
{
    static const char *const names[GGUF_TYPE_COUNT] = {
#define NAME(type, bytes, name) [type] = name,
        TYPES(NAME)
#undef NAME
    };
    return type < GGUF_TYPE_COUNT ? names[type] : "unknown";
}

gguf_entry *gguf_find(const gguf *g, const char *key)
{
    size_t length = strlen(key), low = 0, high = g->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        gguf_entry *e = &g->entries[middle];
        size_t common = e->key_length < length ? e->key_length : length;
        int order = memcmp(g->data + e->key, key, common);
        if (!order && e->key_length == length)
            return e;
        if (order < 0 || (!order && e->key_length < length))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool gguf_has(const gguf *g, const char *key)
{
    return gguf_find(g, key) != NULL;
}

/* The entry, or NULL with err set. */
static gguf_entry *must_find(const gguf *g, const char *key, odmoe_error *err)
{
    gguf_entry *e = gguf_find(g, key);
    if (!e)
        err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is missing", file_label(g->path), key);
    return e;
}

static odmoe_status wrong_kind(const gguf *g, const char *key, gguf_type is, const char *wanted, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is of type %s, not %s", file_label(g->path), key,
                   gguf_type_name(is), wanted);
}

/* An integer of any width at `at`; false for other types and above INT64_MAX. */
static bool to_int(gguf_type type, const unsigned char *at, int64_t *out)
{
    uint64_t raw = gguf_number(at, gguf_type_bytes(type));
    switch (type) {
    case GGUF_I8:
        *out = (int8_t)raw;
        return true;
    case GGUF_I16:
        *out = (int16_t)raw;
        return true;
    case GGUF_I32:
        *out = (int32_t)raw;
        return true;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_I64:
        *out = (int64_t)raw;
        return true;
    case GGUF_U64:
        *out = (int64_t)raw;
        return raw <= INT64_MAX;
    default:
        return false;
    }
}

static bool to_float(gguf_type type, const unsigned char *at, double *out)
{
    if (type == GGUF_F32) {
        uint32_t bits = (uint32_t)gguf_number(at, 4);
        float f;
        memcpy(&f, &bits, 4);
        *out = f;
    } else if (type == GGUF_F64) {
        uint64_t bits = gguf_number(at, 8);
        memcpy(out, &bits, 8);
    }
    return type == GGUF_F32 || type == GGUF_F64;
}

static bool is_int(gguf_type type)
{
    return type != GGUF_F32 && type != GGUF_F64 && type != GGUF_BOOL && type != GGUF_STRING && type != GGUF_ARRAY;
}

odmoe_status gguf_get_int(const gguf *g, const char *key, int64_t min, int64_t max, int64_t *out, odmoe_error *err)
{
    const gguf_entry *e = must_find(g, key, err);
    int64_t value;
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (!is_int(e->type))
        return wrong_kind(g, key, e->type, "an integer", err);
    if (!to_int(e->type, g->data + e->value, &value))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is above 2^63", file_label(g->path), key);
    if (value < min || value > max)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is %lld, must be %lld to %lld", file_label(g->path),
                       key, (long long)value, (long long)min, (long long)max);
    *out = value;
    return ODMOE_OK;
}

odmoe_status gguf_get_float(const gguf *g, const char *key, double *out, odmoe_error *err)
{
    const gguf_entry *e = must_find(g, key, err);
    double value;
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (!to_float(e->type, g->data + e->value, &value))
        return wrong_kind(g, key, e->type, "f32 or f64", err);
    if (!isfinite(value))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is not a finite number", file_label(g->path), key);
    *out = value;
    return ODMOE_OK;
}

odmoe_status gguf_get_bool(const gguf *g, const char *key, bool *out, odmoe_error *err)
{
    const gguf_entry *e = must_find(g, key, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (e->type != GGUF_BOOL)
        return wrong_kind(g, key, e->type, "bool", err);
    if (g->data[e->value] > 1)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is a bool of value %d, must be 0 or 1",
                       file_label(g->path), key, g->data[e->value]);
    *out = g->data[e->value];
    return ODMOE_OK;
}

odmoe_status gguf_get_text(const gguf *g, const char *key, gguf_text *out, odmoe_error *err)
{
    const gguf_entry *e = must_find(g, key, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (e->type != GGUF_STRING)
        return wrong_kind(g, key, e->type, "a string", err);
    *out = (gguf_text){(const char *)g->data + e->value + 8, (size_t)gguf_number(g->data + e->value, 8)};
    return ODMOE_OK;
}

odmoe_status gguf_get_array(const gguf *g, const char *key, gguf_type *type, uint64_t *count, odmoe_error *err)
{
    const gguf_entry *e = must_find(g, key, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (e->type != GGUF_ARRAY)
        return wrong_kind(g, key, e->type, "an array", err);
    *type = e->element;
    *count = e->count;
    return ODMOE_OK;
}

/* The array under `key` whose element i exists, or NULL with err set. */
static gguf_entry *element(const gguf *g, const char *key, uint64_t i, odmoe_error *err)
{
    gguf_entry *e = must_find(g, key, err);
    if (!e)
        return NULL;
    if (e->type != GGUF_ARRAY) {
        wrong_kind(g, key, e->type, "an array", err);
        return NULL;
    }
    if (i >= e->count) {
        err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' has %llu elements, number %llu is asked for",
                file_label(g->path), key, (unsigned long long)e->count, (unsigned long long)i);
        return NULL;
    }
    return e;
}

static odmoe_status wrong_elements(const gguf *g, const char *key, gguf_type is, const char *wanted, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s' is an array of %s, not of %s", file_label(g->path), key,
                   gguf_type_name(is), wanted);
}

odmoe_status gguf_array_text(const gguf *g, const char *key, uint64_t i, gguf_text *out, odmoe_error *err)
{
    gguf_entry *e = element(g, key, i, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (e->element != GGUF_STRING)
        return wrong_elements(g, key, e->element, "strings", err);
    if (i < e->next_text) {
        e->next_text = 0;
        e->next_text_at = e->value;
    }
    for (;; e->next_text++) {
        const unsigned char *at = g->data + e->next_text_at;
        uint64_t length = gguf_number(at, 8);
        if (e->next_text == i) {
            *out = (gguf_text){(const char *)at + 8, (size_t)length};
            return ODMOE_OK;
        }
        e->next_text_at += (uint32_t)(8 + length);
    }
}

odmoe_status gguf_array_int(const gguf *g, const char *key, uint64_t i, int64_t *out, odmoe_error *err)
{
    const gguf_entry *e = element(g, key, i, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (!is_int(e->element))
        return wrong_elements(g, key, e->element, "integers", err);
    if (!to_int(e->element, g->data + e->value + i * (uint64_t)gguf_type_bytes(e->element), out))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata '%s': element %llu is above 2^63", file_label(g->path), key,
                       (unsigned long long)i);
    return ODMOE_OK;
}

odmoe_status gguf_array_bool(const gguf *g, const char *key, uint64_t i, bool *out, odmoe_error *err)
{
    int64_t number = 0;
    const gguf_entry *e = element(g, key, i, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (e->element == GGUF_BOOL) {
        int value = g->data[e->value + i];
        *out = value == 1;
        return value <= 1 ? ODMOE_OK
                          : err_set(err, ODMOE_ERR_FORMAT,
                                    "%s: metadata '%s': element %llu is a bool of value %d, must be 0 or 1",
                                    file_label(g->path), key, (unsigned long long)i, value);
    }
    odmoe_status status = gguf_array_int(g, key, i, &number, err);
    *out = number != 0;
    return status;
}

odmoe_status gguf_array_float(const gguf *g, const char *key, uint64_t i, double *out, odmoe_error *err)
{
    const gguf_entry *e = element(g, key, i, err);
    if (!e)
        return ODMOE_ERR_FORMAT;
    if (e->element != GGUF_F32 && e->element != GGUF_F64)
        return wrong_elements(g, key, e->element, "f32 or f64", err);
    to_float(e->element, g->data + e->value + i * (uint64_t)gguf_type_bytes(e->element), out);
    return ODMOE_OK;
}
