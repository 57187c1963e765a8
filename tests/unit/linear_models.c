/* Models with layers of linear attention: layouts of files that no golden has, and files and configurations whose numbers,
 * lists or tensors do not fit together, which are refused before anything is loaded. */
#include "model/mixers/attention.h"
#include "model/mixers/delta_net.h"
#include "model/mixers/kda.h"
#include "model/mixers/latent.h"

#include "support/refusals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/models.h"

static odmoe_error err;

/* ---- GGUF ---- */

static gguf_edit *qwen35(void)
{
    return edit_read(test_path("families/gguf/qwen35moe-Q8_0.gguf"));
}

/* The logits of a text's last token; the file goes. */
static float *edited_logits(gguf_edit *e)
{
    odmoe_options o = small_options();
    odmoe_model *model = must_open(edit_save(e, "edited.gguf"), &o);
    float *logits = fresh_logits(model, 20);
    odmoe_model_close(model);
    edit_free(e);
    return logits;
}

static void assert_same_logits(gguf_edit *e, gguf_edit *original)
{
    float *want = edited_logits(original), *got = edited_logits(e);
    assert_memory_equal(got, want, 512 * sizeof *got);
    free(want);
    free(got);
}

/* A list of bools, one for each character of `layers`: 'r' a recurrent one. */
static void set_layers(gguf_edit *e, const char *key, const char *layers)
{
    edit_set_text(e, key, "");
    for (int i = 0; i < e->pair_count; i++) {
        if (strcmp(e->pairs[i].key, key))
            continue;
        e->pairs[i].type = GG_ARRAY;
        e->pairs[i].value.length = 0;
        put_number(&e->pairs[i].value, GG_BOOL, 4);
        put_number(&e->pairs[i].value, strlen(layers), 8);
        for (const char *l = layers; *l; l++)
            put_number(&e->pairs[i].value, *l == 'r', 1);
    }
}

