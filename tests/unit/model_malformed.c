/* Models whose numbers or tensors do not fit together are refused before anything is loaded, with a message that names
 * what is wrong: GGUF files and Hugging Face folders derived from the small goldens. */
#include "gguf_edit.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/file.h"
#include "support/golden.h"
#include "support/model_folders.h"
#include "support/models.h"

static odmoe_error err;

/* `inspect` tells as well as `open`: both read the same headers. */
static void refused(const char *path, odmoe_status status, const char *word, const char *word2)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_options o = small_options();
    odmoe_model *model = NULL;
    err = (odmoe_error){0};
    assert_error(&err, odmoe_inspect(path, &info, &err), status, word, word2);
    assert_error(&err, odmoe_model_open(path, &o, &model, &err), status, word, word2);
    assert_non_null(strstr(err.message, path));
    assert_null(model);
}

static void accepted(const char *path)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_options o = small_options();
    if (odmoe_inspect(path, &info, &err))
        fail_msg("%s", err.message);
    odmoe_model *model = must_open(path, &o);
    odmoe_session *session = must_create(model, 0);
    must_eval(session, text_tokens(0, 3), 3, NULL);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

/* ---- GGUF: metadata ---- */

#define PREFIX "qwen3moe."

static gguf_edit *original(void)
{
    return edit_read(test_path("gguf/qwen3moe-Q4_0.gguf"));
}

static void edited_refused(gguf_edit *e, odmoe_status status, const char *word, const char *word2)
{
    refused(edit_save(e, "edited.gguf"), status, word, word2);
    edit_free(e);
}

/* A number of the file: its message names the key, or what the number is, and the number. */
typedef struct wrong_number {
    const char *key;
    uint64_t value;
    odmoe_status status;
    const char *word, *word2;
} wrong_number;

