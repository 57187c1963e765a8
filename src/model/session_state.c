#include "model/session_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/mixers/mixer.h"
#include "model/session_parts.h"

/* ---- layout ---- */

static int find_class(session_layout *l, uint64_t page_bytes)
{
    for (int i = 0; i < l->n_classes; i++)
        if (l->page_bytes[i] == page_bytes)
            return i;
    if (l->n_classes == PAGE_CLASSES_MAX)
        return -1;
    l->page_bytes[l->n_classes] = page_bytes;
    return l->n_classes++;
}

static void place_kept(session_layout *l, layer_place *place, kept_kind kind, uint64_t bytes)
{
    place->kept[kind].offset = l->kept_bytes[kind];
    place->kept[kind].bytes = bytes;
    l->kept_bytes[kind] += (bytes + 63) & ~63ull;
}

odmoe_status session_layout_make(const model_config *c, kv_type kv, int32_t chunk_most, session_layout *out,
                                 odmoe_error *err)
{
    *out = (session_layout){.layers = c->layers, .chunk_most = chunk_most, .snapshots = SNAPSHOTS_DEFAULT};
    out->place = mem_calloc((size_t)c->layers, sizeof *out->place, "the layout of sessions", err);
    if (!out->place)
        return ODMOE_ERR_MEMORY;
    for (int l = 0; l < c->layers; l++) {
        layer_place *place = &out->place[l];
        place->table = place->class = -1;
        if (c->layer[l].state_source != l || !c->layer[l].mixer)
            continue;
        mixer_state s = c->layer[l].mixer->state(c, l, kv);
        place_kept(out, place, KEPT_RECURRENT, s.recurrent_bytes);
        place_kept(out, place, KEPT_CHUNK, s.chunk_bytes);
        if (!s.page_bytes)
            continue;
        place->class = find_class(out, (s.page_bytes + 63) & ~63ull);
        if (place->class < 0) {
            session_layout_free(out);
            return err_set(err, ODMOE_ERR_UNSUPPORTED, "layers with more than %d sizes of keys and values",
                           PAGE_CLASSES_MAX);
        }
        place->table = out->tables++;
        place->reach = s.reach;
        out->slides = out->slides || s.reach;
    }
    for (int l = 0; l < c->layers; l++)
        if (c->layer[l].state_source != l)
            out->place[l] = out->place[c->layer[l].state_source];
    return ODMOE_OK;
}

void session_layout_free(session_layout *l)
{
    free(l->place);
    *l = (session_layout){0};
}

/* Pages that cover `positions` wherever they begin. */
static int64_t pages_around(int64_t positions)
{
    return pages_for(positions) + 1;
}

/* Is the place the layer's own? Layers that read another's state have a copy of its place. */
bool session_owns(const session_layout *l, int layer)
{
    if (l->place[layer].table < 0)
        return false;
    for (int i = 0; i < layer; i++)
        if (l->place[i].table == l->place[layer].table)
            return false;
    return true;
}

/* Pages of one layer: all positions; or, where it slides, those that a committed state, a chunk of a forward call and
 * the snapshots look at. */
static int64_t pages_of_layer(const session_layout *l, const layer_place *place, int64_t context)
{
    int64_t all = pages_for(context);
    if (!place->reach)
        return all;
    int64_t window = pages_around(place->reach), needed = (2 + l->snapshots) * window + pages_around(l->chunk_most);
    return needed < all ? needed : all;
}

/* Does a layer drop pages in a session of this context? */
static bool drops(const session_layout *l, const layer_place *place, int64_t context)
{
    return place->table >= 0 && place->reach && pages_of_layer(l, place, context) < pages_for(context);
}

page_counts session_pages(const session_layout *l, int64_t context)
{
    page_counts counts = {0};
    for (int i = 0; i < l->layers; i++)
        if (session_owns(l, i))
            counts.n[l->place[i].class] += pages_of_layer(l, &l->place[i], context);
    return counts;
}

