/* The same model comes in GGUF files of many ages and writers: merged, fused and one-by-one experts, keys that came
 * later, position scaling under several names. Each must compute what the plain file does, bit for bit; and models
 * converted here from the Hugging Face goldens must compute what transformers did. */
#include "compute/compute.h"

#include "gguf_edit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "support/golden.h"
#include "support/models.h"

#define TOKENS 12
#define LAYERS 2

typedef void change(gguf_edit *e, const char *arch);

/* ---- running ---- */

/* Logits [n, vocab] of a text; the caller frees them. */
static float *logits_of(const char *path, const char *kernels, const int32_t *tokens, int n, size_t *count)
{
    odmoe_options o = small_options();
    o.kernels = kernels;
    odmoe_model *model = must_open(path, &o);
    odmoe_session *session = must_create(model, 0);
    size_t vocab = (size_t)vocab_of(model);
    float *logits = malloc((size_t)n * vocab * sizeof *logits);
    must_forward(model, session, tokens, n, &(forward_options){ODMOE_LOGITS_ALL, logits});
    odmoe_session_free(session);
    odmoe_model_close(model);
    *count = (size_t)n * vocab;
    return logits;
}

static bool same_logits(const char *a, const char *b)
{
    size_t n, m;
    float *x = logits_of(a, "auto", text_tokens(0, TOKENS), TOKENS, &n);
    float *y = logits_of(b, "auto", text_tokens(0, TOKENS), TOKENS, &m);
    assert_int_equal(n, m);
    bool same = !memcmp(x, y, n * sizeof *x);
    free(x);
    free(y);
    return same;
}

static const char *key(const char *arch, const char *name)
{
    static char buffers[4][96];
    static int turn;
    char *out = buffers[turn++ % 4];
    snprintf(out, sizeof buffers[0], "%s.%s", arch, name);
    return out;
}

/* The file with a change made to it. */
static const char *changed(const char *arch, change *make, const char *name)
{
    char source[64];
    const char *type = !strcmp(arch, "qwen3moe") ? "Q4_0" : !strcmp(arch, "olmoe") ? "Q5_0" : "Q4_K_M";
    snprintf(source, sizeof source, "gguf/%s-%s.gguf", arch, type);
    gguf_edit *e = edit_read(test_path("%s", source));
    if (make)
        make(e, arch);
    const char *path = edit_save(e, name);
    edit_free(e);
    return path;
}

static void assert_same(const char *arch, change *a, change *b)
{
    const char *first = changed(arch, a, "a.gguf"), *second = changed(arch, b, "b.gguf");
    if (!same_logits(first, second))
        fail_msg("%s: the variants differ", arch);
}

static const char *const architectures[] = {"llama", "olmoe", "qwen2moe", "qwen3moe"};

static void same_for_all(change *a, change *b)
{
    for (int i = 0; i < 4; i++)
        assert_same(architectures[i], a, b);
}

static const char *layer_name(int layer, const char *rest)
{
    static char buffers[4][96];
    static int turn;
    char *out = buffers[turn++ % 4];
    snprintf(out, sizeof buffers[0], "blk.%d.%s", layer, rest);
    return out;
}

/* ---- where experts lie ---- */

static void one_by_one(gguf_edit *e, const char *arch)
{
    static const char *const roles[] = {"gate", "up", "down"};
    char name[96];
    for (int l = 0; l < LAYERS; l++)
        for (int r = 0; r < 3; r++) {
            char merged_name[96];
            snprintf(merged_name, sizeof merged_name, "blk.%d.ffn_%s_exps.weight", l, roles[r]);
            edit_tensor merged = *edit_find(e, merged_name);
            size_t part = merged.data.length / merged.size[2];
            for (uint64_t x = 0; x < merged.size[2]; x++) {
                snprintf(name, sizeof name, "blk.%d.ffn_%s.%d.weight", l, roles[r], (int)x);
                put(&edit_add(e, name, merged.type, merged.size[0], merged.size[1], 0)->data, merged.data.at + x * part,
                    part);
            }
            edit_drop(e, merged_name);
        }
}

