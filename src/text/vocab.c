#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"
#include "base/utf8.h"

/* ---- hashing ---------------------------------------------------------------------------------------------------
 * SipHash-1-3 with a key that no file knows: none can choose texts or pairs that all fall into one slot. What is found
 * doesn't depend on the key. */

typedef struct sip {
    uint64_t a, b, c, d;
} sip;

static inline uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void sip_round(sip *s)
{
    s->a += s->b;
    s->c += s->d;
    s->b = rotate(s->b, 13) ^ s->a;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a = rotate(s->a, 32);
    s->c += s->b;
    s->a += s->d;
    s->b = rotate(s->b, 17) ^ s->c;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c = rotate(s->c, 32);
}

static inline sip sip_begin(const uint64_t key[2])
{
    return (sip){key[0] ^ 0x736F6D6570736575u, key[1] ^ 0x646F72616E646F6Du, key[0] ^ 0x6C7967656E657261u,
                 key[1] ^ 0x7465646279746573u};
}

static inline void sip_add(sip *s, uint64_t word)
{
    s->d ^= word;
    sip_round(s);
    s->a ^= word;
}

static inline uint32_t sip_end(sip *s)
{
    s->c ^= 0xFF;
    for (int i = 0; i < 3; i++)
        sip_round(s);
    return (uint32_t)(s->a ^ s->b ^ s->c ^ s->d);
}

static uint32_t hash_text(const vocab *v, const char *text, size_t length)
{
    sip s = sip_begin(v->hash_key);
    uint64_t word, tail = 0;
    size_t at = 0;
    for (; length - at >= 8; at += 8) {
        memcpy(&word, text + at, 8);
        sip_add(&s, word);
    }
    memcpy(&tail, text + at, length - at);
    sip_add(&s, tail | (uint64_t)length << 56);
    return sip_end(&s);
}

static uint32_t hash_pair(const vocab *v, uint32_t left, uint32_t right)
{
    sip s = sip_begin(v->hash_key);
    sip_add(&s, (uint64_t)left << 32 | right);
    return sip_end(&s);
}

static void choose_key(vocab *v)
{
    if (getrandom(v->hash_key, sizeof v->hash_key, GRND_NONBLOCK) == (ssize_t)sizeof v->hash_key)
        return;
    /* Early in a boot, or not allowed: where the memory lies and the time are hard to guess too. */
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    v->hash_key[0] = (uint64_t)(uintptr_t)v->texts;
    v->hash_key[1] = (uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec;
}

/* A table of at least twice as many slots as entries, a power of two. */
static uint32_t *make_slots(size_t entries, uint32_t *mask, odmoe_error *err)
{
    uint32_t slots = 16;
    while (slots < entries * 2)
        slots *= 2;
    *mask = slots - 1;
    return mem_calloc(slots, sizeof(uint32_t), "a token index", err);
}

/* GPT-2's alphabet writes each byte as a visible character: 33-126, 161-172 and 174-255 as themselves, the other 68
 * bytes in ascending order as U+0100 to U+0143. The inverse, or -1. */
static int alphabet_byte(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int)c;
    if (c < 0x100 || c > 0x143)
        return -1;
    uint32_t i = c - 0x100;
    return (int)(i < 33 ? i : i < 67 ? 127 + (i - 33) : 173);
}

/* Write text's bytes to out (at least length bytes); returns how many, or 0 where a character is outside the alphabet.
 */
static size_t alphabet_decode(const char *text, size_t length, char *out)
{
    size_t n = 0;
    for (size_t at = 0; at < length;) {
        int bytes = utf8_char(text + at, length - at);
        int byte = bytes > 0 ? alphabet_byte(utf8_decode(text + at, bytes)) : -1;
        if (byte < 0)
            return 0;
        out[n++] = (char)byte;
        at += (size_t)bytes;
    }
    return n;
}

bool vocab_is_byte_sign(const char *text, size_t length)
{
    int bytes = utf8_char(text, length);
    return bytes > 0 && (size_t)bytes == length && alphabet_byte(utf8_decode(text, bytes)) >= 0;
}

