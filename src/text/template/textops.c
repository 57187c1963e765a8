#include "text/template/textops.h"

#include <utf8proc.h>

#include "text/template/print.h"

static str *like(str *out, const str *a)
{
    out->safe = a->safe;
    return out;
}

/* ---- strip ---- */

static bool in_chars(const str *chars, uint32_t c)
{
    if (!chars)
        return tpl_char_is_space(c);
    for (str_walk w = str_walk_of(chars); str_walk_next(&w);)
        if (w.c == c)
            return true;
    return false;
}

str *text_strip(tpl_state *s, str *a, const str *chars, int sides)
{
    size_t from = 0, to = a->length;
    if (sides & STRIP_LEFT) {
        from = to;
        for (str_walk w = str_walk_of(a); str_walk_next(&w);)
            if (!in_chars(chars, w.c)) {
                from = w.byte;
                break;
            }
    }
    if (sides & STRIP_RIGHT && from < to) {
        const char *text = str_flat(s, a);
        while (to > from) {
            size_t last = to - 1;
            while (last > from && ((unsigned char)text[last] & 0xC0) == 0x80)
                last--;
            utf8proc_int32_t c;
            utf8proc_iterate((const utf8proc_uint8_t *)text + last, (utf8proc_ssize_t)(to - last), &c);
            if (!in_chars(chars, (uint32_t)c))
                break;
            to = last;
        }
    }
    tpl_work(s, a->length - (to - from));
    return from == 0 && to == a->length ? a : str_sub(s, a, from, to);
}

/* ---- replace ---- */

str *text_replace(tpl_state *s, str *a, const str *from, const str *to, int64_t most)
{
    builder b = {0};
    size_t at = 0;
    if (!from->length) {
        for (str_walk w = str_walk_of(a); most != 0 && str_walk_next(&w); most--) {
            build_str(s, &b, to);
            build_run(s, &b, w.bytes, w.length, w.foreign);
            at = w.byte + w.length;
        }
        if (most != 0)
            build_str(s, &b, to);
    }
    while (from->length && most-- != 0) {
        size_t found = str_find(s, a, from, at, a->length);
        if (found == SIZE_MAX)
            break;
        build_sub(s, &b, a, at, found);
        build_str(s, &b, to);
        at = found + from->length;
    }
    build_sub(s, &b, a, at, a->length);
    return like(str_built(s, &b), a);
}

/* ---- case ---- */

static void put_upper(tpl_state *s, builder *b, const str_walk *w)
{
    if (w->c == 0xDF) /* the only letter of common texts that becomes two */
        build_bytes(s, b, "SS", 2, w->foreign);
    else
        build_char(s, b, (uint32_t)utf8proc_toupper((utf8proc_int32_t)w->c), w->foreign);
}

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static bool begins_word(uint32_t before)
{
    return tpl_char_is_space(before) || (before < 0x80 && before && strchr("-({[<", (int)before));
}

str *text_case_of(tpl_state *s, const str *a, text_case to)
{
    builder b = {0};
    uint32_t before = ' ';
    tpl_work(s, a->length * 2);
    for (str_walk w = str_walk_of(a); str_walk_next(&w); before = w.c) {
        bool lower = (uint32_t)utf8proc_toupper((utf8proc_int32_t)w.c) != w.c || w.c == 0xDF, up;
        switch (to) {
        case CASE_UPPER:
            up = true;
            break;
        case CASE_LOWER:
            up = false;
            break;
        case CASE_TITLE:
            up = !is_letter(before);
            break;
        case CASE_CAPITAL:
            up = w.byte == 0;
            break;
        case CASE_WORDS:
            up = w.byte == 0 || begins_word(before);
            break;
        default:
            up = lower;
        }
        if (up)
            put_upper(s, &b, &w);
        else
            build_char(s, &b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)w.c), w.foreign);
    }
    return like(str_built(s, &b), a);
}

/* ---- padding ---- */

str *text_pad(tpl_state *s, str *a, int64_t width, const str *fill, char side)
{
    int64_t have = (int64_t)str_chars(s, a), more = width - have;
    if (more <= 0)
        return a;
    if ((uint64_t)more > s->string_max)
        tpl_fail(s, TEMPLATE_LIMIT, "a string of more than %zu KiB", s->string_max >> 10);
    int64_t left = side == '<' ? 0 : side == '>' ? more : side == '^' ? more / 2 : more / 2 + (more & width & 1);
    builder b = {0};
    for (int64_t i = 0; i < left; i++)
        build_str(s, &b, fill);
    build_str(s, &b, a);
    for (int64_t i = left; i < more; i++)
        build_str(s, &b, fill);
    return like(str_built(s, &b), a);
}

/* ---- split and join ---- */

static void push_part(tpl_state *s, value out, const str *a, size_t from, size_t to)
{
    list_push(s, out.l, val_str(str_sub(s, a, from, to)));
}

