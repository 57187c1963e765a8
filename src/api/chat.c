#include "api/handles.h"

const char *odmoe_model_chat_format(const odmoe_model *handle)
{
    return NULL;
}

odmoe_status odmoe_chat_tokenize(const odmoe_model *handle, const odmoe_message *messages, size_t count, int32_t *ids,
                                 size_t capacity, size_t *n, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: no chat template is known for this model; use run without --chat",
                   handle->m.files.path);
}
