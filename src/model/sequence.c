/* sequence.c - the state of one sequence: its tokens and every layer's mixer state, in one allocation.
 *
 * Saved file, little-endian:
 *   "odmoeseq"  u32 version  u32 length  u64 fingerprint  u64 state bytes of `length` positions in one layer
 *   tokens [length] i32, then for each layer its state, as if it had room for just `length` positions
 *   u64 sum (FNV-1a) of everything before it
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/replace.h"
#include "format/file.h"
#include "model/fingerprint.h"

#define SAVE_MAGIC "odmoeseq"
#define SAVE_VERSION 3u

static uint64_t state_bytes(const model_config *c, int layer, kv_type kv, int64_t context)
{
    return c->layer[layer].mixer->state_bytes(c, layer, kv, context);
}

static uint64_t layer_bytes(const model_config *c, int layer, kv_type kv, int64_t context)
{
    return (state_bytes(c, layer, kv, context) + 63) & ~63ull;
}

/* Bytes of the states before a layer's. */
static uint64_t bytes_before(const model_config *c, int layer, kv_type kv, int64_t context)
{
    uint64_t bytes = 0;
    for (int l = 0; l < layer; l++)
        bytes += layer_bytes(c, l, kv, context);
    return bytes;
}

uint64_t sequence_bytes(const model_config *c, kv_type kv, int64_t context)
{
    return (((uint64_t)context * sizeof(int32_t) + 63) & ~63ull) + bytes_before(c, c->layers, kv, context);
}

void *sequence_state(const sequence *s, int layer)
{
    return s->state + bytes_before(&s->m->config, layer, s->m->settings.kv, s->context);
}

odmoe_status sequence_create(model *m, int32_t context, sequence *out, odmoe_error *err)
{
    context = context ? context : m->plan.context;
    if (context < 1 || context > m->config.context)
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens was asked for; this model was made for %d",
                       context, m->config.context);
    uint64_t bytes = sequence_bytes(&m->config, m->settings.kv, context);
    pthread_mutex_lock(&m->lock);
    uint64_t left = m->kv_left;
    if (bytes <= left)
        m->kv_left -= bytes;
    pthread_mutex_unlock(&m->lock);
    if (bytes > left)
        return err_set(err, ODMOE_ERR_BUDGET,
                       "a session of %d tokens needs %.1f MiB of KV cache, %.1f MiB of the budget's reserve are free: "
                       "open the model for more sessions or less context",
                       context, (double)bytes / (1 << 20), (double)left / (1 << 20));
    *out = (sequence){.m = m, .context = context, .bytes = bytes};
    out->memory = mem_pages_alloc(bytes, "a session", err);
    if (!out->memory) {
        sequence_free(out);
        return ODMOE_ERR_MEMORY;
    }
    out->tokens = out->memory;
    out->state = (char *)out->memory + (((uint64_t)context * sizeof(int32_t) + 63) & ~63ull);
    return ODMOE_OK;
}

void sequence_free(sequence *s)
{
    if (!s->m)
        return;
    mem_pages_free(s->memory, s->bytes);
    pthread_mutex_lock(&s->m->lock);
    s->m->kv_left += s->bytes;
    pthread_mutex_unlock(&s->m->lock);
    s->m = NULL;
}

odmoe_status sequence_truncate(sequence *s, int32_t length, odmoe_error *err)
{
    if (length < 0 || length > s->length)
        return err_set(err, ODMOE_ERR_RANGE, "a session of %d tokens cannot be cut to %d", s->length, length);
    s->length = length;
    return ODMOE_OK;
}

/* ---- saving ---- */

typedef struct save_header {
    char magic[8];
    uint32_t version, length;
    uint64_t fingerprint, layer_bytes;
} save_header;