static void fused(gguf_edit *e, const char *arch)
{
    for (int l = 0; l < LAYERS; l++) {
        edit_tensor gate = *edit_find(e, layer_name(l, "ffn_gate_exps.weight"));
        edit_tensor up = *edit_find(e, layer_name(l, "ffn_up_exps.weight"));
        assert_int_equal(gate.type, up.type);
        size_t part = gate.data.length / gate.size[2];
        edit_tensor *both = edit_add(e, layer_name(l, "ffn_gate_up_exps.weight"), gate.type, gate.size[0],
                                     2 * gate.size[1], gate.size[2]);
        for (uint64_t x = 0; x < gate.size[2]; x++) {
            put(&both->data, gate.data.at + x * part, part);
            put(&both->data, up.data.at + x * part, part);
        }
        edit_drop(e, layer_name(l, "ffn_gate_exps.weight"));
        edit_drop(e, layer_name(l, "ffn_up_exps.weight"));
    }
}

static void experts_one_by_one_compute_the_same(void **state)
{
    same_for_all(NULL, one_by_one);
}

static void experts_with_gate_and_up_fused_compute_the_same(void **state)
{
    same_for_all(NULL, fused);
}

static void tensors_in_any_order_compute_the_same(void **state)
{
    gguf_edit *e = edit_read(test_path("gguf/qwen2moe-Q4_K_M.gguf"));
    for (int i = 0; i < e->tensor_count / 2; i++) {
        edit_tensor t = e->tensors[i];
        e->tensors[i] = e->tensors[e->tensor_count - 1 - i];
        e->tensors[e->tensor_count - 1 - i] = t;
    }
    const char *path = edit_save(e, "reversed.gguf");
    edit_free(e);
    assert_true(same_logits(test_path("gguf/qwen2moe-Q4_K_M.gguf"), path));
}

/* ---- the output matrix ---- */

static void output_is_a_copy_of_the_embedding(gguf_edit *e, const char *arch)
{
    edit_drop(e, "output.weight");
    edit_add_like(e, "output.weight", "token_embd.weight");
}

static void no_output(gguf_edit *e, const char *arch)
{
    edit_drop(e, "output.weight");
}

static void a_file_without_an_output_matrix_uses_the_embedding(void **state)
{
    same_for_all(output_is_a_copy_of_the_embedding, no_output);
}

/* ---- biases of attention ---- */

static const char *biased; /* attn_q, ... of the first layer */

static void with_bias(gguf_edit *e, const char *arch)
{
    char bias[64], beside[64];
    snprintf(bias, sizeof bias, "blk.0.%s.bias", biased);
    snprintf(beside, sizeof beside, "blk.0.%s.weight", biased);
    uint64_t rows = edit_find(e, beside)->size[1];
    edit_tensor *t = edit_add(e, bias, GG_TENSOR_F32, rows, 0, 0);
    for (uint64_t i = 0; i < rows; i++)
        put(&t->data, &(float){0.1f * (float)(i % 7)}, sizeof(float));
}

/* Families whose files may have them; qwen2moe's always do, on q, k and v. */
static void biases_of_attention_are_added(void **state)
{
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const char *const families[] = {"llama", "olmoe", "qwen3moe"};
    for (int i = 0; i < 3; i++)
        for (int part = 0; part < 4; part++) {
            biased = parts[part];
            if (same_logits(changed(families[i], NULL, "a.gguf"), changed(families[i], with_bias, "b.gguf")))
                fail_msg("%s: %s.bias changes nothing", families[i], biased);
        }
}

/* ---- keys that older files lack, or write in another type ---- */

static void no_later_keys(gguf_edit *e, const char *arch)
{
    if (!strncmp(arch, "qwen", 4))
        edit_remove(e, key(arch, "expert_feed_forward_length"));
    if (!strcmp(arch, "qwen2moe"))
        edit_remove(e, key(arch, "expert_shared_feed_forward_length"));
    edit_remove(e, key(arch, "attention.key_length")); /* in all of these it is the hidden size / heads */
    edit_remove(e, key(arch, "attention.value_length"));
    if (!strcmp(arch, "llama"))
        edit_remove(e, key(arch, "rope.dimension_count"));
}

