/* json_text.h - the parts of JSON text as expressions: characters as they may be written in a string, literals, numbers
 * between bounds, any value.
 *
 * A character of a string has its plain spelling; control characters, '"', '\' and those beyond ASCII may be escapes
 * too. So a set of characters and its complement never share a spelling. Only where any character may stand are escapes
 * of plain ASCII possible as well. */
#ifndef ODMOE_TEXT_GRAMMAR_JSON_TEXT_H
#define ODMOE_TEXT_GRAMMAR_JSON_TEXT_H

#include <jansson.h>

#include "text/grammar/rules.h"

#define NUMBER_DIGITS_MAX 20 /* before the point, and behind it */

#define RULE_NONE UINT32_MAX

/* Rules that many parts of a schema share, made when first wanted. */
typedef struct json_text {
    grammar_rules *g;
    uint32_t blank, character, escaped, string, number, integer, value, object, array;
} json_text;

void text_init(json_text *t, grammar_rules *g);

expr_id text_blank(json_text *t);                            /* the blank that may stand between two tokens of JSON */
expr_id text_character(json_text *t);                        /* any character of a string */
expr_id text_character_of(json_text *t, const charset *set); /* one of a normalised set */
expr_id text_string(json_text *t, uint32_t least, uint32_t most);
expr_id text_literal(json_text *t, const json_t *value);                  /* exactly this value */
expr_id text_literal_text(json_text *t, const char *text, size_t length); /* its characters, without quotes */
expr_id text_any_number(json_text *t);
expr_id text_any_value(json_text *t);
expr_id text_any_object(json_text *t);
expr_id text_any_array(json_text *t);

expr_id text_comma(json_text *t); /* a comma and the blanks around it */
expr_id text_colon(json_text *t);

/* A bound of a number. */
typedef struct number_bound {
    bool set, open; /* open: the bound itself is outside */
    bool whole;     /* `integer` holds it exactly; else `real` */
    int64_t integer;
    double real;
} number_bound;

/* text_integer - integers between bounds, EXPR_NEVER where there is none; text_number - decimals between bounds, at least
 * one of which is set. Exponents only in the shortest form of numbers below 10^-4 and from 10^16 on. A text is allowed
 * only if the double that it rounds to is, too. */
expr_id text_integer(json_text *t, number_bound low, number_bound high);
expr_id text_number(json_text *t, number_bound low, number_bound high);

/* digits_between - numbers lo to hi written with exactly n digits to the base 10 or 16 (either case). */
expr_id digits_between(grammar_rules *g, uint64_t lo, uint64_t hi, int n, unsigned base);

#endif
