#include "text/template/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

noreturn void tpl_fail_text(tpl_state *s, template_error kind, const char *text, size_t length)
{
    template_fault *f = s->fault;
    f->kind = kind;
    f->line = s->line;
    free(f->message);
    f->message = malloc(length + 1);
    f->length = f->message ? length : 0;
    if (f->message) {
        memcpy(f->message, text, length);
        f->message[length] = 0;
    }
    longjmp(s->out, 1);
}

noreturn void tpl_fail(tpl_state *s, template_error kind, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tpl_fail_text(s, kind, text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

enum { BLOCK_FIRST = 16 << 10, BLOCK_MOST = 1 << 20 };

static void add_block(tpl_state *s, size_t need)
{
    tpl_arena *a = &s->arena;
    if (a->spare && a->spare->size >= need) {
        a->spare->before = a->last;
        a->spare->used = 0;
        a->last = a->spare;
        a->spare = NULL;
        return;
    }
    size_t size = a->last ? a->last->size * 2 : BLOCK_FIRST;
    if (size > BLOCK_MOST)
        size = BLOCK_MOST;
    if (size < need)
        size = need;
    if (size > a->limit || a->total > a->limit - size)
        tpl_fail(s, TEMPLATE_LIMIT, "the template needs more than %zu KiB of memory", a->limit >> 10);
    tpl_block *b = malloc(sizeof *b + size);
    if (!b)
        tpl_fail(s, TEMPLATE_MEMORY, "no memory for a template (%zu bytes)", size);
    *b = (tpl_block){.before = a->last, .size = size};
    a->last = b;
    a->total += size;
    if (a->total > a->peak)
        a->peak = a->total;
}

void *tpl_alloc(tpl_state *s, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > s->arena.limit)
        tpl_fail(s, TEMPLATE_LIMIT, "the template needs more than %zu KiB of memory", s->arena.limit >> 10);
    bytes = (bytes + 15) & ~(size_t)15;
    if (!s->arena.last || s->arena.last->size - s->arena.last->used < bytes)
        add_block(s, bytes);
    tpl_block *b = s->arena.last;
    void *p = b->bytes + b->used;
    b->used += bytes;
    memset(p, 0, bytes);
    return p;
}

void tpl_grow(tpl_state *s, void **array, size_t *capacity, size_t used, size_t need, size_t size)
{
    if (need <= *capacity)
        return;
    size_t want = *capacity ? *capacity : 4;
    while (want < need)
        want = want > SIZE_MAX / 2 ? need : want * 2;
    void *p = tpl_alloc(s, want, size);
    if (used)
        memcpy(p, *array, used * size);
    *array = p;
    *capacity = want;
}

tpl_mark tpl_mark_get(const tpl_state *s)
{
    return (tpl_mark){s->arena.last, s->arena.last ? s->arena.last->used : 0};
}

void tpl_release(tpl_state *s, tpl_mark mark)
{
    tpl_arena *a = &s->arena;
    while (a->last != mark.last) {
        tpl_block *b = a->last;
        a->last = b->before;
        if (a->spare)
            a->total -= a->spare->size;
        free(a->spare);
        a->spare = b;
    }
    if (a->last)
        a->last->used = mark.used;
}

void tpl_arena_free(tpl_arena *a)
{
    while (a->last) {
        tpl_block *b = a->last;
        a->last = b->before;
        free(b);
    }
    free(a->spare);
    a->spare = NULL;
    a->total = 0;
}

void tpl_work(tpl_state *s, size_t bytes)
{
    s->steps += 1 + bytes / 64;
    if (s->steps > s->steps_max)
        tpl_fail(s, TEMPLATE_LIMIT, "the template takes too long (%llu steps)", (unsigned long long)s->steps_max);
}
