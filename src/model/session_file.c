/* session_file.c - a session on disk, little-endian:
 *
 *   "odmoeseq"  u32 version  u32 length  u64 fingerprint  u64 bytes of what layers keep  u32 layers with pages
 *   u32 snapshots
 *   tokens [length] i32
 *   a state: recurrent states, chunks; then for each layer with pages: u32 first page, u32 pages, the pages' bytes
 *   for each snapshot: u32 position, then its state
 *   u64 sum (FNV-1a) of everything before it
 *
 * Reading goes through the file twice: first to check it all, then to take it, so that a damaged file leaves the session
 * as it was. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/atomic_file.h"
#include "format/file.h"
#include "model/fingerprint.h"
#include "model/session_parts.h"

#define SAVE_MAGIC "odmoeseq"
#define SAVE_VERSION 5u

typedef struct save_header {
    char magic[8];
    uint32_t version, length;
    uint64_t fingerprint, kept_bytes;
    uint32_t tables, snapshots;
} save_header;

typedef struct transfer {
    FILE *file;
    uint64_t sum;
    void *page; /* room for the largest page, and for what layers keep */
} transfer;

static bool put(transfer *t, const void *data, size_t n)
{
    t->sum = fnv(t->sum, data, n);
    return fwrite(data, 1, n, t->file) == n;
}

static bool get(transfer *t, void *data, size_t n)
{
    bool ok = fread(data, 1, n, t->file) == n;
    if (ok)
        t->sum = fnv(t->sum, data, n);
    return ok;
}

static uint64_t kept_bytes(const session_layout *l)
{
    return l->kept_bytes[KEPT_RECURRENT] + l->kept_bytes[KEPT_CHUNK];
}

static void *make_room(const session_layout *l, odmoe_error *err)
{
    uint64_t most = l->kept_bytes[KEPT_RECURRENT] > l->kept_bytes[KEPT_CHUNK] ? l->kept_bytes[KEPT_RECURRENT]
                                                                              : l->kept_bytes[KEPT_CHUNK];
    for (int i = 0; i < l->n_classes; i++)
        most = l->page_bytes[i] > most ? l->page_bytes[i] : most;
    return mem_calloc(1, most ? most : 1, "a page", err);
}

/* ---- saving ---- */

static bool put_layer(transfer *t, const session_state *s, void **pages, int layer, int32_t length)
{
    uint32_t range[2] = {0, 0};
    int64_t end = pages_for(length), first = 0;
    while (first < end && !*session_entry(s, pages, layer, first))
        first++;
    range[0] = (uint32_t)first;
    range[1] = (uint32_t)(end - first);
    bool ok = put(t, range, sizeof range);
    for (int64_t i = first; i < end && ok; i++)
        ok = put(t, *session_entry(s, pages, layer, i), s->layout->page_bytes[s->layout->place[layer].class]);
    return ok;
}

/* A snapshot's state; -1: the present one. */
static bool put_state(transfer *t, const session_state *s, int which, void **pages, int32_t length)
{
    bool ok = true;
    for (int kind = 0; kind < KEPT_KINDS && ok; kind++)
        ok = put(t, session_kept(s, kind, which), s->layout->kept_bytes[kind]);
    for (int l = 0; l < s->layout->layers && ok; l++)
        if (session_owns(s->layout, l))
            ok = put_layer(t, s, pages, l, pages ? length : 0);
    return ok;
}

static save_header make_header(const model *m, const session_state *s)
{
    save_header h = {.version = SAVE_VERSION,
                     .length = (uint32_t)s->length,
                     .fingerprint = m->fingerprint,
                     .kept_bytes = kept_bytes(s->layout),
                     .tables = (uint32_t)s->layout->tables};
    memcpy(h.magic, SAVE_MAGIC, sizeof h.magic);
    for (int i = 0; i < SNAPSHOTS_MAX; i++)
        h.snapshots += s->snapshots[i].position >= 0;
    return h;
}

