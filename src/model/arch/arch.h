/* arch.h - a family of models: its names in the two formats, its numbers, its tables of tensors. A new family is one
 * file here and one line in arch.c. */
#ifndef ODMOE_MODEL_ARCH_H
#define ODMOE_MODEL_ARCH_H

#include "model/config.h"
#include "model/files.h"
#include "model/weights.h"

typedef struct arch {
    const char *family;       /* Hugging Face's model_type, and the name people see */
    const char *gguf;         /* general.architecture of a GGUF file, or NULL */
    const field_rule *fields; /* keys and defaults that differ from config_fields.h; NULL: none */
    double rope_theta;        /* rope base where config.json has none, as the family's configuration in transformers */
    rope_pairing gguf_pairing;
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

/* Embedding, norms, output. */
extern const weight_rule arch_weights_frame[];
/* Router and dense layers under `mlp.`, as the Qwen families and OLMoE name them. */
extern const weight_rule arch_weights_mlp[];
/* Experts under `mlp.experts.`; GGUF's merged and older one-by-one names. */
extern const expert_rule arch_experts_mlp[];

/* ---- shared by families: from_gguf.c ---- */

/* arch_gguf_common - all numbers that the field lists know, positions, and what follows from tensors. */
odmoe_status arch_gguf_common(const model_files *f, const arch *a, model_config *c, odmoe_error *err);
/* arch_gguf_windows - which layers slide: attention.sliding_window_pattern, a list (true: slides) or a number n (every
 * n-th layer sees all positions); missing: `period` as n. The window itself has been read into all layers. */
odmoe_status arch_gguf_windows(const model_files *f, const char *prefix, int period, model_config *c,
                               odmoe_error *err);
/* arch_gguf_int, arch_gguf_float - an optional number PREFIX.key; missing gives fallback. */
odmoe_status arch_gguf_int(const model_files *f, const char *prefix, const char *key, int64_t max, int fallback,
                           int *out, odmoe_error *err);
odmoe_status arch_gguf_float(const model_files *f, const char *prefix, const char *key, double fallback, double *out,
                             odmoe_error *err);

/* ---- shared by families: from_hf.c ---- */

/* arch_hf_common - the same from config.json, or from the part of it that describes the language model. */
odmoe_status arch_hf_common(config_object json, const arch *a, model_config *c, odmoe_error *err);
/* arch_hf_dense_layers - which layers are dense, as the Qwen families say it (decoder_sparse_step, mlp_only_layers). */
odmoe_status arch_hf_dense_layers(config_object json, model_config *c, odmoe_error *err);
/* arch_hf_window - how many positions a sliding layer sees (use_sliding_window, sliding_window); 0: nothing slides. */
odmoe_status arch_hf_window(config_object json, int *window, odmoe_error *err);
/* arch_hf_layer_types - the list of layer_types: each layer that slides gets the window, each other one 0. *given false:
 * the file has no list, and the layers stay as they are. A list of another length, an unknown word, a sliding layer
 * without a window: an error. */
odmoe_status arch_hf_layer_types(config_object json, int window, model_config *c, bool *given, odmoe_error *err);

#endif