static void sizes_of_linear_attention_are_checked(void **state)
{
    static const struct {
        const char *key;
        uint64_t value;
        const char *word, *word2;
    } wrong[] = {
        {"ssm.inner_size", 0, "inner_size 0", "4 heads"},
        {"ssm.inner_size", 126, "inner_size 126", "4 heads"},
        {"ssm.inner_size", (1 << 20) + 1, "inner_size", "1048577"},
        {"ssm.inner_size", 1 << 20, "value length", "4096"},
        {"ssm.inner_size", 64, "attn_qkv.weight", "shape"},
        {"ssm.state_size", 0, "key length", "0, expected 1"},
        {"ssm.state_size", 64, "attn_qkv.weight", "shape"},
        {"ssm.state_size", 4097, "state_size", "4097"},
        {"ssm.group_count", 0, "key heads", "0, expected 1"},
        {"ssm.group_count", 3, "4 heads", "3 key heads"},
        {"ssm.group_count", 8, "4 heads", "8 key heads"},
        {"ssm.group_count", 4, "attn_qkv.weight", "shape"},
        {"ssm.group_count", 4097, "group_count", "4097"},
        {"ssm.time_step_rank", 0, "inner_size", "0 heads"},
        {"ssm.time_step_rank", 3, "inner_size 128", "3 heads"},
        {"ssm.time_step_rank", 8, "ssm_beta.weight", "shape"},
        {"ssm.time_step_rank", UINT32_MAX, "time_step_rank", "4294967295"},
        {"ssm.conv_kernel", 0, "width of the convolution: 0", "2 to 8"},
        {"ssm.conv_kernel", 1, "width of the convolution: 1", "2 to 8"},
        {"ssm.conv_kernel", 3, "ssm_conv1d.weight", "shape"},
        {"ssm.conv_kernel", 9, "conv_kernel", "9"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = qwen35();
        char key[96];
        snprintf(key, sizeof key, "qwen35moe.%s", wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_refused(e, ODMOE_ERR_FORMAT, wrong[i].word, wrong[i].word2);
    }
    static const char *const keys[] = {"ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.conv_kernel"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        gguf_edit *e = qwen35();
        char key[96];
        snprintf(key, sizeof key, "qwen35moe.%s", keys[i]);
        edit_remove(e, key);
        edit_refused(e, ODMOE_ERR_FORMAT, keys[i], "is missing");
    }
}

/* Sizes that are allowed one by one, and are too large together. */
static void states_larger_than_any_model_has_are_refused(void **state)
{
    gguf_edit *e = qwen35();
    edit_set_int(e, "qwen35moe.ssm.state_size", GG_U32, 4096);
    edit_set_int(e, "qwen35moe.ssm.group_count", GG_U32, 1024);
    edit_set_int(e, "qwen35moe.ssm.time_step_rank", GG_U32, 1024);
    edit_set_int(e, "qwen35moe.ssm.inner_size", GG_U32, 1024);
    edit_refused(e, ODMOE_ERR_FORMAT, "size of all keys: 4194304", "1048576");
}

static void lists_of_recurrent_layers_have_an_entry_for_each_layer(void **state)
{
    static const char *const wrong[] = {"", "rr", "rrfr", "rrrrrrrrrrrrrrrrrrrr"};
    const char *key = "qwen35moe.attention.recurrent_layers";
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = qwen35();
        set_layers(e, key, wrong[i]);
        edit_refused(e, ODMOE_ERR_FORMAT, "recurrent_layers", "for 3 layers");
    }
    gguf_edit *e = qwen35();
    set_layers(e, key, "rrr"); /* the last layer has no such tensors */
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.2.", "missing");
    e = qwen35();
    set_layers(e, key, "rff");
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.1.attn_q.weight", "missing");
    e = qwen35();
    edit_set_int(e, key, GG_U32, 1);
    edit_refused(e, ODMOE_ERR_FORMAT, "recurrent_layers", "array");
}

static void without_a_list_the_interval_says_which_layers_are_recurrent(void **state)
{
    const char *list = "qwen35moe.attention.recurrent_layers", *interval = "qwen35moe.full_attention_interval";
    gguf_edit *e = qwen35();
    edit_remove(e, list);
    assert_same_logits(e, qwen35());
    e = qwen35();
    edit_remove(e, list);
    edit_remove(e, interval); /* every fourth, then: none */
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.2.", "missing");
    e = qwen35();
    edit_remove(e, list);
    edit_set_int(e, interval, GG_U32, 0);
    edit_refused(e, ODMOE_ERR_FORMAT, "full_attention_interval", "0");
    e = qwen35(); /* the list goes before it */
    edit_set_int(e, interval, GG_U32, 2);
    assert_same_logits(e, qwen35());
}

/* Each tensor of the mixers, left out or with one row less. Without attn_k_b a file has latent attention's other layout. */
static void check_tensors(const char *file)
{
    gguf_edit *e = edit_read(test_path("%s", file));
    int count = e->tensor_count;
    for (int i = 0; i < count; i++) {
        edit_tensor saved = e->tensors[i];
        if ((!strstr(saved.name, "ssm_") && !strstr(saved.name, "attn_")) || strstr(saved.name, "attn_k_b"))
            continue;
        gguf_edit *less = edit_read(test_path("%s", file));
        edit_drop(less, saved.name);
        edit_refused(less, ODMOE_ERR_FORMAT, saved.name, "missing");
        less = edit_read(test_path("%s", file));
        edit_tensor *t = edit_find(less, saved.name);
        uint64_t *last = &t->size[t->dims - 1];
        t->data.length = t->data.length / *last * (*last - 1);
        --*last;
        edit_refused(less, ODMOE_ERR_FORMAT, saved.name, "shape");
    }
    edit_free(e);
}

static void every_missing_or_misshapen_tensor_is_named(void **state)
{
    check_tensors("families/gguf/qwen35moe-Q8_0.gguf");
    check_tensors("families/gguf/kimi-linear-Q8_0.gguf");
}

static void sizes_of_kimi_delta_attention_are_checked(void **state)
{
    static const struct {
        const char *key;
        uint64_t value;
        const char *word, *word2;
    } wrong[] = {
        {"kda.head_dim", 0, "key length of a head: 0", "1 to 4096"},
        {"kda.head_dim", 16, "attn_q.weight", "64 x 64"},
        {"kda.head_dim", 4097, "head_dim", "4097"},
        {"ssm.conv_kernel", 1, "width of the convolution: 1", "2 to 8"},
        {"ssm.conv_kernel", 5, "ssm_conv1d_q.weight", "shape"},
        {"attention.head_count", 8, "attn_q.weight", "shape"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = edit_read(test_path("families/gguf/kimi-linear-Q8_0.gguf"));
        char key[96];
        snprintf(key, sizeof key, "kimi-linear.%s", wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_refused(e, ODMOE_ERR_FORMAT, wrong[i].word, wrong[i].word2);
    }
    gguf_edit *e = edit_read(test_path("families/gguf/kimi-linear-Q8_0.gguf")); /* too large together */
    edit_set_int(e, "kimi-linear.attention.head_count", GG_U32, 4096);
    edit_set_int(e, "kimi-linear.kda.head_dim", GG_U32, 4096);
    edit_refused(e, ODMOE_ERR_FORMAT, "16777216", "1048576");
    e = edit_read(test_path("families/gguf/kimi-linear-Q8_0.gguf"));
    edit_set_int(e, "kimi-linear.attention.head_count_kv", GG_U32, 1); /* all layers have latent attention, then */
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.0.attn_q.weight", "192 x 64");
    for (int n = 2; n <= 4; n += 2) {
        e = edit_read(test_path("families/gguf/kimi-linear-Q8_0.gguf"));
        edit_set_ints(e, "kimi-linear.attention.head_count_kv", (int32_t[]){0, 0, 1, 0}, n);
        edit_refused(e, ODMOE_ERR_FORMAT, "head_count_kv", "3 layers");
    }
    e = edit_read(test_path("families/gguf/kimi-linear-Q8_0.gguf"));
    edit_set_int(e, "kimi-linear.attention.head_count_kv", GG_U32, 0); /* none has */
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.2.attn_q.weight", "shape");
}

static gguf_edit *qwen3next(void)
{
    return edit_read(test_path("families/gguf/qwen3next-mtp-BF16.gguf"));
}

/* The layout of the first converters, which kept what transformers has: for each of two key heads 32 rows of its query, 32
 * of its key, and those of its two heads' values and gates. */
static void fuse(gguf_edit *e, int layer)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%d.attn_qkv.weight", layer);
    const edit_tensor *qkv = edit_find(e, name);
    size_t row = 64 * sizeof(uint16_t);
    const unsigned char *q = qkv->data.at, *k = q + 64 * row, *v = k + 64 * row;
    snprintf(name, sizeof name, "blk.%d.attn_gate.weight", layer);
    const unsigned char *z = edit_find(e, name)->data.at;
    snprintf(name, sizeof name, "blk.%d.ssm_in.weight", layer);
    edit_tensor *fused = edit_add(e, name, GG_TENSOR_BF16, 64, 384, 0);
    for (size_t h = 0; h < 2; h++) {
        put(&fused->data, q + h * 32 * row, 32 * row);
        put(&fused->data, k + h * 32 * row, 32 * row);
        put(&fused->data, v + h * 64 * row, 64 * row);
        put(&fused->data, z + h * 64 * row, 64 * row);
    }
}

static void projections_in_one_tensor_give_the_same_bytes(void **state)
{
    gguf_edit *e = qwen3next();
    fuse(e, 0);
    fuse(e, 1);
    edit_drop(e, "blk.0.attn_qkv.weight");
    edit_drop(e, "blk.0.attn_gate.weight");
    edit_drop(e, "blk.1.attn_qkv.weight");
    edit_drop(e, "blk.1.attn_gate.weight");
    assert_same_logits(e, qwen3next());
}

static void projections_in_both_layouts_are_refused(void **state)
{
    gguf_edit *e = qwen3next();
    fuse(e, 0);
    edit_refused(e, ODMOE_ERR_UNSUPPORTED, "attn_qkv.weight", "in one");
    e = qwen3next();
    fuse(e, 0);
    edit_drop(e, "blk.0.attn_qkv.weight");
    edit_drop(e, "blk.0.attn_gate.weight");
    edit_refused(e, ODMOE_ERR_UNSUPPORTED, "blk.1.attn_qkv.weight", "in one");
}

static void drop_predictions(gguf_edit *e)
{
    for (int i = e->tensor_count - 1; i >= 0; i--)
        if (!strncmp(e->tensors[i].name, "blk.3.", 6))
            edit_drop(e, e->tensors[i].name);
}

/* Prediction layers: counted among the blocks or not, there or left out. */
static void prediction_layers_change_nothing(void **state)
{
    gguf_edit *e = qwen3next();
    edit_set_int(e, "qwen3next.block_count", GG_U32, 3);
    assert_same_logits(e, qwen3next());
    e = qwen3next();
    drop_predictions(e);
    assert_same_logits(e, qwen3next());
    e = qwen3next();
    drop_predictions(e);
    edit_set_int(e, "qwen3next.block_count", GG_U32, 3);
    set_layers(e, "qwen3next.attention.recurrent_layers", "rrf");
    edit_remove(e, "qwen3next.nextn_predict_layers");
    assert_same_logits(e, qwen3next());
}

/* ... and are counted apart, as are the parts that see. */
static void what_is_left_out_is_counted_apart(void **state)
{
    /* bytes of the golden's tensors mtp.* and model.visual.*, but for one of five dimensions, which are not read */
    const uint64_t prediction = 169472, visual = 21312 - 4608;
    odmoe_info info = {.size = sizeof info};
    assert_int_equal(odmoe_inspect(test_path("families/qwen3_5_moe"), &info, &err), ODMOE_OK);
    assert_int_equal(info.prediction_bytes, prediction);
    assert_int_equal(info.other_parts_bytes, visual);
    assert_int_equal(odmoe_inspect(test_path("families/gguf/qwen35moe-Q8_0.gguf"), &info, &err), ODMOE_OK);
    assert_int_equal(info.prediction_bytes, 0);
    assert_int_equal(info.other_parts_bytes, 0);
    gguf_edit *e = qwen3next();
    uint64_t last = 0;
    for (int i = 0; i < e->tensor_count; i++)
        last += strncmp(e->tensors[i].name, "blk.3.", 6) ? 0 : e->tensors[i].data.length;
    edit_free(e);
    assert_int_equal(odmoe_inspect(test_path("families/gguf/qwen3next-mtp-BF16.gguf"), &info, &err), ODMOE_OK);
    assert_true(last > 0);
    assert_int_equal(info.prediction_bytes, last);
}

/* ---- config.json ---- */

static model_config config; /* of the last `accepted` */

static void accepted(const char *model, const char *members)
{
    config_accepted(model, members, &config);
}

static const char *const families[] = {"qwen3_5_moe", "qwen3_next"};
#define FAMILIES (sizeof families / sizeof *families)

static void assert_layers(const char *kinds)
{
    assert_int_equal(config.layers, strlen(kinds));
    for (int l = 0; l < config.layers; l++)
        assert_ptr_equal(config.layer[l].mixer, kinds[l] == 'l' ? &mixer_delta_net : &mixer_attention);
}

static void layer_types_or_an_interval_say_which_layers_are_linear(void **state)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        accepted(families[i], "{\"layer_types\": [\"full_attention\", \"linear_attention\", \"linear_attention\"]}");
        assert_layers("fll");
        accepted(families[i], "{\"layer_types\": \"(absent)\"}");
        assert_layers("llf");
        accepted(families[i], "{\"layer_types\": null, \"full_attention_interval\": 1}");
        assert_layers("fff");
        accepted(families[i], "{\"layer_types\": \"(absent)\", \"full_attention_interval\": \"(absent)\","
                              " \"num_hidden_layers\": 9}");
        assert_layers("lllflllfl");
    }
}

