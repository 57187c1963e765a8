/* The input is a folder's config.json, a zero byte, and the JSON head of its model.safetensors; weights are a hole behind
 * it. The whole way of opening a model runs on it: family, numbers, types that are not read, experts, plan. */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odmoe.h"

#define WEIGHTS (64 << 20) /* a hole: no memory is used for it */

static char folder[256];

static const char *inside(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void remove_folder(void)
{
    unlink(inside("config.json"));
    unlink(inside("model.safetensors"));
    rmdir(folder);
}

static void make_folder(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/odmoe-fuzz-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder) || atexit(remove_folder))
        abort();
}

static int create(const char *name)
{
    int fd = open(inside(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        abort();
    return fd;
}

static void put(int fd, const void *data, size_t size)
{
    if (write(fd, data, size) != (ssize_t)size)
        abort();
}

static void write_files(const uint8_t *data, size_t size)
{
    const uint8_t *zero = memchr(data, 0, size);
    size_t config = zero ? (size_t)(zero - data) : size, head = zero ? size - config - 1 : 0;
    uint8_t length[8] = {0};
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)head >> 8 * i);
    int fd = create("config.json");
    put(fd, data, config);
    close(fd);
    fd = create("model.safetensors");
    put(fd, length, sizeof length);
    if (head)
        put(fd, zero + 1, head);
    if (ftruncate(fd, (off_t)(sizeof length + head) + WEIGHTS))
        abort();
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    odmoe_error err = {0};
    odmoe_info info = {.size = sizeof info};
    if (!folder[0])
        make_folder();
    write_files(data, size);
    odmoe_status status = odmoe_inspect(folder, &info, &err);
    fuzz_check_error(status, &err);
    if (status)
        return 0;
    odmoe_options options;
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_options_init(&options);
    options.ram_bytes = 1 << 30;
    options.threads = 1;
    err = (odmoe_error){0};
    status = odmoe_plan_make(folder, &options, &plan, &err);
    fuzz_check_error(status, &err);
    return 0;
}
