/* str.h - text that remembers where its bytes came from.
 *
 * A string is a row of runs, each native (the template's own) or foreign (of messages, tools, documents). Joining and
 * cutting make new rows over the same bytes, so a message's text is never copied; what has to see the bytes in one
 * piece (searching, mainly) lays them out once. All strings are valid UTF-8, and runs end between characters. */
#ifndef ODMOE_TEXT_TEMPLATE_STR_H
#define ODMOE_TEXT_TEMPLATE_STR_H

#include <string.h>

#include "text/template/state.h"

typedef struct run {
    const char *at;
    size_t length;
    bool foreign;
} run;

typedef struct str {
    size_t length; /* bytes */
    const run *runs;
    size_t n;
    const char *flat; /* all bytes in one piece, or NULL */
    bool safe;        /* Markup: joined to other text, that is escaped for HTML */
    run one;          /* room for a single run */
} str;

str *str_new(tpl_state *s, const char *at, size_t length, bool foreign); /* borrows the bytes */
str *str_copy(tpl_state *s, const char *at, size_t length, bool foreign);
str *str_text(tpl_state *s, const char *text); /* native, borrows */
str *str_join2(tpl_state *s, const str *a, const str *b);
str *str_sub(tpl_state *s, const str *a, size_t from, size_t to); /* bytes [from, to); keeps `safe` */
const char *str_flat(tpl_state *s, const str *a);                 /* [length], not terminated */
bool str_equal(tpl_state *s, const str *a, const str *b);
bool str_is(tpl_state *s, const str *a, const char *text);
int str_compare(tpl_state *s, const str *a, const str *b);
uint64_t str_hash(tpl_state *s, const str *a);
bool str_foreign(const str *a, size_t byte); /* where the byte came from */

/* str_find - the first (or last) place of b in a[from, to), SIZE_MAX where there is none. */
size_t str_find(tpl_state *s, const str *a, const str *b, size_t from, size_t to);
size_t str_rfind(tpl_state *s, const str *a, const str *b, size_t from, size_t to);

/* Characters. str_offset: the byte where character i begins (i <= their number). */
size_t str_chars(tpl_state *s, const str *a);
size_t str_offset(tpl_state *s, const str *a, size_t i);
bool tpl_char_is_space(uint32_t c);           /* Python's str.isspace */
size_t tpl_char_write(char *out, uint32_t c); /* UTF-8, 1 to 4 bytes */

/* Walk over characters with their origin. */
typedef struct str_walk {
    const str *of;
    size_t run, at;
    size_t byte; /* offset of the character last given */
    uint32_t c;  /* the character */
    const char *bytes;
    size_t length; /* of the character */
    bool foreign;
} str_walk;
static inline str_walk str_walk_of(const str *a)
{
    return (str_walk){.of = a};
}
bool str_walk_next(str_walk *w);

/* Building. Zero it; then add; str_built makes the string. */
typedef struct builder {
    run *runs;
    size_t n, capacity;
    size_t length;
    char *room; /* memory for bytes that exist nowhere else */
    size_t room_used, room_size;
} builder;
void build_run(tpl_state *s, builder *b, const char *at, size_t length, bool foreign); /* borrows */
void build_str(tpl_state *s, builder *b, const str *a);
void build_sub(tpl_state *s, builder *b, const str *a, size_t from, size_t to);
void build_text(tpl_state *s, builder *b, const char *text);                             /* native, borrows */
void build_bytes(tpl_state *s, builder *b, const char *at, size_t length, bool foreign); /* copies */
void build_char(tpl_state *s, builder *b, uint32_t c, bool foreign);
void build_repeat(tpl_state *s, builder *b, const char *text, size_t times); /* native; copies */
str *str_built(tpl_state *s, builder *b);

str *str_escape(tpl_state *s, const str *a); /* for HTML; the result is safe. A safe one is returned as it is. */
str *str_plain(tpl_state *s, str *a);        /* the same text, not safe */
str *str_marked(tpl_state *s, str *a);       /* the same text, safe */

#endif
