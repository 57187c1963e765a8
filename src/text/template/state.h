/* state.h - what compiling and running a template share: an arena with a byte limit, and the way out on an error.
 *
 * All memory of a template or of one run lies in its arena and nothing else is held, so an error leaves the interpreter
 * by longjmp from wherever it is found to the function that set `out`: template_compile or template_render, which turn
 * it into a value. Functions that take a tpl_state therefore return on success only. */
#ifndef ODMOE_TEXT_TEMPLATE_STATE_H
#define ODMOE_TEXT_TEMPLATE_STATE_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "text/template/template.h"

typedef struct tpl_block {
    struct tpl_block *before;
    size_t size, used;
    _Alignas(16) char bytes[];
} tpl_block;

typedef struct tpl_arena {
    tpl_block *last;
    tpl_block *spare;    /* the last one given back: a loop's turns may begin at the end of a block, each of them */
    size_t total, limit; /* bytes of all blocks */
    size_t peak;
} tpl_arena;

typedef struct tpl_mark {
    tpl_block *last;
    size_t used;
} tpl_mark;

typedef struct tpl_state {
    tpl_arena arena;
    jmp_buf out;
    template_fault *fault;
    int line;                  /* of the template, for errors */
    uint32_t depth;            /* of expressions, statements and calls inside one another */
    uint64_t steps, steps_max; /* work done, in units of one node or 64 bytes */
    size_t string_max;         /* bytes of one string */
    uint64_t escapes;          /* counts whatever may make older memory point to newer: see tpl_release in loop.c */
    /* Running only: */
    struct tpl_run *run;
} tpl_state;

enum { TPL_DEPTH_MAX = 1800 };

/* tpl_fail - leave with an error at s->line. */
noreturn void tpl_fail(tpl_state *s, template_error kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* tpl_fail_text - the same with a message of any length and content. */
noreturn void tpl_fail_text(tpl_state *s, template_error kind, const char *text, size_t length);

/* tpl_alloc - zeroed bytes, aligned to 16, until the arena is freed or released to an earlier mark. */
void *tpl_alloc(tpl_state *s, size_t count, size_t size);
/* tpl_grow - room for `need` elements in *array, whose first `used` are kept; the old memory stays in the arena. */
void tpl_grow(tpl_state *s, void **array, size_t *capacity, size_t used, size_t need, size_t size);
tpl_mark tpl_mark_get(const tpl_state *s);
void tpl_release(tpl_state *s, tpl_mark mark);
void tpl_arena_free(tpl_arena *a);

/* tpl_work - count work on n bytes; fails with a limit error when there has been too much. */
void tpl_work(tpl_state *s, size_t bytes);

/* tpl_enter, tpl_leave - around everything that calls itself. */
static inline void tpl_enter(tpl_state *s)
{
    if (++s->depth > TPL_DEPTH_MAX)
        tpl_fail(s, TEMPLATE_LIMIT, "nested too deeply (%d levels)", TPL_DEPTH_MAX);
}
static inline void tpl_leave(tpl_state *s)
{
    s->depth--;
}

#endif
