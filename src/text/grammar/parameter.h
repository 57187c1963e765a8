/* parameter.h - how a parameter of a tool is written between tags, by its schema: what a parser makes of its text, and so
 * what a grammar may allow. */
#ifndef ODMOE_TEXT_GRAMMAR_PARAMETER_H
#define ODMOE_TEXT_GRAMMAR_PARAMETER_H

#include <jansson.h>
#include <stdbool.h>

typedef enum parameter_kind {
    PARAMETER_JSON, /* JSON; what is none is a text all the same */
    PARAMETER_TEXT, /* the text as it stands */
    PARAMETER_ANY   /* its schema says nothing: as JSON, and every text is right */
} parameter_kind;

/* parameter_kind_of - of the parameter `key` of a function whose parameters have this schema (NULL: none). *nullable: the
 * text null is no text. */
parameter_kind parameter_kind_of(const json_t *parameters, const char *key, bool *nullable);

/* parameter_says_nothing - a schema of nothing but a title, a description and the like. */
bool parameter_says_nothing(const json_t *schema);

#endif
