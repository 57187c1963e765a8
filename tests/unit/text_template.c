/* Chat templates: whose text is whose after each operation, what a run may cost, and how faults are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/template.h"

/* The messages of these tests are one foreign text. */
static template_error render(const char *source, const char *messages, template_text *out, template_fault *fault)
{
    template_variable v = {.name = "messages", .json = messages, .length = strlen(messages), .foreign = true};
    chat_program *t = template_compile(source, strlen(source), fault);
    if (!t)
        fail_msg("%s: %s", source, fault->message);
    template_error e = template_render(t, &v, 1, 0, NULL, out, fault);
    template_free(t);
    return e;
}

/* ---- origin ---- */

/* In `expected`, foreign text stands between < and >. */
typedef struct origin_case {
    const char *source, *expected;
} origin_case;

static void mark(const template_text *t, char *out)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < t->n; i++) {
        n += (size_t)sprintf(out + n, "%.*s<%.*s>", (int)(t->foreign[i].from - at), t->text + at,
                             (int)(t->foreign[i].to - t->foreign[i].from), t->text + t->foreign[i].from);
        at = t->foreign[i].to;
    }
    sprintf(out + n, "%s", t->text + at);
}

static void check_origin(const origin_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char marked[4096];
        template_text out = {0};
        template_fault fault = {0};
        if (render(cases[i].source, "\" a,B-c \\u00e9 \"", &out, &fault))
            fail_msg("%s: %s", cases[i].source, fault.message);
        mark(&out, marked);
        if (strcmp(marked, cases[i].expected) != 0)
            fail_msg("%s: %s is not %s", cases[i].source, marked, cases[i].expected);
        template_text_free(&out);
    }
}
#define CHECK_ORIGIN(...)                                     \
    do {                                                      \
        const origin_case cases_[] = {__VA_ARGS__};           \
        check_origin(cases_, sizeof cases_ / sizeof *cases_); \
    } while (0)
#define M "{% set m = messages %}"

static void joined_texts_keep_where_each_came_from(void **state)
{
    CHECK_ORIGIN(
        {M "[{{ m }}]", "[< a,B-c é >]"}, {M "{{ 'x' + m + 'y' }}", "x< a,B-c é >y"},
        {M "{{ 'x' ~ m ~ 1 }}", "x< a,B-c é >1"}, {M "{{ ['x', m, 'y'] | join('|') }}", "x|< a,B-c é >|y"},
        {M "{{ '|'.join(['x', m]) }}", "x|< a,B-c é >"}, {M "{{ m.join(['x', 'y']) }}", "x< a,B-c é >y"},
        {M "{{ (m | trim) * 2 }}", "<a,B-c éa,B-c é>"}, {M "{% set x %}[{{ m }}]{% endset %}{{ x }}", "[< a,B-c é >]"},
        {M "{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(m) }}", "[< a,B-c é >]"},
        {M "{% set ns = namespace(t='') %}{% for c in 'xy' %}{% set ns.t = ns.t + c + m[1] %}{% endfor %}{{ ns.t }}",
         "x<a>y<a>"},
        {M "{{ [m[1], 'x'] | sum(start='') }}", "<a>x"},
        {M "{% filter upper %}x{{ m }}{% endfilter %}", "X< A,B-C É >"});
}

