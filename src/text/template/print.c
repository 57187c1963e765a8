#include "text/template/print.h"

#include <utf8proc.h>

#include "text/template/call.h"
#include "text/template/number.h"

/* ---- str() and repr() ---- */

/* Python escapes what it takes for unprintable. */
static bool printable(uint32_t c)
{
    if (c < 0x7F)
        return c >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static void hex(char *out, uint32_t c, int digits)
{
    for (int i = digits; i-- > 0; c >>= 4)
        out[i] = "0123456789abcdef"[c & 15];
}

static void repr_text(tpl_state *s, builder *b, const str *a)
{
    bool single = false, both = false;
    for (size_t i = 0; i < a->n; i++) {
        single |= memchr(a->runs[i].at, '\'', a->runs[i].length) != NULL;
        both |= memchr(a->runs[i].at, '"', a->runs[i].length) != NULL;
    }
    char quote[2] = {single && !both ? '"' : '\'', 0}, text[12];
    build_bytes(s, b, quote, 1, false);
    tpl_work(s, a->length);
    for (str_walk w = str_walk_of(a); str_walk_next(&w);) {
        uint32_t c = w.c;
        size_t n = 2;
        text[0] = '\\';
        if (c == (uint32_t)*quote || c == '\\') {
            text[1] = (char)c;
        } else if (c == '\n' || c == '\r' || c == '\t') {
            text[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
        } else if (printable(c)) {
            build_run(s, b, w.bytes, w.length, w.foreign);
            continue;
        } else {
            int digits = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
            text[1] = digits == 2 ? 'x' : digits == 4 ? 'u' : 'U';
            hex(text + 2, c, digits);
            n = 2 + (size_t)digits;
        }
        build_bytes(s, b, text, n, w.foreign);
    }
    build_bytes(s, b, quote, 1, false);
}

static void repr_list(tpl_state *s, builder *b, const list *l, const char *open, const char *close)
{
    build_text(s, b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            build_text(s, b, ", ");
        tpl_print_repr(s, b, l->at[i]);
    }
    if (l->n == 1 && *open == '(')
        build_text(s, b, ",");
    build_text(s, b, close);
}

static void repr_dict(tpl_state *s, builder *b, const dict *d)
{
    bool any = false;
    build_text(s, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (d->at[i].gone)
            continue;
        if (any)
            build_text(s, b, ", ");
        tpl_print_repr(s, b, d->at[i].key);
        build_text(s, b, ": ");
        tpl_print_repr(s, b, d->at[i].v);
        any = true;
    }
    build_text(s, b, "}");
}

static void repr_view(tpl_state *s, builder *b, value v)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    repr_list(s, b, val_items(s, v), names[v.sub], "])");
}

static void repr_range(tpl_state *s, builder *b, const range *r)
{
    char text[96];
    size_t n = 0;
    memcpy(text, "range(", 6);
    n = 6;
    n += number_int(r->start, text + n);
    text[n++] = ',';
    text[n++] = ' ';
    n += number_int(r->stop, text + n);
    if (r->step != 1) {
        text[n++] = ',';
        text[n++] = ' ';
        n += number_int(r->step, text + n);
    }
    text[n++] = ')';
    build_bytes(s, b, text, n, false);
}

static void repr_bytes(tpl_state *s, builder *b, const str *a)
{
    build_text(s, b, "b'");
    char text[4] = "\\x";
    tpl_work(s, a->length);
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < a->runs[i].length; k++) {
            unsigned char c = (unsigned char)a->runs[i].at[k];
            if (c >= 0x20 && c < 0x7F && c != '\'' && c != '\\') {
                build_bytes(s, b, (char *)&c, 1, a->runs[i].foreign);
            } else {
                hex(text + 2, c, 2);
                build_bytes(s, b, text, 4, a->runs[i].foreign);
            }
        }
    build_text(s, b, "'");
}

