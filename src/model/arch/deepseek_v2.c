/* DeepSeek-V2 and V2-Lite: latent attention, queries with a rank of their own or not, softmax scores, in V2 the best groups
 * of experts by their best expert, weights that are scaled and not renormalised, the first layers dense, shared experts.
 * Its GGUF architecture is that of all families with latent attention that came after it. */
#include <string.h>

#include "model/arch/arch.h"

/* Files from before the keys of groups existed. The published models of so many experts have these groups. */
static void default_groups(const model_files *f, model_config *c)
{
    static const struct {
        int experts, groups, used;
        odmoe_score score;
    } published[] = {{160, 8, 3, ODMOE_SCORE_SOFTMAX}, {256, 8, 4, ODMOE_SCORE_SIGMOID}}; /* V2, V3 */
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (c->router.experts == published[i].experts && c->router.score == published[i].score) {
            c->router.groups = published[i].groups;
            c->router.groups_used = published[i].used;
        }
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->selection_bias = arch_gguf_has(f, c, "blk.%d.exp_probs_b.bias") || arch_gguf_has(f, c, "blk.%d.exp_probs_b");
    odmoe_status status = arch_gguf_latent(f, prefix, c, err);
    if (!status) /* only scores that are apart take a bias */
        status = arch_gguf_deepseek(f, prefix, c->selection_bias ? ODMOE_SCORE_SIGMOID : ODMOE_SCORE_SOFTMAX, c, err);
    if (status)
        return status;
    if (!gguf_has(f->gguf, "deepseek2.expert_group_count"))
        default_groups(f, c);
    if (c->router.score == ODMOE_SCORE_SOFTMAX)
        c->router.group_score = ODMOE_GROUP_MAXIMUM;
    else
        c->family = "deepseek_v3";
    return ODMOE_OK;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    const char *method;
    odmoe_status status = arch_hf_latent(json, c, err);
    if (!status)
        status = arch_hf_score(json, ODMOE_SCORE_SOFTMAX, c, err);
    if (!status)
        status = config_text(json, "topk_method", false, "greedy", &method, err);
    if (!status)
        status = arch_hf_only(json, "moe_layer_freq", 1, err);
    if (!status)
        status = arch_hf_only(json, "norm_topk_prob", 0, err);
    if (status)
        return status;
    if (c->router.score != ODMOE_SCORE_SOFTMAX)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: scoring_func is not softmax, which deepseek_v2 needs",
                       json.file);
    if (!strcmp(method, "greedy"))
        c->router.groups = c->router.groups_used = 0;
    else if (strcmp(method, "group_limited_greedy"))
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: topk_method '%.32s' is not supported (greedy, group_limited_greedy are)", json.file,
                       method);
    c->router.group_score = ODMOE_GROUP_MAXIMUM;
    c->selection_bias = false;
    arch_dense_first(c);
    return arch_shared_ffn(c, json.file, err);
}

static const field_rule fields[] = {
    ARCH_FIELDS_LATENT,   {FIELD_renormalise, "expert_weights_norm", NULL, 0},
    ARCH_FIELDS_DEEPSEEK, {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    FIELDS_END,
};

const arch arch_deepseek_v2 = {
    .family = "deepseek_v2",
    .gguf = "deepseek2",
    .fields = fields,
    .rope_theta = 1e4,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = arch_tables_deepseek_v3,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
