/* regex.h - a schema's `pattern`, ECMA-262's regular expressions as far as they are regular, as characters of a JSON
 * string.
 *
 * Taken: literals, ".", sets with ranges, \d \w \s \D \W \S, \t \n \v \f \r \0 \cX \xHH \uHHHH \u{H}, escaped
 * punctuation, groups (also (?:...) and (?<name>...)), "|", * + ? {m} {m,} {m,n} (also lazy: the language is the same),
 * "^" at the beginning and "$" at the end of an alternative of the whole. Refused by name: \b \B, lookahead and
 * lookbehind, references back, \p{...}, flags, anchors elsewhere.
 *
 * Where readers of patterns differ (ECMA-262 and Python on \d, \w, \s and "."), only texts on which they agree match. */
#ifndef ODMOE_TEXT_GRAMMAR_REGEX_H
#define ODMOE_TEXT_GRAMMAR_REGEX_H

#include "text/grammar/json_text.h"

typedef struct regex_part {
    expr_id e;
    uint32_t least, most; /* characters; most may be REPEAT_UNBOUNDED */
} regex_part;

/* regex_read - pattern[0, length), valid UTF-8, to what a string between its quotes may be. On an error (ERR_FORMAT,
 * ERR_RANGE, ERR_UNSUPPORTED, kept in t->g) the message says what and at which byte. */
regex_part regex_read(json_text *t, const char *pattern, size_t length);

#endif