static void numbers_that_size_something_are_checked(void **state)
{
    static const wrong_number wrong[] = {
        {"block_count", 0, ODMOE_ERR_FORMAT, "number of layers", "0"},
        {"block_count", 1, ODMOE_ERR_UNSUPPORTED, "blk.1.", "unknown tensor"},
        {"block_count", 3, ODMOE_ERR_FORMAT, "blk.2.", "missing"},
        {"block_count", 1025, ODMOE_ERR_FORMAT, "block_count", "1025"},
        {"block_count", UINT32_MAX, ODMOE_ERR_FORMAT, "block_count", "4294967295"},
        {"context_length", 0, ODMOE_ERR_FORMAT, "context length", "0"},
        {"context_length", (1 << 24) + 1, ODMOE_ERR_FORMAT, "context_length", "16777217"},
        {"embedding_length", 0, ODMOE_ERR_FORMAT, "hidden size", "0"},
        {"embedding_length", 127, ODMOE_ERR_FORMAT, "shape", "127"},
        {"embedding_length", 512, ODMOE_ERR_FORMAT, "shape", "512"},
        {"embedding_length", (1 << 20) + 1, ODMOE_ERR_FORMAT, "embedding_length", "1048577"},
        {"attention.head_count", 0, ODMOE_ERR_FORMAT, "number of heads", "0"},
        {"attention.head_count", 3, ODMOE_ERR_FORMAT, "3 heads", "2 key/value"},
        {"attention.head_count", 6, ODMOE_ERR_FORMAT, "attn_q.weight", "shape"},
        {"attention.head_count", 4097, ODMOE_ERR_FORMAT, "head_count", "4097"},
        {"attention.head_count_kv", 0, ODMOE_ERR_FORMAT, "key/value heads", "0"},
        {"attention.head_count_kv", 4, ODMOE_ERR_FORMAT, "attn_k.weight", "shape"},
        {"attention.head_count_kv", 3, ODMOE_ERR_FORMAT, "4 heads", "3 key/value"},
        {"attention.head_count_kv", 8, ODMOE_ERR_FORMAT, "4 heads", "8 key/value"},
        {"attention.key_length", 0, ODMOE_ERR_FORMAT, "key length of a head is 0", "1 to 4096"},
        {"attention.key_length", 16, ODMOE_ERR_FORMAT, "attn_q.weight", "64 x 128"},
        {"attention.key_length", 5000, ODMOE_ERR_FORMAT, "key_length", "5000"},
        {"attention.value_length", 128, ODMOE_ERR_FORMAT, "attn_v.weight", "shape"},
        {"expert_count", 0, ODMOE_ERR_UNSUPPORTED, "dense", "another program"},
        {"expert_count", 3, ODMOE_ERR_FORMAT, "ffn_gate_inp", "shape"},
        {"expert_count", 5, ODMOE_ERR_FORMAT, "ffn_gate_inp", "shape"},
        {"expert_count", 4097, ODMOE_ERR_FORMAT, "expert_count", "4097"},
        {"expert_used_count", 0, ODMOE_ERR_FORMAT, "experts of a token is 0", "1 to"},
        {"expert_used_count", 5, ODMOE_ERR_RANGE, "top-k 5", "4 experts"},
        {"expert_used_count", UINT32_MAX, ODMOE_ERR_FORMAT, "expert_used_count", "4294967295"},
        {"expert_group_count", 3, ODMOE_ERR_RANGE, "3 expert groups", "4 experts"},
        {"expert_group_count", 2, ODMOE_ERR_RANGE, "0 of 2 expert groups", "4 experts"},
        {"expert_group_count", 4097, ODMOE_ERR_FORMAT, "expert_group_count", "4097"},
        {"expert_group_used_count", 4097, ODMOE_ERR_FORMAT, "expert_group_used_count", "4097"},
        {"expert_feed_forward_length", 63, ODMOE_ERR_FORMAT, "exps", "63"},
        {"expert_feed_forward_length", 512, ODMOE_ERR_FORMAT, "exps", "512"},
        {"expert_feed_forward_length", (1 << 20) + 1, ODMOE_ERR_FORMAT, "expert_feed_forward_length", "1048577"},
        {"rope.dimension_count", 0, ODMOE_ERR_FORMAT, "rope dimension 0", "even"},
        {"rope.dimension_count", 7, ODMOE_ERR_FORMAT, "rope dimension 7", "even"},
        {"rope.dimension_count", 34, ODMOE_ERR_FORMAT, "rope dimension 34", "even"},
        {"attention.sliding_window", UINT32_MAX, ODMOE_ERR_FORMAT, "sliding_window", "4294967295"},
        {"rope.scaling.original_context_length", UINT32_MAX, ODMOE_ERR_FORMAT, "original_context_length", "4294967295"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = original();
        char key[96];
        snprintf(key, sizeof key, PREFIX "%s", wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edited_refused(e, wrong[i].status, wrong[i].word, wrong[i].word2);
    }
}

static void negative_and_enormous_integers_are_refused_in_any_width(void **state)
{
    static const struct {
        unsigned type;
        uint64_t value;
    } wrong[] = {{GG_I32, (uint64_t)-1}, {GG_U64, UINT64_MAX}, {GG_U64, 1ull << 32}};
    for (size_t i = 0; i < 3; i++) {
        gguf_edit *e = original();
        edit_set_int(e, PREFIX "block_count", wrong[i].type, wrong[i].value);
        edited_refused(e, ODMOE_ERR_FORMAT, "block_count", " ");
    }
    gguf_edit *e = original();
    edit_set_text(e, PREFIX "expert_count", "four");
    edited_refused(e, ODMOE_ERR_FORMAT, "expert_count", " ");
}

static void real_numbers_that_give_no_positions_or_norms_are_refused(void **state)
{
    static const struct {
        const char *key, *word;
        double values[5];
    } wrong[] = {
        {"rope.freq_base", "rope", {0, -1, NAN, INFINITY, 1e30}},
        {"attention.layer_norm_rms_epsilon", "psilon", {0, -1, NAN, INFINITY, 2}},
        {"rope.scaling.factor", "factor", {-1, NAN, INFINITY, -INFINITY, 1e30}},
        {"attention.clamp_kqv", "clamp_kqv", {NAN, INFINITY, -INFINITY, NAN, NAN}},
        {"rope.scaling.attn_factor", "attn_factor", {NAN, INFINITY, -INFINITY, NAN, NAN}},
        {"rope.scaling.yarn_beta_fast", "beta_fast", {0, -1, NAN, INFINITY, 1e30}},
        {"rope.scaling.yarn_beta_slow", "beta_slow", {0, -1, NAN, INFINITY, 1e30}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (int v = 0; v < 5; v++) {
            gguf_edit *e = original();
            char key[96];
            snprintf(key, sizeof key, PREFIX "%s", wrong[i].key);
            edit_set_text(e, PREFIX "rope.scaling.type", "yarn");
            edit_set_float(e, PREFIX "rope.scaling.factor", 4);
            edit_set_float(e, key, wrong[i].values[v]);
            edited_refused(e, ODMOE_ERR_FORMAT, wrong[i].word, " ");
        }
    gguf_edit *e = original(); /* log(1) = 0 would divide */
    edit_set_text(e, PREFIX "rope.scaling.type", "yarn");
    edit_set_float(e, PREFIX "rope.freq_base", 1);
    edited_refused(e, ODMOE_ERR_FORMAT, "rope base", "1");
    e = original();
    edit_set_text(e, PREFIX "rope.scaling.type", "yarn");
    edit_set_int(e, PREFIX "rope.scaling.original_context_length", GG_U32, 0);
    edited_refused(e, ODMOE_ERR_FORMAT, "original context", "0");
}

static void an_unknown_position_scaling_is_unsupported(void **state)
{
    gguf_edit *e = original();
    edit_set_text(e, PREFIX "rope.scaling.type", "axial");
    edited_refused(e, ODMOE_ERR_UNSUPPORTED, "axial", "none, linear, yarn");
}

/* llama.cpp heeds these keys in every family. */
static void what_changes_attention_and_is_not_supported_is_refused(void **state)
{
    gguf_edit *e = original();
    edit_set_int(e, PREFIX "attention.causal", GG_BOOL, 0);
    edited_refused(e, ODMOE_ERR_UNSUPPORTED, "attention.causal", "false");
    e = original();
    edit_set_float(e, PREFIX "rope.scaling.attn_factor", 2);
    edited_refused(e, ODMOE_ERR_UNSUPPORTED, "attn_factor is 2", "yarn");
    e = original();
    edit_set_int(e, PREFIX "attention.causal", GG_BOOL, 1);
    edit_set_float(e, PREFIX "rope.scaling.attn_factor", 1);
    accepted(edit_save(e, "said.gguf"));
    edit_free(e);
}

static void a_missing_number_is_named(void **state)
{
    static const char *const keys[][2] = {
        {"block_count", "layers"},
        {"context_length", "context"},
        {"embedding_length", "embedding_length"},
        {"attention.head_count", "head"},
        {"expert_used_count", "expert_used_count"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        gguf_edit *e = original();
        char key[96];
        snprintf(key, sizeof key, PREFIX "%s", keys[i][0]);
        edit_remove(e, key);
        edited_refused(e, ODMOE_ERR_FORMAT, keys[i][1], "is missing");
    }
}

/* ---- GGUF: families ---- */

static void an_unknown_family_lists_the_known_ones(void **state)
{
    gguf_edit *e = original();
    edit_set_text(e, "general.architecture", "bert-moe");
    edit_set_int(e, "bert-moe.expert_count", GG_U32, 4);
    const char *path = edit_save(e, "unknown.gguf");
    refused(path, ODMOE_ERR_UNSUPPORTED, "bert-moe", "llama, olmoe, qwen2moe, qwen3moe");
    edit_free(e);
}

static void a_dense_model_is_told_to_use_another_program(void **state)
{
    gguf_edit *e = original();
    edit_set_text(e, "general.architecture", "qwen3"); /* the dense family's name, no expert_count */
    edited_refused(e, ODMOE_ERR_UNSUPPORTED, "qwen3", "another program");
    e = edit_read(test_path("gguf/llama-Q4_K_M.gguf"));
    edit_remove(e, "llama.expert_count"); /* the same architecture name with and without experts */
    edited_refused(e, ODMOE_ERR_UNSUPPORTED, "dense", "another program");
}

static void a_file_without_or_with_an_odd_architecture_is_refused(void **state)
{
    gguf_edit *e = original();
    edit_remove(e, "general.architecture");
    edited_refused(e, ODMOE_ERR_FORMAT, "general.architecture", " ");
    e = original();
    edit_set_int(e, "general.architecture", GG_U32, 3);
    edited_refused(e, ODMOE_ERR_FORMAT, "general.architecture", " ");
    char *longest = malloc(5001);
    memset(longest, 'x', 5000);
    longest[5000] = 0;
    e = original();
    edit_set_text(e, "general.architecture", longest);
    edited_refused(e, ODMOE_ERR_UNSUPPORTED, "xxxx", "dense");
    free(longest);
}

/* ---- GGUF: tensors ---- */

static const char *const files[] = {"gguf/llama-Q4_K_M.gguf", "gguf/qwen2moe-Q4_K_M.gguf", "gguf/qwen3moe-Q4_0.gguf"};

/* Each tensor of each family, left out in turn. */
static void every_missing_tensor_is_named(void **state)
{
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        gguf_edit *e = edit_read(test_path("%s", files[f]));
        int count = e->tensor_count;
        for (int i = 0; i < count; i++) {
            edit_tensor saved = e->tensors[i];
            bool optional = !strcmp(saved.name, "output.weight") || strstr(saved.name, ".bias");
            e->tensors[i] = e->tensors[--e->tensor_count];
            const char *path = edit_save(e, "missing.gguf");
            if (optional)
                accepted(path);
            else
                refused(path, ODMOE_ERR_FORMAT, saved.name, "missing");
            e->tensors[e->tensor_count++] = e->tensors[i];
            e->tensors[i] = saved;
        }
        edit_free(e);
    }
}

/* Each tensor with one row (or element) less. */
static void every_wrong_shape_is_named(void **state)
{
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        gguf_edit *e = edit_read(test_path("%s", files[f]));
        for (int i = 0; i < e->tensor_count; i++) {
            edit_tensor *t = &e->tensors[i];
            uint64_t *last = &t->size[t->dims - 1];
            size_t whole = t->data.length;
            if (*last == 1)
                continue;
            t->data.length = whole / *last * (*last - 1);
            --*last;
            const char *name = strcmp(t->name, "token_embd.weight") ? t->name : "output.weight"; /* the vocabulary */
            refused(edit_save(e, "shape.gguf"), ODMOE_ERR_FORMAT, name, "shape");
            ++*last;
            t->data.length = whole;
        }
        edit_free(e);
    }
}

static void a_matrix_that_should_be_a_vector_is_refused_and_the_other_way_round(void **state)
{
    gguf_edit *e = original();
    edit_tensor *t = edit_find(e, "blk.0.attn_norm.weight");
    t->dims = 2;
    t->size[0] = 64;
    t->size[1] = 2;
    edited_refused(e, ODMOE_ERR_FORMAT, "blk.0.attn_norm.weight", "shape");
    e = original();
    t = edit_find(e, "blk.1.attn_q.weight");
    t->dims = 1;
    t->size[0] *= t->size[1];
    t->size[1] = 1;
    edited_refused(e, ODMOE_ERR_FORMAT, "blk.1.attn_q.weight", "shape");
    e = original();
    t = edit_find(e, "blk.1.ffn_up_exps.weight"); /* experts' rows in one matrix */
    t->dims = 2;
    t->size[1] *= t->size[2];
    t->size[2] = 1;
    edited_refused(e, ODMOE_ERR_FORMAT, "blk.1.ffn_up_exps.weight", "shape");
    e = original();
    t = edit_find(e, "token_embd.weight");
    t->dims = 1;
    t->size[0] *= t->size[1];
    t->size[1] = 1;
    edited_refused(e, ODMOE_ERR_FORMAT, "token_embd.weight", "no matrix");
}

static void a_tensor_that_the_family_does_not_have_is_refused(void **state)
{
    static const char *const names[] = {"blk.0.attn_sinks.weight", "blk.1.attn_q.bias2", "blk.2.attn_norm.weight",
                                        "blk.0.exp_probs_b.bias", "output.bias"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gguf_edit *e = original();
        const float zeros[4] = {0};
        put(&edit_add(e, names[i], GG_TENSOR_F32, 4, 0, 0)->data, zeros, sizeof zeros);
        edited_refused(e, ODMOE_ERR_UNSUPPORTED, names[i], "change the result");
    }
}

static void position_tables_that_follow_from_the_configuration_are_fine(void **state)
{
    gguf_edit *e = original();
    const float zeros[16] = {0};
    put(&edit_add(e, "blk.0.attn.rotary_emb.inv_freq", GG_TENSOR_F32, 16, 0, 0)->data, zeros, sizeof zeros);
    accepted(edit_save(e, "derived.gguf"));
    edit_free(e);
}

static void experts_that_are_there_in_two_ways_or_by_halves_are_refused(void **state)
{
    gguf_edit *e = original();
    const edit_tensor *gate = edit_find(e, "blk.0.ffn_gate_exps.weight");
    edit_tensor *both =
        edit_add(e, "blk.0.ffn_gate_up_exps.weight", gate->type, gate->size[0], 2 * gate->size[1], gate->size[2]);
    put(&both->data, gate->data.at, gate->data.length);
    put(&both->data, gate->data.at, gate->data.length);
    edited_refused(e, ODMOE_ERR_FORMAT, "layer 0", "fused and apart");

    e = original(); /* three of four experts one by one */
    edit_tensor merged = *edit_find(e, "blk.1.ffn_down_exps.weight");
    for (int x = 0; x < 3; x++) {
        char name[64];
        snprintf(name, sizeof name, "blk.1.ffn_down.%d.weight", x);
        put(&edit_add(e, name, merged.type, merged.size[0], merged.size[1], 0)->data, merged.data.at,
            merged.data.length / 4);
    }
    edit_drop(e, "blk.1.ffn_down_exps.weight");
    edited_refused(e, ODMOE_ERR_FORMAT, "layer 1, expert 3", "missing");
}

static void frequency_factors_that_give_no_position_are_refused(void **state)
{
    const float wrong[] = {0, NAN, -1};
    for (int i = 0; i < 3; i++) {
        gguf_edit *e = original();
        edit_tensor *t = edit_add(e, "rope_freqs.weight", GG_TENSOR_F32, 16, 0, 0);
        for (int f = 0; f < 16; f++)
            put(&t->data, f == 12 ? &wrong[i] : &(float){1}, sizeof(float));
        const char *path = edit_save(e, "factors.gguf");
        odmoe_options o = small_options();
        odmoe_model *model = NULL;
        assert_error(&err, odmoe_model_open(path, &o, &model, &err), ODMOE_ERR_FORMAT, path, "frequency 12");
        edit_free(e);
    }
    gguf_edit *e = original();
    edit_tensor *t = edit_add(e, "rope_freqs.weight", GG_TENSOR_F32, 15, 0, 0);
    for (int f = 0; f < 15; f++)
        put(&t->data, &(float){1}, sizeof(float));
    edited_refused(e, ODMOE_ERR_FORMAT, "rope_freqs.weight", "shape");
}

/* ---- Hugging Face ---- */

static const char *folder(const char *model, const char *members)
{
    char original[128];
    snprintf(original, sizeof original, "models/%s", model);
    return changed_folder(original, members);
}

static void numbers_of_config_json_are_checked(void **state)
{
    static const struct {
        const char *model, *members;
        odmoe_status status;
        const char *word, *word2;
    } wrong[] = {
        {"mixtral", "{\"num_hidden_layers\": 0}", ODMOE_ERR_FORMAT, "num_hidden_layers", "0"},
        {"mixtral", "{\"num_hidden_layers\": -2}", ODMOE_ERR_FORMAT, "num_hidden_layers", "-2"},
        {"mixtral", "{\"num_hidden_layers\": 1025}", ODMOE_ERR_FORMAT, "num_hidden_layers", "1025"},
        {"mixtral", "{\"num_hidden_layers\": 2.5}", ODMOE_ERR_FORMAT, "num_hidden_layers", " "},
        {"mixtral", "{\"num_hidden_layers\": \"2\"}", ODMOE_ERR_FORMAT, "num_hidden_layers", " "},
        {"mixtral", "{\"num_hidden_layers\": null}", ODMOE_ERR_FORMAT, "num_hidden_layers", " "},
        {"mixtral", "{\"num_hidden_layers\": 1}", ODMOE_ERR_UNSUPPORTED, "model.layers.1.", "unknown tensor"},
        {"mixtral", "{\"num_hidden_layers\": 3}", ODMOE_ERR_FORMAT, "model.layers.2.", "missing"},
        {"mixtral", "{\"vocab_size\": 0}", ODMOE_ERR_FORMAT, "vocab_size", "0"},
        {"mixtral", "{\"vocab_size\": 511}", ODMOE_ERR_FORMAT, "embed_tokens", "511"},
        {"mixtral", "{\"vocab_size\": 9000000000000000000}", ODMOE_ERR_FORMAT, "vocab_size", "9000000000000000000"},
        {"mixtral", "{\"max_position_embeddings\": 0}", ODMOE_ERR_FORMAT, "max_position_embeddings", "0"},
        {"mixtral", "{\"hidden_size\": 32}", ODMOE_ERR_FORMAT, "shape", "32"},
        {"mixtral", "{\"hidden_size\": 0}", ODMOE_ERR_FORMAT, "hidden_size", "0"},
        {"mixtral", "{\"num_attention_heads\": 0}", ODMOE_ERR_FORMAT, "num_attention_heads", "0"},
        {"mixtral", "{\"num_attention_heads\": 7}", ODMOE_ERR_FORMAT, "7 heads", "2 key/value"},
        {"mixtral", "{\"num_key_value_heads\": 0}", ODMOE_ERR_FORMAT, "num_key_value_heads", "0"},
        {"mixtral", "{\"num_key_value_heads\": 4}", ODMOE_ERR_FORMAT, "k_proj", "shape"},
        {"mixtral", "{\"head_dim\": 4}", ODMOE_ERR_FORMAT, "q_proj", "shape"},
        {"mixtral", "{\"head_dim\": 15}", ODMOE_ERR_FORMAT, "rope dimension 15", "even"},
        {"mixtral", "{\"num_local_experts\": 0}", ODMOE_ERR_UNSUPPORTED, "dense", "another program"},
        {"mixtral", "{\"num_local_experts\": null}", ODMOE_ERR_FORMAT, "num_local_experts", " "},
        {"mixtral", "{\"num_local_experts\": 9}", ODMOE_ERR_FORMAT, "gate", "shape"},
        {"mixtral", "{\"num_experts_per_tok\": 9}", ODMOE_ERR_RANGE, "top-k 9", "8 experts"},
        {"mixtral", "{\"num_experts_per_tok\": null}", ODMOE_ERR_FORMAT, "num_experts_per_tok", " "},
        {"mixtral", "{\"intermediate_size\": 128}", ODMOE_ERR_FORMAT, "experts.0.w1", "128"},
        {"mixtral", "{\"intermediate_size\": -5}", ODMOE_ERR_FORMAT, "intermediate_size", "-5"},
        {"mixtral", "{\"sliding_window\": -1}", ODMOE_ERR_FORMAT, "sliding_window", "-1"},
        {"mixtral", "{\"rms_norm_eps\": -1}", ODMOE_ERR_FORMAT, "rms_norm_eps", "-1"},
        {"mixtral", "{\"rms_norm_eps\": 0}", ODMOE_ERR_FORMAT, "psilon", "0"},
        {"mixtral", "{\"rope_theta\": 0}", ODMOE_ERR_FORMAT, "rope_theta", "0"},
        {"mixtral", "{\"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}", ODMOE_ERR_FORMAT,
         "rope base", "1"},
        {"mixtral", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}", ODMOE_ERR_FORMAT, "factor", "0.5"},
        {"mixtral", "{\"rope_scaling\": {\"type\": \"linear\"}}", ODMOE_ERR_FORMAT, "factor", " "},
        {"mixtral", "{\"rope_scaling\": {\"type\": \"dynamic\", \"alpha\": 2}}", ODMOE_ERR_UNSUPPORTED, "alpha",
         "mixtral"},
        {"mixtral", "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", ODMOE_ERR_UNSUPPORTED, "dynamic",
         "linear"},
        {"mixtral", "{\"hidden_act\": \"gelu\"}", ODMOE_ERR_UNSUPPORTED, "gelu", "silu"},
        {"qwen2_moe", "{\"moe_intermediate_size\": 1}", ODMOE_ERR_FORMAT, "experts.0.gate_proj", "1"},
        {"qwen2_moe", "{\"shared_expert_intermediate_size\": 8}", ODMOE_ERR_FORMAT, "shared_expert", "shape"},
        {"qwen2_moe", "{\"shared_expert_intermediate_size\": null}", ODMOE_ERR_FORMAT,
         "shared_expert_intermediate_size", " "},
        {"qwen2_moe", "{\"decoder_sparse_step\": 0}", ODMOE_ERR_FORMAT, "decoder_sparse_step", "0"},
        {"qwen2_moe", "{\"decoder_sparse_step\": 2}", ODMOE_ERR_FORMAT, "mlp.gate_proj", "missing"},
        {"qwen2_moe", "{\"mlp_only_layers\": [99]}", ODMOE_ERR_FORMAT, "mlp_only_layers", " "},
        {"qwen2_moe", "{\"mlp_only_layers\": [-1]}", ODMOE_ERR_FORMAT, "mlp_only_layers", " "},
        {"qwen2_moe", "{\"mlp_only_layers\": [\"0\"]}", ODMOE_ERR_FORMAT, "mlp_only_layers", " "},
        {"qwen2_moe", "{\"mlp_only_layers\": 0}", ODMOE_ERR_FORMAT, "mlp_only_layers", " "},
        {"qwen2_moe", "{\"use_sliding_window\": 1}", ODMOE_ERR_FORMAT, "use_sliding_window", " "},
        {"qwen2_moe", "{\"use_sliding_window\": true, \"sliding_window\": -4}", ODMOE_ERR_FORMAT, "sliding_window",
         "-4"},
        {"olmoe_f32", "{\"clip_qkv\": -1}", ODMOE_ERR_FORMAT, "clip_qkv", "-1"},
        {"olmoe_f32", "{\"norm_topk_prob\": \"yes\"}", ODMOE_ERR_FORMAT, "norm_topk_prob", " "},
        {"olmoe_f32", "{\"tie_word_embeddings\": 1}", ODMOE_ERR_FORMAT, "tie_word_embeddings", " "},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refused(folder(wrong[i].model, wrong[i].members), wrong[i].status, wrong[i].word, wrong[i].word2);
}

static void a_model_without_any_layer_of_experts_is_dense(void **state)
{
    const char *path =
        folder("qwen2_moe", "{\"decoder_sparse_step\": 1024, \"num_hidden_layers\": 1, \"layer_types\": null}");
    odmoe_info info = {.size = sizeof info};
    assert_error(&err, odmoe_inspect(path, &info, &err), ODMOE_ERR_UNSUPPORTED, "dense", "another program");
}

static void an_untied_folder_needs_its_output_matrix(void **state)
{
    accepted(folder("olmoe_tied", "{}"));
    refused(folder("olmoe_tied", "{\"tie_word_embeddings\": false}"), ODMOE_ERR_FORMAT, "lm_head.weight",
            "tie_word_embeddings");
    refused(folder("olmoe_tied", "{\"tie_word_embeddings\": null}"), ODMOE_ERR_FORMAT, "lm_head.weight",
            "tie_word_embeddings");
    accepted(folder("olmoe_f32", "{\"tie_word_embeddings\": false}"));
}

/* The folder's weights with one more tensor, of `length` zeros in F32. */
static const char *with_tensor(const char *path, const char *name, int length)
{
    char inside[1200], *whole, *text;
    size_t bytes_there;
    uint64_t header_length;
    snprintf(inside, sizeof inside, "%s/model.safetensors", path);
    assert_int_equal(file_load(inside, 64u << 20, false, &whole, &bytes_there, &err), ODMOE_OK);
    memcpy(&header_length, whole, sizeof header_length);
    json_t *header = json_loadb(whole + 8, header_length, 0, NULL);
    size_t data = bytes_there - 8 - header_length, more = (size_t)length * sizeof(float);
    json_object_set_new(header, name,
                        json_pack("{s:s, s:[i], s:[I, I]}", "dtype", "F32", "shape", length, "data_offsets",
                                  (json_int_t)data, (json_int_t)(data + more)));
    text = json_dumps(header, JSON_COMPACT);
    bytes file = {0};
    put_number(&file, strlen(text), 8);
    put_text(&file, text);
    put(&file, whole + 8 + header_length, data);
    memset(whole, 0, more);
    put(&file, whole, more);
    assert_int_equal(unlink(inside), 0);
    save(inside, &file);
    bytes_free(&file);
    json_decref(header);
    free(text);
    free(whole);
    return path;
}

/* The folder's weights with a text of the header replaced by another of the same length. */
static const char *with_header(const char *path, const char *from, const char *to)
{
    char inside[1200], *whole;
    size_t length;
    snprintf(inside, sizeof inside, "%s/model.safetensors", path);
    assert_int_equal(strlen(from), strlen(to));
    assert_int_equal(file_load(inside, 64u << 20, false, &whole, &length, &err), ODMOE_OK);
    char *at = memmem(whole, length, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    bytes file = {0};
    put(&file, whole, length);
    assert_int_equal(unlink(inside), 0);
    save(inside, &file);
    bytes_free(&file);
    free(whole);
    return path;
}

/* Each kind of weights with scales apart: of an expert, and resident. */
static void weights_and_scales_that_do_not_belong_together_are_refused(void **state)
{
    static const struct {
        const char *model, *from, *to;
        odmoe_status status;
        const char *word, *word2;
    } wrong[] = {
        {"qwen3_moe_fp8", "experts.3.up_proj.weight_scale_inv", "experts.3.up_proj.weight_scale_imv",
         ODMOE_ERR_UNSUPPORTED, "layers.0.mlp.experts.3.up_proj.weight", "without a tensor of scales"},
        {"qwen3_moe_fp8", "q_proj.weight_scale_inv", "q_proj.weight_scale_imv", ODMOE_ERR_UNSUPPORTED, "q_proj.weight",
         "without a tensor of scales"},
        {"qwen3_moe_fp8", "down_proj.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[2,1]",
         "down_proj.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[1,2]", ODMOE_ERR_UNSUPPORTED, "down_proj.weight",
         "one for each 128 x 128"},
        {"qwen3_moe_fp8", "q_proj.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[192,160]",
         "q_proj.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[160,192]", ODMOE_ERR_FORMAT, "q_proj.weight", "192 x 160"},
        {"qwen3_moe_int4", "up_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[96,5]",
         "up_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[5,96]", ODMOE_ERR_UNSUPPORTED, "up_proj.weight",
         "one for each 32, 64 or 128"},
        {"qwen3_moe_int4", "q_proj.weight_packed", "q_proj.weight_pocked", ODMOE_ERR_FORMAT, "q_proj.weight",
         "missing"},
        {"qwen3_moe_int4_128", "experts.2.gate_proj.weight_scale", "experts.2.gate_proj.weight_scalf",
         ODMOE_ERR_UNSUPPORTED, "layers.0.mlp.experts.2.gate_proj.weight", "without a tensor of scales"},
        {"qwen3_moe_int4_128", "up_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[128,2]",
         "up_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[2,128]", ODMOE_ERR_UNSUPPORTED, "up_proj.weight",
         "one for each 32, 64 or 128"},
        {"qwen3_moe_int4_128", "experts.1.down_proj.weight_shape", "experts.1.down_proj.weight_g_idx",
         ODMOE_ERR_UNSUPPORTED, "down_proj.weight", "actorder"},
        {"qwen3_moe_fp8_rows", "experts.3.up_proj.weight_scale", "experts.3.up_proj.weight_scalf",
         ODMOE_ERR_UNSUPPORTED, "layers.0.mlp.experts.3.up_proj.weight", "without a tensor of scales"},
        {"qwen3_moe_fp8_rows", "down_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[160,1]",
         "down_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[1,160]", ODMOE_ERR_UNSUPPORTED, "down_proj.weight",
         "one for each 128 x 128 weights, row or matrix"},
        {"qwen3_moe_fp8_matrix", "q_proj.weight_scale", "q_proj.weight_scalf", ODMOE_ERR_UNSUPPORTED, "q_proj.weight",
         "without a tensor of scales"},
        {"qwen3_moe_nvfp4", "q_proj.weight_global_scale", "q_proj.weight_globel_scale", ODMOE_ERR_UNSUPPORTED,
         "q_proj.weight", "global scale"},
        {"qwen3_moe_modelopt", "q_proj.weight_scale_2", "q_proj.weight_scale_3", ODMOE_ERR_UNSUPPORTED, "q_proj.weight",
         "global scale"},
        {"gpt_oss", "layers.1.mlp.experts.down_proj_scales", "layers.1.mlp.experts.down_proj_scalez",
         ODMOE_ERR_UNSUPPORTED, "layers.1.mlp.experts.down_proj_blocks", "without a tensor of scales"},
        {"gpt_oss", "down_proj_scales\":{\"dtype\":\"U8\",\"shape\":[8,64,3]",
         "down_proj_scales\":{\"dtype\":\"U8\",\"shape\":[8,3,64]", ODMOE_ERR_UNSUPPORTED, "down_proj_blocks",
         "one for each 32 weights of a row"},
        {"gpt_oss", "down_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[8,64,3,16]",
         "down_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[8,3,16,64]", ODMOE_ERR_UNSUPPORTED, "down_proj_blocks",
         "in a shape that such weights do not have"},
        {"gpt_oss", "gate_up_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[8,192,2,16]",
         "gate_up_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[8,384,1,16]", ODMOE_ERR_UNSUPPORTED, "gate_up_proj_blocks",
         "one for each 32 weights of a row"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char model[64];
        snprintf(model, sizeof model, "../families/%s", wrong[i].model);
        odmoe_info info = {.size = sizeof info};
        assert_int_equal(odmoe_inspect(folder(model, "{}"), &info, &err), ODMOE_OK);
        refused(with_header(folder(model, "{}"), wrong[i].from, wrong[i].to), wrong[i].status, wrong[i].word,
                wrong[i].word2);
    }
}

/* Rows that are looked up, as products alone know scales: here the embedding is what was a projection. */
static void an_embedding_with_scales_apart_is_refused(void **state)
{
    const char *path = folder("../families/qwen3_moe_fp8", "{}");
    with_header(path, "\"model.embed_tokens.weight\"", "\"model.former_tokens.weigh\"");
    with_header(path, "\"model.layers.0.self_attn.q_proj.weight\":", "\"model.embed_tokens.weight\":             ");
    with_header(path, "\"model.layers.0.self_attn.q_proj.weight_scale_inv\":",
                "\"model.embed_tokens.weight_scale_inv\":             ");
    refused(path, ODMOE_ERR_UNSUPPORTED, "model.embed_tokens.weight", "scales apart");
}

/* transformers leaves such biases out; adding them would compute something else. */
static void biases_that_the_configuration_denies_are_refused(void **state)
{
    refused(folder("qwen2_moe", "{\"qkv_bias\": false}"), ODMOE_ERR_UNSUPPORTED, "self_attn.q_proj.bias", "qkv_bias");
    accepted(folder("qwen2_moe", "{\"qkv_bias\": null}"));
    const char *name = "model.layers.0.self_attn.q_proj.bias";
    refused(with_tensor(folder("olmoe_f32", "{\"attention_bias\": false}"), name, 64), ODMOE_ERR_UNSUPPORTED, name,
            "attention_bias");
    refused(with_tensor(folder("olmoe_f32", "{\"attention_bias\": null}"), name, 64), ODMOE_ERR_UNSUPPORTED, name,
            "attention_bias");
    accepted(with_tensor(folder("olmoe_f32", "{\"attention_bias\": true}"), name, 64));
    refused(with_tensor(folder("qwen3_moe_f16", "{\"attention_bias\": false}"), name, 144), ODMOE_ERR_UNSUPPORTED, name,
            "attention_bias");
    accepted(with_tensor(folder("qwen3_moe_f16", "{\"attention_bias\": true}"), name, 144));
}

static void biases_that_the_family_never_has_are_refused(void **state)
{
    const char *name = "model.layers.0.self_attn.q_proj.bias", *output = "model.layers.0.self_attn.o_proj.bias";
    refused(with_tensor(folder("mixtral", "{\"attention_bias\": true}"), name, 64), ODMOE_ERR_UNSUPPORTED, name,
            "change the result");
    refused(with_tensor(folder("qwen2_moe", "{}"), output, 64), ODMOE_ERR_UNSUPPORTED, output, "change the result");
}

static void families_of_folders_are_named(void **state)
{
    refused(folder("mixtral", "{\"model_type\": \"dbrx\"}"), ODMOE_ERR_UNSUPPORTED, "dbrx",
            "mixtral, olmoe, qwen2_moe, qwen3_moe");
    refused(folder("mixtral", "{\"model_type\": \"llama\", \"num_local_experts\": null}"), ODMOE_ERR_UNSUPPORTED,
            "llama", "another program");
    refused(folder("mixtral", "{\"model_type\": null}"), ODMOE_ERR_FORMAT, "model_type", " ");
    refused(folder("mixtral", "{\"model_type\": 7}"), ODMOE_ERR_FORMAT, "model_type", " ");
}

static void a_folder_or_file_that_is_no_model_says_what_would_be(void **state)
{
    assert_int_equal(mkdir(temp_path("empty"), 0700), 0);
    refused(temp_path("empty"), ODMOE_ERR_FORMAT, "config.json", ".gguf");
    refused(temp_path("nowhere"), ODMOE_ERR_IO, "No such file", " ");
    save_text(temp_path("text.gguf"), "once upon a time there was a model");
    refused(temp_path("text.gguf"), ODMOE_ERR_FORMAT, "GGUF", " ");
    save_text(temp_path("nothing.gguf"), "");
    refused(temp_path("nothing.gguf"), ODMOE_ERR_FORMAT, " ", " ");
    const char *path = folder("mixtral", "{}");
    char inside[1200];
    snprintf(inside, sizeof inside, "%s/model.safetensors", path);
    assert_int_equal(unlink(inside), 0);
    odmoe_info info = {.size = sizeof info};
    assert_int_not_equal(odmoe_inspect(path, &info, &err), ODMOE_OK);
    assert_non_null(strstr(err.message, "safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_that_size_something_are_checked),
        cmocka_unit_test(negative_and_enormous_integers_are_refused_in_any_width),
        cmocka_unit_test(real_numbers_that_give_no_positions_or_norms_are_refused),
        cmocka_unit_test(an_unknown_position_scaling_is_unsupported),
        cmocka_unit_test(what_changes_attention_and_is_not_supported_is_refused),
        cmocka_unit_test(a_missing_number_is_named),
        cmocka_unit_test(an_unknown_family_lists_the_known_ones),
        cmocka_unit_test(a_dense_model_is_told_to_use_another_program),
        cmocka_unit_test(a_file_without_or_with_an_odd_architecture_is_refused),
        cmocka_unit_test(every_missing_tensor_is_named),
        cmocka_unit_test(every_wrong_shape_is_named),
        cmocka_unit_test(a_matrix_that_should_be_a_vector_is_refused_and_the_other_way_round),
        cmocka_unit_test(a_tensor_that_the_family_does_not_have_is_refused),
        cmocka_unit_test(position_tables_that_follow_from_the_configuration_are_fine),
        cmocka_unit_test(experts_that_are_there_in_two_ways_or_by_halves_are_refused),
        cmocka_unit_test(frequency_factors_that_give_no_position_are_refused),
        cmocka_unit_test(numbers_of_config_json_are_checked),
        cmocka_unit_test(a_model_without_any_layer_of_experts_is_dense),
        cmocka_unit_test(an_untied_folder_needs_its_output_matrix),
        cmocka_unit_test(biases_that_the_configuration_denies_are_refused),
        cmocka_unit_test(biases_that_the_family_never_has_are_refused),
        cmocka_unit_test(families_of_folders_are_named),
        cmocka_unit_test(a_folder_or_file_that_is_no_model_says_what_would_be),
        cmocka_unit_test(weights_and_scales_that_do_not_belong_together_are_refused),
        cmocka_unit_test(an_embedding_with_scales_apart_is_refused),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
