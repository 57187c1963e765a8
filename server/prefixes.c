#include "prefixes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct kept {
    odmoe_session *fork;
    uint64_t bytes, used;
} kept;

struct prefixes {
    prefix_files *files; /* NULL: none on disk */
    uint64_t ram_bytes;
    double token_bytes;
    kept *kept; /* [n] */
    size_t n, room;
    uint64_t bytes, clock, evictions;
};

odmoe_status prefixes_open(odmoe_model *model, const engine_options *o, int32_t context, void (*done)(void *user),
                           void *user, prefixes **out, odmoe_error *err)
{
    prefixes *p = calloc(1, sizeof *p);
    if (!p) {
        if (err)
            *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for prefixes"};
        return ODMOE_ERR_MEMORY;
    }
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model_plan(model, &plan);
    p->ram_bytes = o->cache_ram_bytes;
    p->token_bytes = (double)plan.kv_bytes / plan.sessions / plan.context;
    odmoe_status status = ODMOE_OK;
    if (o->cache_dir) {
        prefix_files_options files = {.model = model,
                                      .folder = o->cache_dir,
                                      .bytes = o->cache_disk_bytes,
                                      .context = context,
                                      .log = o->log,
                                      .log_user = o->user,
                                      .done = done,
                                      .user = user};
        status = prefix_files_open(&files, &p->files, err);
    }
    if (status)
        free(p);
    else
        *out = p;
    return status;
}

static void drop(prefixes *p, size_t i)
{
    p->bytes -= p->kept[i].bytes;
    odmoe_session_free(p->kept[i].fork);
    p->kept[i] = p->kept[--p->n];
}

void prefixes_close(prefixes *p)
{
    if (!p)
        return;
    prefix_files_close(p->files);
    while (p->n)
        drop(p, p->n - 1);
    free(p->kept);
    free(p);
}

int32_t prefixes_common(const int32_t *a, int32_t n, const int32_t *b, int32_t m)
{
    int32_t i = 0;
    while (i < n && i < m && a[i] == b[i])
        i++;
    return i;
}

static int32_t common_with(const odmoe_session *s, const int32_t *tokens, int32_t n)
{
    return prefixes_common(odmoe_session_tokens(s), odmoe_session_length(s), tokens, n);
}

/* ---- looking ---- */

prefix_found prefixes_in_memory(prefixes *p, const int32_t *tokens, int32_t n)
{
    prefix_found found = {0};
    size_t which = 0;
    for (size_t i = 0; i < p->n; i++) {
        int32_t common = common_with(p->kept[i].fork, tokens, n);
        if (common > found.length) {
            found = (prefix_found){.length = common, .session = p->kept[i].fork};
            which = i;
        }
    }
    if (found.length)
        p->kept[which].used = ++p->clock;
    return found;
}

prefix_found prefixes_on_disk(prefixes *p, const int32_t *tokens, int32_t n)
{
    prefix_found found = {0};
    if (p->files)
        found.length = prefix_files_find(p->files, tokens, n, &found.name);
    return found;
}

void prefixes_load(prefixes *p, prefix_load *load)
{
    prefix_files_load(p->files, load);
}

/* ---- keeping ---- */

bool prefixes_evict(prefixes *p, const odmoe_session *except)
{
    size_t least = SIZE_MAX;
    double worth = 0;
    for (size_t i = 0; i < p->n; i++) {
        const kept *k = &p->kept[i];
        double own = prefix_worth(odmoe_session_length(k->fork), k->bytes, p->clock - k->used);
        if (k->fork != except && (least == SIZE_MAX || own < worth)) {
            least = i;
            worth = own;
        }
    }
    if (least == SIZE_MAX)
        return false;
    drop(p, least);
    p->evictions++;
    return true;
}

/* Is there a longer one with the same tokens? Shorter ones that these tokens begin with go. */
static bool is_kept(prefixes *p, const odmoe_session *s, const odmoe_session *except)
{
    int32_t length = odmoe_session_length(s);
    for (size_t i = p->n; i-- > 0;) {
        int32_t own = odmoe_session_length(p->kept[i].fork);
        int32_t common = common_with(p->kept[i].fork, odmoe_session_tokens(s), length);
        if (common == length) {
            p->kept[i].used = ++p->clock;
            return true;
        }
        if (common == own && p->kept[i].fork != except)
            drop(p, i);
    }
    return false;
}

void prefixes_keep(prefixes *p, const odmoe_session *s, const odmoe_session *except)
{
    int32_t length = odmoe_session_length(s);
    uint64_t bytes = (uint64_t)(p->token_bytes * length);
    if (length < PREFIX_TOKENS_MIN || bytes > p->ram_bytes || is_kept(p, s, except))
        return;
    while (p->bytes + bytes > p->ram_bytes)
        if (!prefixes_evict(p, except))
            return;
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 8;
        kept *more = realloc(p->kept, room * sizeof *more);
        if (!more)
            return;
        p->kept = more;
        p->room = room;
    }
    odmoe_session *fork;
    odmoe_error why;
    odmoe_status status;
    do /* with room for its tokens alone */
        status = odmoe_session_fork(s, length, &fork, &why);
    while (status == ODMOE_ERR_BUDGET && prefixes_evict(p, except));
    if (status)
        return;
    p->kept[p->n++] = (kept){.fork = fork, .bytes = bytes, .used = ++p->clock};
    p->bytes += bytes;
}

/* ---- saving ---- */

bool prefixes_save(prefixes *p, const odmoe_session *s)
{
    int32_t length = odmoe_session_length(s);
    if (!p->files || length < PREFIX_TOKENS_MIN || prefix_files_covers(p->files, odmoe_session_tokens(s), length))
        return true;
    odmoe_session *fork;
    odmoe_error why;
    if (prefix_files_saving(p->files) >= PREFIX_SAVES_MAX || odmoe_session_fork(s, length, &fork, &why))
        return false;
    if (prefix_files_save(p->files, fork))
        return true;
    odmoe_session_free(fork);
    return false;
}

void prefixes_save_now(prefixes *p, const odmoe_session *s)
{
    if (p->files)
        prefix_files_save_now(p->files, s);
}

void prefixes_save_all_kept(prefixes *p)
{
    for (size_t i = 0; i < p->n; i++)
        prefixes_save_now(p, p->kept[i].fork);
}

bool prefixes_saving(prefixes *p)
{
    return p->files && prefix_files_saving(p->files);
}

void prefixes_reading(prefixes *p, bool reading)
{
    if (p->files)
        prefix_files_reading(p->files, reading);
}

void prefixes_stats(prefixes *p, engine_stats *out)
{
    prefix_files_stats disk = {0};
    if (p->files)
        prefix_files_stats_get(p->files, &disk);
    out->prefix_entries[PREFIX_MEMORY] = p->n;
    out->prefix_bytes[PREFIX_MEMORY] = p->bytes;
    out->prefix_evictions[PREFIX_MEMORY] = p->evictions;
    out->prefix_entries[PREFIX_DISK] = disk.entries;
    out->prefix_bytes[PREFIX_DISK] = disk.bytes;
    out->prefix_evictions[PREFIX_DISK] = disk.evictions;
    out->prefix_saves = disk.saves;
    out->prefix_loads = disk.loads;
    out->prefix_failures = disk.failures;
}