static void other_types(gguf_edit *e, const char *arch)
{
    edit_set_int(e, key(arch, "block_count"), GG_U64, LAYERS);
    edit_set_int(e, key(arch, "expert_count"), GG_I32, 4);
    edit_set_int(e, key(arch, "context_length"), GG_U64, 512);
}

static void numbers_follow_from_tensors_where_keys_are_missing(void **state)
{
    same_for_all(NULL, no_later_keys);
}

static void integers_may_be_of_any_width(void **state)
{
    same_for_all(NULL, other_types);
}

/* ---- groups of experts ---- */

/* The pair of neighbours with the largest sum of probabilities, of which the two experts are. */
static void check_groups(void *user, const odmoe_tap *tap)
{
    for (int64_t row = 0; tap->router && row < tap->n; row++) {
        const float *l = tap->router + row * 4;
        const int32_t *chosen = tap->topk + row * 2;
        int best = exp(l[2]) + exp(l[3]) > exp(l[0]) + exp(l[1]);
        assert_int_equal(chosen[0] / 2, best);
        assert_int_equal(chosen[1] / 2, best);
        *(int *)user += 1;
    }
}

static void one_group_of_two(gguf_edit *e, const char *arch)
{
    edit_set_int(e, key(arch, "expert_group_count"), GG_U32, 2);
    edit_set_int(e, key(arch, "expert_group_used_count"), GG_U32, 1);
}

static void one_group_is_no_group(gguf_edit *e, const char *arch)
{
    edit_set_int(e, key(arch, "expert_group_count"), GG_U32, 1);
    edit_set_int(e, key(arch, "expert_group_used_count"), GG_U32, 1);
}

/* As llama.cpp does it in every family. */
static void experts_come_from_the_best_groups_where_a_file_has_groups(void **state)
{
    for (int i = 0; i < 4; i++) {
        odmoe_options o = small_options();
        odmoe_model *model = must_open(changed(architectures[i], one_group_of_two, "groups.gguf"), &o);
        odmoe_session *session = must_create(model, 0);
        int seen = 0;
        forward_options look = {.on_tap = check_groups, .user = &seen};
        must_forward(model, session, text_tokens(0, TOKENS), TOKENS, &look);
        assert_int_equal(seen, TOKENS * LAYERS);
        odmoe_session_free(session);
        odmoe_model_close(model);
    }
    same_for_all(NULL, one_group_is_no_group);
}

/* ---- positions ---- */

static void linear_4(gguf_edit *e, const char *arch)
{
    edit_set_text(e, key(arch, "rope.scaling.type"), "linear");
    edit_set_float(e, key(arch, "rope.scaling.factor"), 4);
}
static void factor_alone(gguf_edit *e, const char *arch)
{
    edit_set_float(e, key(arch, "rope.scaling.factor"), 4);
}
static void scale_linear(gguf_edit *e, const char *arch)
{
    edit_set_float(e, key(arch, "rope.scale_linear"), 4);
}
static void frequency_factors_of_4(gguf_edit *e, const char *arch)
{
    uint64_t half = !strcmp(arch, "qwen2moe") ? 32 : 16;
    edit_tensor *t = edit_add(e, "rope_freqs.weight", GG_TENSOR_F32, half, 0, 0);
    const float four = 4;
    for (uint64_t i = 0; i < half; i++)
        put(&t->data, &four, sizeof four);
}
static void type_none(gguf_edit *e, const char *arch)
{
    edit_set_text(e, key(arch, "rope.scaling.type"), "none");
    edit_set_float(e, key(arch, "rope.scaling.factor"), 4);
}
static void factor_0(gguf_edit *e, const char *arch)
{
    edit_set_float(e, key(arch, "rope.scaling.factor"), 0);
}
static void yarn(gguf_edit *e, const char *arch)
{
    edit_set_text(e, key(arch, "rope.scaling.type"), "yarn");
    edit_set_float(e, key(arch, "rope.scaling.factor"), 4);
    edit_set_int(e, key(arch, "rope.scaling.original_context_length"), GG_U32, 128);
}
static void yarn_in_full(gguf_edit *e, const char *arch)
{
    yarn(e, arch);
    edit_set_float(e, key(arch, "rope.scaling.yarn_beta_fast"), 32);
    edit_set_float(e, key(arch, "rope.scaling.yarn_beta_slow"), 1);
    edit_set_float(e, key(arch, "rope.scaling.attn_factor"), 1);
}