typedef struct transfer {
    FILE *file;
    uint64_t sum;
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

static save_header make_header(const sequence *s)
{
    save_header h = {.version = SAVE_VERSION, .length = (uint32_t)s->length, .fingerprint = s->m->fingerprint};
    memcpy(h.magic, SAVE_MAGIC, sizeof h.magic);
    h.layer_bytes = state_bytes(&s->m->config, 0, s->m->settings.kv, s->length);
    return h;
}

static bool write_all(const sequence *s, transfer *t, const save_header *h, void *layer)
{
    bool ok = put(t, h, sizeof *h) && put(t, s->tokens, (size_t)s->length * sizeof *s->tokens);
    for (int l = 0; l < s->m->config.layers && ok; l++) {
        s->m->config.layer[l].mixer->copy(&s->m->config, l, s->m->settings.kv, sequence_state(s, l), s->context, layer, s->length,
                          s->length);
        ok = put(t, layer, h->layer_bytes);
    }
    uint64_t sum = t->sum;
    return ok && put(t, &sum, sizeof sum);
}

odmoe_status sequence_save(const sequence *s, const char *path, odmoe_error *err)
{
    replacement r;
    save_header h = make_header(s);
    void *layer = mem_calloc(1, h.layer_bytes, "one layer's state", err);
    odmoe_status status = layer ? replace_begin(path, &r, err) : ODMOE_ERR_MEMORY;
    if (!status) {
        errno = 0;
        int own = dup(r.fd); /* the stream's, which closes it */
        transfer t = {.file = own < 0 ? NULL : fdopen(own, "wb"), .sum = FNV_START};
        bool ok = t.file && write_all(s, &t, &h, layer);
        int error = ok ? 0 : errno ? errno : EIO;
        if (t.file && fclose(t.file) && ok)
            error = errno;
        if (!t.file && own >= 0)
            close(own);
        status = replace_finish(&r, error, err);
    }
    free(layer);
    return status;
}

static odmoe_status check_header(const sequence *s, const save_header *h, const char *path, odmoe_error *err)
{
    if (memcmp(h->magic, SAVE_MAGIC, sizeof h->magic) || h->version != SAVE_VERSION)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: not a saved session of this version", path);
    if (h->fingerprint != s->m->fingerprint)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: saved with another model, KV type or kernels", path);
    if (h->length > (uint32_t)s->context)
        return err_set(err, ODMOE_ERR_RANGE, "%s: %u tokens do not fit in a session of %d", path, h->length,
                       s->context);
    if (h->layer_bytes != state_bytes(&s->m->config, 0, s->m->settings.kv, h->length))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: the size of a layer's state is wrong", path);
    return ODMOE_OK;
}

static bool get_tokens(transfer *t, int32_t *tokens, size_t n, int vocab)
{
    bool ok = get(t, tokens, n * sizeof *tokens);
    for (size_t i = 0; i < n && ok; i++)
        ok = tokens[i] >= 0 && tokens[i] < vocab;
    return ok;
}

static bool get_sum(transfer *t)
{
    uint64_t sum, computed = t->sum;
    return get(t, &sum, sizeof sum) && sum == computed && fgetc(t->file) == EOF && !ferror(t->file);
}

/* Read what follows the header once and keep nothing, so that a damaged file leaves the session as it was. */
static odmoe_status check_rest(transfer *t, const save_header *h, void *layer, const model *m, const char *path,
                               odmoe_error *err)
{
    int32_t tokens[256];
    bool ok = true;
    for (uint32_t done = 0; done < h->length && ok; done += 256)
        ok = get_tokens(t, tokens, h->length - done < 256 ? h->length - done : 256, m->config.vocab);
    for (int l = 0; l < m->config.layers && ok; l++)
        ok = get(t, layer, h->layer_bytes);
    return ok && get_sum(t) ? ODMOE_OK : err_set(err, ODMOE_ERR_FORMAT, "%s: damaged or cut short", path);
}

static bool take_rest(sequence *s, transfer *t, const save_header *h, void *layer)
{
    const model *m = s->m;
    bool ok = get_tokens(t, s->tokens, h->length, m->config.vocab);
    for (int l = 0; l < m->config.layers && ok; l++) {
        ok = get(t, layer, h->layer_bytes);
        m->config.layer[l].mixer->copy(&m->config, l, m->settings.kv, layer, h->length, sequence_state(s, l), s->context, h->length);
    }
    return ok && get_sum(t);
}

odmoe_status sequence_load(sequence *s, const char *path, odmoe_error *err)
{
    int fd;
    uint64_t size;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (status)
        return status;
    transfer t = {.file = fdopen(fd, "rb"), .sum = FNV_START};
    if (!t.file) {
        close(fd);
        return err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
    }
    save_header h;
    void *layer = NULL;
    status = get(&t, &h, sizeof h) ? check_header(s, &h, path, err)
                                   : err_set(err, ODMOE_ERR_FORMAT, "%s: damaged or cut short", path);
    uint64_t header_sum = t.sum;
    if (!status && !(layer = mem_calloc(1, h.layer_bytes, "one layer's state", err)))
        status = ODMOE_ERR_MEMORY;
    if (!status)
        status = check_rest(&t, &h, layer, s->m, path, err);
    if (!status && fseek(t.file, sizeof h, SEEK_SET))
        status = err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
    if (!status) {
        t.sum = header_sum;
        bool ok = take_rest(s, &t, &h, layer);
        s->length = ok ? (int32_t)h.length : 0; /* only a file that changes between two reads leaves an empty session */
        if (!ok)
            status = err_set(err, ODMOE_ERR_IO, "%s: reading failed; the session is empty now", path);
    }
    free(layer);
    fclose(t.file);
    return status;
}
