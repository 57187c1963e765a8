#include "support/refusals.h"

#include <string.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

json_t *golden_config(const char *name, const char *members)
{
    const char *path = test_path("models/%s/config.json", name), *key;
    if (access(path, R_OK))
        path = test_path("families/%s/config.json", name);
    json_t *json = json_load_file(path, 0, NULL), *changes = json_loads(members, 0, NULL), *value;
    assert_non_null(json);
    assert_non_null(changes);
    json_t *text = json_object_get(json, "text_config") ? json_object_get(json, "text_config") : json;
    json_object_foreach(changes, key, value)
    {
        if (json_is_string(value) && !strcmp(json_string_value(value), "(absent)"))
            json_object_del(text, key);
        else
            json_object_set(text, key, value);
    }
    json_decref(changes);
    return json;
}

odmoe_status read_config(json_t *json, model_config *config, odmoe_error *err)
{
    tensor_index *none = tensor_index_create(err);
    model_files files = {.path = "folder", .tensors = none, .config = json};
    const arch *family;
    config_free(config);
    odmoe_status status = arch_read(&files, &family, config, err);
    json_decref(json);
    tensor_index_free(none);
    return status;
}

void config_accepted(const char *name, const char *members, model_config *config)
{
    odmoe_error err;
    if (read_config(golden_config(name, members), config, &err))
        fail_msg("%s with %s: %s", name, members, err.message);
}

void config_refused(const char *name, const char *members, odmoe_status status, const char *word, const char *word2)
{
    odmoe_error err = {0};
    model_config config = {0};
    assert_error(&err, read_config(golden_config(name, members), &config, &err), status, word, word2);
    config_free(&config);
}

void configs_refused(const char *name, const wrong_config *wrong, size_t n)
{
    for (size_t i = 0; i < n; i++)
        config_refused(name, wrong[i].members, wrong[i].status, wrong[i].word, wrong[i].word2);
}

void model_refused(const char *path, odmoe_status status, const char *word, const char *word2)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_options o = small_options();
    odmoe_model *model = NULL;
    odmoe_error err = {0};
    assert_error(&err, odmoe_inspect(path, &info, &err), status, word, word2);
    assert_non_null(strstr(err.message, path));
    err = (odmoe_error){0};
    assert_error(&err, odmoe_model_open(path, &o, &model, &err), status, word, word2);
    assert_non_null(strstr(err.message, path));
    assert_null(model);
}

void edit_refused(gguf_edit *e, odmoe_status status, const char *word, const char *word2)
{
    model_refused(edit_save(e, "edited.gguf"), status, word, word2);
    edit_free(e);
}
