#include <utf8proc.h>

#include "text/template/call.h"
#include "text/template/textops.h"

/* The methods of str. */

static const str *optional(tpl_state *s, value v, const char *what)
{
    return !given(v) || v.kind == VAL_NONE ? NULL : tpl_str_arg(s, v, what);
}

static int64_t count_of(tpl_state *s, value v)
{
    return given(v) ? tpl_int_arg(s, v, "the count") : -1;
}

static value strip(tpl_state *s, value self, const value *p, int sides)
{
    return val_str(text_strip(s, self.s, optional(s, p[0], "the characters"), sides));
}
static value method_strip(tpl_state *s, value self, const value *p, const args *a)
{
    return strip(s, self, p, STRIP_LEFT | STRIP_RIGHT);
}
static value method_lstrip(tpl_state *s, value self, const value *p, const args *a)
{
    return strip(s, self, p, STRIP_LEFT);
}
static value method_rstrip(tpl_state *s, value self, const value *p, const args *a)
{
    return strip(s, self, p, STRIP_RIGHT);
}

static value method_split(tpl_state *s, value self, const value *p, const args *a)
{
    return text_split(s, self.s, optional(s, p[0], "the separator"), count_of(s, p[1]));
}
static value method_rsplit(tpl_state *s, value self, const value *p, const args *a)
{
    return text_rsplit(s, self.s, optional(s, p[0], "the separator"), count_of(s, p[1]));
}
static value method_splitlines(tpl_state *s, value self, const value *p, const args *a)
{
    return text_lines(s, self.s, given(p[0]) && val_true(p[0]));
}

static value three(tpl_state *s, str *a, str *b, str *c)
{
    value t = val_list(s, VAL_TUPLE, 3);
    list_push(s, t.l, val_str(a));
    list_push(s, t.l, val_str(b));
    list_push(s, t.l, val_str(c));
    return t;
}
static value partition(tpl_state *s, str *a, str *by, bool last)
{
    if (!by->length)
        tpl_fail(s, TEMPLATE_VALUE, "empty separator");
    size_t at = last ? str_rfind(s, a, by, 0, a->length) : str_find(s, a, by, 0, a->length);
    str *nothing = str_text(s, "");
    if (at == SIZE_MAX)
        return last ? three(s, nothing, nothing, a) : three(s, a, nothing, nothing);
    return three(s, str_sub(s, a, 0, at), str_sub(s, a, at, at + by->length),
                 str_sub(s, a, at + by->length, a->length));
}
static value method_partition(tpl_state *s, value self, const value *p, const args *a)
{
    return partition(s, self.s, tpl_str_arg(s, p[0], "the separator"), false);
}
static value method_rpartition(tpl_state *s, value self, const value *p, const args *a)
{
    return partition(s, self.s, tpl_str_arg(s, p[0], "the separator"), true);
}

/* p[1], p[2]: characters where a search begins and ends; as bytes. */
static void bounds(tpl_state *s, const str *a, const value *p, size_t *from, size_t *to)
{
    size_t ends[2] = {0, a->length};
    int64_t n = given(p[1]) || given(p[2]) ? (int64_t)str_chars(s, a) : 0;
    for (int i = 0; i < 2; i++) {
        if (!given(p[1 + i]) || p[1 + i].kind == VAL_NONE)
            continue;
        int64_t at = tpl_int_arg(s, p[1 + i], "a bound");
        at = at < 0 ? at + n : at;
        ends[i] = at > n ? (i ? a->length : SIZE_MAX) : str_offset(s, a, at < 0 ? 0 : (size_t)at);
    }
    *from = ends[0];
    *to = ends[1];
}

static bool has_end(tpl_state *s, const str *a, size_t from, size_t to, value with, bool front)
{
    if (with.kind == VAL_TUPLE) {
        for (size_t i = 0; i < with.l->n; i++)
            if (has_end(s, a, from, to, with.l->at[i], front))
                return true;
        return false;
    }
    const str *b = tpl_str_arg(s, with, front ? "what a text starts with" : "what a text ends with");
    if (from > to || to - from < b->length)
        return false;
    return !b->length || !memcmp(str_flat(s, a) + (front ? from : to - b->length), str_flat(s, b), b->length);
}
static value method_startswith(tpl_state *s, value self, const value *p, const args *a)
{
    size_t from, to;
    bounds(s, self.s, p, &from, &to);
    return val_bool(has_end(s, self.s, from, to, p[0], true));
}
static value method_endswith(tpl_state *s, value self, const value *p, const args *a)
{
    size_t from, to;
    bounds(s, self.s, p, &from, &to);
    return val_bool(has_end(s, self.s, from, to, p[0], false));
}

static value method_replace(tpl_state *s, value self, const value *p, const args *a)
{
    str *from = tpl_str_arg(s, p[0], "the old text"), *to = tpl_str_arg(s, p[1], "the new text");
    return val_str(text_replace(s, self.s, from, self.s->safe ? str_escape(s, to) : to, count_of(s, p[2])));
}

