#include <stdlib.h>

#include "api/handles.h"

odmoe_status model_chat_open(const model_files *f, chat_template *out, odmoe_error *reason, odmoe_error *err)
{
    odmoe_status status = f->gguf ? chat_detect_gguf(f->gguf, out, reason) : chat_detect_folder(f->path, out, reason);
    if (status == ODMOE_ERR_MEMORY && err)
        *err = *reason;
    return status == ODMOE_ERR_MEMORY ? status : ODMOE_OK;
}

const char *odmoe_model_chat_format(const odmoe_model *handle)
{
    return handle->chat.format ? chat_name(&handle->chat) : NULL;
}

odmoe_status odmoe_chat_tokenize(const odmoe_model *handle, const odmoe_message *messages, size_t count, int32_t *ids,
                                 size_t capacity, size_t *n, odmoe_error *err)
{
    if (!handle->chat.format) {
        if (err)
            *err = handle->no_chat;
        return handle->no_chat.code;
    }
    if (!handle->tokenizer.t)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s", handle->no_tokenizer.message);
    token_list list = {0};
    odmoe_status status = chat_encode(&handle->chat, handle->tokenizer.t, messages, count, true, &list, err);
    if (status)
        free(list.ids);
    else
        give_ids(&list, ids, capacity, n);
    return status;
}
