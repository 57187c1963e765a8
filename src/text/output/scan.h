/* scan.h - reading text that may go on: markers, JSON, and a growing text to write to. */
#ifndef ODMOE_TEXT_OUTPUT_SCAN_H
#define ODMOE_TEXT_OUTPUT_SCAN_H

#include <stdbool.h>
#include <stddef.h>

/* A growing text. After a failed allocation `failed` is set and more text is dropped. */
typedef struct text_out {
    char *at; /* [n], terminated once something was put */
    size_t n, capacity;
    bool failed;
} text_out;
void out_put(text_out *o, const char *text, size_t n);
void out_word(text_out *o, const char *text);
void out_json_text(text_out *o, const char *text, size_t n); /* in quotes; what is no UTF-8 becomes U+FFFD */

void out_json_front(text_out *o, const char *text, size_t n); /* the same of a text that was cut: no closing quote */

typedef enum scanned { SCAN_DONE, SCAN_MORE, SCAN_BAD } scanned;

bool scan_is_blank(char c);
size_t scan_blanks(const char *text, size_t n); /* at the front */
size_t scan_trim(const char *text, size_t n);   /* the length without those at the end */
size_t scan_whole(const char *text, size_t n);  /* the length without a last character that is not whole */

/* scan_marker - does text[0, n) begin with it? SCAN_MORE: it may, when more text comes. */
scanned scan_marker(const char *text, size_t n, const char *marker);
/* scan_find - its place, or SIZE_MAX. scan_partial - the length of the longest end of the text that may begin it. */
size_t scan_find(const char *text, size_t n, const char *marker);
size_t scan_partial(const char *text, size_t n, const char *marker);

/* scan_json - the value that text begins with; *used: its bytes, when it is done. Numbers and words at the very end are
 * SCAN_MORE unless `whole`. */
scanned scan_json(const char *text, size_t n, bool whole, size_t *used);
bool scan_is_json(const char *text, size_t n); /* one value and blanks */
/* scan_member - the value of a key in an object that scan_json has accepted, as it is written; false: none. */
bool scan_member(const char *object, size_t n, const char *key, const char **value, size_t *length);
/* scan_word - a JSON text's string, decoded and terminated; NULL when it is none or memory is short. */
char *scan_word(const char *text, size_t n);

#endif
