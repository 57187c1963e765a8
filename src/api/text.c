#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "base/mem.h"
#include "text/stream.h"

/* ---- a model's own ---- */

odmoe_status model_text_open(const model_files *f, tokenizer **t, odmoe_error *reason, odmoe_error *err)
{
    odmoe_status status =
        f->gguf ? tokenizer_from_gguf(f->gguf, f->path, t, reason) : tokenizer_open(f->path, t, reason);
    if (!status)
        return ODMOE_OK;
    *t = NULL;
    if (status == ODMOE_ERR_UNSUPPORTED || status == ODMOE_ERR_FORMAT)
        return ODMOE_OK;
    if (err)
        *err = *reason;
    return status;
}

const char *odmoe_model_no_tokenizer(const odmoe_model *handle)
{
    return handle->tokenizer.t ? NULL : handle->no_tokenizer.message;
}

const odmoe_tokenizer *odmoe_model_tokenizer(const odmoe_model *handle)
{
    return handle->tokenizer.t ? &handle->tokenizer : NULL;
}

/* ---- alone ---- */

odmoe_status odmoe_tokenizer_open(const char *path, odmoe_tokenizer **out, odmoe_error *err)
{
    odmoe_tokenizer *handle = mem_calloc(1, sizeof *handle, "a tokenizer's handle", err);
    if (!handle)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = tokenizer_open(path, &handle->t, err);
    if (status)
        free(handle);
    else
        *out = handle;
    return status;
}

void odmoe_tokenizer_close(odmoe_tokenizer *handle)
{
    if (!handle)
        return;
    tokenizer_free(handle->t);
    free(handle);
}

void give_ids(token_list *list, int32_t *ids, size_t capacity, size_t *n)
{
    size_t count = list->count < capacity ? list->count : capacity;
    if (count)
        memcpy(ids, list->ids, count * sizeof *ids);
    *n = list->count;
    free(list->ids);
}

odmoe_status odmoe_tokenize(const odmoe_tokenizer *handle, const char *text, size_t length, int flags, int32_t *ids,
                            size_t capacity, size_t *n, odmoe_error *err)
{
    static_assert((int)TOKENIZER_SPECIAL == ODMOE_TOKENIZE_SPECIAL && (int)TOKENIZER_START == ODMOE_TOKENIZE_START,
                  "the public flags are the tokenizer's");
    if (flags & ~(ODMOE_TOKENIZE_SPECIAL | ODMOE_TOKENIZE_START))
        return err_set(err, ODMOE_ERR_ARG, "flags 0x%x are not known", flags);
    token_list list = {0};
    odmoe_status status = tokenizer_encode(handle->t, text, length, (unsigned)flags, &list, err);
    if (status)
        free(list.ids);
    else
        give_ids(&list, ids, capacity, n);
    return status;
}

odmoe_status odmoe_detokenize(const odmoe_tokenizer *handle, const int32_t *ids, size_t n, char *text, size_t capacity,
                              size_t *length, odmoe_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= tokenizer_size(handle->t))
            return err_set(err, ODMOE_ERR_RANGE, "token %d is not in the vocabulary of %d", ids[i],
                           tokenizer_size(handle->t));
    text_stream *stream;
    odmoe_status status = text_stream_create(handle->t, TEXT_STREAM_START | TEXT_STREAM_SPECIAL, &stream, err);
    if (status)
        return status;
    size_t total = 0;
    for (size_t i = 0; i <= n; i++) {
        const char *bytes;
        size_t count;
        if (i < n)
            text_stream_push(stream, ids[i], &bytes, &count);
        else
            text_stream_flush(stream, &bytes, &count);
        if (total < capacity)
            memcpy(text + total, bytes, count < capacity - total ? count : capacity - total);
        total += count;
    }
    text_stream_free(stream);
    *length = total;
    return ODMOE_OK;
}

int32_t odmoe_vocab_size(const odmoe_tokenizer *handle)
{
    return tokenizer_size(handle->t);
}

int odmoe_token_is_end(const odmoe_tokenizer *handle, int32_t token)
{
    return tokenizer_is_end(handle->t, token);
}

odmoe_status odmoe_token_text(const odmoe_tokenizer *handle, int32_t token, char *text, size_t capacity, size_t *length,
                              odmoe_error *err)
{
    if (token < 0 || token >= tokenizer_size(handle->t))
        return err_set(err, ODMOE_ERR_RANGE, "token %d is not in the vocabulary of %d", token,
                       tokenizer_size(handle->t));
    *length = tokenizer_piece(handle->t, token, text, capacity);
    return ODMOE_OK;
}

/* ---- streaming ---- */

struct odmoe_stream {
    text_stream *s;
    int32_t vocab;
};

odmoe_status odmoe_stream_create(const odmoe_tokenizer *handle, odmoe_stream **out, odmoe_error *err)
{
    odmoe_stream *stream = mem_calloc(1, sizeof *stream, "a text stream", err);
    if (!stream)
        return ODMOE_ERR_MEMORY;
    stream->vocab = tokenizer_size(handle->t);
    odmoe_status status = text_stream_create(handle->t, 0, &stream->s, err);
    if (status)
        free(stream);
    else
        *out = stream;
    return status;
}

void odmoe_stream_free(odmoe_stream *stream)
{
    if (!stream)
        return;
    text_stream_free(stream->s);
    free(stream);
}

void odmoe_stream_show_special(odmoe_stream *stream, int shown)
{
    text_stream_special(stream->s, shown != 0);
}

odmoe_status odmoe_stream_push(odmoe_stream *stream, int32_t token, const char **text, size_t *length, odmoe_error *err)
{
    if (token < 0) /* ids above the vocabulary are padding rows of the embedding: they have no text */
        return err_set(err, ODMOE_ERR_RANGE, "token %d is not in the vocabulary of %d", token, stream->vocab);
    text_stream_push(stream->s, token, text, length);
    return ODMOE_OK;
}

void odmoe_stream_flush(odmoe_stream *stream, const char **text, size_t *length)
{
    text_stream_flush(stream->s, text, length);
}