static value change_case(tpl_state *s, value self, text_case to)
{
    return val_str(text_case_of(s, self.s, to));
}
static value method_upper(tpl_state *s, value self, const value *p, const args *a)
{
    return change_case(s, self, CASE_UPPER);
}
static value method_lower(tpl_state *s, value self, const value *p, const args *a)
{
    return change_case(s, self, CASE_LOWER);
}
static value method_title(tpl_state *s, value self, const value *p, const args *a)
{
    return change_case(s, self, CASE_TITLE);
}
static value method_capitalize(tpl_state *s, value self, const value *p, const args *a)
{
    return change_case(s, self, CASE_CAPITAL);
}
static value method_swapcase(tpl_state *s, value self, const value *p, const args *a)
{
    return change_case(s, self, CASE_SWAP);
}

/* The character where p[0] stands, or -1. */
static int64_t place(tpl_state *s, value self, const value *p, bool last)
{
    size_t from, to;
    const str *b = tpl_str_arg(s, p[0], "what to look for");
    bounds(s, self.s, p, &from, &to);
    if (from == SIZE_MAX)
        return -1;
    size_t at = last ? str_rfind(s, self.s, b, from, to) : str_find(s, self.s, b, from, to);
    return at == SIZE_MAX ? -1 : (int64_t)str_chars(s, str_sub(s, self.s, 0, at));
}
static value method_find(tpl_state *s, value self, const value *p, const args *a)
{
    return val_int(place(s, self, p, false));
}
static value method_rfind(tpl_state *s, value self, const value *p, const args *a)
{
    return val_int(place(s, self, p, true));
}
static value method_index(tpl_state *s, value self, const value *p, const args *a)
{
    int64_t at = place(s, self, p, false);
    if (at < 0)
        tpl_fail(s, TEMPLATE_VALUE, "substring not found");
    return val_int(at);
}
static value method_rindex(tpl_state *s, value self, const value *p, const args *a)
{
    int64_t at = place(s, self, p, true);
    if (at < 0)
        tpl_fail(s, TEMPLATE_VALUE, "substring not found");
    return val_int(at);
}
static value method_count(tpl_state *s, value self, const value *p, const args *a)
{
    size_t from, to, n = 0;
    const str *b = tpl_str_arg(s, p[0], "what to count");
    bounds(s, self.s, p, &from, &to);
    if (!b->length)
        return val_int(from == SIZE_MAX ? 0 : (wide)str_chars(s, str_sub(s, self.s, from, to)) + 1);
    while (from != SIZE_MAX && (from = str_find(s, self.s, b, from, to)) != SIZE_MAX) {
        n++;
        from += b->length;
    }
    return val_int((wide)n);
}

static value method_join(tpl_state *s, value self, const value *p, const args *a)
{
    val_use(s, p[0]);
    return val_str(text_join(s, self.s, val_items(s, p[0]), true));
}

/* ---- what the characters are ---- */

typedef bool (*char_test)(uint32_t c);
static value all_are(value self, char_test test)
{
    bool is = self.s->length != 0;
    for (str_walk w = str_walk_of(self.s); is && str_walk_next(&w);)
        is = test(w.c);
    return val_bool(is);
}
static bool letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
static bool decimal(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}
static bool digit(uint32_t c) /* superscripts and subscripts, too */
{
    return decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
           (c >= 0x2080 && c <= 0x2089);
}
static bool numeric(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
static bool alphanumeric(uint32_t c)
{
    return letter(c) || numeric(c);
}
static bool ascii(uint32_t c)
{
    return c < 0x80;
}
static value method_isalpha(tpl_state *s, value self, const value *p, const args *a)
{
    return all_are(self, letter);
}
static value method_isdigit(tpl_state *s, value self, const value *p, const args *a)
{
    return all_are(self, digit);
}
static value method_isdecimal(tpl_state *s, value self, const value *p, const args *a)
{
    return all_are(self, decimal);
}
static value method_isnumeric(tpl_state *s, value self, const value *p, const args *a)
{
    return all_are(self, numeric);
}
static value method_isalnum(tpl_state *s, value self, const value *p, const args *a)
{
    return all_are(self, alphanumeric);
}
static value method_isspace(tpl_state *s, value self, const value *p, const args *a)
{
    return all_are(self, tpl_char_is_space);
}
static value method_isascii(tpl_state *s, value self, const value *p, const args *a)
{
    return val_bool(!self.s->length || all_are(self, ascii).b);
}

static value is_case(value self, bool upper)
{
    bool any = false, is = true;
    for (str_walk w = str_walk_of(self.s); is && str_walk_next(&w);) {
        utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)w.c);
        any |= k == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
        is = k != (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU) && k != UTF8PROC_CATEGORY_LT;
    }
    return val_bool(any && is);
}
static value method_isupper(tpl_state *s, value self, const value *p, const args *a)
{
    return is_case(self, true);
}
static value method_islower(tpl_state *s, value self, const value *p, const args *a)
{
    return is_case(self, false);
}

/* ---- form ---- */