static void cut_texts_keep_where_each_came_from(void **state)
{
    CHECK_ORIGIN(
        {M "{{ ('x' + m + 'y')[:3] }}", "x< a>"}, {M "{{ ('x' + m + 'y')[-3:] }}", "<é >y"},
        {M "{{ ('x' + m)[2] }}", "<a>"}, {M "{{ ('x' + m)[::-1] }}", "< é c-B,a >x"},
        {M "{{ m.strip() }}", "<a,B-c é>"}, {M "{{ ('  ' + m + ' x ').rstrip() }}", "  < a,B-c é > x"},
        {M "{{ ('-' + m).lstrip('-') }}", "< a,B-c é >"}, {M "{{ m | trim }}", "<a,B-c é>"},
        {M "{{ ('x' + m).split(',') }}", "['x< a>', '<B-c é >']"}, {M "{{ m.split()[1] }}", "<é>"},
        {M "{{ (m + '-z').rsplit('-', 1)[1] }}", "z"}, {M "{{ ('x\n' + m).splitlines() }}", "['x', '< a,B-c é >']"},
        {M "{{ ('x' + m).partition(',')[2] }}", "<B-c é >"}, {M "{{ ('x' + m).removeprefix('x ') }}", "<a,B-c é >"},
        {M "{{ ('x' + m) | first }}{{ ('x' + m) | last }}", "x< >"},
        {M "{% for c in 'x' + m.strip()[:2] %}({{ c }}){% endfor %}", "(x)(<a>)(<,>)"},
        {M "{{ ('x' + m) | list }}", "['x', '< >', '<a>', '<,>', '<B>', '<->', '<c>', '< >', '<é>', '< >']"},
        {M "{{ ('xy' + m) | reverse }}", "< é c-B,a >yx"},
        {M "{{ ('x' + m + 'word more') | truncate(6, true, '..', 0) }}", "x< a,>.."});
}

static void changed_texts_keep_where_each_came_from(void **state)
{
    CHECK_ORIGIN({M "{{ ('x' + m).upper() }}", "X< A,B-C É >"}, {M "{{ ('X' + m) | lower }}", "x< a,b-c é >"},
                 {M "{{ ('x' + m) | title }}", "X< A,b-C É >"}, {M "{{ ('x' + m) | capitalize }}", "X< a,b-c é >"},
                 {M "{{ (m + 'x').swapcase() }}", "< A,b-C É >X"}, {M "{{ m.replace(',', ';') }}", "< a>;<B-c é >"},
                 {M "{{ 'x-y' | replace('-', m) }}", "x< a,B-c é >y"},
                 {M "{{ ('x' + m) | replace('', '.', 2) }}", ".x.< a,B-c é >"},
                 {M "{{ m.strip().center(9, '*') }}", "*<a,B-c é>*"}, {M "{{ 'x'.ljust(3, m[1]) }}", "x<aa>"},
                 {M "{{ m.strip().zfill(8) }}", "0<a,B-c é>"}, {M "{{ ('x\n' + m) | indent(2) }}", "x\n  < a,B-c é >"},
                 {M "{{ '<' | escape }}{{ m | escape }}", "&lt;< a,B-c é >"},
                 {M "{{ ('x' ~ m) | string }}", "x< a,B-c é >"},
                 {M "{{ (m | trim) | wordwrap(3) }}", "<a,B>\n<-c>\n<é>"},
                 {M "{{ ('x y ' + m) | urlencode }}", "x%20y%20<%20a%2CB-c%20%C3%A9%20>"},
                 {M "{{ ('<b>' ~ m ~ '</b>') | striptags }}", "<a,B-c> <é>"});
}

static void formatted_texts_keep_where_each_came_from(void **state)
{
    CHECK_ORIGIN(
        {M "{{ '%s|%10s' % (m[1], m[3]) }}", "<a>|         <B>"}, {M "{{ (m.strip() + '%s') % 'x' }}", "<a,B-c é>x"},
        {M "{{ 'x%(k)s' % {'k': m[1]} }}", "x<a>"}, {M "{{ '[{}]'.format(m) }}", "[< a,B-c é >]"},
        {M "{{ '{0:*>3}{k}'.format(m[1], k=m[3]) }}", "**<aB>"}, {M "{{ '%s' | format(m[1]) }}", "<a>"},
        {M "{{ [m[1:3]] }}", "['<a,>']"}, {M "{{ {m[1]: m[7]} | string }}", "{'<a>': '<é>'}"},
        {M "{{ '%r' % m[7] }}", "'<é>'"}, {M "{{ {'k': [m]} | tojson }}", "{\"k\": [\"< a,B-c é >\"]}"},
        {M "{{ m | tojson(ensure_ascii=true) }}", "\"< a,B-c \\u00e9 >\""},
        {M "{{ ('[\"' ~ m ~ '\"]') | from_json | first }}", "< a,B-c é >"},
        {M "{{ strftime_now(m[1] ~ '%Y' ~ '%') }}", "<a>1970%"}, {M "{{ {m[1]: 1} | xmlattr }}", " <a>=\"1\""});
}

