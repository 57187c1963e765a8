#include "text/grammar/mask.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PLAIN_MANY UINT32_MAX /* any number of plain characters, or a number that is not known */

odmoe_status mask_cache_create(const vocab_tree *v, size_t limit, mask_cache *out, size_t *bytes, odmoe_error *err)
{
    size_t one = v->words * sizeof(uint32_t);
    *out = (mask_cache){.vocab = v, .count = limit / one};
    if (out->count < 1)
        out->count = 1;
    if (out->count > MASK_SLOTS_MAX)
        out->count = MASK_SLOTS_MAX;
    out->bits = mem_calloc(out->count * v->words, sizeof *out->bits, "masks of tokens", err);
    out->from = mem_calloc(v->longest + 1, sizeof *out->from, "masks of tokens", err);
    out->ends = mem_calloc(v->longest + 1, sizeof *out->ends, "masks of tokens", err);
    *bytes = out->count * one + (v->longest + 1) * (sizeof *out->from + sizeof *out->ends);
    if (out->bits && out->from && out->ends)
        return ODMOE_OK;
    mask_cache_free(out);
    return ODMOE_ERR_MEMORY;
}

void mask_cache_free(mask_cache *m)
{
    free(m->bits);
    free(m->from);
    free(m->ends);
    *m = (mask_cache){0};
}

void mask_cache_clear(mask_cache *m)
{
    memset(m->slots, 0, sizeof m->slots);
}

/* Walk one tree from configuration `at`; a byte that leads nowhere leaves out the whole subtree. */
static void walk(mask_cache *m, automaton *a, const program *p, config_id at, const vocab_slice *s, uint32_t *mask)
{
    const config_id *rows = automaton_rows(a);
    const size_t classes = p->classes;
    size_t depth = 0;
    m->from[0] = at * classes;
    m->ends[0] = (uint32_t)s->count;
    for (uint32_t i = 0; i < s->count;) {
        while (i == m->ends[depth])
            depth--;
        tree_node n = s->nodes[i];
        config_id to = rows[m->from[depth] + p->class_of[n.byte]];
        if (to == STEP_UNKNOWN) {
            to = automaton_step(a, (config_id)(m->from[depth] / classes), n.byte);
            rows = automaton_rows(a);
        }
        if (to == CONFIG_DEAD) {
            i += n.skip;
            continue;
        }
        if (n.token)
            mask[(n.token - 1) / 32] |= 1u << (n.token - 1) % 32;
        if (n.skip > 1) {
            depth++;
            m->from[depth] = to * classes;
            m->ends[depth] = i + n.skip;
        }
        i++;
    }
}

/* How many plain characters are certainly possible in a row (*sure), and at most (*most). */
static void plain_reach(automaton *a, config_id at, uint32_t longest, uint32_t *sure, uint32_t *most)
{
    *sure = 0;
    *most = PLAIN_MANY;
    for (uint32_t n = 1; n <= longest; n++) {
        bool all;
        config_id next;
        if (!automaton_plain(a, at, &all, &next))
            return;
        if (next == CONFIG_DEAD) {
            *most = n - 1;
            return;
        }
        if (all && *sure == n - 1)
            *sure = next == at ? PLAIN_MANY : n;
        if (next == at)
            return;
        at = next;
    }
}

/* Tokens by their ids, in the order of the bytes in which program.h writes them. */
static void walk_ids(automaton *a, int32_t count, config_id at, uint32_t *mask)
{
    config_id high = CONFIG_DEAD, middle = CONFIG_DEAD;
    at = automaton_step(a, at, TOKEN_MARK);
    for (int32_t id = 0; id < count && at != CONFIG_DEAD; id++) {
        if (id % 65536 == 0)
            high = automaton_step(a, at, (uint8_t)(id >> 16));
        if (id % 256 == 0)
            middle = automaton_step(a, high, (uint8_t)(id >> 8));
        if (middle != CONFIG_DEAD && automaton_step(a, middle, (uint8_t)id) != CONFIG_DEAD)
            mask[id / 32] |= 1u << id % 32;
    }
}

static void walk_textless(automaton *a, const vocab_tree *v, config_id at, uint32_t *mask)
{
    at = automaton_step(a, at, TOKEN_MARK_TEXTLESS);
    for (size_t i = 0; i < v->textless_count && at != CONFIG_DEAD; i++) {
        int32_t id = v->textless[i];
        config_id to = automaton_step(a, at, (uint8_t)(id >> 16));
        to = automaton_step(a, to, (uint8_t)(id >> 8));
        if (automaton_step(a, to, (uint8_t)id) != CONFIG_DEAD)
            mask[id / 32] |= 1u << id % 32;
    }
}

static void walk_all(mask_cache *m, automaton *a, const program *p, config_id at, uint32_t *mask)
{
    const vocab_tree *v = m->vocab;
    uint32_t sure, most;
    plain_reach(a, at, v->slices[PLAIN_SLICES - 1].most + 1, &sure, &most);
    for (int i = 0; i < VOCAB_SLICES; i++) {
        const vocab_slice *s = &v->slices[i];
        if (s->mask && most < s->least)
            continue;
        if (s->mask && sure >= s->most)
            for (size_t w = 0; w < v->words; w++)
                mask[w] |= s->mask[w];
        else
            walk(m, a, p, at, s, mask);
    }
    if (p->has_tokens) {
        walk_ids(a, v->count, at, mask);
        walk_textless(a, v, at, mask);
    }
}

/* The slot to fill: a free one, else the one not used for longest. */
static size_t oldest(const mask_cache *m)
{
    size_t best = 0;
    for (size_t i = 1; i < m->count; i++)
        if (m->slots[i].used < m->slots[best].used)
            best = i;
    return best;
}

void mask_compute(mask_cache *m, automaton *a, const program *p, config_id at, uint32_t *mask)
{
    size_t words = m->vocab->words;
    m->clock++;
    for (size_t i = 0; i < m->count; i++)
        if (m->slots[i].config == at && at != CONFIG_DEAD) {
            m->slots[i].used = m->clock;
            memcpy(mask, m->bits + i * words, words * sizeof *mask);
            return;
        }
    memset(mask, 0, words * sizeof *mask);
    walk_all(m, a, p, at, mask);
    if (automaton_status(a, NULL))
        return;
    size_t slot = oldest(m);
    m->slots[slot] = (mask_slot){at, m->clock};
    memcpy(m->bits + slot * words, mask, words * sizeof *mask);
}
