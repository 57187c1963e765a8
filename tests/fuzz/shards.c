/* The input is the model.safetensors.index.json of a folder with two shards, a.safetensors (tensors x and both) and
 * b.safetensors (y and both). */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/safetensors.h"

static char folder[256];

static const char *inside(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void save_shard(const char *name, char tensor)
{
    char header[256];
    int length = snprintf(header, sizeof header,
                          "{\"%c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                          "\"both\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[4,6]}}",
                          tensor);
    const unsigned char size[8] = {(unsigned char)length};
    FILE *f = fopen(inside(name), "wb");
    if (!f || fwrite(size, 1, 8, f) != 8 || fprintf(f, "%s123456", header) < 0 || fclose(f))
        abort();
}

static void remove_folder(void)
{
    unlink(inside("a.safetensors"));
    unlink(inside("b.safetensors"));
    unlink(inside("model.safetensors.index.json"));
    rmdir(folder);
}

static void make_folder(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/odmoe-fuzz-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder) || atexit(remove_folder))
        abort();
    save_shard("a.safetensors", 'x');
    save_shard("b.safetensors", 'y');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    odmoe_error err = {0};
    tensor_index *index;
    if (!folder[0])
        make_folder();
    int fd = fuzz_file(data, size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    unlink(inside("model.safetensors.index.json"));
    if (symlink(path, inside("model.safetensors.index.json")))
        abort();
    int status = safetensors_open_folder(folder, &index, &err);
    fuzz_check_error(status, &err);
    if (!status) {
        for (size_t i = 0; i < tensor_index_count(index); i++)
            if (strncmp(tensor_index_path(index, tensor_index_at(index, i)->file), folder, strlen(folder)))
                abort();
        tensor_index_free(index);
    }
    close(fd);
    return 0;
}
