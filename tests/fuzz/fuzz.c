#define _GNU_SOURCE 1 /* memfd_create */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odmoe.h"

int fuzz_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

void fuzz_touch(const void *data, size_t size)
{
    static volatile uint8_t sum;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
}

void fuzz_check_error(int status, const struct odmoe_error *err)
{
    if (status && ((int)err->code != status || strlen(err->message) < 10 || strchr(err->message, '\n'))) {
        fprintf(stderr, "status %d without a proper message: %d '%s'\n", status, (int)err->code, err->message);
        abort();
    }
}
