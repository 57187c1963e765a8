#include "support/family_configs.h"

#include <jansson.h>
#include <string.h>

#include "support/golden.h"
#include "support/models.h"

odmoe_status read_family(const char *family, const char *members, model_config *config, odmoe_error *err)
{
    json_t *json = json_load_file(test_path("families/%s/config.json", family), 0, NULL);
    json_t *part = json_object_get(json, "text_config"), *changes = json_loads(members, 0, NULL), *value;
    const char *key;
    assert_non_null(json);
    assert_non_null(changes);
    json_object_foreach(changes, key, value)
    {
        if (json_is_string(value) && !strcmp(json_string_value(value), "(absent)"))
            json_object_del(part ? part : json, key);
        else
            json_object_set(part ? part : json, key, value);
    }
    tensor_index *none = tensor_index_create(err);
    model_files files = {.path = "folder", .tensors = none, .config = json};
    const arch *found;
    assert_non_null(none);
    odmoe_status status = arch_read(&files, &found, config, err);
    json_decref(changes);
    json_decref(json);
    tensor_index_free(none);
    return status;
}

void families_refused(const char *family, const wrong_config *wrong, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        odmoe_error err = {0};
        model_config config;
        odmoe_status status = read_family(family, wrong[i].members, &config, &err);
        config_free(&config);
        if (!status)
            fail_msg("%s with %s is not refused", family, wrong[i].members);
        assert_error(&err, status, wrong[i].status, wrong[i].word, wrong[i].word2);
    }
}

void file_refused(gguf_edit *e, odmoe_status status, const char *word, const char *word2)
{
    const char *path = edit_save(e, "edited.gguf");
    odmoe_info info = {.size = sizeof info};
    odmoe_options o = small_options();
    odmoe_model *model = NULL;
    odmoe_error err = {0};
    assert_error(&err, odmoe_inspect(path, &info, &err), status, word, word2);
    assert_error(&err, odmoe_model_open(path, &o, &model, &err), status, word, word2);
    assert_non_null(strstr(err.message, path));
    assert_null(model);
    edit_free(e);
}