static void layer_types_of_another_length_or_unknown_words_are_refused(void **state)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        config_refused(families[i], "{\"layer_types\": [\"linear_attention\", \"full_attention\"]}", ODMOE_ERR_FORMAT,
                       "layer_types", "3 layers");
        config_refused(families[i],
                       "{\"num_hidden_layers\": 2, \"layer_types\": [\"linear_attention\", \"full_attention\","
                       " \"linear_attention\"]}",
                       ODMOE_ERR_FORMAT, "layer_types", "2 layers");
        config_refused(families[i], "{\"layer_types\": []}", ODMOE_ERR_FORMAT, "layer_types", "3 layers");
        config_refused(families[i], "{\"layer_types\": \"linear_attention\"}", ODMOE_ERR_FORMAT, "layer_types",
                       "16 entries");
        config_refused(families[i], "{\"layer_types\": [\"linear_attention\", \"mamba\", \"full_attention\"]}",
                       ODMOE_ERR_UNSUPPORTED, "'mamba' of layer 1", "full_attention");
        config_refused(families[i], "{\"layer_types\": [\"linear_attention\", 7, \"full_attention\"]}",
                       ODMOE_ERR_UNSUPPORTED, "no text", "layer 1");
        config_refused(families[i], "{\"full_attention_interval\": 0}", ODMOE_ERR_FORMAT, "full_attention_interval",
                       "0");
    }
}

