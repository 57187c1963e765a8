#include "text/template/lexer.h"

#include "base/utf8.h"

lexer lexer_start(tpl_state *s, const char *text, size_t length)
{
    return (lexer){.s = s, .at = text, .end = text + length, .line = 1, .line_starts = true};
}

/* ---- helpers ---- */

static bool looking_at(const lexer *l, const char *at, const char *sign)
{
    size_t n = strlen(sign);
    return (size_t)(l->end - at) >= n && !memcmp(at, sign, n);
}

/* The length of the white space character at `at`, or 0. */
static size_t space_at(const char *at, const char *end)
{
    int n = at < end ? utf8_char(at, (size_t)(end - at)) : 0;
    return n > 0 && tpl_char_is_space(utf8_decode(at, n)) ? (size_t)n : 0;
}

static const char *skip_space(const char *at, const char *end)
{
    for (size_t n; (n = space_at(at, end));)
        at += n;
    return at;
}

/* Where text[from, to) ends without its white space. */
static const char *without_space(const char *from, const char *to)
{
    while (to > from) {
        const char *last = to - 1;
        while (last > from && ((unsigned char)*last & 0xC0) == 0x80)
            last--;
        if (space_at(last, to) != (size_t)(to - last))
            break;
        to = last;
    }
    return to;
}

/* Go on at `to`, counting lines. */
static void advance(lexer *l, const char *to)
{
    for (const char *p = l->at; (p = memchr(p, '\n', (size_t)(to - p))); p++)
        l->line++;
    if (to > l->at)
        l->line_starts = to[-1] == '\n';
    l->at = to;
}

static noreturn void syntax(lexer *l, const char *what)
{
    l->s->line = l->line;
    tpl_fail(l->s, TEMPLATE_SYNTAX, "%s", what);
}

/* Behind the end of a tag at `at`, which a sign (or none) precedes: what the sign and trim_blocks swallow. */
static const char *behind_tag(const lexer *l, const char *at, char sign, bool trims)
{
    if (sign == '-')
        return skip_space(at, l->end);
    return trims && sign != '+' && at < l->end && *at == '\n' ? at + 1 : at;
}

/* ---- text ---- */

/* A text from l->at up to a tag that begins at `tag` with `sign` behind it. */
static token text_token(lexer *l, const char *tag, char sign, bool strips_line)
{
    token t = {TOKEN_TEXT, l->line, l->at, (size_t)(tag - l->at)};
    if (sign == '-') {
        t.length = (size_t)(without_space(l->at, tag) - l->at);
    } else if (sign != '+' && strips_line) {
        const char *line = memrchr(l->at, '\n', t.length);
        const char *begin = line ? line + 1 : l->at;
        if ((line || l->line_starts) && begin < tag && skip_space(begin, tag) == tag)
            t.length = (size_t)(begin - l->at);
    }
    return t;
}

/* The name of the tag that opens at `tag`: is it `name`, alone? Then where the tag ends, else NULL. */
static const char *lone_tag(const lexer *l, const char *tag, const char *name, char *end_sign)
{
    const char *at = tag + 2;
    if (at < l->end && (*at == '-' || *at == '+'))
        at++;
    at = skip_space(at, l->end);
    if (!looking_at(l, at, name))
        return NULL;
    at = skip_space(at + strlen(name), l->end);
    *end_sign = at < l->end && (*at == '-' || *at == '+') ? *at++ : 0;
    return looking_at(l, at, "%}") ? at + 2 : NULL;
}

static char sign_of(const lexer *l, const char *tag)
{
    return tag + 2 < l->end && (tag[2] == '-' || tag[2] == '+') ? tag[2] : 0;
}

/* The text of a raw block whose opening tag ends at l->at. */
static token raw_text(lexer *l)
{
    for (const char *at = l->at; (at = memmem(at, (size_t)(l->end - at), "{%", 2)); at += 2) {
        char end_sign;
        const char *behind = lone_tag(l, at, "endraw", &end_sign);
        if (!behind)
            continue;
        token t = text_token(l, at, sign_of(l, at), true);
        advance(l, behind_tag(l, behind, end_sign, true));
        return t;
    }
    syntax(l, "{% raw %} without {% endraw %}");
}