static uint64_t tokens_bytes(int64_t context)
{
    return ((uint64_t)context * sizeof(int32_t) + 63) & ~63ull;
}

static uint64_t table_bytes(const session_layout *l, int64_t context)
{
    return (uint64_t)l->tables * (uint64_t)pages_for(context) * sizeof(void *);
}

static uint64_t copy_bytes(const session_layout *l)
{
    return l->kept_bytes[KEPT_RECURRENT] + l->kept_bytes[KEPT_CHUNK];
}

static bool any_drops(const session_layout *l, int64_t context)
{
    bool any = false;
    for (int i = 0; i < l->layers; i++)
        any = any || drops(l, &l->place[i], context);
    return any;
}

uint64_t session_bytes(const session_layout *l, int64_t context)
{
    /* a fork for few tokens drops nothing itself, but has its source's snapshots */
    uint64_t snapshots = (uint64_t)l->snapshots, tables = 1 + (l->slides ? snapshots : 0);
    return tokens_bytes(context) + (2 + snapshots) * copy_bytes(l) + tables * table_bytes(l, context);
}

uint64_t session_total_bytes(const session_layout *l, int64_t context)
{
    page_counts counts = session_pages(l, context);
    return session_bytes(l, context) + page_pool_bytes(l->page_bytes, &counts, l->n_classes);
}

/* ---- creating and freeing ---- */

odmoe_status session_pool_open(session_pool *p, const session_layout *l, int sessions, int64_t context,
                               uint64_t more_bytes, odmoe_error *err)
{
    page_counts counts = session_pages(l, context);
    double more = (double)more_bytes / (double)session_total_bytes(l, context); /* sessions' worth */
    for (int i = 0; i < l->n_classes; i++)
        counts.n[i] = counts.n[i] * sessions + (int64_t)((double)counts.n[i] * more);
    p->private_left =
        (uint64_t)sessions * session_bytes(l, context) + (uint64_t)((double)session_bytes(l, context) * more);
    return page_pool_open(&p->pages, l->page_bytes, &counts, l->n_classes, err);
}

void session_pool_close(session_pool *p)
{
    page_pool_close(&p->pages);
    p->private_left = 0;
}

/* The bytes that sessions do not share come from the pool's count of them. */
static bool take_private(session_pool *p, uint64_t bytes)
{
    pthread_mutex_lock(&p->pages.lock);
    bool enough = bytes <= p->private_left;
    if (enough)
        p->private_left -= bytes;
    pthread_mutex_unlock(&p->pages.lock);
    return enough;
}

static void give_private(session_pool *p, uint64_t bytes)
{
    pthread_mutex_lock(&p->pages.lock);
    p->private_left += bytes;
    pthread_mutex_unlock(&p->pages.lock);
}

static odmoe_status no_room(session_pool *p, const session_layout *l, int32_t context, odmoe_error *err)
{
    double left = (double)(pages_unpromised(&p->pages) + p->private_left) / (1 << 20);
    return err_set(err, ODMOE_ERR_BUDGET,
                   "a session of %d tokens needs %.1f MiB of KV cache, %.1f MiB of the budget's reserve are free: "
                   "open the model for more sessions or less context",
                   context, (double)session_total_bytes(l, context) / (1 << 20), left);
}

