/* arch.h - a family of models: its names in the two formats, its numbers, its tables of tensors. A new family is one
 * file here and one line in arch.c. */
#ifndef ODMOE_MODEL_ARCH_H
#define ODMOE_MODEL_ARCH_H

#include "model/config.h"
#include "model/files.h"
#include "model/weights.h"

typedef struct arch {
    const char *family;       /* Hugging Face's model_type, and the name people see */
    const char *hf_text;      /* model_type of text_config where it is another than `family`; NULL */
    const char *gguf;         /* general.architecture of a GGUF file, or NULL */
    const field_rule *fields; /* keys and defaults that differ from config_fields.h; NULL: none */
    double rope_theta;        /* rope base where config.json has none, as the family's configuration in transformers */
    rope_pairing gguf_pairing, hf_pairing;
    double
        rotary_part; /* 0: whole heads are rotated; else the family may rotate a leading part: this one without a key */
    /* objects of config.json's rope_parameters, one for each rope set (up to ROPE_SETS_MAX, then NULL), where layers have
     * several; the family's from_hf says how much of a head is rotated. NULL: all layers have the same */
    const char *const *rope_layers;
    bool ntk_alpha;              /* config.json may give an alpha of rope scaling 'dynamic' (rope_config) */
    const weight_table *weights; /* ends with rules NULL */
    const expert_rule *experts;  /* ends with EXPERT_MATRIX_COUNT */
    const char *const *ignored;  /* as in weight_names; NULL: none */
    /* What the field lists cannot say; called when all numbers have been read, before they are checked. NULL: nothing. */
    odmoe_status (*from_gguf)(const model_files *f, const char *prefix, model_config *c, odmoe_error *err);
    odmoe_status (*from_hf)(config_object json, model_config *c, odmoe_error *err);
} arch;

/* arch_at - the families, i = 0, 1, ...; NULL at the end. */
const arch *arch_at(int i);

/* arch_read - recognise the family of an open model and read its configuration (config_free it, after errors too).
 * Errors: ERR_UNSUPPORTED names the unknown family and lists the known ones, or says that a model is dense; ERR_FORMAT;
 * ERR_MEMORY. */
odmoe_status arch_read(const model_files *f, const arch **out, model_config *config, odmoe_error *err);

/* ---- shared by families: tables.c ---- */

/* Embedding, last norm, output, factors of positions. */
extern const weight_rule arch_weights_model[];
/* The same and the layers' norms. */
extern const weight_rule arch_weights_frame[];
/* Dense layers under `mlp.`; the same with the router, as the Qwen families and OLMoE name them. */
extern const weight_rule arch_weights_dense[];
extern const weight_rule arch_weights_mlp[];
/* All tables of a family with q/k norms, and biases of attention where the configuration allows them. */
extern const weight_table arch_tables_qk_norm[];
/* Experts under `mlp.experts.`; GGUF's merged and older one-by-one names. */
extern const expert_rule arch_experts_mlp[];

/* Router and experts under `block_sparse_moe.`, as Mixtral names them. */
extern const weight_rule arch_weights_block_sparse[];
extern const expert_rule arch_experts_block_sparse[];
/* The frame where GGUF's `post_attention_norm` is the norm before the FFN. */
extern const weight_rule arch_weights_frame_post[];
/* The bias of the choice of experts. */
extern const weight_rule arch_weights_selection_bias[];
/* Shared experts, as one FFN that every token uses, under `mlp.shared_experts.`; where the model has them. */
extern const weight_rule arch_weights_shared[];
/* One shared expert under `mlp.shared_expert.`, and what its output is weighed by, as the Qwen families name them. */
extern const weight_rule arch_weights_shared_weighed[];

/* Router and experts under `block_sparse_moe.`, gate and up in one tensor, as Granite names them. */
extern const weight_rule arch_weights_granite[];
extern const expert_rule arch_experts_granite[];

/* Rows of a field_rule table: Granite's multipliers and what else its families have in common. */
#define ARCH_FIELDS_GRANITE                                                                            \
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},                         \
        {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true}, \
        {FIELD_renormalise, NULL, NULL, 1}, {FIELD_attention_bias, NULL, "attention_bias", 0},         \
        {FIELD_embedding_scale, "embedding_scale", "embedding_multiplier", 1},                         \
        {FIELD_residual_scale, "residual_scale", "residual_multiplier", 1},                            \
        {FIELD_logit_scale, "logit_scale", "logits_scaling", 1},                                       \
    {                                                                                                  \
        FIELD_attention_scale, "attention.scale", "attention_multiplier", 0, .hf_required = true       \
    }

