/* The input is the head of a GGUF file (metadata and tensor table); weights are a hole behind it. The whole way of opening
 * a model runs on it: family, numbers, lists, fused tensors, experts, plan. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "odmoe.h"

#define WEIGHTS (64 << 20) /* a hole: no memory is used for it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    odmoe_error err = {0};
    odmoe_info info = {.size = sizeof info};
    int fd = fuzz_file(data, size);
    if (ftruncate(fd, (off_t)size + WEIGHTS))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    odmoe_status status = odmoe_inspect(path, &info, &err);
    fuzz_check_error(status, &err);
    if (!status) {
        odmoe_options options;
        odmoe_plan plan = {.size = sizeof plan};
        odmoe_options_init(&options);
        options.ram_bytes = 1 << 30;
        options.threads = 1;
        err = (odmoe_error){0};
        status = odmoe_plan_make(path, &options, &plan, &err);
        fuzz_check_error(status, &err);
    }
    close(fd);
    return 0;
}
