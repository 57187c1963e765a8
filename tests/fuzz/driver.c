/* Runs a fuzz target without libFuzzer: first each input of the corpus as it is, then a fixed sequence of mutations of
 * them, the same on every machine.
 *
 * usage: fuzz-TARGET CORPUS MUTATIONS      (a corpus is a file: tools/corpus.py) */
#include "fuzz.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 65536
#define INPUTS_MAX 4096
#define CORPUS_MAX (64u << 20)

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static input corpus[INPUTS_MAX];
static size_t inputs;
static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next_random() % n) : 0;
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = NULL;
    if (f && !fseek(f, 0, SEEK_END) && (*size = (size_t)ftell(f)) < CORPUS_MAX && (bytes = malloc(*size + 1))) {
        rewind(f);
        *size = fread(bytes, 1, *size, f);
    }
    if (f)
        fclose(f);
    return bytes;
}

static size_t number_at(const uint8_t *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (size_t)at[3] << 24;
}

/* The format stands in tools/corpus.py; each input gets memory of its own size, so that a sanitizer sees one byte too many. */
static bool read_corpus(const char *path)
{
    static const char magic[] = "odmoe-corpus 1\n";
    size_t size = 0, at = sizeof magic - 1;
    uint8_t *bytes = read_file(path, &size);
    bool whole = bytes && size >= at && !memcmp(bytes, magic, at);
    while (whole && at < size) {
        size_t rest = size - at, name = rest < 8 ? 0 : number_at(bytes + at),
               length = rest < 8 ? 0 : number_at(bytes + at + 4);
        whole =
            rest >= 8 && name <= rest - 8 && length <= rest - 8 - name && length <= INPUT_MAX && inputs < INPUTS_MAX;
        if (whole) {
            uint8_t *data = malloc(length ? length : 1);
            if (!data)
                exit(1);
            memcpy(data, bytes + at + 8 + name, length);
            corpus[inputs++] = (input){data, length};
            at += 8 + name + length;
        }
    }
    free(bytes);
    return whole;
}

/* Overwrite 1, 2, 4 or 8 bytes with a number at which readers go wrong. */
static void put_number(uint8_t *data, size_t size)
{
    static const uint64_t numbers[] = {0,          1,          0x7f,       0x80,       0xff,       0xffff,
                                       0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 60, 1ull << 62,
                                       INT64_MAX,  1ull << 63, UINT64_MAX, -8ull,      1000000,    64};
    size_t width = (size_t)1 << below(4), at = below(size);
    uint64_t value = numbers[below(sizeof numbers / sizeof *numbers)];
    for (size_t i = 0; i < width && at + i < size; i++)
        data[at + i] = (uint8_t)(value >> 8 * i);
}

static size_t mutate(uint8_t *data, size_t size)
{
    size_t at = below(size), length = 1 + below(size - at < 64 ? size - at : 64);
    const input *other = &corpus[below(inputs)];
    switch (size ? below(7) : 6) {
    case 0:
        data[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 1:
        data[at] = (uint8_t)next_random();
        return size;
    case 2:
        put_number(data, size);
        return size;
    case 3: /* cut off */
        return at;
    case 4: /* leave some out */
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    case 5: /* say it twice */
        if (size + length > INPUT_MAX)
            return size;
        memmove(data + at + length, data + at, size - at);
        return size + length;
    default: /* go on as another input does */
        if (at >= other->size)
            return size;
        memcpy(data + at, other->data + at, other->size - at);
        return other->size;
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS MUTATIONS\n", argv[0]);
        return 2;
    }
    if (!read_corpus(argv[1]) || !inputs) {
        fprintf(stderr, "%s: no corpus, damaged or empty; tools/corpus.py writes one\n", argv[1]);
        return 2;
    }
    uint8_t *data = malloc(INPUT_MAX);
    if (!data)
        return 1;
    for (size_t i = 0; i < inputs; i++)
        LLVMFuzzerTestOneInput(corpus[i].data, corpus[i].size);
    for (long n = atol(argv[2]); n > 0; n--) {
        const input *from = &corpus[below(inputs)];
        size_t size = from->size;
        memcpy(data, from->data, size);
        for (size_t times = 1 + below(4); times > 0; times--)
            size = mutate(data, size);
        uint8_t *exact = malloc(size ? size : 1); /* of its own size, so that a sanitizer sees one byte too many */
        if (!exact)
            return 1;
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%zu inputs and %s mutations of them\n", inputs, argv[2]);
    for (size_t i = 0; i < inputs; i++)
        free(corpus[i].data);
    free(data);
    return 0;
}
