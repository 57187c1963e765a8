/* arch.h - a family of models: its names in the two formats, how to read its configuration, its tables of tensors.
 * A new family is one file here and one line in arch.c. */
#ifndef ODMOE_MODEL_ARCH_H
#define ODMOE_MODEL_ARCH_H

#include "model/config.h"
#include "model/files.h"
#include "model/weights.h"

typedef struct arch {
    const char *family; /* Hugging Face's model_type, and the name people see */
    const char *gguf;   /* general.architecture of a GGUF file, or NULL */
    /* Fill the configuration (zeroed, family set) from the metadata of an open file or folder. */
    odmoe_status (*from_gguf)(const model_files *f, const char *prefix, model_config *c, odmoe_error *err);
    odmoe_status (*from_hf)(config_object json, model_config *c, odmoe_error *err);
    const weight_rule *const *weights; /* tables of resident tensors, NULL at the end; a table ends with W_ROLE_COUNT */
    const expert_rule *experts;        /* ends with PIECE_ROLE_COUNT */
    /* The member of config.json that says whether q, k, v (and o) have biases, and what holds without it; NULL: none.
     */
    const char *hf_bias;
    bool hf_bias_default;
} arch;

/* arch_at - the families, i = 0, 1, ...; NULL at the end. */
const arch *arch_at(int i);

/* arch_read - recognise the family of an open model and read its configuration.
 * Errors: ERR_UNSUPPORTED names the unknown family and lists the known ones; a dense model is told so; ERR_FORMAT. */
odmoe_status arch_read(const model_files *f, const arch **out, model_config *config, odmoe_error *err);

/* ---- shared by families (common.c) ---- */

/* What nearly all decoders have: embedding, norms, q k v o, output. */
extern const weight_rule arch_weights_base[];
/* Q, K, V and O biases, all optional. */
extern const weight_rule arch_weights_attention_bias[];
/* q/k norms. */
extern const weight_rule arch_weights_qk_norm[];
/* Router and dense layers under `mlp.`, as the Qwen families and OLMoE name them. */
extern const weight_rule arch_weights_mlp[];
/* Experts under `mlp.experts.`; GGUF's merged and older one-by-one names. */
extern const expert_rule arch_experts_mlp[];

/* arch_gguf_common, arch_hf_common - the numbers that all families share; the family adds what is its own. default_*:
 * rms_norm_eps and rope_theta where config.json has none, as the family's configuration in transformers has them. */
odmoe_status arch_gguf_common(const model_files *f, const char *prefix, model_config *c, odmoe_error *err);
odmoe_status arch_hf_common(config_object json, double default_eps, double default_theta, model_config *c,
                            odmoe_error *err);
/* arch_gguf_int - an optional integer PREFIX.key; missing gives fallback. */
odmoe_status arch_gguf_int(const model_files *f, const char *prefix, const char *key, int64_t max, int fallback,
                           int *out, odmoe_error *err);
odmoe_status arch_gguf_float(const model_files *f, const char *prefix, const char *key, double fallback, double *out,
                             odmoe_error *err);
/* arch_hf_qwen - what the Qwen families add to arch_hf_common: widths of dense and expert FFNs, norm_topk_prob, which
 * layers are dense (decoder_sparse_step, mlp_only_layers). Which layers slide is each family's own. */
odmoe_status arch_hf_qwen(config_object json, model_config *c, odmoe_error *err);
/* arch_hf_window - how many positions a sliding layer sees (use_sliding_window, sliding_window); 0: nothing slides. */
odmoe_status arch_hf_window(config_object json, int *window, odmoe_error *err);
/* arch_hf_layer_types - the list of layer_types into sliding [layers], which stays as it is when the file has none
 * (*given false). A list of another length, an unknown word, a sliding layer without a window: an error. */
odmoe_status arch_hf_layer_types(config_object json, int layers, int window, bool *sliding, bool *given,
                                 odmoe_error *err);

#endif
