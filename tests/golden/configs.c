/* Configurations agree with the reference: the small models' weights under other members of config.json
 * (tests/data/configs/cases.json), whose logits Hugging Face transformers computed (make_configs.py). */
#include "format_files.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

/* A folder with the model's weights and its config.json, changed by the case's members; null removes one. */
static const char *folder(const char *name, json_t *wanted)
{
    const char *model = json_string_value(json_object_get(wanted, "model")), *path = temp_path(name), *key;
    char inside[1200];
    json_t *value, *config = json_load_file(test_path("models/%s/config.json", model), 0, NULL);
    assert_non_null(config);
    json_object_foreach(json_object_get(wanted, "members"), key, value)
    {
        if (json_is_null(value))
            json_object_del(config, key);
        else
            json_object_set(config, key, value);
    }
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(inside, sizeof inside, "%s/config.json", path);
    assert_int_equal(json_dump_file(config, inside, 0), 0);
    snprintf(inside, sizeof inside, "%s/model.safetensors", path);
    assert_int_equal(symlink(test_path("models/%s/model.safetensors", model), inside), 0);
    json_decref(config);
    return path;
}

static void check(const char *name, json_t *wanted)
{
    golden *expected = golden_open(test_path("configs/%s.safetensors", name));
    odmoe_options o = small_options();
    o.kernels = "ref";
    odmoe_model *model = must_open(folder(name, wanted), &o);
    odmoe_session *session = must_create(model, 0);
    size_t n, vocab;
    const int32_t *ids = golden_i32(expected, &n, "input_ids");
    const float *want = golden_f32(expected, &vocab, "logits");
    assert_int_equal(vocab, vocab_of(model));
    float *logits = malloc(vocab * sizeof *logits);
    must_eval(session, ids, (int64_t)n, logits);
    double error = golden_error(logits, want, vocab);
    if (!(error < 1e-3))
        fail_msg("%s: logits are off by %.1e of their spread", name, error);
    free(logits);
    odmoe_session_free(session);
    odmoe_model_close(model);
    golden_close(expected);
}

static void other_configurations_of_the_same_weights_agree(void **state)
{
    const char *name;
    json_t *wanted, *cases = json_load_file(test_path("configs/cases.json"), 0, NULL);
    assert_true(json_object_size(cases) > 0);
    json_object_foreach(cases, name, wanted) check(name, wanted);
    json_decref(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_configurations_of_the_same_weights_agree),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