/* The tag at `tag`, behind the text that stands before it. */
static token open_tag(lexer *l, const char *tag)
{
    bool prints = tag[1] == '{', comment = tag[1] == '#';
    char sign = sign_of(l, tag), end_sign;
    token t = text_token(l, tag, sign, !prints);
    advance(l, tag);
    if (comment) {
        const char *end = memmem(tag + 2, (size_t)(l->end - tag - 2), "#}", 2);
        if (!end)
            syntax(l, "a comment without its end #}");
        char before = end > tag + 2 && (end[-1] == '-' || end[-1] == '+') ? end[-1] : 0;
        advance(l, behind_tag(l, end + 2, before, true));
        return t;
    }
    const char *raw = prints ? NULL : lone_tag(l, tag, "raw", &end_sign);
    if (raw) {
        advance(l, behind_tag(l, raw, end_sign, false));
        l->waiting = raw_text(l);
    } else {
        l->waiting = (token){prints ? TOKEN_PRINT : TOKEN_BLOCK, l->line, tag, 2};
        advance(l, tag + 2 + (sign != 0));
        l->state = prints ? IN_PRINT : IN_BLOCK;
        l->open = l->open_beyond = 0;
    }
    l->has_waiting = true;
    return t;
}

static token next_text(lexer *l)
{
    const char *at = l->at;
    while ((at = memchr(at, '{', (size_t)(l->end - at))) && (at + 1 >= l->end || !strchr("{%#", at[1]) || !at[1]))
        at++;
    if (at)
        return open_tag(l, at);
    token t = {TOKEN_TEXT, l->line, l->at, (size_t)(l->end - l->at)};
    advance(l, l->end);
    return t;
}

/* ---- strings and numbers ---- */

static uint32_t hex_digits(lexer *l, const char **at, size_t n)
{
    uint32_t c = 0;
    for (size_t i = 0; i < n; i++, ++*at) {
        char d = *at < l->end ? **at : 0;
        unsigned v = d >= '0' && d <= '9'                 ? (unsigned)(d - '0')
                     : (d | 32) >= 'a' && (d | 32) <= 'f' ? (unsigned)((d | 32) - 'a' + 10)
                                                          : 16;
        if (v == 16)
            syntax(l, "a string with an unfinished escape");
        c = c << 4 | v;
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
        syntax(l, "a string with an escape that is no character");
    return c;
}

/* One escape, `at` behind its backslash. */
static const char *escape(lexer *l, builder *b, const char *at)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = *at;
    const char *known = c ? strchr(from, c) : NULL;
    if (c == '\n')
        return at + 1;
    if (known) {
        build_char(l->s, b, (unsigned char)to[known - from], false);
        return at + 1;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        at++;
        build_char(l->s, b, hex_digits(l, &at, c == 'x' ? 2 : c == 'u' ? 4 : 8), false);
        return at;
    }
    if (c >= '0' && c <= '7') {
        uint32_t n = 0;
        for (int i = 0; i < 3 && at < l->end && *at >= '0' && *at <= '7'; i++)
            n = n * 8 + (uint32_t)(*at++ - '0');
        build_char(l->s, b, n, false);
        return at;
    }
    build_char(l->s, b, '\\', false);
    return at;
}

static token string_token(lexer *l)
{
    token t = {TOKEN_STRING, l->line, NULL, 0};
    char quote = *l->at;
    builder b = {0};
    const char *at = l->at + 1;
    for (;;) {
        const char *plain = at;
        while (at < l->end && *at != quote && *at != '\\')
            at++;
        build_run(l->s, &b, plain, (size_t)(at - plain), false);
        if (at >= l->end || (*at == '\\' && at + 1 >= l->end))
            syntax(l, "a string without its closing quote");
        if (*at == quote)
            break;
        at = escape(l, &b, at + 1);
    }
    advance(l, at + 1);
    const str *text = str_built(l->s, &b);
    t.at = str_flat(l->s, text);
    t.length = text->length;
    return t;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || (unsigned char)c >= 0x80;
}

static const char *digits(const lexer *l, const char *at)
{
    while (at < l->end && (is_digit(*at) || (*at == '_' && at + 1 < l->end && is_digit(at[1]))))
        at++;
    return at;
}

