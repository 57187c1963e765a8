/* files.h - a model on disk, in either format: its metadata and its tensors, before anything is loaded. */
#ifndef ODMOE_MODEL_FILES_H
#define ODMOE_MODEL_FILES_H

#include "format/config.h"
#include "format/gguf.h"
#include "format/safetensors.h"

typedef struct model_files {
    char *path;
    gguf *gguf;                /* a GGUF file's metadata, or NULL */
    json_t *config;            /* a Hugging Face folder's config.json, or NULL */
    struct file_stamp *stamps; /* of each of the tensors' files, as files_open saw it */
    const tensor_index *tensors;
    tensor_index *own_tensors; /* a folder's; GGUF's belong to `gguf` until files_drop_metadata */
} model_files;

/* files_open - a .gguf file or a Hugging Face folder. Errors: ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED. */
odmoe_status files_open(const char *path, model_files *out, odmoe_error *err);
/* files_unchanged - are the tensors' files the ones that files_open saw: the same inode, size and time of change? One that
 * is no longer under its name has been moved or removed, which does not change what is open. ERR_STATE names one that
 * has changed. */
odmoe_status files_unchanged(const model_files *f, odmoe_error *err);
/* files_drop_metadata - free what only the configuration needed; the tensor index stays. */
void files_drop_metadata(model_files *f);
void files_close(model_files *f); /* zeroed is fine */

#endif
