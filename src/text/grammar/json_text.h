/* json_text.h - the parts of JSON text as expressions: characters as they may be written in a string, literals, numbers
 * between bounds, any value.
 *
 * A character of a string has its plain spelling; control characters, '"', '\' and those beyond ASCII may be escapes
 * too. So a set of characters and its complement never share a spelling. Only where any character may stand are escapes
 * of plain ASCII possible as well.
 *
 * Other notations of the same values (text_notation): a string as it stands, without quotes and escapes; Gemma's quotes
 * and bare keys; JSON whose strings must not hold the marker that ends it. */
#ifndef ODMOE_TEXT_GRAMMAR_JSON_TEXT_H
#define ODMOE_TEXT_GRAMMAR_JSON_TEXT_H

#include <jansson.h>

#include "text/grammar/markers.h"

#define NUMBER_DIGITS_MAX 20 /* before the point, and behind it */

#define RULE_NONE UINT32_MAX

/* How values are written. */
typedef struct text_notation {
    const char *name;        /* begins its rules' names */
    const char *quote;       /* around strings; may be "" */
    const char_range *plain; /* [plain_count] characters that stand for themselves in strings, ascending */
    size_t plain_count;
    bool escapes;   /* JSON's, in strings */
    bool bare_keys; /* names of members that are plain words stand without quotes */
    bool blanks;    /* a blank may stand between two tokens */
    const char
        *never[5]; /* markers that no string may hold, ended by NULL. A string that is counted or has a pattern then
                             has no character with which one begins, but as an escape */
} text_notation;
extern const text_notation text_json;
#define TEXT_JSON_PLAIN                         \
    {0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, \
    {                                           \
        0xE000, CHAR_MAX_CODE                   \
    } /* all but " \\ and controls */
#define TEXT_ALL              \
    {0, 0xD7FF},              \
    {                         \
        0xE000, CHAR_MAX_CODE \
    }

/* Rules that many parts of a schema share, made when first wanted. */
typedef struct json_text {
    grammar_rules *g;
    const text_notation *notation;
    const token_names *names; /* may be NULL */
    uint32_t blank, character, escaped, string, number, integer, value, object, array;
} json_text;

/* text_init - notation and names (may be NULL) outlive it. */
void text_init(json_text *t, grammar_rules *g, const text_notation *notation, const token_names *names);

/* text_fresh - a shared rule, made when first wanted: true where it has yet to be defined. */
bool text_fresh(json_text *t, uint32_t *rule, const char *name);

expr_id text_blank(json_text *t);                            /* the blank that may stand between two tokens of JSON */
expr_id text_character(json_text *t);                        /* any character of a string */
expr_id text_character_of(json_text *t, const charset *set); /* one of a normalised set */
expr_id text_string(json_text *t, uint32_t least, uint32_t most);
expr_id text_literal(json_text *t, const json_t *value);                  /* exactly this value */
expr_id text_literal_text(json_text *t, const char *text, size_t length); /* its characters, without quotes */
expr_id text_quote(json_text *t);                                         /* what opens and closes a string */
expr_id text_key(json_text *t, const char *name);                         /* a member's name as it is written */
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
