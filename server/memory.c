#include "memory.h"

#include <jansson.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A process has one account, as jansson has one pair of allocators. */
static struct {
    _Atomic uint64_t limit; /* of `used`; UINT64_MAX until memory_hold */
    _Atomic uint64_t base;  /* used when memory_hold was called */
    _Atomic uint64_t used;
} account = {.limit = UINT64_MAX};

/* The allocator's own word of each allocation is counted too. */
static uint64_t size_of(void *p)
{
    return malloc_usable_size(p) + sizeof(size_t);
}

static _Thread_local bool json_short;

/* jansson's reader does not notice that its buffer for a token could not grow, and then reads and writes beyond what it has. That buffer
 * doubles from 16 bytes on: such sizes are never refused. They count, so that the account may be overdrawn until the reader is stopped
 * (memory_json_short). */
static bool may_be_token(size_t size)
{
    return size > 16 && !(size & (size - 1));
}

static void *json_allocate(size_t size)
{
    bool taken = memory_take(size + sizeof(size_t));
    json_short |= !taken;
    if (!taken && !may_be_token(size))
        return NULL;
    void *p = malloc(size);
    if (taken)
        memory_give(size + sizeof(size_t));
    if (p)
        atomic_fetch_add(&account.used, size_of(p));
    return p;
}

bool memory_json_short(bool forget)
{
    bool was = json_short;
    if (forget)
        json_short = false;
    return was;
}

static void json_release(void *p)
{
    if (!p)
        return;
    memory_give(size_of(p));
    free(p);
}

void memory_start(void)
{
    json_set_alloc_funcs(json_allocate, json_release);
}

void memory_hold(uint64_t limit)
{
    atomic_store(&account.base, atomic_load(&account.used));
    atomic_store(&account.limit, atomic_load(&account.base) + limit);
}

uint64_t memory_limit(void)
{
    return atomic_load(&account.limit) - atomic_load(&account.base);
}

uint64_t memory_used(void)
{
    return atomic_load(&account.used) - atomic_load(&account.base);
}

static _Thread_local bool lent;

void memory_lend(bool on)
{
    lent = on;
}

bool memory_take(uint64_t bytes)
{
    if (lent) {
        atomic_fetch_add(&account.used, bytes);
        return true;
    }
    uint64_t used = atomic_load(&account.used), limit = atomic_load(&account.limit);
    do {
        if (used > limit || bytes > limit - used)
            return false;
    } while (!atomic_compare_exchange_weak(&account.used, &used, used + bytes));
    return true;
}

uint64_t memory_take_up_to(uint64_t least, uint64_t most)
{
    while (most > least && !memory_take(most))
        most = most / 2 > least ? most / 2 : least;
    if (most > least)
        return most;
    return memory_take(least) ? least : 0;
}

void memory_give(uint64_t bytes)
{
    atomic_fetch_sub(&account.used, bytes);
}

bool buffer_reserve(buffer *b, size_t more)
{
    if (b->failed)
        return false;
    if (b->data && more < b->capacity - b->length)
        return true;
    size_t least = b->length + more + 1, capacity = b->capacity ? b->capacity : 256;
    if (least <= more) {
        b->failed = true;
        return false;
    }
    while (capacity < least)
        capacity = capacity > SIZE_MAX / 2 ? least : capacity * 2;
    if (!memory_take(capacity)) {
        capacity = least;
        if (!memory_take(capacity)) {
            b->failed = true;
            return false;
        }
    }
    char *data = realloc(b->data, capacity);
    if (!data) {
        memory_give(capacity);
        b->failed = true;
        return false;
    }
    memory_give(b->capacity);
    b->data = data;
    b->capacity = capacity;
    return true;
}

void buffer_add(buffer *b, const void *data, size_t length)
{
    if (!buffer_reserve(b, length))
        return;
    if (length)
        memcpy(b->data + b->length, data, length);
    b->length += length;
    b->data[b->length] = 0;
}

void buffer_text(buffer *b, const char *text)
{
    buffer_add(b, text, strlen(text));
}

void buffer_print(buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !buffer_reserve(b, (size_t)length))
        return;
    va_start(args, format);
    vsnprintf(b->data + b->length, (size_t)length + 1, format, args);
    va_end(args);
    b->length += (size_t)length;
}

void buffer_free(buffer *b)
{
    free(b->data);
    memory_give(b->capacity);
    *b = (buffer){0};
}