static void linear_scaling_has_several_spellings(void **state)
{
    for (int i = 0; i < 4; i++) {
        const char *arch = architectures[i];
        assert_same(arch, linear_4, factor_alone);
        assert_same(arch, linear_4, scale_linear);
        assert_same(arch, linear_4, frequency_factors_of_4); /* powers of two: exact */
        assert_false(same_logits(changed(arch, NULL, "a.gguf"), changed(arch, linear_4, "b.gguf")));
    }
}

static void scaling_that_is_none_changes_nothing(void **state)
{
    same_for_all(NULL, type_none);
    same_for_all(NULL, factor_0);
}

static void yarn_has_defaults(void **state)
{
    same_for_all(yarn, yarn_in_full);
    assert_false(same_logits(changed("llama", yarn, "a.gguf"), changed("llama", linear_4, "b.gguf")));
}

/* ---- converted from Hugging Face, compared with what transformers computed ---- */

typedef struct conversion {
    gguf_edit *e;
    tensor_index *hf;
    const char *arch;
    int experts, heads, kv_heads;
} conversion;

static const tensor_info *hf_find(const conversion *c, const char *format, int layer, int expert)
{
    char name[160];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, sizeof name, format, layer, expert);
#pragma GCC diagnostic pop
    return tensor_index_find(c->hf, name);
}

/* The bytes of a tensor are appended; heads > 0: q or k rows, from halves to neighbours (i, i + n/2 become 2i, 2i + 1).
 */
static void put_tensor(const conversion *c, const tensor_info *t, bytes *out, int heads)
{
    odmoe_error err = {0};
    unsigned char *raw = malloc(t->length);
    if (tensor_read(c->hf, t, raw, &err))
        fail_msg("%s", err.message);
    uint64_t rows = t->shape[0], row = t->length / rows;
    for (uint64_t r = 0; r < rows && heads; r++) {
        uint64_t length = rows / (uint64_t)heads, head = r / length, i = r % length;
        put(out, raw + (head * length + i / 2 + (i % 2) * (length / 2)) * row, row);
    }
    if (!heads)
        put(out, raw, t->length);
    free(raw);
}

static void convert_tensor(conversion *c, const char *name, const char *hf, int layer, int heads)
{
    const tensor_info *t = hf_find(c, hf, layer, 0);
    if (!t) /* another family's */
        return;
    edit_tensor *to =
        edit_add(c->e, name, dtype_info(t->type)->gguf, t->shape[t->dims - 1], t->dims > 1 ? t->shape[0] : 0, 0);
    put_tensor(c, t, &to->data, heads);
}

static void convert_experts(conversion *c, const char *name, const char *hf, int layer)
{
    const tensor_info *t = hf_find(c, hf, layer, 0);
    if (!t)
        return;
    edit_tensor *to = edit_add(c->e, name, dtype_info(t->type)->gguf, t->shape[1], t->shape[0], (uint64_t)c->experts);
    for (int x = 0; x < c->experts; x++)
        put_tensor(c, hf_find(c, hf, layer, x), &to->data, 0);
}

