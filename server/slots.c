#include "slots.h"

#include <stdlib.h>
#include <string.h>

#define SAVE_TOKENS 4096     /* of a long prompt, after which it is written */
#define SNAPSHOT_TOKENS 1024 /* of a prompt, after which a snapshot is made */
#define DISK_TOKENS_MORE 64  /* that a file must save beyond what is in memory */

/* ---- opening ---- */

odmoe_status slots_open(slots *s, odmoe_model *model, const engine_options *o, void (*done)(void *user), void *user,
                        odmoe_error *err)
{
    *s = (slots){.model = model, .n = o->sequences, .context = o->context};
    s->at = calloc((size_t)s->n, sizeof *s->at);
    if (!s->at) {
        if (err)
            *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for the engine"};
        return ODMOE_ERR_MEMORY;
    }
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < s->n && !status; i++) {
        s->at[i].id = i;
        status = odmoe_session_create(model, o->context, &s->at[i].session, err);
    }
    if (status)
        return status;
    s->context = odmoe_session_context(s->at[0].session);
    s->needs_snapshots = odmoe_session_needs_snapshots(s->at[0].session);
    return prefixes_open(model, o, s->context, done, user, &s->prefixes, err);
}

void slots_close(slots *s)
{
    prefixes_close(s->prefixes);
    for (int i = 0; s->at && i < s->n; i++)
        odmoe_session_free(s->at[i].session);
    free(s->at);
    *s = (slots){0};
}

void slots_save_all(slots *s)
{
    for (int i = 0; i < s->n && s->prefixes; i++)
        if (s->at[i].session && s->at[i].kept)
            prefixes_save_now(s->prefixes, s->at[i].session);
    if (s->prefixes)
        prefixes_save_all_kept(s->prefixes);
    prefixes_close(s->prefixes);
    s->prefixes = NULL;
}

/* ---- what is there ---- */

static int32_t length_of(const slot *at)
{
    return at->session ? odmoe_session_length(at->session) : 0;
}

/* Of the first `common` tokens, how many can a session be cut back to? */
static int32_t restorable(const slots *s, const odmoe_session *session, int32_t common)
{
    if (!s->needs_snapshots || common == odmoe_session_length(session))
        return common;
    int32_t positions[ENGINE_SNAPSHOTS], best = 0;
    int n = odmoe_session_snapshots(session, positions, ENGINE_SNAPSHOTS);
    for (int i = 0; i < n && i < ENGINE_SNAPSHOTS; i++)
        best = positions[i] <= common ? positions[i] : best;
    return best;
}

/* Tokens of the job's prompt that the slot has and that need not be computed: at most all but the last, whose logits are
 * wanted. */
static int32_t common_with(const slots *s, const slot *at, const job *j)
{
    if (!at->session || !at->kept || atomic_load(&at->load.state) == LOAD_WAITS)
        return 0;
    return restorable(
        s, at->session,
        prefixes_common(odmoe_session_tokens(at->session), odmoe_session_length(at->session), j->tokens, j->n - 1));
}

static double worth(const slots *s, const slot *at)
{
    int32_t length = at->kept ? length_of(at) : 0;
    return length ? prefix_worth(length, (uint64_t)length, s->clock - at->used) : 0;
}

/* The free slot whose tokens are worth least, rather another than `spare`. NULL: none is free. */
static slot *least_worth(slots *s, const slot *spare)
{
    slot *best = NULL;
    for (int i = 0; i < s->n; i++) {
        slot *at = &s->at[i];
        if (!at->job && (!best || best == spare || (at != spare && worth(s, at) < worth(s, best))))
            best = at;
    }
    return best;
}

bool slots_may_place(const slots *s)
{
    for (int i = 0; i < s->n && !s->no_room; i++)
        if (!s->at[i].job)
            return true;
    return false;
}

/* ---- placing ---- */