static bool put_all(transfer *t, const session_state *s, const save_header *h)
{
    bool ok = put(t, h, sizeof *h) && put(t, s->tokens, (size_t)s->length * sizeof *s->tokens) &&
              put_state(t, s, -1, s->pages, s->length);
    for (int i = 0; i < SNAPSHOTS_MAX && ok; i++) {
        const snapshot *shot = &s->snapshots[i];
        if (shot->position >= 0)
            ok = put(t, &shot->position, sizeof shot->position) && put_state(t, s, i, shot->pages, shot->position);
    }
    uint64_t sum = t->sum;
    return ok && put(t, &sum, sizeof sum);
}

odmoe_status session_save(const model *m, const session_state *s, const char *path, odmoe_error *err)
{
    atomic_file r;
    save_header h = make_header(m, s);
    odmoe_status status = files_unchanged(&m->files, err); /* else no model fits what was computed */
    if (!status)
        status = atomic_file_begin(path, &r, err);
    if (status)
        return status;
    errno = 0;
    int own = dup(r.fd); /* the stream's, which closes it */
    transfer t = {.file = own < 0 ? NULL : fdopen(own, "wb"), .sum = FNV_START};
    bool ok = t.file && put_all(&t, s, &h);
    int error = ok ? 0 : errno ? errno : EIO;
    if (t.file && fclose(t.file) && ok)
        error = errno;
    if (!t.file && own >= 0)
        close(own);
    return atomic_file_finish(&r, error, err);
}

/* ---- loading ---- */

static odmoe_status check_header(const model *m, const save_header *h, const char *path, odmoe_error *err)
{
    if (memcmp(h->magic, SAVE_MAGIC, sizeof h->magic))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: not a saved session", path);
    if (h->version != SAVE_VERSION)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: a session saved by %s odmoe (format %u, this one reads %u): compute it again and save it",
                       path, h->version < SAVE_VERSION ? "an older" : "a newer", h->version, SAVE_VERSION);
    if (h->fingerprint != m->fingerprint)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: saved with another model, KV type or kernels", path);
    if (h->length > (uint32_t)m->config.context)
        return err_set(err, ODMOE_ERR_RANGE, "%s: %u tokens; this model was made for %d", path, h->length,
                       m->config.context);
    if (h->kept_bytes != kept_bytes(&m->sessions) || h->tables != (uint32_t)m->sessions.tables ||
        h->snapshots > SNAPSHOTS_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: the size of a layer's state is wrong", path);
    return ODMOE_OK;
}

static bool get_tokens(transfer *t, int32_t *tokens, uint32_t length, int vocab, bool keep)
{
    int32_t some[256];
    bool ok = true;
    for (uint32_t done = 0, n; done < length && ok; done += n) {
        n = length - done < 256 ? length - done : 256;
        ok = get(t, some, n * sizeof *some);
        for (uint32_t i = 0; i < n && ok; i++)
            ok = some[i] >= 0 && some[i] < vocab;
        if (ok && keep)
            memcpy(tokens + done, some, n * sizeof *some);
    }
    return ok;
}

/* One layer's pages of a state of `length` positions; into `pages`, those that the session needs, or, NULL, nowhere. */
static bool get_layer(transfer *t, session_state *s, void **pages, int layer, uint32_t length)
{
    uint32_t range[2];
    size_t bytes = s->layout->page_bytes[s->layout->place[layer].class];
    if (!get(t, range, sizeof range) || range[0] > pages_for(length) || range[1] > pages_for(length) - range[0])
        return false;
    for (uint32_t i = range[0]; i < range[0] + range[1]; i++) {
        if (!get(t, t->page, bytes))
            return false;
        if (pages && session_needs_page(s, layer, i, (int32_t)length) && !session_put_page(s, pages, layer, i, t->page))
            return false;
    }
    return true;
}

/* To a snapshot's place, or, -1, as the present state; kept, or only looked at. */
static bool get_state(transfer *t, session_state *s, int which, void **pages, uint32_t length, bool keep)
{
    bool ok = true;
    for (int kind = 0; kind < KEPT_KINDS && ok; kind++) {
        ok = get(t, t->page, s->layout->kept_bytes[kind]);
        if (ok && keep)
            memcpy(session_kept(s, kind, which), t->page, s->layout->kept_bytes[kind]);
    }
    for (int l = 0; l < s->layout->layers && ok; l++)
        if (session_owns(s->layout, l))
            ok = get_layer(t, s, pages, l, length);
    return ok;
}

