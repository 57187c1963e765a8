#include "text/grammar/grammar.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar/automaton.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/mask.h"
#include "text/grammar/schema.h"

struct grammar {
    grammar_rules rules; /* kept for printing */
    program p;
    const vocab_tree *vocab;
    size_t memory;
    pthread_mutex_t lock; /* for all below, and the states' configurations */
    automaton *a;
    mask_cache masks;
    grammar_state *states; /* all there are, for automaton_reset */
};

struct grammar_state {
    grammar *g;
    config_id at;
    bool ended;   /* an end token has come */
    size_t bytes; /* of text so far, for messages */
    grammar_state *next, *before;
};

/* ---- compiling --------------------------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    size_t n = strspn(name, letters);
    return n > 0 && n <= 64 && !name[n];
}

/* The schemas beside a grammar, as rules. */
static void read_schemas(grammar *g, json_text *t, const grammar_options *o, gbnf_known *known)
{
    if (o->schema_count > GRAMMAR_SCHEMAS_MAX)
        rules_fail(&g->rules, ODMOE_ERR_RANGE, "%zu schemas; at most %d are possible", o->schema_count,
                   GRAMMAR_SCHEMAS_MAX);
    for (size_t i = 0; i < o->schema_count && !g->rules.status; i++) {
        const grammar_schema *s = &o->schemas[i];
        g->rules.fault->schema = i + 1;
        bool taken = false;
        for (size_t k = 0; k < i; k++)
            taken |= !strcmp(o->schemas[k].name, s->name);
        if (!is_name(s->name) || taken)
            rules_fail(&g->rules, ODMOE_ERR_ARG, "a schema's name is wanted: letters, digits and -, once, not '%.64s'",
                       s->name);
        else
            known[i] = (gbnf_known){s->name, schema_read(t, s->name, s->text, s->length)};
    }
    if (!g->rules.status)
        g->rules.fault->schema = 0;
}

static void read_source(grammar *g, grammar_kind kind, const char *text, size_t length, const grammar_options *o)
{
    json_text t;
    gbnf_known known[GRAMMAR_SCHEMAS_MAX];
    text_init(&t, &g->rules, &text_json, &o->special);
    if (kind == GRAMMAR_WRITTEN)
        return;
    if (kind == GRAMMAR_SCHEMA) {
        g->rules.root = schema_read(&t, "root", text, length);
        return;
    }
    read_schemas(g, &t, o, known);
    if (!g->rules.status)
        gbnf_read(&g->rules, text, length, known, o->schema_count, o->lookup, o->user, g->vocab ? g->vocab->count : 0);
}

static odmoe_status compile(grammar *g, grammar_kind kind, const char *text, size_t length, const grammar_options *o,
                            grammar_fault *fault, odmoe_error *err)
{
    program_settings settings = {.triggers = o->triggers, .trigger_count = o->trigger_count, .again = o->again};
    if (g->vocab) {
        settings.ends = g->vocab->ends;
        settings.end_count = g->vocab->end_count;
    }
    rules_init(&g->rules, err, fault);
    if (!g->rules.status)
        read_source(g, kind, text, length, o);
    if (!g->rules.status && o->write)
        o->write(o->write_user, &g->rules, &o->special);
    if (g->rules.status)
        return g->rules.status;
    uint32_t rule = 0;
    odmoe_status st = program_compile(&g->rules, &settings, &g->p, &rule, err);
    if (st == ODMOE_ERR_FORMAT && kind == GRAMMAR_GBNF) {
        gbnf_position(text, length, g->rules.rules[rule].at, fault);
        err_context(err, "grammar: line %u, column %u", fault->line, fault->column);
    }
    if (st == ODMOE_ERR_FORMAT && kind == GRAMMAR_SCHEMA)
        err_set(err, st, "schema: no value meets it%s%s%s%s", *fault->path ? "; " : "", fault->path,
                *g->rules.unmet ? ": " : "", g->rules.unmet);
    return st;
}

/* How the cache's memory is divided: masks get what they can use, at most a quarter. */
static odmoe_status create_cache(grammar *g, odmoe_error *err)
{
    size_t masks = 0;
    odmoe_status st = g->vocab ? mask_cache_create(g->vocab, g->memory / 4, &g->masks, &masks, err) : ODMOE_OK;
    return st ? st : automaton_create(&g->p, g->memory - masks, &g->a, err);
}