/* A session with memory for its tables, promised `pages`. */
static odmoe_status open_session(session_pool *p, const session_layout *l, int32_t context, const page_counts *pages,
                                 session_state *out, odmoe_error *err)
{
    *out = (session_state){.layout = l, .pool = p, .context = context, .bytes = session_bytes(l, context)};
    out->account.most = session_pages(l, context);
    if (!take_private(p, out->bytes))
        return no_room(p, l, context, err);
    if (!pages_promise(&p->pages, &out->account, pages)) {
        give_private(p, out->bytes);
        return no_room(p, l, context, err);
    }
    out->memory = mem_pages_alloc(out->bytes, "a session", err);
    if (!out->memory) {
        pages_forgive(&p->pages, &out->account);
        give_private(p, out->bytes);
        return ODMOE_ERR_MEMORY;
    }
    char *at = out->memory;
    out->tokens = (int32_t *)(void *)at;
    at += tokens_bytes(context);
    out->kept = at;
    at += (2 + (uint64_t)l->snapshots) * copy_bytes(l);
    out->pages = (void **)(void *)at;
    at += table_bytes(l, context);
    for (int i = 0; i < SNAPSHOTS_MAX; i++) {
        bool table = l->slides && i < l->snapshots;
        out->snapshots[i] = (snapshot){.position = -1, .pages = table ? (void **)(void *)at : NULL};
        at += table ? table_bytes(l, context) : 0;
    }
    return ODMOE_OK;
}

odmoe_status session_create(session_pool *p, const session_layout *l, int32_t context, session_state *out,
                            odmoe_error *err)
{
    page_counts pages = session_pages(l, context);
    return open_session(p, l, context, &pages, out, err);
}

/* ---- tables ---- */

void **session_entry(const session_state *s, void **pages, int layer, int64_t index)
{
    return &pages[s->layout->place[layer].table * pages_for(s->context) + index];
}

/* Does the session hold a table's page elsewhere, too: in its own table or in a snapshot other than `except`? */
static bool held_elsewhere(const session_state *s, void **except, int layer, int64_t index, const void *page)
{
    if (s->pages != except && *session_entry(s, s->pages, layer, index) == page)
        return true;
    for (int i = 0; i < SNAPSHOTS_MAX; i++) {
        const snapshot *shot = &s->snapshots[i];
        if (shot->position >= 0 && shot->pages && shot->pages != except &&
            *session_entry(s, shot->pages, layer, index) == page)
            return true;
    }
    return false;
}

static void drop_entry(session_state *s, void **pages, int layer, int64_t index)
{
    void **at = session_entry(s, pages, layer, index), *page = *at;
    if (!page)
        return;
    *at = NULL;
    pages_drop(&s->pool->pages, &s->account, s->layout->place[layer].class, page,
               held_elsewhere(s, pages, layer, index, page));
}

/* Drop a layer's pages [first, end) of one table. */
static void drop_range(session_state *s, void **pages, int layer, int64_t first, int64_t end)
{
    for (int64_t i = first < 0 ? 0 : first; i < end; i++)
        drop_entry(s, pages, layer, i);
}

static void drop_from(session_state *s, int64_t first_page)
{
    for (int l = 0; l < s->layout->layers; l++)
        if (session_owns(s->layout, l))
            drop_range(s, s->pages, l, first_page, pages_for(s->context));
}

/* The first page that a token at `position` of a sliding layer looks at; its own window reaches it. */
static int64_t first_needed(const layer_place *place, int32_t position)
{
    int64_t first = place->reach ? (int64_t)position - place->reach + 1 : 0;
    return first < 0 ? 0 : first / PAGE_POSITIONS;
}

/* ---- what is kept ---- */

static char *kept_copy(const session_state *s, kept_kind kind, int copy)
{
    return s->kept + (uint64_t)copy * copy_bytes(s->layout) + (kind == KEPT_CHUNK ? s->layout->kept_bytes[0] : 0);
}

char *session_kept(const session_state *s, kept_kind kind, int which)
{
    return kept_copy(s, kind, which < 0 ? s->committed[kind] : 2 + which);
}

/* What `from` keeps, as committed (-1) or in a snapshot, to a place of `to`. */
static void copy_kept(const session_state *from, int from_snapshot, session_state *to, int to_snapshot)
{
    for (int kind = 0; kind < KEPT_KINDS; kind++)
        memcpy(session_kept(to, kind, to_snapshot), session_kept(from, kind, from_snapshot),
               to->layout->kept_bytes[kind]);
}

static void clear_kept(session_state *s)
{
    for (int kind = 0; kind < KEPT_KINDS; kind++)
        memset(session_kept(s, kind, -1), 0, s->layout->kept_bytes[kind]);
}

