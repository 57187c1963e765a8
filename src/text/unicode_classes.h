/* unicode_classes.h - the properties of \p{...} in patterns of tokenizer files: their names as Oniguruma takes them, and
 * the characters that have them in Unicode 16, whichever version this system's PCRE2 knows. */
#ifndef ODMOE_TEXT_UNICODE_CLASSES_H
#define ODMOE_TEXT_UNICODE_CLASSES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct unicode_property {
    char name[48];     /* PCRE2's name: "L", "Alphabetic", "sc:han" */
    const char *newer; /* what Unicode 15 and 16 added to it, as the inside of a class; "" for nothing */
} unicode_property;

/* unicode_find - the property that text[0, length) between \p{ and } names (case, blanks, '-' and '_' do not count). A
 * name that is none of a category or another known property is taken for a script's (Script, not Script_Extensions);
 * PCRE2 then says whether there is one. false: nothing that could be a name. */
bool unicode_find(const char *text, size_t length, unicode_property *out);

/* unicode_newer - the same characters for a name of PCRE2. */
const char *unicode_newer(const char *name);

#endif