odmoe_status grammar_compile(grammar_kind kind, const char *text, size_t length, const vocab_tree *vocab,
                             const grammar_options *options, grammar **out, grammar_fault *fault, odmoe_error *err)
{
    grammar_options o = options ? *options : (grammar_options){0};
    grammar_fault unused;
    fault = fault ? fault : &unused;
    *fault = (grammar_fault){0};
    o.memory = o.memory ? o.memory : GRAMMAR_MEMORY_DEFAULT;
    if (o.memory < GRAMMAR_MEMORY_MIN)
        return err_set(err, ODMOE_ERR_RANGE, "a grammar needs at least %zu bytes of working memory",
                       GRAMMAR_MEMORY_MIN);
    grammar *g = mem_calloc(1, sizeof *g, "a grammar", err);
    if (!g)
        return ODMOE_ERR_MEMORY;
    g->vocab = vocab;
    g->memory = o.memory;
    pthread_mutex_init(&g->lock, NULL);
    odmoe_status st = compile(g, kind, text, length, &o, fault, err);
    g->rules.err = NULL; /* the caller's, as is fault */
    g->rules.fault = NULL;
    if (!st)
        st = create_cache(g, err);
    if (st)
        grammar_free(g);
    else
        *out = g;
    return st;
}

void grammar_free(grammar *g)
{
    if (!g)
        return;
    automaton_free(g->a);
    mask_cache_free(&g->masks);
    program_free(&g->p);
    rules_free(&g->rules);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

size_t grammar_bytes(const grammar *g)
{
    return sizeof *g + rules_bytes(&g->rules) + program_bytes(&g->p) + g->memory;
}

char *grammar_print(const grammar *g, odmoe_error *err)
{
    return rules_print(&g->rules, err);
}

/* ---- the cache ------------------------------------------------------------------------------------------------------ */

/* Forget everything but the configurations of the states. */
static odmoe_status reset(grammar *g, odmoe_error *err)
{
    size_t n = 0, i = 0;
    for (grammar_state *s = g->states; s; s = s->next)
        n++;
    config_id **kept = mem_calloc(n, sizeof *kept, "a grammar's states", err);
    if (!kept)
        return ODMOE_ERR_MEMORY;
    for (grammar_state *s = g->states; s; s = s->next)
        kept[i++] = &s->at;
    odmoe_status st = automaton_reset(g->a, kept, n, err);
    mask_cache_clear(&g->masks);
    free(kept);
    return st;
}

typedef void cache_work(grammar *g, void *task);

/* Run `work`, which may need new configurations. Where they do not fit, the cache is emptied and the work run again. */
static odmoe_status with_cache(grammar *g, cache_work *work, void *task, odmoe_error *err)
{
    odmoe_error unused;
    work(g, task);
    odmoe_status st = automaton_status(g->a, err);
    if (!st)
        return ODMOE_OK;
    odmoe_status cleared = reset(g, &unused); /* in any case, so that later calls begin without the error */
    if (cleared || st != ODMOE_ERR_BUDGET)
        return st;
    work(g, task);
    st = automaton_status(g->a, err);
    if (st)
        reset(g, &unused);
    return st;
}

/* ---- states --------------------------------------------------------------------------------------------------------- */

static grammar_state *add_state(grammar *g, odmoe_error *err)
{
    grammar_state *s = mem_calloc(1, sizeof *s, "a grammar's state", err);
    if (!s)
        return NULL;
    s->g = g;
    s->next = g->states;
    if (g->states)
        g->states->before = s;
    g->states = s;
    return s;
}

static void remove_state(grammar_state *s)
{
    if (s->before)
        s->before->next = s->next;
    else
        s->g->states = s->next;
    if (s->next)
        s->next->before = s->before;
    free(s);
}

static void begin(grammar *g, void *task)
{
    grammar_state *s = task;
    s->at = automaton_at(g->a, g->p.waiting != NODE_NONE ? g->p.waiting : g->p.start);
}

odmoe_status grammar_state_create(grammar *g, grammar_state **out, odmoe_error *err)
{
    pthread_mutex_lock(&g->lock);
    grammar_state *s = add_state(g, err);
    odmoe_status st = s ? with_cache(g, begin, s, err) : ODMOE_ERR_MEMORY;
    if (!st)
        *out = s;
    else if (s)
        remove_state(s);
    pthread_mutex_unlock(&g->lock);
    return st;
}

odmoe_status grammar_state_copy(const grammar_state *s, grammar_state **out, odmoe_error *err)
{
    grammar *g = s->g;
    pthread_mutex_lock(&g->lock);
    grammar_state *copy = add_state(g, err);
    if (copy) {
        copy->at = s->at;
        copy->ended = s->ended;
        copy->bytes = s->bytes;
        *out = copy;
    }
    pthread_mutex_unlock(&g->lock);
    return copy ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

void grammar_state_free(grammar_state *s)
{
    if (!s)
        return;
    grammar *g = s->g;
    pthread_mutex_lock(&g->lock);
    remove_state(s);
    pthread_mutex_unlock(&g->lock);
}

/* ---- masks ---------------------------------------------------------------------------------------------------------- */

static void allow_ends(const vocab_tree *v, uint32_t *mask)
{
    for (size_t i = 0; i < v->end_count; i++)
        mask[v->ends[i] / 32] |= 1u << v->ends[i] % 32;
}

static bool any_bit(const uint32_t *mask, size_t words)
{
    for (size_t i = 0; i < words; i++)
        if (mask[i])
            return true;
    return false;
}

typedef struct mask_task {
    const grammar_state *s;
    uint32_t *mask;
} mask_task;

static void fill_mask(grammar *g, void *task)
{
    const mask_task *t = task;
    mask_compute(&g->masks, g->a, &g->p, t->s->at, t->mask);
}

static odmoe_status mask_locked(grammar_state *s, uint32_t *mask, odmoe_error *err)
{
    grammar *g = s->g;
    size_t words = g->vocab->words;
    odmoe_status st = s->ended ? ODMOE_OK : with_cache(g, fill_mask, &(mask_task){s, mask}, err);
    if (!st && (s->ended || automaton_accepts(g->a, s->at)))
        allow_ends(g->vocab, mask);
    if (!st && !any_bit(mask, words))
        st = err_set(err, ODMOE_ERR_STATE,
                     "the grammar is at a dead end after %zu bytes: the vocabulary has no token that it allows here",
                     s->bytes);
    if (st)
        memset(mask, 0, words * sizeof *mask);
    return st;
}

odmoe_status grammar_mask(grammar_state *s, uint32_t *mask, size_t words, odmoe_error *err)
{
    const vocab_tree *v = s->g->vocab;
    memset(mask, 0, words * sizeof *mask);
    if (!v)
        return err_set(err, ODMOE_ERR_STATE, "the grammar was compiled without a vocabulary: it has no masks");
    if (words < v->words)
        return err_set(err, ODMOE_ERR_ARG, "a mask of %zu words is too small for %d tokens", words, v->count);
    pthread_mutex_lock(&s->g->lock);
    odmoe_status st = mask_locked(s, mask, err);
    pthread_mutex_unlock(&s->g->lock);
    return st;
}

/* ---- accepting -------------------------------------------------------------------------------------------------------- */

static config_id step_text(automaton *a, config_id at, const char *text, size_t length, size_t *taken)
{
    size_t i = 0;
    for (; i < length && (uint8_t)text[i] <= TEXT_BYTE_MAX; i++) {
        config_id to = automaton_step(a, at, (uint8_t)text[i]);
        if (to == CONFIG_DEAD)
            break;
        at = to;
    }
    *taken = i;
    return at;
}

static config_id step_id(automaton *a, config_id at, uint8_t mark, int32_t id)
{
    at = automaton_step(a, at, mark);
    for (int shift = 16; shift >= 0; shift -= 8)
        at = automaton_step(a, at, (uint8_t)(id >> shift));
    return at;
}

/* Where a token leads by its text and by its id. */
static config_id step_token(const grammar *g, config_id at, int32_t token)
{
    const vocab_tree *v = g->vocab;
    size_t length = v->starts[token + 1] - v->starts[token], taken = 0;
    config_id to = step_text(g->a, at, v->texts + v->starts[token], length, &taken);
    bool has_text = length && !memchr(v->texts + v->starts[token], 0xFE, length) &&
                    !memchr(v->texts + v->starts[token], 0xFF, length);
    if (!has_text || taken < length)
        to = CONFIG_DEAD;
    if (!g->p.has_tokens)
        return to;
    to = automaton_union(g->a, to, step_id(g->a, at, TOKEN_MARK, token));
    return has_text ? to : automaton_union(g->a, to, step_id(g->a, at, TOKEN_MARK_TEXTLESS, token));
}

static bool is_end(const vocab_tree *v, int32_t token)
{
    for (size_t i = 0; i < v->end_count; i++)
        if (v->ends[i] == token)
            return true;
    return false;
}

static odmoe_status not_allowed(const grammar_state *s, int32_t token, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_ARG, "the grammar does not allow token %d after %zu bytes", token, s->bytes);
}

typedef struct token_task {
    const grammar_state *s;
    int32_t token;
    config_id to;
} token_task;

static void find_step(grammar *g, void *task)
{
    token_task *t = task;
    t->to = step_token(g, t->s->at, t->token);
}

static odmoe_status accept_locked(grammar_state *s, int32_t token, odmoe_error *err)
{
    grammar *g = s->g;
    token_task t = {s, token, CONFIG_DEAD};
    odmoe_status st = s->ended ? ODMOE_OK : with_cache(g, find_step, &t, err);
    if (st)
        return st;
    if (t.to != CONFIG_DEAD) {
        s->at = t.to;
        s->bytes += g->vocab->starts[token + 1] - g->vocab->starts[token];
        return ODMOE_OK;
    }
    if (!is_end(g->vocab, token) || !(s->ended || automaton_accepts(g->a, s->at)))
        return not_allowed(s, token, err);
    s->ended = true;
    return ODMOE_OK;
}

odmoe_status grammar_accept(grammar_state *s, int32_t token, odmoe_error *err)
{
    const vocab_tree *v = s->g->vocab;
    if (!v)
        return err_set(err, ODMOE_ERR_STATE, "the grammar was compiled without a vocabulary: it knows no tokens");
    if (token < 0 || token >= v->count)
        return not_allowed(s, token, err);
    pthread_mutex_lock(&s->g->lock);
    odmoe_status st = accept_locked(s, token, err);
    pthread_mutex_unlock(&s->g->lock);
    return st;
}

#define TEXT_STRETCH ((size_t)1024) /* bytes accepted at a time: what a cache that was just emptied has room for */

typedef struct text_task {
    const grammar_state *s;
    const char *text;
    size_t length, taken;
    config_id to;
} text_task;

static void read_stretch(grammar *g, void *task)
{
    text_task *t = task;
    t->to = step_text(g->a, t->s->at, t->text, t->length, &t->taken);
}

odmoe_status grammar_accept_text(grammar_state *s, const char *text, size_t length, size_t *taken, odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    size_t total = 0;
    pthread_mutex_lock(&s->g->lock);
    while (total < length && !s->ended && !st) {
        text_task t = {.s = s, .text = text + total, .length = length - total};
        if (t.length > TEXT_STRETCH)
            t.length = TEXT_STRETCH;
        st = with_cache(s->g, read_stretch, &t, err);
        if (st)
            break;
        s->at = t.to;
        s->bytes += t.taken;
        total += t.taken;
        if (t.taken < t.length)
            break;
    }
    if (!st && total < length)
        st = err_set(err, ODMOE_ERR_ARG, "the grammar does not allow the text after %zu bytes", s->bytes);
    pthread_mutex_unlock(&s->g->lock);
    if (taken)
        *taken = total;
    return st;
}

bool grammar_may_end(const grammar_state *s)
{
    pthread_mutex_lock(&s->g->lock);
    bool may = s->ended || automaton_accepts(s->g->a, s->at);
    pthread_mutex_unlock(&s->g->lock);
    return may;
}

typedef struct end_task {
    const grammar_state *s;
    bool more; /* some byte is possible */
} end_task;

static void find_more(grammar *g, void *task)
{
    end_task *t = task;
    t->more = false;
    for (uint32_t i = 0; i < g->p.classes && !t->more; i++) /* a mark's step counts: some token has that id */
        t->more = automaton_step(g->a, t->s->at, g->p.byte_of[i]) != CONFIG_DEAD;
}

bool grammar_must_end(const grammar_state *s)
{
    grammar *g = s->g;
    end_task t = {s, false};
    pthread_mutex_lock(&g->lock);
    bool must = s->ended;
    if (!must && automaton_accepts(g->a, s->at))
        must = !with_cache(g, find_more, &t, NULL) && !t.more;
    pthread_mutex_unlock(&g->lock);
    return must;
}
