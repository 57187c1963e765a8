/* Granite 4 hybrids: Mamba-2 in most layers, attention without rotation in the others; experts and a shared MLP in each;
 * Granite's multipliers. */
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"
#include "model/mixers/mamba2.h"

static void turn_heads(model_config *c, bool turn)
{
    c->rope_sets = turn ? 1 : 0;
    for (int l = 0; l < c->layers; l++)
        c->layer[l].rope = turn ? 0 : ROPE_OFF;
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    bool turn = true; /* the key's older meaning fits no other use here */
    char key[64];
    snprintf(key, sizeof key, "%s.rope.scaling.finetuned", prefix);
    odmoe_status status = gguf_has(f->gguf, key) ? gguf_get_bool(f->gguf, key, &turn, err) : ODMOE_OK;
    turn_heads(c, turn);
    arch_gguf_other_mixers(c, &mixer_mamba2);
    arch_gguf_shared(f, c);
    return status ? status : arch_gguf_granite(f, prefix, c, err);
}

/* The width of a head may be left to the others: "auto". */
static odmoe_status read_mamba(config_object json, model_config *c, odmoe_error *err)
{
    const json_t *head = json_object_get(json.object, "mamba_d_head");
    int64_t expand, dim;
    odmoe_status status = config_int(json, "mamba_expand", false, 1, MODEL_DIM_MAX, 2, &expand, err);
    if (status)
        return status;
    if (expand * c->hidden > MODEL_DIM_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: mamba_expand %d of hidden size %d: at most %d in all is possible",
                       json.file, (int)expand, c->hidden, MODEL_DIM_MAX);
    c->mamba_inner = (int)expand * c->hidden;
    if (!head || (json_is_string(head) && !strcmp(json_string_value(head), "auto")))
        return ODMOE_OK;
    status = config_int(json, "mamba_d_head", false, 1, MODEL_DIM_MAX, 0, &dim, err);
    if (!status && dim && dim * c->mamba_heads != c->mamba_inner)
        status = err_set(err, ODMOE_ERR_FORMAT,
                         "%s: mamba_n_heads %d of mamba_d_head %d are not mamba_expand %d of "
                         "hidden size %d",
                         json.file, c->mamba_heads, (int)dim, (int)expand, c->hidden);
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    static const layer_word words[] = {{"mamba", &mixer_mamba2, FFN_EXPERTS},
                                       {"attention", &mixer_attention, FFN_EXPERTS},
                                       {"linear_attention", &mixer_mamba2, FFN_EXPERTS},
                                       {"full_attention", &mixer_attention, FFN_EXPERTS},
                                       {0}};
    const char *positions;
    odmoe_status status = config_text(json, "position_embedding_type", false, "nope", &positions, err);
    if (!status)
        status = arch_hf_layer_words(json, "layer_types", words, c, err);
    if (!status)
        status = read_mamba(json, c, err);
    if (!status)
        status = arch_hf_only(json, "mamba_proj_bias", 0, err);
    if (!status)
        status = arch_hf_time_step(json, err);
    if (!status)
        turn_heads(c, !strcmp(positions, "rope"));
    return status;
}

static const field_rule fields[] = {
    ARCH_FIELDS_GRANITE,
    {FIELD_conv_width, "ssm.conv_kernel", "mamba_d_conv", 4},
    {FIELD_conv_bias, NULL, "mamba_conv_bias", 1},
    {FIELD_mamba_heads, "ssm.time_step_rank", "mamba_n_heads", 128},
    {FIELD_mamba_inner, "ssm.inner_size", NULL, 0},
    {FIELD_mamba_state, "ssm.state_size", "mamba_d_state", 256},
    {FIELD_mamba_groups, "ssm.group_count", "mamba_n_groups", 1},
    {FIELD_shared_ffn, "expert_shared_feed_forward_length", "shared_intermediate_size", 0, .hf_required = true},
    FIELDS_END,
};

#define SHARED_HF "model.layers.%d.shared_mlp.input_linear.weight"

static const weight_rule shared[] = {
    {W_SHARED_GATE, IN_MOE_LAYERS, "blk.%d.ffn_gate_shexp.weight", NULL, DIM_SHARED_FFN, DIM_HIDDEN, false,
     .hf_fused = SHARED_HF, .only_if = FIELD_shared_ffn},
    {W_SHARED_UP, IN_MOE_LAYERS, "blk.%d.ffn_up_shexp.weight", NULL, DIM_SHARED_FFN, DIM_HIDDEN, false,
     .hf_fused = SHARED_HF, .only_if = FIELD_shared_ffn},
    {W_SHARED_DOWN, IN_MOE_LAYERS, "blk.%d.ffn_down_shexp.weight", "model.layers.%d.shared_mlp.output_linear.weight",
     DIM_HIDDEN, DIM_SHARED_FFN, false, .only_if = FIELD_shared_ffn},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_mamba2, mamba2_weights},
                                       {NULL, arch_weights_granite},
                                       {NULL, shared},
                                       {0}};

const arch arch_granitemoehybrid = {
    .family = "granitemoehybrid",
    .gguf = "granitehybrid",
    .fields = fields,
    .rope_theta = 1e4,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = arch_experts_granite,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
