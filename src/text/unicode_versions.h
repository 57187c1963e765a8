/* unicode_versions.h - the versions of Unicode that tokenizers go by, whichever this system's libraries know.
 *
 * A model has learnt the tokens that Hugging Face's `tokenizers` gives: its patterns (Oniguruma) know Unicode 16, its
 * normal forms Unicode 9. */
#ifndef ODMOE_TEXT_UNICODE_VERSIONS_H
#define ODMOE_TEXT_UNICODE_VERSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A property of \p{...}, under the name that Oniguruma takes. */
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

/* unicode_is_plain - does normalising leave this character as it is, and mark no order or composition across it? True
 * of those whose decomposition or combining class came after Unicode 9. */
bool unicode_is_plain(uint32_t c);

#endif