static value pad(tpl_state *s, value self, const value *p, char side)
{
    const str *fill = given(p[1]) ? tpl_str_arg(s, p[1], "the fill character") : str_text(s, " ");
    if (str_chars(s, fill) != 1)
        tpl_fail(s, TEMPLATE_TYPE, "The fill character must be exactly one character long");
    return val_str(text_pad(s, self.s, tpl_int_arg(s, p[0], "the width"), fill, side));
}
static value method_center(tpl_state *s, value self, const value *p, const args *a)
{
    return pad(s, self, p, 'c');
}
static value method_ljust(tpl_state *s, value self, const value *p, const args *a)
{
    return pad(s, self, p, '<');
}
static value method_rjust(tpl_state *s, value self, const value *p, const args *a)
{
    return pad(s, self, p, '>');
}
static value method_zfill(tpl_state *s, value self, const value *p, const args *a)
{
    const char *text = str_flat(s, self.s);
    size_t sign = self.s->length && (*text == '-' || *text == '+');
    str *rest = str_sub(s, self.s, sign, self.s->length);
    str *filled = text_pad(s, rest, tpl_int_arg(s, p[0], "the width") - (int64_t)sign, str_text(s, "0"), '>');
    return val_str(sign ? str_join2(s, str_sub(s, self.s, 0, 1), filled) : filled);
}
static value method_removeprefix(tpl_state *s, value self, const value *p, const args *a)
{
    bool has = has_end(s, self.s, 0, self.s->length, p[0], true);
    return has ? val_str(str_sub(s, self.s, p[0].s->length, self.s->length)) : self;
}
static value method_removesuffix(tpl_state *s, value self, const value *p, const args *a)
{
    bool has = has_end(s, self.s, 0, self.s->length, p[0], false);
    return has ? val_str(str_sub(s, self.s, 0, self.s->length - p[0].s->length)) : self;
}
static value method_encode(tpl_state *s, value self, const value *p, const args *a)
{
    return (value){.kind = VAL_BYTES, .s = self.s};
}
static value method_format(tpl_state *s, value self, const value *p, const args *a)
{
    return val_str(tpl_format_braces(s, self.s, a));
}
static value method_format_map(tpl_state *s, value self, const value *p, const args *a)
{
    args named = {0};
    val_use(s, p[0]);
    if (p[0].kind != VAL_DICT)
        tpl_fail(s, TEMPLATE_TYPE, "format_map() takes a dict");
    named.keywords = tpl_alloc(s, p[0].d->n, sizeof *named.keywords);
    for (size_t i = 0; i < p[0].d->n; i++)
        if (!p[0].d->at[i].gone && p[0].d->at[i].key.kind == VAL_STR)
            named.keywords[named.n_keywords++] = (keyword){p[0].d->at[i].key.s, p[0].d->at[i].v};
    return val_str(tpl_format_braces(s, self.s, &named));
}

const native *tpl_str_method(const char *name, size_t length)
{
    static const native table[] = {
        {"strip", method_strip, "chars", 0},
        {"lstrip", method_lstrip, "chars", 0},
        {"rstrip", method_rstrip, "chars", 0},
        {"split", method_split, "sep,maxsplit", 0},
        {"rsplit", method_rsplit, "sep,maxsplit", 0},
        {"splitlines", method_splitlines, "keepends", 0},
        {"partition", method_partition, "sep", 1},
        {"rpartition", method_rpartition, "sep", 1},
        {"startswith", method_startswith, "prefix,start,end", 1},
        {"endswith", method_endswith, "suffix,start,end", 1},
        {"replace", method_replace, "old,new,count", 2},
        {"upper", method_upper, "", 0},
        {"lower", method_lower, "", 0},
        {"casefold", method_lower, "", 0},
        {"title", method_title, "", 0},
        {"capitalize", method_capitalize, "", 0},
        {"swapcase", method_swapcase, "", 0},
        {"find", method_find, "sub,start,end", 1},
        {"rfind", method_rfind, "sub,start,end", 1},
        {"index", method_index, "sub,start,end", 1},
        {"rindex", method_rindex, "sub,start,end", 1},
        {"count", method_count, "sub,start,end", 1},
        {"join", method_join, "iterable", 1},
        {"isalpha", method_isalpha, "", 0},
        {"isdigit", method_isdigit, "", 0},
        {"isdecimal", method_isdecimal, "", 0},
        {"isnumeric", method_isnumeric, "", 0},
        {"isalnum", method_isalnum, "", 0},
        {"isspace", method_isspace, "", 0},
        {"isascii", method_isascii, "", 0},
        {"isupper", method_isupper, "", 0},
        {"islower", method_islower, "", 0},
        {"center", method_center, "width,fillchar", 1},
        {"ljust", method_ljust, "width,fillchar", 1},
        {"rjust", method_rjust, "width,fillchar", 1},
        {"zfill", method_zfill, "width", 1},
        {"removeprefix", method_removeprefix, "prefix", 1},
        {"removesuffix", method_removesuffix, "suffix", 1},
        {"encode", method_encode, "encoding,errors", 0},
        {"format", method_format, "*", 0},
        {"format_map", method_format_map, "mapping", 1},
    };
    return tpl_native_find(table, sizeof table / sizeof *table, name, length);
}