/* The file's next snapshot, into the session's place i; negative: it has no room for it. */
static bool get_snapshot(transfer *t, session_state *s, int i, uint32_t length, bool keep)
{
    int32_t position;
    keep = keep && i >= 0;
    snapshot *shot = &s->snapshots[i < 0 ? 0 : i];
    if (!get(t, &position, sizeof position) || position < 1 || (uint32_t)position > length)
        return false;
    bool ok = get_state(t, s, i, keep ? shot->pages : NULL, (uint32_t)position, keep);
    if (keep) { /* pages that are there belong to it, also where the file then ends early */
        shot->position = position;
        shot->age = ++s->age;
    }
    return ok;
}

/* Everything behind the header, to its end; kept, or only looked at. */
static bool get_rest(transfer *t, const model *m, session_state *s, const save_header *h, bool keep)
{
    uint64_t sum;
    bool ok = get_tokens(t, s->tokens, h->length, m->config.vocab, keep) &&
              get_state(t, s, -1, keep ? s->pages : NULL, h->length, keep);
    int left_out = (int)h->snapshots > s->layout->snapshots ? (int)h->snapshots - s->layout->snapshots : 0;
    for (int i = 0; i < (int)h->snapshots && ok; i++)
        ok = get_snapshot(t, s, i - left_out, h->length, keep);
    uint64_t computed = t->sum;
    return ok && get(t, &sum, sizeof sum) && sum == computed && fgetc(t->file) == EOF && !ferror(t->file);
}

static odmoe_status load(const model *m, session_state *s, transfer *t, const char *path, odmoe_error *err)
{
    save_header h;
    odmoe_status status = get(t, &h, sizeof h) ? check_header(m, &h, path, err)
                                               : err_set(err, ODMOE_ERR_FORMAT, "%s: damaged or cut short", path);
    if (!status && h.length > (uint32_t)s->context)
        status =
            err_set(err, ODMOE_ERR_RANGE, "%s: %u tokens do not fit in a session of %d", path, h.length, s->context);
    uint64_t header_sum = t->sum;
    if (!status && !get_rest(t, m, s, &h, false))
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: damaged or cut short", path);
    if (!status && fseek(t->file, sizeof h, SEEK_SET))
        status = err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
    if (status)
        return status;
    t->sum = header_sum;
    session_clear(s);
    if (get_rest(t, m, s, &h, true)) {
        s->length = (int32_t)h.length;
        return ODMOE_OK;
    }
    session_clear(s); /* only a file that changes between two reads, or forks that hold the session's pages */
    return err_set(err, ODMOE_ERR_IO, "%s: reading failed; the session is empty now", path);
}

static odmoe_status open_saved(const char *path, transfer *t, odmoe_error *err)
{
    int fd;
    uint64_t size;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (status)
        return status;
    *t = (transfer){.file = fdopen(fd, "rb"), .sum = FNV_START};
    if (t->file)
        return ODMOE_OK;
    close(fd);
    return err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
}

odmoe_status session_peek(const model *m, const char *path, int32_t *tokens, size_t capacity, size_t *n,
                          odmoe_error *err)
{
    transfer t;
    save_header h;
    odmoe_status status = open_saved(path, &t, err);
    if (status)
        return status;
    status = get(&t, &h, sizeof h) ? check_header(m, &h, path, err)
                                   : err_set(err, ODMOE_ERR_FORMAT, "%s: damaged or cut short", path);
    uint32_t room = h.length < capacity ? h.length : (uint32_t)capacity;
    if (!status && !get_tokens(&t, tokens, room, m->config.vocab, true))
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: damaged or cut short", path);
    if (!status)
        *n = h.length;
    fclose(t.file);
    return status;
}

odmoe_status session_load(const model *m, session_state *s, const char *path, odmoe_error *err)
{
    transfer t;
    odmoe_status status = open_saved(path, &t, err);
    if (status)
        return status;
    t.page = make_room(s->layout, err);
    status = t.page ? load(m, s, &t, path, err) : ODMOE_ERR_MEMORY;
    free(t.page);
    fclose(t.file);
    return status;
}
