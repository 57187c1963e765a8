#include "model/files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define CONFIG_BYTES_MAX (16u << 20)

static odmoe_status open_folder(model_files *f, odmoe_error *err)
{
    odmoe_status status = config_read(f->path, "config.json", CONFIG_BYTES_MAX, true, &f->config, err);
    if (!status && !f->config)
        status = err_set(err, ODMOE_ERR_FORMAT,
                         "%s: no config.json: give a .gguf file or a Hugging Face folder with config.json, "
                         "*.safetensors and tokenizer.json",
                         f->path);
    if (!status)
        status = safetensors_open_folder(f->path, &f->own_tensors, err);
    f->tensors = f->own_tensors;
    return status;
}

odmoe_status files_open(const char *path, model_files *out, odmoe_error *err)
{
    *out = (model_files){.path = mem_strdup(path, strlen(path), err)};
    struct stat st;
    odmoe_status status;
    if (!out->path) {
        status = ODMOE_ERR_MEMORY;
    } else if (stat(path, &st)) {
        status = err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        status = open_folder(out, err);
    } else {
        status = gguf_open(path, &out->gguf, err);
        if (!status)
            out->tensors = gguf_tensors(out->gguf);
    }
    if (status)
        files_close(out);
    return status;
}

bool files_has(const model_files *f, const char *name)
{
    char path[4096];
    return !f->gguf && (size_t)snprintf(path, sizeof path, "%s/%s", f->path, name) < sizeof path && !access(path, F_OK);
}

void files_drop_metadata(model_files *f)
{
    if (f->gguf)
        f->own_tensors = gguf_take_tensors(f->gguf);
    gguf_free(f->gguf);
    json_decref(f->config);
    f->gguf = NULL;
    f->config = NULL;
}

void files_close(model_files *f)
{
    tensor_index_free(f->own_tensors);
    gguf_free(f->gguf);
    json_decref(f->config);
    free(f->path);
    memset(f, 0, sizeof *f);
}