void tpl_print_repr(tpl_state *s, builder *b, value v)
{
    char text[64];
    tpl_work(s, 0);
    tpl_enter(s);
    switch (v.kind) {
    case VAL_UNDEFINED:
        build_text(s, b, "Undefined");
        break;
    case VAL_NONE:
        build_text(s, b, "None");
        break;
    case VAL_BOOL:
        build_text(s, b, v.b ? "True" : "False");
        break;
    case VAL_INT:
        build_bytes(s, b, text, number_int(int_of(v), text), false);
        break;
    case VAL_FLOAT:
        build_bytes(s, b, text, number_repr(v.f, text), false);
        break;
    case VAL_STR:
        if (v.s->safe)
            build_text(s, b, "Markup(");
        repr_text(s, b, v.s);
        if (v.s->safe)
            build_text(s, b, ")");
        break;
    case VAL_BYTES:
        repr_bytes(s, b, v.s);
        break;
    case VAL_LIST:
        repr_list(s, b, v.l, "[", "]");
        break;
    case VAL_TUPLE:
        repr_list(s, b, v.l, "(", ")");
        break;
    case VAL_DICT:
        repr_dict(s, b, v.d);
        break;
    case VAL_NAMESPACE:
        build_text(s, b, "<Namespace ");
        repr_dict(s, b, v.d);
        build_text(s, b, ">");
        break;
    case VAL_VIEW:
        repr_view(s, b, v);
        break;
    case VAL_RANGE:
        repr_range(s, b, v.r);
        break;
    case VAL_MACRO:
        build_text(s, b, "<Macro ");
        repr_text(s, b, tpl_macro_name(v));
        build_text(s, b, ">");
        break;
    default:
        build_text(s, b, "<");
        build_text(s, b, val_type_name(v));
        build_text(s, b, ">");
    }
    tpl_leave(s);
}

str *tpl_print_str(tpl_state *s, value v)
{
    if (v.kind == VAL_STR)
        return v.s;
    if (v.kind == VAL_UNDEFINED || v.kind == VAL_ABSENT)
        return str_text(s, "");
    builder b = {0};
    tpl_print_repr(s, &b, v);
    return str_built(s, &b);
}

/* ---- JSON ---- */

typedef struct json_writer {
    tpl_state *s;
    builder b;
    const json_style *style;
    size_t level;
} json_writer;

static void json_value(json_writer *w, value v);

static void json_text(json_writer *w, const str *a)
{
    char text[12];
    tpl_work(w->s, a->length);
    build_text(w->s, &w->b, "\"");
    for (str_walk k = str_walk_of(a); str_walk_next(&k);) {
        static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
        const char *known = k.c && k.c < 0x80 ? strchr(from, (int)k.c) : NULL;
        size_t n = 2;
        text[0] = '\\';
        if (known) {
            text[1] = to[known - from];
        } else if (k.c < 0x20 || (w->style->ascii && k.c >= 0x7F && k.c < 0x10000 && k.c != 0x7F)) {
            text[1] = 'u';
            hex(text + 2, k.c, 4);
            n = 6;
        } else if (w->style->ascii && k.c >= 0x10000) {
            uint32_t c = k.c - 0x10000;
            memcpy(text + 1, "u", 1);
            hex(text + 2, 0xD800 + (c >> 10), 4);
            memcpy(text + 6, "\\u", 2);
            hex(text + 8, 0xDC00 + (c & 0x3FF), 4);
            n = 12;
        } else {
            build_run(w->s, &w->b, k.bytes, k.length, k.foreign);
            continue;
        }
        build_bytes(w->s, &w->b, text, n, k.foreign);
    }
    build_text(w->s, &w->b, "\"");
}

static void json_line(json_writer *w)
{
    if (!w->style->indent)
        return;
    build_text(w->s, &w->b, "\n");
    for (size_t i = 0; i < w->level; i++)
        build_str(w->s, &w->b, w->style->indent);
    tpl_work(w->s, w->level * 64);
}