static void texts_that_are_handed_on_keep_where_each_came_from(void **state)
{
    CHECK_ORIGIN({M "{% for k, v in {'k': m[1]}.items() %}{{ k }}{{ v }}{% endfor %}", "k<a>"},
                 {M "{{ [m[3], 'A'] | sort | join }}", "A<B>"}, {M "{{ [m[1]] | map('upper') | join }}", "<A>"},
                 {M "{{ ['x', m[1]] | select('in', [m[1]]) | join }}", "<a>"}, {M "{{ (m if m else 'x')[1] }}", "<a>"},
                 {M "{{ nothing | default(m[1]) }}", "<a>"},
                 {M "{{ [{'k': m[1]}] | groupby('k') | map(attribute='grouper') | join }}", "<a>"},
                 {M "{{ [m[1]] | batch(2, 'x') | first | join }}", "<a>x"}, {M "{{ ('x' if m[1] == 'a') }}", "x"},
                 {M "{{ {'a': 'x'}[m[1]] }}", "x"}, {M "{{ [m[1], m[3]] | unique | join }}", "<aB>"},
                 {M "{{ dict(a=m[1]) | dictsort | string }}", "[('a', '<a>')]"});
}

/* ---- what a comparison with jinja2 on random templates found; expected: jinja2's ---- */