bool vocab_spells_text(const char *text, size_t length)
{
    char bytes[256]; /* a longer name is none that merging makes */
    size_t n = length && length <= sizeof bytes ? alphabet_decode(text, length, bytes) : 0;
    return n && utf8_run(bytes, n) == n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

int vocab_byte_token(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) || text[5] != '>' || hex_digit(text[3]) < 0 || hex_digit(text[4]) < 0)
        return -1;
    return hex_digit(text[3]) * 16 + hex_digit(text[4]);
}

odmoe_status vocab_add(vocab *v, const char *text, size_t length, token_kind kind, bool byte_level, const char *where,
                       odmoe_error *err)
{
    if (v->count >= VOCAB_TOKENS_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: more than %u tokens", where, VOCAB_TOKENS_MAX);
    if (length > VOCAB_TEXT_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: token %u has a text of %zu bytes; at most %u are possible", where,
                       v->count, length, VOCAB_TEXT_MAX);
    odmoe_status st = /* + 1: there is an arena even where all texts are empty */
        mem_grow((void **)&v->texts, &v->texts_capacity, v->texts_used + length + 1, 1, "token texts", err);
    if (!st)
        st = mem_grow((void **)&v->starts, &v->starts_capacity, v->count + 2, sizeof *v->starts, "tokens", err);
    if (!st)
        st = mem_grow((void **)&v->kinds, &v->kinds_capacity, v->count + 1, 1, "tokens", err);
    if (st)
        return st;
    if (v->texts_used + length > UINT32_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: the texts of all tokens exceed 4 GiB", where);
    char *to = v->texts + v->texts_used;
    size_t stored = 0;
    if (kind == TOKEN_BYTE) {
        int byte = vocab_byte_token(text, length);
        if (byte < 0)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: token %u is a byte token, but its text \"%.*s\" is not <0xNN>",
                           where, v->count, (int)length, text);
        *to = (char)byte;
        stored = 1;
    } else if (byte_level && (kind == TOKEN_WORD || kind == TOKEN_NAME)) {
        stored = alphabet_decode(text, length, to);
        if (!stored && length)
            kind = TOKEN_ADDED; /* merging makes bytes, and this is none of their texts */
    }
    if (!stored && length) {
        memcpy(to, text, length);
        stored = length;
    }
    v->starts[v->count] = (uint32_t)v->texts_used;
    v->texts_used += stored;
    v->starts[v->count + 1] = (uint32_t)v->texts_used;
    v->kinds[v->count] = (uint8_t)kind;
    if (stored > v->longest)
        v->longest = (uint32_t)stored;
    v->count++;
    return ODMOE_OK;
}

/* Give back what doubling took too much; keeping the larger block is fine where the system refuses. */
static void shrink(void **array, size_t *capacity, size_t need, size_t size)
{
    void *p = need && need < *capacity ? realloc(*array, need * size) : NULL;
    if (p) {
        *array = p;
        *capacity = need;
    }
}

/* The slot of the token with this text, special ones included, or of the empty place where it would go. */
static uint32_t text_slot(const vocab *v, const char *text, size_t length)
{
    uint32_t slot = hash_text(v, text, length) & v->word_mask;
    for (; v->word_slots[slot]; slot = (slot + 1) & v->word_mask) {
        size_t n;
        const char *other = vocab_text(v, v->word_slots[slot] - 1, &n);
        if (n == length && !memcmp(other, text, n))
            break;
    }
    return slot;
}

static bool is_word(const vocab *v, uint32_t id)
{
    return v->kinds[id] == TOKEN_WORD || v->kinds[id] == TOKEN_NAME;
}

odmoe_status vocab_seal(vocab *v, odmoe_error *err)
{
    shrink((void **)&v->texts, &v->texts_capacity, v->texts_used, 1);
    shrink((void **)&v->starts, &v->starts_capacity, v->count + 1, sizeof *v->starts);
    shrink((void **)&v->kinds, &v->kinds_capacity, v->count, 1);
    choose_key(v);
    v->word_slots = make_slots(v->count, &v->word_mask, err);
    if (!v->word_slots)
        return ODMOE_ERR_MEMORY;
    for (int specials = 0; specials < 2; specials++) {
        for (uint32_t id = 0; id < v->count; id++) {
            size_t length;
            const char *text = vocab_text(v, id, &length);
            if (!length || (specials ? v->kinds[id] != TOKEN_SPECIAL : !is_word(v, id)))
                continue;
            uint32_t slot = text_slot(v, text, length);
            if (!v->word_slots[slot])
                v->word_slots[slot] = id + 1;
        }
    }
    return ODMOE_OK;
}

int32_t vocab_word(const vocab *v, const char *text, size_t length)
{
    if (length > v->longest || !length)
        return -1;
    uint32_t found = v->word_slots[text_slot(v, text, length)];
    return found && is_word(v, found - 1) ? (int32_t)(found - 1) : -1;
}

odmoe_status vocab_add_merge(vocab *v, const char *left, size_t left_length, const char *right, size_t right_length,
                             bool byte_level, const char *where, odmoe_error *err)
{
    if (left_length > VOCAB_TEXT_MAX || right_length > VOCAB_TEXT_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: merge %zu is longer than any token", where, v->merges_count);
    odmoe_status st = mem_grow((void **)&v->joined, &v->joined_capacity, left_length + right_length, 1, "a merge", err);
    if (st)
        return st;
    char *joined = v->joined;
    size_t n = byte_level ? alphabet_decode(left, left_length, joined) : 0;
    if (!n)
        memcpy(joined, left, n = left_length);
    size_t m = byte_level ? alphabet_decode(right, right_length, joined + n) : 0;
    if (!m)
        memcpy(joined + n, right, m = right_length);
    uint32_t a = v->word_slots[text_slot(v, joined, n)], b = v->word_slots[text_slot(v, joined + n, m)];
    uint32_t ab = v->word_slots[text_slot(v, joined, n + m)];
    if (!a || !b || !ab) /* it can never apply; llama.cpp reads such files as well (pruned vocabularies) */
        return ODMOE_OK;
    st = mem_grow((void **)&v->merges, &v->merges_capacity, v->merges_count + 1, sizeof *v->merges, "merges", err);
    if (!st)
        v->merges[v->merges_count++] = (merge_rule){a - 1, b - 1, ab - 1};
    return st;
}

odmoe_status vocab_seal_merges(vocab *v, odmoe_error *err)
{
    if (v->merges_count > UINT32_MAX / 4)
        return err_set(err, ODMOE_ERR_FORMAT, "%zu merges are too many", v->merges_count);
    free(v->joined);
    v->joined = NULL;
    v->joined_capacity = 0;
    shrink((void **)&v->merges, &v->merges_capacity, v->merges_count, sizeof *v->merges);
    v->merge_slots = make_slots(v->merges_count, &v->merge_mask, err);
    if (!v->merge_slots)
        return ODMOE_ERR_MEMORY;
    for (size_t rank = 0; rank < v->merges_count; rank++) {
        const merge_rule *m = &v->merges[rank];
        if (!is_word(v, m->left) || !is_word(v, m->right) || !is_word(v, m->result) ||
            vocab_merge(v, m->left, m->right) >= 0) /* a pair listed twice keeps its first rank */
            continue;
        uint32_t slot = hash_pair(v, m->left, m->right) & v->merge_mask;
        while (v->merge_slots[slot])
            slot = (slot + 1) & v->merge_mask;
        v->merge_slots[slot] = (uint32_t)rank + 1;
    }
    return ODMOE_OK;
}

int64_t vocab_merge(const vocab *v, uint32_t left, uint32_t right)
{
    for (uint32_t slot = hash_pair(v, left, right) & v->merge_mask; v->merge_slots[slot];
         slot = (slot + 1) & v->merge_mask) {
        const merge_rule *m = &v->merges[v->merge_slots[slot] - 1];
        if (m->left == left && m->right == right)
            return v->merge_slots[slot] - 1;
    }
    return -1;
}

size_t vocab_bytes(const vocab *v)
{
    size_t bytes = v->texts_capacity + v->starts_capacity * sizeof *v->starts + v->kinds_capacity +
                   v->merges_capacity * sizeof *v->merges;
    if (v->scores)
        bytes += v->count * sizeof *v->scores;
    if (v->word_slots)
        bytes += (v->word_mask + (size_t)1) * sizeof *v->word_slots;
    if (v->merge_slots)
        bytes += (v->merge_mask + (size_t)1) * sizeof *v->merge_slots;
    return bytes;
}

void vocab_free(vocab *v)
{
    free(v->texts);
    free(v->starts);
    free(v->kinds);
    free(v->scores);
    free(v->word_slots);
    free(v->joined);
    free(v->merges);
    free(v->merge_slots);
    *v = (vocab){0};
}