/* Positions of one period share what is kept of this kind. */
static int32_t period_of(kept_kind kind, int32_t position)
{
    return kind == KEPT_CHUNK ? position / RECURRENT_CHUNK : position;
}

/* ---- snapshots ---- */

static void forget(session_state *s, snapshot *shot)
{
    for (int l = 0; shot->position >= 0 && shot->pages && l < s->layout->layers; l++)
        if (session_owns(s->layout, l))
            drop_range(s, shot->pages, l, 0, pages_for(s->context));
    shot->position = -1;
}

void session_clear(session_state *s)
{
    for (int i = 0; i < SNAPSHOTS_MAX; i++)
        forget(s, &s->snapshots[i]);
    drop_from(s, 0);
    clear_kept(s);
    s->length = 0;
}

void session_free(session_state *s)
{
    if (!s->memory)
        return;
    session_clear(s);
    pages_forgive(&s->pool->pages, &s->account);
    mem_pages_free(s->memory, s->bytes);
    give_private(s->pool, s->bytes);
    *s = (session_state){0};
}

bool session_needs_snapshots(const session_state *s)
{
    return copy_bytes(s->layout) || any_drops(s->layout, s->context);
}

void session_forget(session_state *s, int32_t position)
{
    for (int i = 0; i < s->layout->snapshots; i++)
        if (s->snapshots[i].position == position)
            forget(s, &s->snapshots[i]);
}

odmoe_status session_snapshot(session_state *s, odmoe_error *err)
{
    if (!session_needs_snapshots(s) || !s->length)
        return ODMOE_OK;
    snapshot *to = &s->snapshots[0];
    for (int i = 0; i < s->layout->snapshots; i++) {
        snapshot *shot = &s->snapshots[i];
        if (shot->position == s->length)
            return ODMOE_OK;
        if (shot->position < 0 ? to->position >= 0 : to->position >= 0 && shot->age < to->age)
            to = shot;
    }
    forget(s, to);
    to->position = s->length;
    to->age = ++s->age;
    copy_kept(s, -1, s, (int)(to - s->snapshots));
    for (int l = 0; to->pages && l < s->layout->layers; l++) {
        const layer_place *place = &s->layout->place[l];
        if (!session_owns(s->layout, l) || !drops(s->layout, place, s->context))
            continue;
        for (int64_t i = first_needed(place, s->length); i < pages_for(s->length); i++) {
            void *page = *session_entry(s, s->pages, l, i);
            *session_entry(s, to->pages, l, i) = page;
            pages_share(&s->pool->pages, &s->account, place->class, page, true);
        }
    }
    return ODMOE_OK;
}

/* Are all pages there that the token at `position` will look at? */
static bool pages_reach_back(const session_state *s, int32_t position)
{
    for (int l = 0; l < s->layout->layers; l++) {
        const layer_place *place = &s->layout->place[l];
        if (place->table < 0)
            continue;
        for (int64_t i = first_needed(place, position); i < pages_for(position); i++)
            if (!*session_entry(s, s->pages, l, i))
                return false;
    }
    return true;
}

static void restore(session_state *s, snapshot *shot)
{
    copy_kept(s, (int)(shot - s->snapshots), s, -1);
    for (int l = 0; shot->pages && l < s->layout->layers; l++) {
        const layer_place *place = &s->layout->place[l];
        if (!session_owns(s->layout, l))
            continue;
        for (int64_t i = 0; i < pages_for(s->context); i++) {
            void *page = *session_entry(s, shot->pages, l, i), *present = *session_entry(s, s->pages, l, i);
            if (!page || page == present)
                continue;
            drop_entry(s, s->pages, l, i);
            *session_entry(s, s->pages, l, i) = page;
            pages_share(&s->pool->pages, &s->account, place->class, page, true);
        }
    }
}