static void odd_corners_are_those_of_jinja2(void **state)
{
    static const struct {
        const char *source, *expected; /* NULL: an error */
    } cases[] = {
        {"{% for i in [1, 2] %}{{ i }}{% continue %}{% else %}E{% endfor %}", "12E"},
        {"{% for i in [1, 2] %}{{ i }}{% break %}{% else %}E{% endfor %}", "1E"},
        {"{% for i in [1, 2] %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}", "12"},
        {"{% for i in [1, 2] %}{% for j in [] %}{% else %}{% break %}{% endfor %}{{ i }}{% endfor %}", ""},
        {"{% for i in [7, 8] %}{% macro f() %}{{ loop.index }}{% endmacro %}{{ f() }}{% endfor %}", "12"},
        {"{{ 5 is upper }}{{ [1] is lower }}", "FalseFalse"},
        {"{% set n = 5 %}{{ n[1:] }}", NULL},
        {"{% set d = {} %}{{ d[1:] }}", NULL},
        {"{{ [1] | indent }}", NULL},
        {"{{ nothing in 'a' }}", NULL},
        {"{{ ('ab' | safe) | list }}{{ [('ab' | safe)[0]] }}", "['a', 'b'][Markup('a')]"},
        {"{{ 'x' % nothing }}{{ nothing is callable }}", "xTrue"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        template_text out = {0};
        template_fault fault = {0};
        template_error e = render(cases[i].source, "[]", &out, &fault);
        if (!cases[i].expected ? !e : e || strcmp(out.text, cases[i].expected) != 0)
            fail_msg("%s: %s", cases[i].source, e ? fault.message : out.text);
        template_fault_free(&fault);
        template_text_free(&out);
    }
}

/* ---- limits ---- */

static void each_limit_is_an_error_with_its_line(void **state)
{
    static const char *const sources[] = {
        "\n{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "\n{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "\n{{ range(100001) }}",
        "\n{% set ns = namespace(a=[1]) %}{% for i in range(100) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "\n{{ 'x' * 10 ** 9 }}",
        "\n{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "\n{% set l = [] %}{% for i in range(3) %}{% set _ = l.append(l) %}{% endfor %}{{ l }}",
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        template_text out = {0};
        template_fault fault = {0};
        assert_int_equal(render(sources[i], "[]", &out, &fault), TEMPLATE_LIMIT);
        assert_int_equal(fault.line, 2);
        assert_null(out.text);
        template_fault_free(&fault);
    }
}

static void ten_megabytes_of_messages_are_rendered_without_copies_of_them(void **state)
{
    enum { TEN = 10 << 20, EACH = 4096 };
    char *json = malloc(TEN + (1 << 20)), *at = json;
    size_t n = 0;
    assert_non_null(json);
    *at++ = '[';
    for (; at - json < TEN; n++) {
        at += sprintf(at, "%s{\"role\":\"%s\",\"content\":\"", n ? "," : "", n % 2 ? "assistant" : "user");
        memset(at, 'a' + (int)(n % 26), EACH);
        at += EACH;
        at += sprintf(at, "\"}");
    }
    strcpy(at, "]");
    template_text out = {0};
    template_fault fault = {0};
    template_error e = render("{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set "
                              "ns.last = loop.index0 %}{% endif %}{% endfor %}"
                              "{% for message in messages %}{% set content = message.content | trim %}{{ "
                              "'<|im_start|>' + message['role'] + '\n' + content + "
                              "'<|im_end|>' + '\n' }}{% if '</think>' in content %}x{% endif %}{% endfor %}",
                              json, &out, &fault);
    if (e)
        fail_msg("%s", fault.message);
    assert_true(out.length > TEN / 10 * 9 && out.n >= n);
    assert_true(out.peak_bytes <
                out.length * 3 / 2 + (4 << 20)); /* the text, which grows by steps, and some MiB of values */
    template_text_free(&out);
    free(json);
}

/* ---- faults ---- */

static void faults_name_line_and_feature(void **state)
{
    static const struct {
        const char *source;
        template_error kind;
        int line;
        const char *word;
    } cases[] = {{"a\n{% frobnicate %}", TEMPLATE_SYNTAX, 2, "frobnicate"},
                 {"a\n\n{{ 1 | nosuch }}", TEMPLATE_SYNTAX, 3, "nosuch"},
                 {"{{ 1 is\n nosuch }}", TEMPLATE_SYNTAX, 2, "nosuch"},
                 {"{% if x %}\n\n\n", TEMPLATE_SYNTAX, 3, "endif"},
                 {"{% include 'x' %}", TEMPLATE_REFUSED, 1, "include"},
                 {"\n{{ 'a", TEMPLATE_SYNTAX, 2, "quote"},
                 {"\xff", TEMPLATE_SYNTAX, 0, "UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        template_fault fault = {0};
        assert_null(template_compile(cases[i].source, strlen(cases[i].source), &fault));
        assert_int_equal(fault.kind, cases[i].kind);
        assert_int_equal(fault.line, cases[i].line);
        assert_non_null(strstr(fault.message, cases[i].word));
        template_fault_free(&fault);
    }
}

static void what_fails_while_running_names_its_line(void **state)
{
    template_text out = {0};
    template_fault fault = {0};
    assert_int_equal(render("a\n{% for x in [1] %}\n{{ x + 'b' }}\n{% endfor %}", "[]", &out, &fault), TEMPLATE_TYPE);
    assert_int_equal(fault.line, 3);
    template_fault_free(&fault);
    assert_int_equal(render("a\n\n{{ raise_exception('No: ' ~ messages) }}", "\"way\\n\"", &out, &fault),
                     TEMPLATE_RAISE);
    assert_int_equal(fault.line, 3);
    assert_string_equal(fault.message, "No: way\n");
    template_fault_free(&fault);
}

static void data_that_is_no_json_is_told(void **state)
{
    static const char *const texts[] = {"",   "[",       "[1,]",        "{\"a\" 1}", "nul",   "01",
                                        "1.", "\"\\x\"", "\"\\ud800\"", "\"\xff\"",  "[] []", "\"a\nb\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        template_text out = {0};
        template_fault fault = {0};
        if (render("{{ messages }}", texts[i], &out, &fault) != TEMPLATE_DATA)
            fail_msg("%s is taken", texts[i]);
        template_fault_free(&fault);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined_texts_keep_where_each_came_from),
        cmocka_unit_test(cut_texts_keep_where_each_came_from),
        cmocka_unit_test(changed_texts_keep_where_each_came_from),
        cmocka_unit_test(formatted_texts_keep_where_each_came_from),
        cmocka_unit_test(texts_that_are_handed_on_keep_where_each_came_from),
        cmocka_unit_test(odd_corners_are_those_of_jinja2),
        cmocka_unit_test(each_limit_is_an_error_with_its_line),
        cmocka_unit_test(ten_megabytes_of_messages_are_rendered_without_copies_of_them),
        cmocka_unit_test(faults_name_line_and_feature),
        cmocka_unit_test(what_fails_while_running_names_its_line),
        cmocka_unit_test(data_that_is_no_json_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