/* Rows of a field_rule table: layers, router and shared experts as DeepSeek-V3 and the families after it say them. */
#define ARCH_FIELDS_DEEPSEEK                                                                               \
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},                                      \
        {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true}, \
        {FIELD_dense_layers, "leading_dense_block_count", "first_k_dense_replace", 0},                     \
        {FIELD_experts, "expert_count", "n_routed_experts|num_experts|num_local_experts", FIELD_REQUIRED}, \
        {FIELD_shared_experts, "expert_shared_count", "n_shared_experts|num_shared_experts", 0},           \
        {FIELD_renormalise, "expert_weights_norm", "norm_topk_prob", 1},                                   \
        {FIELD_scale, "expert_weights_scale", "routed_scaling_factor", 1},                                 \
        {FIELD_groups, "expert_group_count", "n_group", 0},                                                \
    {                                                                                                      \
        FIELD_groups_used, "expert_group_used_count", "topk_group", 0                                      \
    }
/* What is no part of the language model in models that see as well. */
extern const char *const arch_ignored_vision[];

/* ---- shared by families with latent attention: latent.c ---- */

/* Rows of a field_rule table. In GGUF, key_length and value_length are a head's, or, where key_length_mla is there, the
 * cache's. */
#define ARCH_FIELDS_LATENT                                                                                    \
    {FIELD_key_dim, "attention.key_length_mla|attention.key_length", NULL, FIELD_REQUIRED},                   \
        {FIELD_value_dim, "attention.value_length_mla|attention.value_length", "v_head_dim", FIELD_REQUIRED}, \
        {FIELD_kv_rank, "attention.kv_lora_rank", "kv_lora_rank", FIELD_REQUIRED},                            \
        {FIELD_temper, "attention.temperature_scale", NULL, 0},                                               \
        {FIELD_temper_every, "attention.temperature_length", NULL, 0},                                        \
    {                                                                                                         \
        FIELD_rope_part, "rope.dimension_count", "qk_rope_head_dim", FIELD_REQUIRED                           \
    }

/* arch_gguf_latent, arch_hf_latent - attention is latent in every layer that has it: its mixer, the sizes of heads, which
 * neighbours are rotated together, the scale of scores with YaRN's part (yarn_log_multiplier, mscale_all_dim), and the length of
 * a step by which queries grow, where no key says it: the context before YaRN. ERR_FORMAT. */
odmoe_status arch_gguf_latent(const model_files *f, const char *prefix, model_config *c, odmoe_error *err);
odmoe_status arch_hf_latent(config_object json, model_config *c, odmoe_error *err);
/* arch_hf_deepseek_v3 - all of a configuration after DeepSeek-V3: arch_hf_latent, arch_hf_deepseek. */
odmoe_status arch_hf_deepseek_v3(config_object json, model_config *c, odmoe_error *err);
/* The tables of tensors of families after DeepSeek-V3. */
extern const weight_table arch_tables_deepseek_v3[];

/* arch_is_dense - ERR_UNSUPPORTED: the model `name` has no experts. where: the file. */
odmoe_status arch_is_dense(const char *where, const char *name, odmoe_error *err);
/* arch_dense_first - the first dense_layers layers are dense, the others have experts. */
void arch_dense_first(model_config *c);
/* arch_shared_ffn - the size of all shared experts as one FFN, where no key has said it. ERR_FORMAT: too large. */
odmoe_status arch_shared_ffn(model_config *c, const char *file, odmoe_error *err);

/* ---- shared by families: from_gguf.c ---- */

/* arch_gguf_common - all numbers that the field lists know, positions, and what follows from tensors. */
odmoe_status arch_gguf_common(const model_files *f, const arch *a, model_config *c, odmoe_error *err);
/* arch_gguf_list - ERR_FORMAT unless the array `key` has an entry for each layer, or for the prediction layers, too. */
odmoe_status arch_gguf_list(const model_files *f, const char *key, const model_config *c, odmoe_error *err);
/* arch_gguf_windows - which layers slide: attention.sliding_window_pattern, a list (true: slides) or a number n (every
 * n-th layer sees all positions); missing: `period` as n. The window itself has been read into all layers. */
odmoe_status arch_gguf_windows(const model_files *f, const char *prefix, int period, model_config *c, odmoe_error *err);
/* arch_gguf_router - score (expert_gating_func; missing: `score`), and an expert_weights_scale of 0, which means none.
 * ERR_UNSUPPORTED: a score that is not known. */
odmoe_status arch_gguf_router(const model_files *f, const char *prefix, odmoe_score score, model_config *c,
                              odmoe_error *err);
/* arch_gguf_deepseek - what files of families after DeepSeek-V3 have in common: arch_gguf_router, the first layers dense,
 * shared experts, weights that are renormalised where expert_weights_norm says so. */
odmoe_status arch_gguf_deepseek(const model_files *f, const char *prefix, odmoe_score score, model_config *c,
                                odmoe_error *err);