/* The slot is about to lose its tokens to a job whose prompt begins in `source`. */
static void keep(slots *s, slot *at, const odmoe_session *source)
{
    if (!at->session || !at->kept)
        return;
    if (at->unsaved)
        prefixes_save(s->prefixes, at->session);
    at->unsaved = false;
    prefixes_keep(s->prefixes, at->session, source);
}

/* A session in place of the slot's: a fork of the first tokens of `source`, or an empty one. */
static odmoe_status replace(slots *s, slot *at, const odmoe_session *source, int32_t length, int32_t *reached,
                            odmoe_error *err)
{
    odmoe_status status = ODMOE_ERR_BUDGET;
    odmoe_session_free(at->session);
    at->session = NULL;
    *reached = 0;
    if (source)
        do
            status = odmoe_session_fork_at(source, length, s->context, &at->session, reached, err);
        while (status == ODMOE_ERR_BUDGET && prefixes_evict(s->prefixes, source));
    if (!status)
        return ODMOE_OK;
    do
        status = odmoe_session_create(s->model, s->context, &at->session, err);
    while (status == ODMOE_ERR_BUDGET && prefixes_evict(s->prefixes, NULL));
    *reached = 0;
    if (status)
        at->session = NULL;
    return status;
}

/* Where most of a job's prompt is, and how much of it. */
typedef struct source {
    slot *slot;                   /* or NULL */
    const odmoe_session *session; /* or NULL: nowhere */
    int32_t length;
} source;

static source find_source(slots *s, const job *j)
{
    source best = {0};
    if (!j->cache_prompt)
        return best;
    for (int i = 0; i < s->n; i++) {
        int32_t common = common_with(s, &s->at[i], j);
        if (common > best.length) /* of equals, one that is free */
            best = (source){&s->at[i], s->at[i].session, common};
        else if (common && common == best.length && best.slot->job && !s->at[i].job)
            best = (source){&s->at[i], s->at[i].session, common};
    }
    prefix_found found = prefixes_in_memory(s->prefixes, j->tokens, j->n - 1);
    int32_t length = found.session ? restorable(s, found.session, found.length) : 0;
    if (length > best.length)
        best = (source){NULL, found.session, length};
    return best;
}

/* Give the slot that is best for it a session with the source's tokens. */
static odmoe_status take_slot(slots *s, const source *from, slot **out, int32_t *reached, odmoe_error *err)
{
    slot *own = from->slot && !from->slot->job ? from->slot : NULL;
    bool cut = own && 2 * from->length >= length_of(own);
    slot *at = *out = cut ? own : least_worth(s, own);
    if (at == own) {
        if (!cut) /* there is no other */
            keep(s, at, NULL);
        return odmoe_session_truncate(at->session, from->length, reached, err);
    }
    keep(s, at, from->session);
    if (!from->session && at->session) {
        odmoe_session_reset(at->session);
        *reached = 0;
        return ODMOE_OK;
    }
    return replace(s, at, from->session, from->length, reached, err);
}

odmoe_status slots_place(slots *s, job *j, slot **out, bool *loading, odmoe_error *err)
{
    source from = find_source(s, j);
    prefix_found disk = {0};
    if (j->cache_prompt)
        disk = prefixes_on_disk(s->prefixes, j->tokens, j->n - 1);
    *loading = disk.length > from.length + DISK_TOKENS_MORE;
    if (*loading)
        from = (source){0};
    int32_t reached = 0;
    odmoe_status status = take_slot(s, &from, out, &reached, err);
    if (status == ODMOE_ERR_BUDGET) {
        s->no_room = prefixes_saving(s->prefixes);
        if (!s->no_room) /* they may have been written just now */
            status = take_slot(s, &(source){0}, out, &reached, err);
    }
    if (status)
        return status;
    slot *at = *out;
    at->job = j;
    at->kept = j->cache_prompt;
    at->used = ++s->clock;
    at->starved = at->tried = at->unsaved = false;
    at->turned = 0;
    at->saved = reached;
    j->usage.cached_tokens = reached;
    if (*loading) {
        at->load.name = disk.name;
        at->load.into = at->session;
        prefixes_load(s->prefixes, &at->load);
    }
    return ODMOE_OK;
}

