/* textops.h - what filters and methods do with text; each keeps where every byte came from. */
#ifndef ODMOE_TEXT_TEMPLATE_TEXTOPS_H
#define ODMOE_TEXT_TEMPLATE_TEXTOPS_H

#include "text/template/value.h"

enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
str *text_strip(tpl_state *s, str *a, const str *chars, int sides); /* chars NULL: white space */
/* most: -1 for all. The new text is taken as it stands, an empty `from` matches between all characters. */
str *text_replace(tpl_state *s, str *a, const str *from, const str *to, int64_t most);

typedef enum text_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP, CASE_WORDS } text_case;
str *text_case_of(tpl_state *s, const str *a, text_case to); /* CASE_TITLE: the method, CASE_WORDS: the filter */
/* Padded to width characters. side: '<' text left, '>' right, '^' center as format does, 'c' center as the method. */
str *text_pad(tpl_state *s, str *a, int64_t width, const str *fill, char side);
value text_split(tpl_state *s, const str *a, const str *by, int64_t most); /* by NULL: white space */
value text_rsplit(tpl_state *s, const str *a, const str *by, int64_t most);
value text_lines(tpl_state *s, const str *a, bool keep_ends);
str *text_join(tpl_state *s, const str *between, const list *items, bool strict); /* strict: TYPE error for no string */
str *text_reverse(tpl_state *s, const str *a);
str *text_indent(tpl_state *s, const str *a, const str *by, bool first, bool blank);

#endif