static value split_blanks(tpl_state *s, const str *a, int64_t most)
{
    value out = val_list(s, VAL_LIST, 0);
    size_t from = SIZE_MAX;
    tpl_work(s, a->length);
    for (str_walk w = str_walk_of(a); str_walk_next(&w);) {
        bool space = tpl_char_is_space(w.c);
        if (space && from != SIZE_MAX) {
            push_part(s, out, a, from, w.byte);
            from = SIZE_MAX;
            most -= most > 0;
        } else if (!space && from == SIZE_MAX) {
            from = w.byte;
            if (most == 0) {
                push_part(s, out, text_strip(s, str_sub(s, a, from, a->length), NULL, STRIP_RIGHT), 0,
                          text_strip(s, str_sub(s, a, from, a->length), NULL, STRIP_RIGHT)->length);
                return out;
            }
        }
    }
    if (from != SIZE_MAX)
        push_part(s, out, a, from, a->length);
    return out;
}

value text_split(tpl_state *s, const str *a, const str *by, int64_t most)
{
    if (!by)
        return split_blanks(s, a, most);
    if (!by->length)
        tpl_fail(s, TEMPLATE_VALUE, "empty separator");
    value out = val_list(s, VAL_LIST, 0);
    size_t from = 0, at;
    while (most-- != 0 && (at = str_find(s, a, by, from, a->length)) != SIZE_MAX) {
        push_part(s, out, a, from, at);
        from = at + by->length;
    }
    push_part(s, out, a, from, a->length);
    return out;
}

value text_rsplit(tpl_state *s, const str *a, const str *by, int64_t most)
{
    if (most < 0)
        return text_split(s, a, by, most);
    if (by && !by->length)
        tpl_fail(s, TEMPLATE_VALUE, "empty separator");
    value all = text_split(s, a, by, -1), out = val_list(s, VAL_LIST, 0);
    size_t n = all.l->n, keep = n > (size_t)most ? n - (size_t)most : 1;
    if (!n)
        return out;
    if (!by) { /* the first part keeps its inner white space */
        size_t end = a->length;
        for (size_t i = n; i-- > keep;)
            end = str_rfind(s, a, all.l->at[i].s, 0, end);
        str *first = text_strip(s, str_sub(s, a, 0, end), NULL, STRIP_LEFT | STRIP_RIGHT);
        list_push(s, out.l, val_str(first));
    } else {
        builder b = {0};
        for (size_t i = 0; i < keep; i++) {
            if (i)
                build_str(s, &b, by);
            build_str(s, &b, all.l->at[i].s);
        }
        list_push(s, out.l, val_str(like(str_built(s, &b), a)));
    }
    for (size_t i = keep; i < n; i++)
        list_push(s, out.l, all.l->at[i]);
    return out;
}

value text_lines(tpl_state *s, const str *a, bool keep_ends)
{
    value out = val_list(s, VAL_LIST, 0);
    size_t from = 0;
    uint32_t before = 0;
    tpl_work(s, a->length);
    for (str_walk w = str_walk_of(a); str_walk_next(&w); before = w.c) {
        uint32_t c = w.c;
        if (c == '\n' && before == '\r') { /* the line has ended already */
            if (keep_ends && out.l->n) {
                out.l->n--;
                push_part(s, out, a, from, w.byte + 1);
            }
            from = w.byte + 1;
        } else if ((c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029) {
            size_t end = w.byte + w.length;
            push_part(s, out, a, from, keep_ends ? end : w.byte);
            if (!(c == '\r' && keep_ends))
                from = end;
            if (c == '\r' && keep_ends && (end >= a->length || str_flat(s, a)[end] != '\n'))
                from = end;
        }
    }
    if (from < a->length)
        push_part(s, out, a, from, a->length);
    return out;
}

str *text_join(tpl_state *s, const str *between, const list *items, bool strict)
{
    builder b = {0};
    for (size_t i = 0; i < items->n; i++) {
        value v = items->at[i];
        if (strict && v.kind != VAL_STR)
            tpl_fail(s, TEMPLATE_TYPE, "sequence item %zu: expected str instance, %s found", i, val_type_name(v));
        if (i)
            build_str(s, &b, between);
        build_str(s, &b, tpl_print_str(s, v));
    }
    return str_built(s, &b);
}

str *text_reverse(tpl_state *s, const str *a)
{
    const list *chars = val_items(s, val_str((str *)a));
    builder b = {0};
    for (size_t i = chars->n; i-- > 0;)
        build_str(s, &b, chars->at[i].s);
    return like(str_built(s, &b), a);
}

str *text_indent(tpl_state *s, const str *a, const str *by, bool first, bool blank)
{
    value lines = text_lines(s, a, false);
    builder b = {0};
    const char *text = str_flat(s, a);
    bool ends = a->length && text[a->length - 1] == '\n';
    str *line_end = str_text(s, "\n"), *nothing = str_text(s, "");
    if (ends)
        list_push(s, lines.l, val_str(nothing));
    for (size_t i = 0; i < lines.l->n; i++) {
        const str *line = lines.l->at[i].s;
        if (i)
            build_str(s, &b, line_end);
        if (i ? line->length || blank : first)
            build_str(s, &b, by);
        build_str(s, &b, line);
    }
    if (!lines.l->n && first)
        build_str(s, &b, by);
    return like(str_built(s, &b), a);
}