/* The latest snapshot at or before `length`; NULL: none. */
static snapshot *nearest(session_state *s, int32_t length)
{
    snapshot *best = NULL;
    for (int i = 0; i < SNAPSHOTS_MAX; i++) {
        snapshot *shot = &s->snapshots[i];
        if (shot->position >= 0 && shot->position <= length && (!best || shot->position > best->position))
            best = shot;
    }
    return best;
}

odmoe_status session_truncate(session_state *s, int32_t length, int32_t *reached, odmoe_error *err)
{
    if (length < 0 || length > s->length)
        return err_set(err, ODMOE_ERR_RANGE, "a session of %d tokens cannot be cut to %d", s->length, length);
    int32_t to = length;
    if (length < s->length && (copy_bytes(s->layout) || !pages_reach_back(s, length))) {
        snapshot *shot = nearest(s, length);
        to = shot ? shot->position : 0;
        if (shot)
            restore(s, shot);
        else
            clear_kept(s);
    }
    for (int i = 0; i < SNAPSHOTS_MAX; i++)
        if (s->snapshots[i].position > to)
            forget(s, &s->snapshots[i]);
    s->length = to;
    drop_from(s, pages_for(to));
    if (reached)
        *reached = to;
    return ODMOE_OK;
}

/* The page of `index`, the session's own to write. */
static odmoe_status own_page(session_state *s, int layer, int64_t index, odmoe_error *err)
{
    int class = s->layout->place[layer].class;
    void **at = session_entry(s, s->pages, layer, index), *page = *at;
    if (page && !pages_shared(&s->pool->pages, class, page))
        return ODMOE_OK;
    void *own = pages_take(&s->pool->pages, &s->account, class);
    if (!own)
        return err_set(err, ODMOE_ERR_BUDGET,
                       "no room for more than %d tokens: forks and snapshots of this session hold its pages; free some",
                       s->length);
    if (page) {
        memcpy(own, page, s->layout->page_bytes[class]);
        drop_entry(s, s->pages, layer, index);
    }
    *at = own;
    return ODMOE_OK;
}

/* ---- forking ---- */

/* Hold the pages of a table of `from` in one of `to`. */
static void share_table(const session_state *from, void **from_pages, session_state *to, void **to_pages, int64_t end)
{
    for (int l = 0; l < to->layout->layers; l++)
        for (int64_t i = 0; session_owns(to->layout, l) && i < end; i++) {
            void *page = *session_entry(from, from_pages, l, i);
            bool mine = page && held_elsewhere(to, to_pages, l, i, page);
            *session_entry(to, to_pages, l, i) = page;
            if (page)
                pages_share(&to->pool->pages, &to->account, to->layout->place[l].class, page, mine);
        }
}

/* The last page, if both sessions would write to it. It is within the fork's promise. */
static odmoe_status copy_last_page(const session_state *from, session_state *to, odmoe_error *err)
{
    int64_t last = from->length / PAGE_POSITIONS;
    odmoe_status status = ODMOE_OK;
    if (from->length % PAGE_POSITIONS == 0)
        return ODMOE_OK;
    for (int l = 0; l < to->layout->layers && !status; l++) {
        if (!session_owns(to->layout, l))
            continue;
        status = own_page(to, l, last, err);
        if (!status)
            memcpy(*session_entry(to, to->pages, l, last), *session_entry(from, from->pages, l, last),
                   to->layout->page_bytes[to->layout->place[l].class]);
    }
    return status;
}

/* What a fork must be promised: what a session of its context is, less the pages that it will share. */
static page_counts fork_pages(const session_state *from, int32_t context)
{
    page_counts counts = session_pages(from->layout, context);
    for (int l = 0; l < from->layout->layers; l++)
        for (int64_t i = 0; session_owns(from->layout, l) && i < from->length / PAGE_POSITIONS; i++)
            if (*session_entry(from, from->pages, l, i))
                counts.n[from->layout->place[l].class]--;
    return counts;
}