static token number_token(lexer *l, bool after_dot)
{
    token t = {TOKEN_INT, l->line, l->at, 0};
    const char *at = l->at;
    if (*at == '0' && at + 1 < l->end && strchr("xXoObB", at[1]) && at[1]) {
        at += 2;
        while (at < l->end && is_name_char(*at))
            at++;
    } else {
        at = digits(l, at);
        const char *fraction = at;
        if (!after_dot && at + 1 < l->end && *at == '.' && is_digit(at[1]))
            fraction = digits(l, at + 1);
        const char *exponent = fraction;
        if (!after_dot && exponent < l->end && (*exponent | 32) == 'e') {
            exponent++;
            if (exponent < l->end && (*exponent == '+' || *exponent == '-'))
                exponent++;
            exponent = exponent < l->end && is_digit(*exponent) ? digits(l, exponent) : fraction;
        }
        if (exponent > at)
            t.kind = TOKEN_FLOAT;
        at = exponent > at ? exponent : at;
    }
    t.length = (size_t)(at - t.at);
    advance(l, at);
    return t;
}

/* ---- between braces ---- */

/* Is this the end of the tag? Then its token, and the lexer is in text again. */
static bool tag_end(lexer *l, token *t)
{
    const char *end = l->state == IN_BLOCK ? "%}" : "}}";
    char sign = *l->at == '-' || (*l->at == '+' && l->state == IN_BLOCK) ? *l->at : 0;
    if (l->open + l->open_beyond || !looking_at(l, l->at + (sign != 0), end))
        return false;
    *t = (token){l->state == IN_BLOCK ? TOKEN_BLOCK_END : TOKEN_PRINT_END, l->line, l->at, 0};
    advance(l, behind_tag(l, l->at + (sign != 0) + 2, sign, l->state == IN_BLOCK));
    l->state = IN_TEXT;
    return true;
}

static void count_brackets(lexer *l, char c)
{
    if (strchr("([{", c)) {
        if (l->open < sizeof l->brackets)
            l->brackets[l->open++] = c;
        else
            l->open_beyond++;
    } else if (strchr(")]}", c)) {
        if (l->open_beyond) {
            l->open_beyond--; /* which bracket it was, the parser finds out */
            return;
        }
        char opened = l->open ? l->brackets[--l->open] : 0;
        if ((c == ')' && opened != '(') || (c == ']' && opened != '[') || (c == '}' && opened != '{'))
            syntax(l, "a closing bracket that does not fit");
    }
}

static token operator_token(lexer *l)
{
    static const char *const signs[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (!looking_at(l, l->at, signs[i]))
            continue;
        token t = {TOKEN_OP, l->line, signs[i], strlen(signs[i])};
        if (t.length == 1)
            count_brackets(l, *t.at);
        advance(l, l->at + t.length);
        return t;
    }
    syntax(l, "a character that is no part of the language");
}

static token next_inside(lexer *l)
{
    token t;
    bool after_dot = l->at[-1] == '.';
    advance(l, skip_space(l->at, l->end));
    if (l->at >= l->end)
        syntax(l, l->state == IN_BLOCK ? "{% without its end %}" : "{{ without its end }}");
    if (tag_end(l, &t))
        return t;
    char c = *l->at;
    if (c == '\'' || c == '"')
        return string_token(l);
    if (is_digit(c))
        return number_token(l, after_dot);
    if (is_name_char(c)) {
        const char *at = l->at;
        while (at < l->end && is_name_char(*at))
            at++;
        t = (token){TOKEN_NAME, l->line, l->at, (size_t)(at - l->at)};
        advance(l, at);
        return t;
    }
    return operator_token(l);
}

token lexer_next(lexer *l)
{
    for (;;) {
        token t;
        if (l->has_waiting) {
            l->has_waiting = false;
            t = l->waiting;
        } else if (l->state != IN_TEXT) {
            return next_inside(l);
        } else if (l->at < l->end) {
            t = next_text(l);
        } else {
            return (token){TOKEN_END, l->line, l->at, 0};
        }
        if (t.kind != TOKEN_TEXT || t.length)
            return t;
    }
}
