/* Layers without experts among those with them (mlp_only_layers of the Qwen families). Where all experts of a layer are
 * equal and the weights of the chosen sum to 1, the layer is a plain FFN: a model made so, and one that says so in its
 * configuration, must agree. */
#include "format_files.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/safetensors.h"
#include "support/golden.h"
#include "support/models.h"

#define MODEL "models/qwen3_moe_f16"
#define TOKENS 20

static odmoe_error err;

/* ---- a folder with other tensors ---- */

typedef struct writer {
    tensor_index *from;
    bytes data;
    json_t *header;
} writer;

/* Adds what the model calls `source` under `name`. */
static void add(writer *w, const char *name, const char *source)
{
    const tensor_info *t = tensor_index_find(w->from, source);
    if (!t)
        fail_msg("%s is missing", source);
    unsigned char *raw = malloc(t->length);
    assert_int_equal(tensor_read(w->from, t, raw, &err), ODMOE_OK);
    json_t *shape = json_array();
    for (int d = 0; d < t->dims; d++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->type == DTYPE_F32 ? "F32" : "F16", "shape", shape,
                              "data_offsets", (json_int_t)w->data.length, (json_int_t)(w->data.length + t->length));
    assert_int_equal(json_object_set_new(w->header, name, entry), 0);
    put(&w->data, raw, t->length);
    free(raw);
}

static const char *finish(writer *w, const char *name, const char *members)
{
    char inside[1200];
    json_error_t e;
    const char *path = temp_path(name);
    assert_int_equal(mkdir(path, 0700), 0);
    char *header = json_dumps(w->header, JSON_COMPACT);
    bytes file = {0};
    put_number(&file, strlen(header), 8);
    put_text(&file, header);
    put(&file, w->data.at, w->data.length);
    snprintf(inside, sizeof inside, "%s/model.safetensors", path);
    save(inside, &file);
    json_t *config = json_load_file(test_path(MODEL "/config.json"), 0, &e), *changes = json_loads(members, 0, &e);
    assert_non_null(config);
    assert_non_null(changes);
    assert_true(json_is_true(json_object_get(config, "norm_topk_prob")));
    if (json_object_get(changes, "mlp_only_layers")) /* as wide as an expert */
        json_object_set(config, "intermediate_size", json_object_get(config, "moe_intermediate_size"));
    json_object_update(config, changes);
    snprintf(inside, sizeof inside, "%s/config.json", path);
    assert_int_equal(json_dump_file(config, inside, 0), 0);
    json_decref(config);
    json_decref(changes);
    json_decref(w->header);
    free(header);
    bytes_free(&file);
    bytes_free(&w->data);
    tensor_index_free(w->from);
    return path;
}

/* The model with layer `layer` as expert 0 alone: dense, or all of its experts equal. */
static const char *made_of_one_expert(int layer, bool dense)
{
    static const char *const roles[] = {"gate_proj", "up_proj", "down_proj"};
    writer w = {.header = json_object()};
    assert_int_equal(safetensors_open_folder(test_path(MODEL), &w.from, &err), ODMOE_OK);
    char mlp[64], source[128], name[128];
    snprintf(mlp, sizeof mlp, "model.layers.%d.mlp.", layer);
    for (size_t i = 0; i < tensor_index_count(w.from); i++) {
        const tensor_info *t = tensor_index_at(w.from, i);
        const char *rest = strncmp(t->name, mlp, strlen(mlp)) ? NULL : t->name + strlen(mlp), *role;
        if (!rest || (!dense && !strcmp(rest, "gate.weight"))) {
            add(&w, t->name, t->name);
        } else if (!dense) {
            role = strrchr(t->name, '.');
            while (role[-1] != '.')
                role--;
            snprintf(source, sizeof source, "%sexperts.0.%s", mlp, role);
            add(&w, t->name, source);
        }
    }
    for (int r = 0; r < 3 && dense; r++) {
        snprintf(source, sizeof source, "%sexperts.0.%s.weight", mlp, roles[r]);
        snprintf(name, sizeof name, "%s%s.weight", mlp, roles[r]);
        add(&w, name, source);
    }
    char members[64];
    snprintf(members, sizeof members, dense ? "{\"mlp_only_layers\": [%d]}" : "{\"layer\": %d}", layer);
    snprintf(name, sizeof name, "%s%d", dense ? "dense" : "equal", layer);
    return finish(&w, name, members);
}

/* ---- comparing ---- */

typedef struct seen {
    int routed[16], entered[16];
} seen;

static void note(void *user, const odmoe_tap *tap)
{
    seen *s = user;
    s->routed[tap->layer] += tap->router != NULL;
    s->entered[tap->layer] += tap->hidden != NULL;
}

static float *logits_of(const char *path, const char *kernels, seen *s, odmoe_info *info)
{
    odmoe_options o = small_options();
    o.kernels = kernels;
    odmoe_model *model = must_open(path, &o);
    odmoe_session *session = must_create(model, 0);
    *info = (odmoe_info){.size = sizeof *info};
    odmoe_model_info(model, info);
    float *logits = malloc(TOKENS * (size_t)info->vocab * sizeof *logits);
    forward_options all = {ODMOE_LOGITS_ALL, logits, note, s};
    must_forward(model, session, text_tokens(0, TOKENS), TOKENS, &all);
    odmoe_session_free(session);
    odmoe_model_close(model);
    return logits;
}

static void a_layer_of_equal_experts_is_a_dense_layer(void **state)
{
    for (int layer = 0; layer < 2; layer++) {
        const char *equal = made_of_one_expert(layer, false), *dense = made_of_one_expert(layer, true);
        for (int k = 0; odmoe_kernels_at(k); k++) {
            odmoe_info with, without;
            seen all = {0}, some = {0};
            float *want = logits_of(equal, odmoe_kernels_at(k), &all, &with);
            float *got = logits_of(dense, odmoe_kernels_at(k), &some, &without);
            double worst = 0, squares = 0;
            size_t n = TOKENS * (size_t)with.vocab;
            for (size_t i = 0; i < n; i++) {
                worst = fmax(worst, isnan(got[i]) ? INFINITY : fabs((double)got[i] - want[i]));
                squares += (double)want[i] * want[i];
            }
            assert_true(squares > 0);
            assert_true(worst < 1e-4 * sqrt(squares / (double)n));
            assert_int_equal(without.moe_layers, with.moe_layers - 1);
            assert_int_equal(without.layers, with.layers);
            assert_true(without.resident_bytes > with.resident_bytes - with.expert_bytes_max);
            for (int l = 0; l < with.layers; l++) {
                assert_int_equal(all.routed[l], 1);
                assert_int_equal(some.routed[l], l != layer);
                assert_int_equal(some.entered[l], 1);
            }
            free(want);
            free(got);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_of_equal_experts_is_a_dense_layer),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