static void convert_layer(conversion *c, int l)
{
    static const struct {
        const char *gguf, *hf;
    } plain[] =
        {
            {"attn_norm.weight", "model.layers.%d.input_layernorm.weight"},
            {"ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight"},
            {"attn_v.weight", "model.layers.%d.self_attn.v_proj.weight"},
            {"attn_q.bias", "model.layers.%d.self_attn.q_proj.bias"},
            {"attn_k.bias", "model.layers.%d.self_attn.k_proj.bias"},
            {"attn_v.bias", "model.layers.%d.self_attn.v_proj.bias"},
            {"attn_output.weight", "model.layers.%d.self_attn.o_proj.weight"},
            {"attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight"},
            {"attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight"},
            {"ffn_gate_inp.weight", "model.layers.%d.mlp.gate.weight"},
            {"ffn_gate_inp.weight", "model.layers.%d.block_sparse_moe.gate.weight"},
            {"ffn_gate_shexp.weight", "model.layers.%d.mlp.shared_expert.gate_proj.weight"},
            {"ffn_up_shexp.weight", "model.layers.%d.mlp.shared_expert.up_proj.weight"},
            {"ffn_down_shexp.weight", "model.layers.%d.mlp.shared_expert.down_proj.weight"},
            {"ffn_gate_inp_shexp.weight", "model.layers.%d.mlp.shared_expert_gate.weight"},
        },
      experts[] = {
          {"ffn_gate_exps.weight", "model.layers.%d.mlp.experts.%d.gate_proj.weight"},
          {"ffn_up_exps.weight", "model.layers.%d.mlp.experts.%d.up_proj.weight"},
          {"ffn_down_exps.weight", "model.layers.%d.mlp.experts.%d.down_proj.weight"},
          {"ffn_gate_exps.weight", "model.layers.%d.block_sparse_moe.experts.%d.w1.weight"},
          {"ffn_up_exps.weight", "model.layers.%d.block_sparse_moe.experts.%d.w3.weight"},
          {"ffn_down_exps.weight", "model.layers.%d.block_sparse_moe.experts.%d.w2.weight"},
      };
    bool neighbours = !strcmp(c->arch, "llama");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        convert_tensor(c, layer_name(l, plain[i].gguf), plain[i].hf, l, 0);
    convert_tensor(c, layer_name(l, "attn_q.weight"), "model.layers.%d.self_attn.q_proj.weight", l,
                   neighbours ? c->heads : 0);
    convert_tensor(c, layer_name(l, "attn_k.weight"), "model.layers.%d.self_attn.k_proj.weight", l,
                   neighbours ? c->kv_heads : 0);
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++)
        convert_experts(c, layer_name(l, experts[i].gguf), experts[i].hf, l);
}

/* Numbers as the folders' config.json have them. */
typedef struct numbers {
    const char *arch, *folder;
    int layers, hidden, heads, kv_heads, head_dim, experts, top_k, ffn;
    double theta, eps;
    change *more;
} numbers;

static gguf_edit *convert(const numbers *n)
{
    odmoe_error err = {0};
    conversion c = {
        .e = edit_empty(), .arch = n->arch, .experts = n->experts, .heads = n->heads, .kv_heads = n->kv_heads};
    if (safetensors_open_folder(test_path("%s", n->folder), &c.hf, &err))
        fail_msg("%s", err.message);
    const struct {
        const char *name;
        int value;
    } ints[] = {{"context_length", 512},
                {"block_count", n->layers},
                {"embedding_length", n->hidden},
                {"attention.head_count", n->heads},
                {"attention.head_count_kv", n->kv_heads},
                {"attention.key_length", n->head_dim},
                {"attention.value_length", n->head_dim},
                {"expert_count", n->experts},
                {"expert_used_count", n->top_k},
                {"expert_feed_forward_length", n->ffn}};
    edit_set_text(c.e, "general.architecture", n->arch);
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        edit_set_int(c.e, key(n->arch, ints[i].name), GG_U32, (uint64_t)ints[i].value);
    edit_set_float(c.e, key(n->arch, "rope.freq_base"), n->theta);
    edit_set_float(c.e, key(n->arch, "attention.layer_norm_rms_epsilon"), n->eps);
    if (n->more)
        n->more(c.e, n->arch);
    convert_tensor(&c, "token_embd.weight", "model.embed_tokens.weight", 0, 0);
    convert_tensor(&c, "output_norm.weight", "model.norm.weight", 0, 0);
    convert_tensor(&c, "output.weight", "lm_head.weight", 0, 0);
    for (int l = 0; l < n->layers; l++)
        convert_layer(&c, l);
    assert_true((size_t)c.e->tensor_count < tensor_index_count(c.hf));
    tensor_index_free(c.hf);
    return c.e;
}

