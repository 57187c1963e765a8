/* session_parts.h - what session_file.c needs of a session's inside. */
#ifndef ODMOE_MODEL_SESSION_PARTS_H
#define ODMOE_MODEL_SESSION_PARTS_H

#include "model/model.h"

/* session_owns - does a layer have pages of its own? session_entry - the place of page `index` in a layer's table.
 * session_kept - what all layers keep, layout->kept_bytes: of a snapshot or, -1, as committed. */
bool session_owns(const session_layout *l, int layer);
void **session_entry(const session_state *s, void **pages, int layer, int64_t index);
char *session_kept(const session_state *s, kept_kind kind, int which);

/* session_clear - no tokens, no pages, no snapshots, what layers keep is zeros. */
void session_clear(session_state *s);
/* session_needs_page - does a session of `length` tokens keep this page of the layer? session_put_page - a page with
 * these bytes into a table. False: the pool has none. */
bool session_needs_page(const session_state *s, int layer, int64_t index, int32_t length);
bool session_put_page(session_state *s, void **pages, int layer, int64_t index, const void *bytes);

#endif
