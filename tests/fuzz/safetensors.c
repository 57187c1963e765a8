/* The input is a safetensors file. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/safetensors.h"

static odmoe_status touch_entry(void *ctx, const safetensors_entry *e, odmoe_error *err)
{
    uint64_t size = *(const uint64_t *)ctx;
    if (e->offset + e->length > size || e->offset + e->length < e->length || e->dims > SAFETENSORS_DIMS_MAX)
        abort();
    fuzz_touch(e->shape, (size_t)e->dims * sizeof *e->shape);
    return ODMOE_OK;
}

static void check_part(uint64_t offset, uint64_t length, uint64_t size)
{
    if (offset > size || length > size - offset)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char weights[1 << 16];
    char path[64];
    odmoe_error err = {0};
    uint64_t file_size;
    tensor_index *index;
    int fd = fuzz_file(data, size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fuzz_check_error(safetensors_each(path, &file_size, touch_entry, &file_size, &err), &err);
    int status = safetensors_open_file(path, &index, &err);
    fuzz_check_error(status, &err);
    for (size_t i = 0; !status && i < tensor_index_count(index); i++) {
        const tensor_info *t = tensor_index_at(index, i);
        if (t->length <= sizeof weights && tensor_read(index, t, weights, NULL))
            abort();
        if (!t->scales)
            continue;
        check_part(t->scales->offset, t->scales->length, file_size);
        check_part(t->scales->factor_offset, t->scales->factors * sizeof(float), file_size);
    }
    if (!status)
        tensor_index_free(index);
    close(fd);
    return 0;
}