static void window_8(gguf_edit *e, const char *arch)
{
    edit_set_int(e, key(arch, "attention.sliding_window"), GG_U32, 8);
}
static void linear_2(gguf_edit *e, const char *arch)
{
    edit_set_text(e, key(arch, "rope.scaling.type"), "linear");
    edit_set_float(e, key(arch, "rope.scaling.factor"), 2);
}
static void yarn_4_of_16(gguf_edit *e, const char *arch)
{
    yarn(e, arch);
    edit_set_int(e, key(arch, "rope.scaling.original_context_length"), GG_U32, 16);
}

static const numbers goldens[] = {
    {"llama", "models/mixtral", 2, 64, 8, 2, 8, 8, 2, 40, 1e6, 1e-5, NULL},
    {"llama", "models/mixtral_sliding", 2, 64, 8, 2, 8, 8, 2, 40, 1e6, 1e-5, window_8},
    {"olmoe", "models/olmoe_linear", 2, 64, 4, 4, 16, 7, 4, 24, 1e4, 1e-5, linear_2},
    {"qwen3moe", "models/qwen3_moe_yarn", 2, 64, 4, 2, 36, 9, 5, 24, 1e6, 1e-6, yarn_4_of_16},
};

static void converted_models_compute_what_transformers_did(void **state)
{
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        golden *expected = golden_open(test_path("%s/expected.safetensors", goldens[i].folder));
        gguf_edit *e = convert(&goldens[i]);
        size_t n, count, tokens;
        const int32_t *ids = golden_i32(expected, &tokens, "input_ids");
        const float *want = golden_f32(expected, &count, "logits");
        float *got = logits_of(edit_save(e, "converted.gguf"), "ref", ids, (int)tokens, &n);
        assert_int_equal(n, count);
        double error = golden_error(got, want, n);
        print_message("%s: logits within %.1e\n", goldens[i].folder, error);
        assert_true(error < 1e-3);
        free(got);
        edit_free(e);
        golden_close(expected);
    }
}

/* ---- NVFP4 with a number for a whole matrix ---- */

#define NVFP4_BLOCK 64
#define NVFP4_BYTES 36
#define GG_TENSOR_NVFP4 40

/* A number that a matrix's weights are multiplied with. */
static float factor_of(const char *name, uint64_t expert)
{
    return 0.0005f * (float)(1 + strlen(name) % 7 + expert % 5);
}

/* The tensor as NVFP4 of random bytes with its factors beside it, or (plain) the float32 weights that they stand for
 * (test_ref.c compares those of blocks with gguf-py's). */