static void numbers_of_linear_attention_are_checked(void **state)
{
    static const struct {
        const char *members, *word, *word2;
    } wrong[] = {
        {"{\"linear_num_value_heads\": 0}", "heads", "0"},
        {"{\"linear_num_value_heads\": 3}", "3 heads", "2 key heads"},
        {"{\"linear_num_value_heads\": 4097}", "linear_num_value_heads", "4097"},
        {"{\"linear_num_value_heads\": -4}", "linear_num_value_heads", "-4"},
        {"{\"linear_num_key_heads\": 0}", "key heads", "0"},
        {"{\"linear_num_key_heads\": 3}", "4 heads", "3 key heads"},
        {"{\"linear_key_head_dim\": 0}", "key length", "0"},
        {"{\"linear_key_head_dim\": 4097}", "linear_key_head_dim", "4097"},
        {"{\"linear_value_head_dim\": 0}", "value length", "0"},
        {"{\"linear_value_head_dim\": 2.5}", "linear_value_head_dim", " "},
        {"{\"linear_value_head_dim\": \"(absent)\"}", "linear_value_head_dim", "missing"},
        {"{\"linear_num_value_heads\": 4096, \"linear_num_key_heads\": 4096, \"linear_key_head_dim\": 4096}",
         "size of all keys", "16777216"},
        {"{\"linear_num_value_heads\": 4096, \"linear_value_head_dim\": 4096}", "size of all values", "16777216"},
        {"{\"linear_conv_kernel_dim\": 1}", "width of the convolution: 1", "2 to 8"},
        {"{\"linear_conv_kernel_dim\": 9}", "linear_conv_kernel_dim", "9"},
    };
    for (size_t i = 0; i < FAMILIES; i++) {
        for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++)
            config_refused(families[i], wrong[w].members, ODMOE_ERR_FORMAT, wrong[w].word, wrong[w].word2);
        config_refused(families[i], "{\"attention_bias\": true}", ODMOE_ERR_UNSUPPORTED, "attention_bias", "0");
    }
    config_refused("qwen3_5_moe", "{\"attn_output_gate\": false}", ODMOE_ERR_UNSUPPORTED, "attn_output_gate", "1");
}

