#include "model/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define CONFIG_BYTES_MAX (16u << 20)

/* The only entry of folder/sub whose name ends so, as "sub/name" from the folder on; of a split model its first part
 * counts. false: there is none, or several. */
static bool only_entry(const char *folder, const char *sub, const char *end, char *name, size_t room)
{
    char path[4096];
    int found = 0;
    DIR *dir = (size_t)snprintf(path, sizeof path, "%s/%s", folder, sub) < sizeof path ? opendir(path) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name), of = strlen(end);
        const char *part = strstr(entry->d_name, "-of-");
        if (entry->d_name[0] == '.' || length < of || strcmp(entry->d_name + length - of, end))
            continue;
        if (part && part - entry->d_name > 6 && part[-6] == '-' && memcmp(part - 5, "00001", 5))
            continue;
        found += (size_t)snprintf(name, room, "%s%s%s", sub, *sub ? "/" : "", entry->d_name) < room ? 1 : 2;
    }
    if (dir)
        closedir(dir);
    return found == 1;
}

/* Two folders that are often given instead of what they hold: one with a GGUF file, and the Hugging Face cache's. */
static odmoe_status no_config(const char *path, odmoe_error *err)
{
    char name[512];
    if (only_entry(path, "", ".gguf", name, sizeof name) || only_entry(path, "snapshots", "", name, sizeof name))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: no config.json: give %s/%s", path, path, name);
    return err_set(err, ODMOE_ERR_FORMAT,
                   "%s: no config.json: give a .gguf file or a Hugging Face folder with config.json, *.safetensors and "
                   "tokenizer.json",
                   path);
}

static odmoe_status open_folder(model_files *f, odmoe_error *err)
{
    odmoe_status status = config_read(f->path, "config.json", CONFIG_BYTES_MAX, true, &f->config, err);
    if (!status && !f->config)
        status = no_config(f->path, err);
    if (!status)
        status = safetensors_open_folder(f->path, &f->own_tensors, err);
    f->tensors = f->own_tensors;
    return status;
}

/* What tells a file from another, and from itself after a change. */
struct file_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
    bool there;
};

static struct file_stamp stamp_of(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return (struct file_stamp){.there = false};
    return (struct file_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim, true};
}

static odmoe_status stamp_files(model_files *f, odmoe_error *err)
{
    int n = tensor_index_files(f->tensors);
    f->stamps = mem_calloc((size_t)n + 1, sizeof *f->stamps, "the list of files", err);
    for (int i = 0; f->stamps && i < n; i++)
        f->stamps[i] = stamp_of(tensor_index_path(f->tensors, i));
    return f->stamps ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

odmoe_status files_unchanged(const model_files *f, odmoe_error *err)
{
    for (int i = 0; i < tensor_index_files(f->tensors); i++) {
        const char *path = tensor_index_path(f->tensors, i);
        const struct file_stamp *was = &f->stamps[i], is = stamp_of(path);
        bool same = is.device == was->device && is.inode == was->inode && is.size == was->size &&
                    is.changed.tv_sec == was->changed.tv_sec && is.changed.tv_nsec == was->changed.tv_nsec;
        if (is.there && was->there && !same)
            return err_set(err, ODMOE_ERR_STATE,
                           "%s: the file has changed since the model was opened: open the model again", path);
    }
    return ODMOE_OK;
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
    if (!status)
        status = stamp_files(out, err);
    if (status)
        files_close(out);
    return status;
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
    free(f->stamps);
    memset(f, 0, sizeof *f);
}
