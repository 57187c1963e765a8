/* tables.c - tables of tensors that families share. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

#define MODEL                                                                                                        \
    {W_EMBED,    IN_MODEL, "token_embd.weight", "model.embed_tokens.weight|model.word_embeddings.weight", DIM_VOCAB, \
     DIM_HIDDEN, false},                                                                                             \
        {W_OUTPUT_NORM, IN_MODEL, "output_norm.weight", "model.norm.weight", DIM_VECTOR, DIM_HIDDEN, false},         \
        {W_OUTPUT, IN_MODEL, "output.weight", "lm_head.weight", DIM_VOCAB, DIM_HIDDEN, true},                        \
    {                                                                                                                \
        W_ROPE_FACTORS, IN_MODEL, "rope_freqs.weight", NULL, DIM_VECTOR, DIM_HALF_ROPE, true                         \
    }

#define MIXER_NORM                                                                                                    \
    {                                                                                                                 \
        W_MIXER_NORM, IN_ALL_LAYERS, "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", DIM_VECTOR, \
            DIM_HIDDEN, false                                                                                         \
    }

#define DENSE                                                                                                        \
    {W_DENSE_GATE,                                                                                                   \
     IN_DENSE_LAYERS,                                                                                                \
     "blk.%d.ffn_gate.weight",                                                                                       \
     "model.layers.%d.mlp.gate_proj.weight",                                                                         \
     DIM_DENSE_FFN,                                                                                                  \
     DIM_HIDDEN,                                                                                                     \
     false},                                                                                                         \
        {W_DENSE_UP,                                                                                                 \
         IN_DENSE_LAYERS,                                                                                            \
         "blk.%d.ffn_up.weight",                                                                                     \
         "model.layers.%d.mlp.up_proj.weight",                                                                       \
         DIM_DENSE_FFN,                                                                                              \
         DIM_HIDDEN,                                                                                                 \
         false},                                                                                                     \
    {                                                                                                                \
        W_DENSE_DOWN, IN_DENSE_LAYERS, "blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", DIM_HIDDEN, \
            DIM_DENSE_FFN, false                                                                                     \
    }

const weight_rule arch_weights_model[] = {MODEL, WEIGHTS_END};

const weight_rule arch_weights_dense[] = {DENSE, WEIGHTS_END};

const weight_rule arch_weights_frame[] = {
    MODEL,
    MIXER_NORM,
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    WEIGHTS_END,
};

const weight_rule arch_weights_frame_post[] = {
    MODEL,
    MIXER_NORM,
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.post_attention_norm.weight", "model.layers.%d.post_attention_layernorm.weight",
     DIM_VECTOR, DIM_HIDDEN, false},
    WEIGHTS_END,
};

const weight_rule arch_weights_selection_bias[] = {
    {W_SELECTION_BIAS, IN_MOE_LAYERS, "blk.%d.exp_probs_b.bias|blk.%d.exp_probs_b",
     "model.layers.%d.mlp.gate.e_score_correction_bias|model.layers.%d.mlp.e_score_correction_bias|"
     "model.layers.%d.block_sparse_moe.e_score_correction_bias|"
     "model.layers.%d.block_sparse_moe.gate.e_score_correction_bias|model.layers.%d.mlp.gate.expert_bias|"
     "model.layers.%d.mlp.moe_statics.e_score_correction_bias",
     DIM_VECTOR, DIM_EXPERTS, false, .only_if = FIELD_selection_bias},
    WEIGHTS_END,
};

const weight_rule arch_weights_shared[] = {
    {W_SHARED_GATE, IN_MOE_LAYERS, "blk.%d.ffn_gate_shexp.weight",
     "model.layers.%d.mlp.shared_experts.gate_proj.weight|"
     "model.layers.%d.block_sparse_moe.shared_experts.gate_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false, .only_if = FIELD_shared_ffn},
    {W_SHARED_UP, IN_MOE_LAYERS, "blk.%d.ffn_up_shexp.weight",
     "model.layers.%d.mlp.shared_experts.up_proj.weight|"
     "model.layers.%d.block_sparse_moe.shared_experts.up_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false, .only_if = FIELD_shared_ffn},
    {W_SHARED_DOWN, IN_MOE_LAYERS, "blk.%d.ffn_down_shexp.weight",
     "model.layers.%d.mlp.shared_experts.down_proj.weight|"
     "model.layers.%d.block_sparse_moe.shared_experts.down_proj.weight",
     DIM_HIDDEN, DIM_SHARED_FFN, false, .only_if = FIELD_shared_ffn},
    WEIGHTS_END,
};

const weight_rule arch_weights_shared_weighed[] = {
    {W_SHARED_GATE, IN_MOE_LAYERS, "blk.%d.ffn_gate_shexp.weight", "model.layers.%d.mlp.shared_expert.gate_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_UP, IN_MOE_LAYERS, "blk.%d.ffn_up_shexp.weight", "model.layers.%d.mlp.shared_expert.up_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_DOWN, IN_MOE_LAYERS, "blk.%d.ffn_down_shexp.weight", "model.layers.%d.mlp.shared_expert.down_proj.weight",
     DIM_HIDDEN, DIM_SHARED_FFN, false},
    {W_SHARED_WEIGHT, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp_shexp.weight",
     "model.layers.%d.mlp.shared_expert_gate.weight", DIM_ONE, DIM_HIDDEN, false},
    WEIGHTS_END,
};

const weight_rule arch_weights_mlp[] = {
    {W_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp.weight",
     "model.layers.%d.mlp.gate.weight|model.layers.%d.block_sparse_moe.gate.weight", DIM_EXPERTS, DIM_HIDDEN, false},
    DENSE,
    WEIGHTS_END,
};

const expert_rule arch_experts_mlp[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", "blk.%d.ffn_gate.%d.weight", NULL,
     "model.layers.%d.mlp.experts.%d.gate_proj.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", "blk.%d.ffn_up.%d.weight", NULL,
     "model.layers.%d.mlp.experts.%d.up_proj.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.mlp.experts.gate_up_proj", NULL,
     DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", "blk.%d.ffn_down.%d.weight", "model.layers.%d.mlp.experts.down_proj",
     "model.layers.%d.mlp.experts.%d.down_proj.weight", DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

const weight_rule arch_weights_block_sparse[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight",
     "model.layers.%d.block_sparse_moe.gate.weight|model.layers.%d.mlp.gate.weight", DIM_EXPERTS, DIM_HIDDEN, false},
    WEIGHTS_END,
};

/* transformers 5 saves the experts of a layer merged, under `mlp.experts.`. */
const expert_rule arch_experts_block_sparse[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", "blk.%d.ffn_gate.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w1.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", "blk.%d.ffn_up.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w3.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.mlp.experts.gate_up_proj", NULL,
     DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", "blk.%d.ffn_down.%d.weight", "model.layers.%d.mlp.experts.down_proj",
     "model.layers.%d.block_sparse_moe.experts.%d.w2.weight", DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

const weight_rule arch_weights_granite[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.block_sparse_moe.router.layer.weight",
     DIM_EXPERTS, DIM_HIDDEN, false},
    WEIGHTS_END,
};

const expert_rule arch_experts_granite[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.block_sparse_moe.input_linear.weight",
     NULL, DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, "model.layers.%d.block_sparse_moe.output_linear.weight", NULL,
     DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

const weight_table arch_tables_qk_norm[] = {{NULL, arch_weights_frame},
                                            {&mixer_attention, attention_weights},
                                            {&mixer_attention, attention_qkv_biases},
                                            {&mixer_attention, attention_out_bias},
                                            {&mixer_attention, attention_qk_norm},
                                            {NULL, arch_weights_mlp},
                                            {0}};

const char *const arch_ignored_vision[] = {"vision_tower.*",
                                           "vision_model.*",
                                           "mm_projector.*",
                                           "multi_modal_projector.*",
                                           "model.vision_tower.*",
                                           "model.mm_projector.*",
                                           "model.multi_modal_projector.*",
                                           NULL};
