/* print.h - values as text: Python's str() and repr(), and JSON both ways. Strings inside keep their origin. */
#ifndef ODMOE_TEXT_TEMPLATE_PRINT_H
#define ODMOE_TEXT_TEMPLATE_PRINT_H

#include "text/template/value.h"

str *tpl_print_str(tpl_state *s, value v); /* undefined: "" */
void tpl_print_repr(tpl_state *s, builder *b, value v);

typedef struct json_style {
    bool ascii, sort_keys;
    const str *indent;        /* NULL: all on one line */
    const str *comma, *colon; /* the separators, or NULL for the usual ones */
} json_style;
/* tpl_print_json - TYPE error for a value that JSON cannot hold. */
str *tpl_print_json(tpl_state *s, value v, const json_style *style);

/* tpl_read_json - the value of text[0, length). Strings without escapes borrow the text, and all are foreign or not.
 * false for malformed text, near byte *at. Repeated keys: the last one counts. */
bool tpl_read_json(tpl_state *s, const char *text, size_t length, bool foreign, value *out, size_t *at);
/* tpl_read_json_members - the members of an object one by one. take is called twice for each: with v NULL, to say whether
 * its strings are foreign, and with the value. */
typedef bool (*json_member)(tpl_state *s, str *key, const value *v, void *user);
bool tpl_read_json_members(tpl_state *s, const char *text, size_t length, json_member take, void *user, size_t *at);

#endif
