#include "text/template/filters.h"
#include "text/template/print.h"
#include "text/template/textops.h"

/* Filters that give text. Their input is made text first, as Jinja does. */

static str *soft(tpl_state *s, value v)
{
    return tpl_print_str(s, v);
}

static value filter_trim(tpl_state *s, value in, const value *p, const args *a)
{
    const str *chars = !given(p[0]) || p[0].kind == VAL_NONE ? NULL : tpl_str_arg(s, p[0], "the characters");
    return val_str(text_strip(s, soft(s, in), chars, STRIP_LEFT | STRIP_RIGHT));
}
static value filter_upper(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(text_case_of(s, soft(s, in), CASE_UPPER));
}
static value filter_lower(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(text_case_of(s, soft(s, in), CASE_LOWER));
}
static value filter_title(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(text_case_of(s, soft(s, in), CASE_WORDS));
}
static value filter_capitalize(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(text_case_of(s, soft(s, in), CASE_CAPITAL));
}
static value filter_string(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(soft(s, in));
}
static value filter_safe(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(str_marked(s, soft(s, in)));
}
static value filter_escape(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(str_escape(s, soft(s, in)));
}
static value filter_forceescape(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(str_escape(s, str_plain(s, soft(s, in))));
}

static value filter_replace(tpl_state *s, value in, const value *p, const args *a)
{
    int64_t most = given(p[2]) && p[2].kind != VAL_NONE ? tpl_int_arg(s, p[2], "the count") : -1;
    return val_str(text_replace(s, soft(s, in), soft(s, p[0]), soft(s, p[1]), most));
}

static value filter_indent(tpl_state *s, value in, const value *p, const args *a)
{
    const str *by;
    if (given(p[0]) && p[0].kind == VAL_STR) {
        by = p[0].s;
    } else {
        int64_t width = given(p[0]) ? tpl_int_arg(s, p[0], "the width") : 4;
        builder b = {0};
        build_repeat(s, &b, " ", width < 0 ? 0 : (size_t)width);
        by = str_built(s, &b);
    }
    return val_str(text_indent(s, tpl_str_arg(s, in, "indent's input"), by, wants(p[1]), wants(p[2])));
}

static value filter_join(tpl_state *s, value in, const value *p, const args *a)
{
    const list *items = val_items(s, in);
    if (given(p[1]) && p[1].kind != VAL_NONE) {
        value mapped = val_list(s, VAL_LIST, items->n);
        for (size_t i = 0; i < items->n; i++)
            list_push(s, mapped.l, tpl_get_path(s, items->at[i], p[1], (value){0}));
        items = mapped.l;
    }
    return val_str(text_join(s, given(p[0]) ? soft(s, p[0]) : str_text(s, ""), items, false));
}

static value filter_format(tpl_state *s, value in, const value *p, const args *a)
{
    value values;
    if (a->n_keywords && a->n)
        tpl_fail(s, TEMPLATE_TYPE, "can't handle positional and keyword arguments at the same time");
    if (a->n_keywords) {
        values = val_dict(s);
        for (size_t i = 0; i < a->n_keywords; i++)
            dict_set(s, values.d, val_str(a->keywords[i].name), a->keywords[i].v);
    } else {
        values = val_list(s, VAL_TUPLE, a->n);
        for (size_t i = 0; i < a->n; i++)
            list_push(s, values.l, a->at[i]);
    }
    return val_str(tpl_format_percent(s, soft(s, in), values));
}

static value filter_center(tpl_state *s, value in, const value *p, const args *a)
{
    return val_str(
        text_pad(s, soft(s, in), given(p[0]) ? tpl_int_arg(s, p[0], "the width") : 80, str_text(s, " "), 'c'));
}

static value filter_tojson(tpl_state *s, value in, const value *p, const args *a)
{
    json_style style = {.ascii = wants(p[0]), .sort_keys = wants(p[3])};
    if (given(p[1]) && p[1].kind == VAL_STR) {
        style.indent = p[1].s;
    } else if (given(p[1]) && p[1].kind != VAL_NONE) {
        int64_t width = tpl_int_arg(s, p[1], "indent");
        builder b = {0};
        build_repeat(s, &b, " ", width < 0 ? 0 : (size_t)width);
        style.indent = str_built(s, &b);
    }
    if (given(p[2]) && p[2].kind != VAL_NONE) {
        val_use(s, p[2]);
        const list *both = val_items(s, p[2]);
        if (both->n != 2)
            tpl_fail(s, TEMPLATE_VALUE, "separators must be two texts");
        style.comma = tpl_str_arg(s, both->at[0], "a separator");
        style.colon = tpl_str_arg(s, both->at[1], "a separator");
    }
    return val_str(tpl_print_json(s, in, &style));
}

static value filter_from_json(tpl_state *s, value in, const value *p, const args *a)
{
    str *text = tpl_str_arg(s, in, "from_json's input");
    value v;
    size_t at;
    bool foreign = false;
    for (size_t i = 0; i < text->n; i++)
        foreign |= text->runs[i].foreign; /* one foreign byte makes all strings foreign */
    if (!tpl_read_json(s, str_flat(s, text), text->length, foreign, &v, &at))
        tpl_fail(s, TEMPLATE_RUNTIME, "from_json: malformed JSON near character %zu", at);
    return v;
}

const native *tpl_filter_of_text(const char *name, size_t length)
{
    static const native table[] = {
        {"trim", filter_trim, "chars", 0},
        {"upper", filter_upper, "", 0},
        {"lower", filter_lower, "", 0},
        {"title", filter_title, "", 0},
        {"capitalize", filter_capitalize, "", 0},
        {"string", filter_string, "", 0},
        {"safe", filter_safe, "", 0},
        {"escape", filter_escape, "", 0},
        {"e", filter_escape, "", 0},
        {"forceescape", filter_forceescape, "", 0},
        {"replace", filter_replace, "old,new,count", 2},
        {"indent", filter_indent, "width,first,blank", 0},
        {"join", filter_join, "d,attribute", 0},
        {"format", filter_format, "*", 0},
        {"center", filter_center, "width", 0},
        {"tojson", filter_tojson, "ensure_ascii,indent,separators,sort_keys", 0},
        {"from_json", filter_from_json, "", 0},
        {"fromjson", filter_from_json, "", 0},
    };
    return tpl_native_find(table, sizeof table / sizeof *table, name, length);
}
