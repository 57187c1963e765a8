/* Runs a fuzz target without libFuzzer: first each file of the corpus as it is, then a fixed sequence of mutations of
 * them, the same on every machine.
 *
 * usage: fuzz-TARGET CORPUS_FOLDER MUTATIONS */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 65536
#define FILES_MAX 4096

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static input corpus[FILES_MAX];
static size_t files;
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

/* Sorted, so that the sequence of mutations doesn't depend on the file system. */
static int read_corpus(const char *folder)
{
    struct dirent **names;
    int n = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        FILE *f = names[i]->d_name[0] == '.' || files == FILES_MAX ? NULL : fopen(path, "rb");
        if (f) {
            uint8_t *data = malloc(INPUT_MAX);
            if (!data)
                exit(1);
            corpus[files++] = (input){data, fread(data, 1, INPUT_MAX, f)};
            fclose(f);
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return n;
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
    const input *other = &corpus[below(files)];
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
    default: /* go on as another file does */
        if (at >= other->size)
            return size;
        memcpy(data + at, other->data + at, other->size - at);
        return other->size;
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || read_corpus(argv[1]) < 0 || !files) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER MUTATIONS (the folder must hold a file)\n", argv[0]);
        return 2;
    }
    uint8_t *data = malloc(INPUT_MAX);
    if (!data)
        return 1;
    for (size_t i = 0; i < files; i++)
        LLVMFuzzerTestOneInput(corpus[i].data, corpus[i].size);
    for (long n = atol(argv[2]); n > 0; n--) {
        const input *from = &corpus[below(files)];
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
    printf("%zu files and %s mutations of them\n", files, argv[2]);
    for (size_t i = 0; i < files; i++)
        free(corpus[i].data);
    free(data);
    return 0;
}