static void put_nvfp4(gguf_edit *e, const char *name, bool plain)
{
    edit_tensor old = *edit_find(e, name);
    uint64_t matrices = old.dims == 3 ? old.size[2] : 1, blocks = old.size[0] * old.size[1] / NVFP4_BLOCK;
    char beside[96];
    assert_int_equal(old.size[0] % NVFP4_BLOCK, 0);
    edit_drop(e, name);
    edit_tensor *new = edit_add(e, name, plain ? GG_TENSOR_F32 : GG_TENSOR_NVFP4, old.size[0], old.size[1],
                                old.dims == 3 ? old.size[2] : 0);
    uint32_t random = (uint32_t)strlen(name);
    for (uint64_t m = 0; m < matrices; m++)
        for (uint64_t b = 0; b < blocks; b++) {
            uint8_t block[NVFP4_BYTES];
            float values[NVFP4_BLOCK];
            for (int i = 0; i < NVFP4_BYTES; i++)
                block[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
            for (int i = 0; i < 4; i++) /* scales between 4 and 30 */
                block[i] = (uint8_t)(0x48 + block[i] % 24);
            compute_floats(DTYPE_NVFP4, block, values, NVFP4_BLOCK);
            for (int i = 0; i < NVFP4_BLOCK; i++)
                values[i] *= factor_of(name, m);
            put(&new->data, plain ? (void *)values : block, plain ? sizeof values : sizeof block);
        }
    snprintf(beside, sizeof beside, "%.*s.scale", (int)(strlen(name) - strlen(".weight")), name);
    for (uint64_t m = 0; m < matrices && !plain; m++) {
        float factor = factor_of(name, m);
        edit_tensor *scale = m ? edit_find(e, beside) : edit_add(e, beside, GG_TENSOR_F32, matrices, 0, 0);
        put(&scale->data, &factor, sizeof factor);
    }
}

static const char *nvfp4_file(const char *name, bool plain)
{
    static const char *const roles[] = {"attn_q.weight", "attn_output.weight", "ffn_gate_exps.weight",
                                        "ffn_up_exps.weight", "ffn_down_exps.weight"};
    gguf_edit *e = edit_read(test_path("gguf/qwen3moe-BF16.gguf"));
    for (int l = 0; l < LAYERS; l++)
        for (size_t r = 0; r < sizeof roles / sizeof *roles; r++)
            put_nvfp4(e, layer_name(l, roles[r]), plain);
    const char *path = edit_save(e, name);
    edit_free(e);
    return path;
}

static void nvfp4_weights_are_multiplied_with_the_number_beside_them(void **state)
{
    static const char *const kernels[] = {"ref", "auto"};
    const char *quantised = nvfp4_file("nvfp4.gguf", false), *plain = nvfp4_file("plain.gguf", true);
    for (int k = 0; k < 2; k++) {
        size_t n, m;
        float *got = logits_of(quantised, kernels[k], text_tokens(0, TOKENS), TOKENS, &n);
        float *want = logits_of(plain, kernels[k], text_tokens(0, TOKENS), TOKENS, &m);
        assert_int_equal(n, m);
        double error = golden_error(got, want, n);
        print_message("%s: within %.1e\n", kernels[k], error);
        assert_true(error < 1e-5);
        free(got);
        free(want);
    }
}

static void a_number_that_does_not_belong_to_the_matrices_is_unknown(void **state)
{
    gguf_edit *e = edit_read(nvfp4_file("nvfp4.gguf", false));
    edit_drop(e, "blk.0.ffn_up_exps.scale");
    put(&edit_add(e, "blk.0.ffn_up_exps.scale", GG_TENSOR_F32, 2, 0, 0)->data, (float[]){1, 1}, 2 * sizeof(float));
    odmoe_info info = {.size = sizeof info};
    odmoe_error err;
    assert_error(&err, odmoe_inspect(edit_save(e, "wrong.gguf"), &info, &err), ODMOE_ERR_UNSUPPORTED,
                 "blk.0.ffn_up_exps.scale", "unknown tensor");
    edit_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_one_by_one_compute_the_same),
        cmocka_unit_test(experts_with_gate_and_up_fused_compute_the_same),
        cmocka_unit_test(tensors_in_any_order_compute_the_same),
        cmocka_unit_test(a_file_without_an_output_matrix_uses_the_embedding),
        cmocka_unit_test(biases_of_attention_are_added),
        cmocka_unit_test(numbers_follow_from_tensors_where_keys_are_missing),
        cmocka_unit_test(integers_may_be_of_any_width),
        cmocka_unit_test(experts_come_from_the_best_groups_where_a_file_has_groups),
        cmocka_unit_test(linear_scaling_has_several_spellings),
        cmocka_unit_test(scaling_that_is_none_changes_nothing),
        cmocka_unit_test(yarn_has_defaults),
        cmocka_unit_test(converted_models_compute_what_transformers_did),
        cmocka_unit_test(nvfp4_weights_are_multiplied_with_the_number_beside_them),
        cmocka_unit_test(a_number_that_does_not_belong_to_the_matrices_is_unknown),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