void slots_settle(slots *s, slot *at)
{
    bool loaded = atomic_load(&at->load.state) == LOAD_DONE;
    job *j = at->job;
    int32_t reached = 0;
    atomic_store(&at->load.state, LOAD_NONE);
    int32_t common =
        prefixes_common(odmoe_session_tokens(at->session), odmoe_session_length(at->session), j->tokens, j->n - 1);
    odmoe_session_truncate(at->session, common, &reached, NULL);
    at->saved = reached;
    j->usage.cached_tokens = reached;
    j->usage.cached_from_disk = loaded ? reached : 0;
}

/* ---- growing ---- */

int32_t slots_prompt_end(const slots *s, const slot *at, int32_t done)
{
    const job *j = at->job;
    int32_t end = j->n;
    if (!s->needs_snapshots)
        return end;
    int32_t next = (done / SNAPSHOT_TOKENS + 1) * SNAPSHOT_TOKENS;
    end = next < end ? next : end;
    for (size_t i = 0; i < j->checkpoint_count; i++)
        if (j->checkpoints[i] > done && j->checkpoints[i] < end)
            end = j->checkpoints[i];
    return end;
}

static bool is_checkpoint(const job *j, int32_t position)
{
    for (size_t i = 0; i < j->checkpoint_count; i++)
        if (j->checkpoints[i] == position)
            return true;
    return position == j->n;
}

/* Room for one more snapshot behind all others: of those that no message begins at, or else of all, the one that leaves the
 * smallest gap goes. */
static void thin(slot *at)
{
    int32_t positions[ENGINE_SNAPSHOTS + 1];
    int n = odmoe_session_snapshots(at->session, positions, ENGINE_SNAPSHOTS);
    if (n < ENGINE_SNAPSHOTS)
        return;
    positions[n] = odmoe_session_length(at->session);
    int best = -1;
    bool best_named = true;
    int32_t best_gap = 0;
    for (int i = 0; i < n; i++) {
        bool named = is_checkpoint(at->job, positions[i]);
        int32_t gap = positions[i + 1] - (i ? positions[i - 1] : 0);
        if (best < 0 || (best_named && !named) || (named == best_named && gap < best_gap)) {
            best = i;
            best_named = named;
            best_gap = gap;
        }
    }
    odmoe_session_forget(at->session, positions[best]);
}

void slots_grew(slots *s, slot *at)
{
    int32_t length = length_of(at);
    at->tried = false;
    if (at->state != SLOT_PROMPT || !at->kept)
        return;
    if (s->needs_snapshots && (length % SNAPSHOT_TOKENS == 0 || is_checkpoint(at->job, length))) {
        odmoe_error why; /* without it, less is found again */
        thin(at);
        odmoe_session_snapshot(at->session, &why);
    }
    if (length / SAVE_TOKENS > at->saved / SAVE_TOKENS && length < at->job->n &&
        prefixes_save(s->prefixes, at->session))
        at->saved = length;
}

bool slots_starved(slots *s, slot *at)
{
    if (prefixes_evict(s->prefixes, NULL))
        return true;
    at->starved = prefixes_saving(s->prefixes);
    bool again = at->starved || !at->tried; /* once more in any case: they may have been written just now */
    at->tried = !at->starved;
    return again;
}

void slots_retry(slots *s)
{
    s->no_room = false;
    for (int i = 0; i < s->n; i++)
        s->at[i].starved = false;
}

/* ---- the end of a job ---- */

void slots_release(slots *s, slot *at)
{
    at->job = NULL;
    at->state = SLOT_IDLE;
    at->starved = false;
    at->used = s->clock;
    if (!at->kept && at->session)
        odmoe_session_reset(at->session);
    at->unsaved = at->kept;
}

void slots_save(slots *s)
{
    for (int i = 0; i < s->n; i++) {
        slot *at = &s->at[i];
        if (at->unsaved && !at->job && at->session)
            at->unsaved = !prefixes_save(s->prefixes, at->session);
    }
}