static void fork_snapshot(const session_state *from, int i, session_state *to)
{
    const snapshot *shot = &from->snapshots[i];
    if (shot->position < 0)
        return;
    to->snapshots[i].position = shot->position;
    to->snapshots[i].age = shot->age;
    copy_kept(from, i, to, i);
    if (shot->pages)
        share_table(from, shot->pages, to, to->snapshots[i].pages, pages_for(shot->position));
}

odmoe_status session_fork(const session_state *from, int32_t context, session_state *out, odmoe_error *err)
{
    context = context ? context : from->context;
    if (context < from->length)
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens is too small for a fork of %d tokens", context,
                       from->length);
    page_counts pages = fork_pages(from, context);
    odmoe_status status = open_session(from->pool, from->layout, context, &pages, out, err);
    if (status)
        return status;
    out->length = from->length;
    out->age = from->age;
    memcpy(out->tokens, from->tokens, (size_t)from->length * sizeof *out->tokens);
    copy_kept(from, -1, out, -1);
    share_table(from, from->pages, out, out->pages, from->length / PAGE_POSITIONS);
    status = copy_last_page(from, out, err);
    for (int i = 0; i < SNAPSHOTS_MAX && !status; i++)
        fork_snapshot(from, i, out);
    if (status)
        session_free(out);
    return status;
}

/* ---- a forward call ---- */

odmoe_status session_prepare(session_state *s, int32_t first, int32_t n, odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    for (int l = 0; l < s->layout->layers && !status; l++)
        for (int64_t i = first / PAGE_POSITIONS;
             session_owns(s->layout, l) && i < pages_for((int64_t)first + n) && !status; i++)
            status = own_page(s, l, i, err);
    return status;
}

void session_slide(session_state *s, int32_t next)
{
    for (int l = 0; l < s->layout->layers; l++) {
        const layer_place *place = &s->layout->place[l];
        if (!session_owns(s->layout, l) || !drops(s->layout, place, s->context))
            continue;
        /* between what the committed state needs and what the next token looks at */
        int64_t kept = s->length < next ? pages_for(s->length) : 0;
        drop_range(s, s->pages, l, kept, first_needed(place, next));
        drop_range(s, s->pages, l, 0, first_needed(place, s->length));
    }
}

void session_commit(session_state *s, const int32_t *tokens, int32_t n)
{
    memcpy(s->tokens + s->length, tokens, (size_t)n * sizeof *tokens);
    for (int kind = 0; kind < KEPT_KINDS; kind++)
        if (period_of(kind, s->length + n) != period_of(kind, s->length))
            s->committed[kind] = !s->committed[kind];
    s->length += n;
    session_slide(s, s->length);
}

void session_rollback(session_state *s)
{
    drop_from(s, pages_for(s->length));
}

void *const *session_pages_of(const session_state *s, int layer)
{
    int table = s->layout->place[layer].table;
    return table < 0 ? NULL : s->pages + table * pages_for(s->context);
}

kept_state session_kept_of(const session_state *s, int layer, kept_kind kind, int32_t position)
{
    const layer_place *place = &s->layout->place[layer];
    if (!place->kept[kind].bytes)
        return (kept_state){0};
    int present = s->committed[kind], other = !present;
    bool same = period_of(kind, position) == period_of(kind, s->length);
    uint64_t offset = place->kept[kind].offset;
    return (kept_state){kept_copy(s, kind, same ? present : other) + offset, kept_copy(s, kind, other) + offset};
}

bool session_needs_page(const session_state *s, int layer, int64_t index, int32_t length)
{
    const layer_place *place = &s->layout->place[layer];
    return !drops(s->layout, place, s->context) || index >= first_needed(place, length);
}

bool session_put_page(session_state *s, void **pages, int layer, int64_t index, const void *bytes)
{
    int class = s->layout->place[layer].class;
    void *page = pages_take(&s->pool->pages, &s->account, class);
    if (!page)
        return false;
    memcpy(page, bytes, s->layout->page_bytes[class]);
    *session_entry(s, pages, layer, index) = page;
    return true;
}
