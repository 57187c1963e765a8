/* The input is a config.json: read it, ask for members of every kind and for the position encoding. */
#include "fuzz.h"

#include <stdio.h>
#include <unistd.h>

#include "format/config.h"

static void check_member(config_object c, const char *key)
{
    odmoe_error err = {0};
    int64_t integer;
    double real;
    bool flag;
    const char *text;
    config_object part;
    fuzz_check_error(config_int(c, key, true, -1000, 1 << 20, 0, &integer, &err), &err);
    fuzz_check_error(config_float(c, key, true, -1, 1e9, 0, &real, &err), &err);
    fuzz_check_error(config_bool(c, key, true, false, &flag, &err), &err);
    fuzz_check_error(config_text(c, key, true, NULL, &text, &err), &err);
    fuzz_check_error(config_part(c, key, &part, &err), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[32];
    odmoe_error err = {0};
    rope_config rope;
    float *list;
    int n;
    json_t *root = NULL;
    int fd = fuzz_file(data, size);
    snprintf(name, sizeof name, "%d", fd);
    int status = config_read("/proc/self/fd", name, 1 << 20, false, &root, &err);
    fuzz_check_error(status, &err);
    if (!status) {
        const config_object c = {root, "config.json"};
        for (void *m = json_object_iter(root); m; m = json_object_iter_next(root, m))
            check_member(c, json_object_iter_key(m));
        fuzz_check_error(config_rope(c, 10000, 4096, &rope, &err), &err);
        fuzz_check_error(config_rope_of(c, "full_attention", 10000, 4096, &rope, &err), &err);
        fuzz_check_error(config_numbers(c, "long_factor", 0.5, 1e6, &list, &n, &err), &err);
        free(list);
        json_decref(root);
    }
    close(fd);
    return 0;
}