static void json_comma(json_writer *w)
{
    if (w->style->comma)
        build_str(w->s, &w->b, w->style->comma);
    else
        build_text(w->s, &w->b, w->style->indent ? "," : ", ");
    json_line(w);
}

static void json_list(json_writer *w, const list *l)
{
    if (!l->n) {
        build_text(w->s, &w->b, "[]");
        return;
    }
    build_text(w->s, &w->b, "[");
    w->level++;
    json_line(w);
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            json_comma(w);
        json_value(w, l->at[i]);
    }
    w->level--;
    json_line(w);
    build_text(w->s, &w->b, "]");
}

static void json_float(json_writer *w, double f)
{
    char text[40];
    size_t n = number_repr(f, text);
    if (text[n - 1] == 'n' || text[n - 1] == 'f')
        build_text(w->s, &w->b, *text == 'n' ? "NaN" : *text == '-' ? "-Infinity" : "Infinity");
    else
        build_bytes(w->s, &w->b, text, n, false);
}

/* Keys are texts in JSON: others are written as they would be as values. */
static void json_key(json_writer *w, value key)
{
    if (key.kind == VAL_STR) {
        json_text(w, key.s);
        return;
    }
    if (key.kind != VAL_NONE && !is_number(key))
        tpl_fail(w->s, TEMPLATE_TYPE, "keys must be str, int, float, bool or None, not %s", val_type_name(key));
    build_text(w->s, &w->b, "\"");
    json_value(w, key);
    build_text(w->s, &w->b, "\"");
}

static int by_key(tpl_state *s, value a, value b, void *user)
{
    return val_compare(s, a.l->at[0], b.l->at[0], "<");
}

static void json_dict(json_writer *w, dict *d)
{
    if (!d->live) {
        build_text(w->s, &w->b, "{}");
        return;
    }
    value items = val_list(w->s, VAL_LIST, d->live);
    for (size_t i = 0; i < d->n; i++)
        if (!d->at[i].gone)
            list_push(w->s, items.l, val_pair(w->s, d->at[i].key, d->at[i].v));
    if (w->style->sort_keys)
        tpl_sort(w->s, items.l->at, items.l->n, by_key, NULL);
    build_text(w->s, &w->b, "{");
    w->level++;
    json_line(w);
    for (size_t i = 0; i < items.l->n; i++) {
        if (i)
            json_comma(w);
        json_key(w, items.l->at[i].l->at[0]);
        if (w->style->colon)
            build_str(w->s, &w->b, w->style->colon);
        else
            build_text(w->s, &w->b, ": ");
        json_value(w, items.l->at[i].l->at[1]);
    }
    w->level--;
    json_line(w);
    build_text(w->s, &w->b, "}");
}

static void json_value(json_writer *w, value v)
{
    char text[48];
    tpl_work(w->s, 0);
    tpl_enter(w->s);
    switch (v.kind) {
    case VAL_NONE:
        build_text(w->s, &w->b, "null");
        break;
    case VAL_BOOL:
        build_text(w->s, &w->b, v.b ? "true" : "false");
        break;
    case VAL_INT:
        build_bytes(w->s, &w->b, text, number_int(int_of(v), text), false);
        break;
    case VAL_FLOAT:
        json_float(w, v.f);
        break;
    case VAL_STR:
        json_text(w, v.s);
        break;
    case VAL_LIST:
    case VAL_TUPLE:
    case VAL_ITER:
    case VAL_RANGE:
        json_list(w, val_items(w->s, v));
        break;
    case VAL_DICT:
        json_dict(w, v.d);
        break;
    default:
        tpl_fail(w->s, TEMPLATE_TYPE, "Object of type %s is not JSON serializable", val_type_name(v));
    }
    tpl_leave(w->s);
}

str *tpl_print_json(tpl_state *s, value v, const json_style *style)
{
    json_writer w = {.s = s, .style = style};
    json_value(&w, v);
    return str_built(s, &w.b);
}