/* arch_gguf_recurrent - which layers have `linear` instead of attention: attention.recurrent_layers, a list (true: they
 * have); missing: all but every n-th, n being full_attention_interval or, missing, `period`. ERR_FORMAT: a list of
 * another length. */
odmoe_status arch_gguf_recurrent(const model_files *f, const char *prefix, int period, const struct mixer *linear,
                                 model_config *c, odmoe_error *err);
/* arch_gguf_has - is there a tensor `pattern` (%d: the layer) in any layer? Its info, or NULL. */
const tensor_info *arch_gguf_has(const model_files *f, const model_config *c, const char *pattern);
/* arch_gguf_shared - the FFN size of shared experts: what the tensors say; keys are missing or wrong in some files. */
void arch_gguf_shared(const model_files *f, model_config *c);
/* arch_gguf_int, arch_gguf_float - an optional number PREFIX.key; missing gives fallback. */
odmoe_status arch_gguf_int(const model_files *f, const char *prefix, const char *key, int64_t max, int fallback,
                           int *out, odmoe_error *err);
odmoe_status arch_gguf_float(const model_files *f, const char *prefix, const char *key, double fallback, double *out,
                             odmoe_error *err);

/* arch_gguf_granite - multipliers of 0, which mean that there is none. */
odmoe_status arch_gguf_granite(const model_files *f, const char *prefix, model_config *c, odmoe_error *err);
/* arch_gguf_other_mixers - layers whose attention.head_count_kv is 0 have `other` instead of attention. */
void arch_gguf_other_mixers(model_config *c, const struct mixer *other);

/* ---- shared by families: from_hf.c ---- */

/* arch_hf_common - the same from config.json, or from the part of it that describes the language model. */
odmoe_status arch_hf_common(config_object json, const arch *a, model_config *c, odmoe_error *err);
/* arch_hf_score - score, by the word of scoring_func, score_function, score_func or moe_router_activation_func; missing:
 * `score`. ERR_UNSUPPORTED: a word that is not known. arch_hf_router - the same, and ERR_UNSUPPORTED for a topk_method
 * other than noaux_tc. */
odmoe_status arch_hf_score(config_object json, odmoe_score score, model_config *c, odmoe_error *err);
odmoe_status arch_hf_router(config_object json, odmoe_score score, model_config *c, odmoe_error *err);
/* arch_hf_deepseek - what configurations after DeepSeek-V3 have in common: arch_hf_router, the first layers dense
 * (mlp_layer_types wins where it is given), the size of the shared experts. ERR_UNSUPPORTED: moe_layer_freq above 1. */
odmoe_status arch_hf_deepseek(config_object json, model_config *c, odmoe_error *err);
/* arch_hf_only - ERR_UNSUPPORTED when a number or bool is there and not what the program can do. */
odmoe_status arch_hf_only(config_object json, const char *key, double value, odmoe_error *err);
/* arch_hf_dense_layers - which layers are dense, as the Qwen families say it (decoder_sparse_step, mlp_only_layers). */
odmoe_status arch_hf_dense_layers(config_object json, model_config *c, odmoe_error *err);
/* arch_hf_window - how many positions a sliding layer sees (use_sliding_window, sliding_window); 0: nothing slides. */
odmoe_status arch_hf_window(config_object json, int *window, odmoe_error *err);
/* arch_hf_sliding - sliding_window (missing or null: `fallback`; 0 only where that is 0, too) and which layers have it, by
 * arch_hf_layer_types. *given false: the file has no list; then the family says which. */
odmoe_status arch_hf_sliding(config_object json, int fallback, model_config *c, int *window, bool *given,
                             odmoe_error *err);
/* arch_turn_sliding_layers - the layers that slide have rotary positions, the others have none. */
void arch_turn_sliding_layers(model_config *c);
/* arch_hf_layer_types - the list of layer_types: each layer that slides gets the window, each other one 0. *given false:
 * the file has no list, and the layers stay as they are. A list of another length, an unknown word, a sliding layer
 * without a window: an error. */
odmoe_status arch_hf_layer_types(config_object json, int window, model_config *c, bool *given, odmoe_error *err);
/* arch_hf_time_step - ERR_UNSUPPORTED where time_step_limit is there and clamps Mamba's time steps. */
odmoe_status arch_hf_time_step(config_object json, odmoe_error *err);
/* What a word of a list of layers stands for; tables of them end with word NULL. */
typedef struct layer_word {
    const char *word;
    const struct mixer *mixer; /* NULL: none */
    ffn_kind ffn;
} layer_word;
/* arch_hf_layer_words - mixer and FFN of each layer from `key`: a list with one word for each layer, or a text with one
 * letter. Missing, of another length, or with a word that is not known: an error that names it. */
odmoe_status arch_hf_layer_words(config_object json, const char *key, const layer_word *words, model_config *c,
                                 odmoe_error *err);

#endif
