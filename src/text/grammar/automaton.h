/* automaton.h - a program's nondeterministic automaton, made deterministic as far as the texts need it.
 *
 * A configuration is the set of places where a text may stand in the grammar: each a node that reads a byte, and a stack
 * of frames. Stacks share their frames, equal configurations have one number, and where a byte leads from one to another
 * is computed once:
 *
 *   configuration --class of the next byte--> unknown -> (closure over nodes that read nothing) -> configuration
 *
 * All of it is a cache with a limit in bytes. When it is full the owner resets it and keeps the configurations in use. */
#ifndef ODMOE_TEXT_GRAMMAR_AUTOMATON_H
#define ODMOE_TEXT_GRAMMAR_AUTOMATON_H

#include "text/grammar/program.h"

#define STACK_DEPTH_MAX 1000 /* frames; what would nest deeper is not part of the language */
#define PLACES_MAX 16384     /* places in one configuration */
#define CLOSURE_STEPS_MAX (1u << 18)

typedef uint32_t config_id;
#define CONFIG_DEAD 0 /* no text goes on here */

typedef struct automaton automaton;

/* automaton_create - for a program that outlives it, with at most `limit` bytes of cache. ERR_MEMORY, ERR_RANGE. */
odmoe_status automaton_create(const program *p, size_t limit, automaton **out, odmoe_error *err);
void automaton_free(automaton *a); /* NULL is fine */

/* automaton_at - the configuration at a node with an empty stack. As all functions that may make configurations it
 * gives CONFIG_DEAD on an error, which automaton_status then tells. */
config_id automaton_at(automaton *a, uint32_t node);

/* automaton_step - where a byte leads; loops over many read automaton_rows first. */
config_id automaton_step(automaton *a, config_id from, uint8_t byte);

/* automaton_union - the places of both. */
config_id automaton_union(automaton *a, config_id x, config_id y);

/* automaton_accepts - may the text end here? */
bool automaton_accepts(const automaton *a, config_id c);

/* automaton_plain - how a configuration takes plain characters: all Unicode characters but '"', '\', DEL and those below
 * U+0020. *all: every one is possible; *next: where they lead, CONFIG_DEAD if none is possible. false: to different
 * places. */
bool automaton_plain(automaton *a, config_id c, bool *all, config_id *next);

/* automaton_status - the error since the last reset: ERR_BUDGET: the cache is full, a reset helps where the text's own
 * places are few; ERR_RANGE: too many places; ERR_MEMORY. Until a reset all steps that are not cached give CONFIG_DEAD. */
odmoe_status automaton_status(const automaton *a, odmoe_error *err);

/* automaton_reset - forget all but kept[0, n), which get their new numbers. On failure (ERR_MEMORY, ERR_BUDGET) nothing
 * has changed. */
odmoe_status automaton_reset(automaton *a, config_id **kept, size_t n, odmoe_error *err);

size_t automaton_bytes(const automaton *a);

/* The table of steps, for loops over many: rows[c * classes + class_of[byte]], STEP_UNKNOWN where automaton_step has to
 * be called, after which the table may have moved. */
#define STEP_UNKNOWN UINT32_MAX
const config_id *automaton_rows(const automaton *a);

#endif
