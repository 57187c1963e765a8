#include <math.h>
#include <utf8proc.h>

#include "text/template/filters.h"
#include "text/template/number.h"
#include "text/template/print.h"
#include "text/template/textops.h"

/* Filters that belong to the language and that chat templates hardly use. */

static bool is_word(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return c == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

static value filter_wordcount(tpl_state *s, value in, const value *p, const args *a)
{
    wide n = 0;
    bool inside = false;
    for (str_walk w = str_walk_of(tpl_print_str(s, in)); str_walk_next(&w);) {
        n += is_word(w.c) && !inside;
        inside = is_word(w.c);
    }
    return val_int(n);
}

static value filter_urlencode(tpl_state *s, value in, const value *p, const args *a)
{
    builder b = {0};
    str *text = tpl_print_str(s, in);
    tpl_work(s, text->length * 2);
    for (str_walk w = str_walk_of(text); str_walk_next(&w);) {
        bool plain = w.c < 0x80 && w.c && (is_word(w.c) || strchr("-._~/", (int)w.c));
        if (plain)
            build_run(s, &b, w.bytes, w.length, w.foreign);
        for (size_t i = 0; !plain && i < w.length; i++) {
            unsigned char c = (unsigned char)w.bytes[i];
            char hex[3] = {'%', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};
            build_bytes(s, &b, hex, 3, w.foreign);
        }
    }
    return val_str(str_built(s, &b));
}

static value filter_truncate(tpl_state *s, value in, const value *p, const args *a)
{
    str *text = tpl_str_arg(s, in, "truncate's input"),
        *end = given(p[2]) ? tpl_str_arg(s, p[2], "the end") : str_text(s, "...");
    int64_t length = given(p[0]) ? tpl_int_arg(s, p[0], "the length") : 255,
            leeway = given(p[3]) && p[3].kind != VAL_NONE ? tpl_int_arg(s, p[3], "the leeway") : 5;
    int64_t have = (int64_t)str_chars(s, text), tail = (int64_t)str_chars(s, end);
    if (length < tail || leeway < 0 || length > INT32_MAX || leeway > INT32_MAX)
        tpl_fail(s, TEMPLATE_VALUE, "truncate: the length must be at least the end's");
    if (have <= length + leeway)
        return val_str(text);
    str *front = str_sub(s, text, 0, str_offset(s, text, (size_t)(length - tail)));
    size_t blank = wants(p[1]) ? SIZE_MAX : str_rfind(s, front, str_text(s, " "), 0, front->length);
    if (blank != SIZE_MAX)
        front = str_sub(s, front, 0, blank);
    return val_str(str_join2(s, front, end));
}

/* Lines of at most `width` characters, broken at blanks. */
static value filter_wordwrap(tpl_state *s, value in, const value *p, const args *a)
{
    str *text = tpl_str_arg(s, in, "wordwrap's input"),
        *end = given(p[2]) && p[2].kind == VAL_STR ? p[2].s : str_text(s, "\n"), *blank = str_text(s, " ");
    int64_t width = given(p[0]) ? tpl_int_arg(s, p[0], "the width") : 79;
    bool breaks = !given(p[1]) || val_true(p[1]);
    if (width < 1)
        tpl_fail(s, TEMPLATE_VALUE, "wordwrap takes a width of at least 1");
    value lines = text_lines(s, text, false);
    builder b = {0};
    for (size_t i = 0; i < lines.l->n; i++) {
        value words = text_split(s, lines.l->at[i].s, blank, -1);
        int64_t used = 0;
        if (i)
            build_str(s, &b, end);
        for (size_t k = 0; k < words.l->n; k++) {
            str *word = words.l->at[k].s;
            int64_t n = (int64_t)str_chars(s, word);
            if (k)
                build_str(s, &b, used + 1 + n > width ? end : blank);
            used = k && used + 1 + n <= width ? used + 1 : 0;
            for (; breaks && used + n > width; n -= width) {
                size_t cut = str_offset(s, word, (size_t)width);
                build_sub(s, &b, word, 0, cut);
                build_str(s, &b, end);
                word = str_sub(s, word, cut, word->length);
            }
            build_str(s, &b, word);
            used += n;
        }
    }
    return val_str(str_built(s, &b));
}

static value filter_striptags(tpl_state *s, value in, const value *p, const args *a)
{
    str *text = tpl_print_str(s, in);
    builder b = {0};
    size_t at = 0;
    str *open = str_text(s, "<"), *close = str_text(s, ">"), *blank = str_text(s, " ");
    for (size_t from; (from = str_find(s, text, open, at, text->length)) != SIZE_MAX;) {
        size_t to = str_find(s, text, close, from, text->length);
        if (to == SIZE_MAX)
            break;
        build_sub(s, &b, text, at, from);
        at = to + 1;
    }
    build_sub(s, &b, text, at, text->length);
    value words = text_split(s, str_built(s, &b), NULL, -1);
    return val_str(text_join(s, blank, words.l, false));
}

static value filter_filesizeformat(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    if (!is_number(in))
        tpl_fail(s, TEMPLATE_TYPE, "filesizeformat takes a number");
    bool binary_units = wants(p[0]);
    double size = float_of(in), base = binary_units ? 1024 : 1000, unit = base;
    if (!isfinite(size))
        tpl_fail(s, TEMPLATE_VALUE, "filesizeformat takes a finite number");
    char text[NUMBER_MAX];
    builder b = {0};
    if (size == 1 || size < base) {
        build_bytes(s, &b, text, number_fixed(size, 0, text), false);
        build_text(s, &b, size == 1 ? " Byte" : " Bytes");
        return val_str(str_built(s, &b));
    }
    int k = 0;
    for (; k < 7 && size >= unit * base; k++)
        unit *= base;
    build_bytes(s, &b, text, number_fixed(size / unit, 1, text), false);
    char name[6] = {' ', "kMGTPEZY"[k], 'B'};
    if (binary_units) {
        name[1] = "KMGTPEZY"[k];
        memcpy(name + 2, "iB", 3);
    }
    build_bytes(s, &b, name, strlen(name), false);
    return val_str(str_built(s, &b));
}

static value filter_xmlattr(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    if (in.kind != VAL_DICT)
        tpl_fail(s, TEMPLATE_TYPE, "xmlattr takes a dict");
    builder b = {0};
    bool any = given(p[0]) && !val_true(p[0]);
    for (size_t i = 0; i < in.d->n; i++) {
        const dict_entry *e = &in.d->at[i];
        if (e->gone || e->v.kind == VAL_NONE || e->v.kind == VAL_UNDEFINED)
            continue;
        str *key = tpl_print_str(s, e->key);
        for (str_walk w = str_walk_of(key); str_walk_next(&w);)
            if (tpl_char_is_space(w.c) || w.c == '/' || w.c == '>' || w.c == '=')
                tpl_fail(s, TEMPLATE_VALUE, "an attribute's name holds a character that it may not");
        build_text(s, &b, any || i == 0 ? (any && !b.length ? "" : " ") : " ");
        build_str(s, &b, str_escape(s, key));
        build_text(s, &b, "=\"");
        build_str(s, &b, str_escape(s, tpl_print_str(s, e->v)));
        build_text(s, &b, "\"");
    }
    return val_str(str_built(s, &b));
}

const native *tpl_filter_rare(const char *name, size_t length)
{
    static const native table[] = {
        {"wordcount", filter_wordcount, "", 0},
        {"urlencode", filter_urlencode, "", 0},
        {"truncate", filter_truncate, "length,killwords,end,leeway", 0},
        {"wordwrap", filter_wordwrap, "width,break_long_words,wrapstring", 0},
        {"striptags", filter_striptags, "", 0},
        {"filesizeformat", filter_filesizeformat, "binary", 0},
        {"xmlattr", filter_xmlattr, "autospace", 0},
    };
    return tpl_native_find(table, sizeof table / sizeof *table, name, length);
}
