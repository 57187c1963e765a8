/* mask.h - which tokens a configuration allows: the vocabulary's trees walked with the automaton, and the last masks kept.
 */
#ifndef ODMOE_TEXT_GRAMMAR_MASK_H
#define ODMOE_TEXT_GRAMMAR_MASK_H

#include "text/grammar/automaton.h"
#include "text/grammar/vocab_tree.h"

#define MASK_SLOTS_MAX 32

typedef struct mask_slot {
    config_id config; /* CONFIG_DEAD: free */
    uint64_t used;    /* the clock when it was used last */
} mask_slot;

typedef struct mask_cache {
    const vocab_tree *vocab;
    mask_slot slots[MASK_SLOTS_MAX];
    size_t count;
    uint64_t clock;
    uint32_t *bits; /* [count, vocab->words] */
    size_t *from;   /* [longest + 1] rows of the configurations on the way down a tree */
    uint32_t *ends; /* [longest + 1] where their subtrees end */
} mask_cache;

/* mask_cache_create - with as many masks as `limit` bytes hold, at least 1; *bytes is what it takes. ERR_MEMORY. */
odmoe_status mask_cache_create(const vocab_tree *v, size_t limit, mask_cache *out, size_t *bytes, odmoe_error *err);
void mask_cache_free(mask_cache *m);
/* mask_cache_clear - configurations have got other numbers. */
void mask_cache_clear(mask_cache *m);

/* mask_compute - mask[0, vocab->words): the tokens that may come at a configuration; end tokens only where a rule names
 * them. When automaton_status tells of an error afterwards, the mask means nothing. */
void mask_compute(mask_cache *m, automaton *a, const program *p, config_id at, uint32_t *mask);

#endif