/* Kimi Linear's lists count layers from 1. */
static void lists_of_layer_numbers_name_each_layer_once(void **state)
{
#define LISTS(full, kda)                                                                                    \
    "{\"layer_types\": null, \"linear_attn_config\": {\"full_attn_layers\": " full ", \"kda_layers\": " kda \
    ", \"num_heads\": 4, \"head_dim\": 32, \"short_conv_kernel_size\": 4}}"
    static const struct {
        const char *members, *word, *word2;
    } wrong[] = {
        {LISTS("[3]", "[1]"), "names layer 2 of 3", "full_attn_layers"},
        {LISTS("[]", "[]"), "names layer 1 of 3", "kda_layers"},
        {LISTS("[3]", "[1, 2, 3]"), "layer 3", "twice"},
        {LISTS("[3]", "[1, 2, 2]"), "layer 2", "twice"},
        {LISTS("[3]", "[0, 1, 2]"), "kda_layers", "1 to 3"},
        {LISTS("[4]", "[1, 2]"), "full_attn_layers", "1 to 3"},
        {LISTS("[-1]", "[1, 2]"), "full_attn_layers", "1 to 3"},
        {LISTS("[9223372036854775807]", "[1, 2]"), "full_attn_layers", "1 to 3"},
        {LISTS("[3.5]", "[1, 2]"), "full_attn_layers", "1 to 3"},
        {LISTS("[\"3\"]", "[1, 2]"), "full_attn_layers", "1 to 3"},
        {LISTS("3", "[1, 2]"), "full_attn_layers", "no list"},
        {LISTS("[3]", "null"), "kda_layers", "no list"},
        {"{\"layer_types\": null, \"linear_attn_config\": null}", "full_attn_layers", "no list"},
        {"{\"linear_attn_config\": 7}", "linear_attn_config", "object"},
        {"{\"linear_attn_config\": {\"num_heads\": 4097}}", "num_heads", "4097"},
        {"{\"linear_attn_config\": {\"head_dim\": 0}}", "head_dim", "0"},
        {"{\"linear_attn_config\": {\"short_conv_kernel_size\": 9}}", "short_conv_kernel_size", "9"},
        {"{\"linear_attn_config\": {}, \"linear_num_heads\": null}", "num_heads", "missing"},
        {"{\"layer_types\": [\"linear_attention\", \"full_attention\"]}", "layer_types", "3 layers"},
        {"{\"layer_types\": [\"linear_attention\", \"linear_attention\", \"full_attention\", \"full_attention\"]}",
         "layer_types", "3 layers"},
        {LISTS("[4]", "[1, 2, 3]"), "full_attn_layers", "1 to 3"},
        {"{\"linear_attn_config\": {\"num_heads\": 4096, \"head_dim\": 4096}}", "16777216", "1048576"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        config_refused("kimi_linear", wrong[i].members, ODMOE_ERR_FORMAT, wrong[i].word, wrong[i].word2);
    config_refused("kimi_linear", "{\"mla_use_nope\": false}", ODMOE_ERR_UNSUPPORTED, "mla_use_nope", "1");
    config_refused("kimi_linear", "{\"layer_types\": [\"linear_attention\", \"kda\", \"full_attention\"]}",
                   ODMOE_ERR_UNSUPPORTED, "'kda' of layer 1", "full_attention");
    accepted("kimi_linear", LISTS("[2]", "[3, 1]"));
    assert_ptr_equal(config.layer[0].mixer, &mixer_kda);
    assert_ptr_equal(config.layer[1].mixer, &mixer_latent);
    assert_ptr_equal(config.layer[2].mixer, &mixer_kda);
#undef LISTS
}

/* The largest state that is allowed is counted without overflow. */
static void states_are_counted_to_the_last_byte(void **state)
{
    accepted("qwen3_5_moe", "{}");
    uint64_t heads = 4, key_heads = 2, dim = 32;
    /* the convolution's inputs; matrices, 16 tokens' rows, keys and decays */
    uint64_t conv = 3 * 256 * 4, chunk = 4 * (heads * dim * dim + 16 * (heads * dim + key_heads * dim + heads));
    assert_int_equal(mixer_delta_net.state(&config, 0, KV_F16).recurrent_bytes, conv);
    assert_int_equal(mixer_delta_net.state(&config, 0, KV_F16).chunk_bytes, chunk);
    accepted("qwen3_5_moe", "{\"linear_num_value_heads\": 256, \"linear_num_key_heads\": 256, \"linear_key_head_dim\":"
                            " 4096, \"linear_value_head_dim\": 4096, \"linear_conv_kernel_dim\": 8,"
                            " \"num_hidden_layers\": 1024, \"layer_types\": null,"
                            " \"full_attention_interval\": 4}");
    heads = key_heads = 256;
    dim = 4096;
    conv = 7 * 3 * heads * dim * 4;
    chunk = 4 * (heads * dim * dim + 16 * (heads * dim + key_heads * dim + heads));
    assert_int_equal(mixer_delta_net.state(&config, 0, KV_F16).recurrent_bytes, conv);
    assert_int_equal(mixer_delta_net.state(&config, 0, KV_F16).chunk_bytes, chunk);
    session_layout layout;
    assert_int_equal(session_layout_make(&config, KV_F16, 64, &layout, &err), ODMOE_OK);
    assert_true(layout.kept_bytes[KEPT_RECURRENT] == 768 * conv);
    assert_true(layout.kept_bytes[KEPT_CHUNK] == 768 * chunk);
    assert_true(session_total_bytes(&layout, 4096) > 2 * 768 * (conv + chunk));
    session_layout_free(&layout);
}

static int free_config(void **state)
{
    config_free(&config);
    return temp_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_linear_attention_are_checked),
        cmocka_unit_test(states_larger_than_any_model_has_are_refused),
        cmocka_unit_test(lists_of_recurrent_layers_have_an_entry_for_each_layer),
        cmocka_unit_test(without_a_list_the_interval_says_which_layers_are_recurrent),
        cmocka_unit_test(every_missing_or_misshapen_tensor_is_named),
        cmocka_unit_test(sizes_of_kimi_delta_attention_are_checked),
        cmocka_unit_test(projections_in_one_tensor_give_the_same_bytes),
        cmocka_unit_test(projections_in_both_layouts_are_refused),
        cmocka_unit_test(prediction_layers_change_nothing),
        cmocka_unit_test(what_is_left_out_is_counted_apart),
        cmocka_unit_test(layer_types_or_an_interval_say_which_layers_are_linear),
        cmocka_unit_test(layer_types_of_another_length_or_unknown_words_are_refused),
        cmocka_unit_test(numbers_of_linear_attention_are_checked),
        cmocka_unit_test(lists_of_layer_numbers_name_each_layer_once),
        cmocka_unit_test(states_are_counted_to_the_last_byte),
    };
    return cmocka_run_group_tests(tests, temp_setup, free_config);
}
