#include "format/open_tensors.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/file.h"
#include "format/gguf.h"
#include "format/safetensors.h"

/* Does the file begin as GGUF files do? Any other file is left to the safetensors reader, which checks it. */
static odmoe_status is_gguf(const char *path, bool *out, odmoe_error *err)
{
    char magic[4];
    int fd;
    uint64_t size;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (status)
        return status;
    *out = false;
    if (size >= sizeof magic) {
        status = file_read_at(fd, path, 0, magic, sizeof magic, err);
        *out = !status && !memcmp(magic, "GGUF", sizeof magic);
    }
    close(fd);
    return status;
}

odmoe_status open_tensors(const char *path, tensor_index **out, odmoe_error *err)
{
    struct stat st;
    if (stat(path, &st))
        return err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return safetensors_open_folder(path, out, err);
    bool gguf_file;
    gguf *g;
    odmoe_status status = is_gguf(path, &gguf_file, err);
    if (!status && !gguf_file)
        return safetensors_open_file(path, out, err);
    if (!status)
        status = gguf_open(path, &g, err);
    if (status)
        return status;
    *out = gguf_take_tensors(g);
    gguf_free(g);
    return ODMOE_OK;
}
