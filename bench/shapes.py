"""The shapes of published models, as GGUF files have them: metadata and tensors, no weights.

make_big_gguf.py writes files of them, with random weights or without any. Numbers are those of the publishers'
config.json; names and layouts are those of llama.cpp's converter (see the tiny files in tests/data/families/gguf).

A model is (arch, metadata, small, big):
  metadata  [(key without the architecture, value)]: bool, int, float, text or a list of one of them
  small     [(name, shape, value)] float32; value None: the router, random; else what all numbers are
  big       [(name, shape, standard deviation)]; the last number of a shape is the inputs' and lies side by side in the file
"""


def attention_layer(p, hidden, heads, kv_heads, key, value, out=0.02, qk_norm=None, q_rows=None):
    """q_rows: rows of q, where they hold more than the queries (a gate)."""
    small = [(p + "attn_norm.weight", (hidden,), 1.0)]
    if qk_norm:
        small += [(p + "attn_q_norm.weight", (qk_norm,), 1.0), (p + "attn_k_norm.weight", (qk_norm,), 1.0)]
    big = [(p + "attn_q.weight", (q_rows or heads * key, hidden), 0.02), (p + "attn_k.weight", (kv_heads * key, hidden), 0.02),
           (p + "attn_v.weight", (kv_heads * value, hidden), 0.02), (p + "attn_output.weight", (hidden, heads * value), out)]
    return small, big


def latent_layer(p, hidden, heads, q_rank, kv_rank, nope, rope, value):
    small = [(p + "attn_norm.weight", (hidden,), 1.0), (p + "attn_kv_a_norm.weight", (kv_rank,), 1.0)]
    big = [(p + "attn_kv_a_mqa.weight", (kv_rank + rope, hidden), 0.02), (p + "attn_k_b.weight", (heads, kv_rank, nope), 0.02),
           (p + "attn_v_b.weight", (heads, value, kv_rank), 0.02), (p + "attn_output.weight", (hidden, heads * value), 0.02)]
    if q_rank:
        small += [(p + "attn_q_a_norm.weight", (q_rank,), 1.0)]
        big += [(p + "attn_q_a.weight", (q_rank, hidden), 0.02), (p + "attn_q_b.weight", (heads * (nope + rope), q_rank), 0.02)]
    else:
        big += [(p + "attn_q.weight", (heads * (nope + rope), hidden), 0.02)]
    return small, big


def delta_layer(p, hidden, k_heads, v_heads, dim, joint_ba):
    small = [(p + "attn_norm.weight", (hidden,), 1.0), (p + "ssm_a", (v_heads,), -1.0), (p + "ssm_dt.bias", (v_heads,), 0.5),
             (p + "ssm_norm.weight", (dim,), 1.0), (p + "ssm_conv1d.weight", ((2 * k_heads + v_heads) * dim, 4), 0.3)]
    big = [(p + "attn_qkv.weight", ((2 * k_heads + v_heads) * dim, hidden), 0.02), (p + "attn_gate.weight", (v_heads * dim, hidden), 0.02),
           (p + "ssm_out.weight", (hidden, v_heads * dim), 0.02)]
    if joint_ba:
        big += [(p + "ssm_ba.weight", (2 * v_heads, hidden), 0.02)]
    else:
        big += [(p + "ssm_alpha.weight", (v_heads, hidden), 0.02), (p + "ssm_beta.weight", (v_heads, hidden), 0.02)]
    return small, big


def experts(p, hidden, count, ffn, fused=False):
    gate_up = [(p + "ffn_gate_up_exps.weight", (count, 2 * ffn, hidden), 0.02)] if fused else \
              [(p + "ffn_gate_exps.weight", (count, ffn, hidden), 0.02), (p + "ffn_up_exps.weight", (count, ffn, hidden), 0.02)]
    return [(p + "ffn_gate_inp.weight", (count, hidden), None)], gate_up + [(p + "ffn_down_exps.weight", (count, hidden, ffn), 0.02)]


def network(p, hidden, ffn, suffix=""):
    return [(p + f"ffn_gate{suffix}.weight", (ffn, hidden), 0.02), (p + f"ffn_up{suffix}.weight", (ffn, hidden), 0.02),
            (p + f"ffn_down{suffix}.weight", (hidden, ffn), 0.02)]


class Model:
    def __init__(self, arch, hidden, layers, vocab, context, tied=False, embedding=0.02, **metadata):
        self.arch, self.hidden, self.layers, self.vocab = arch, hidden, layers, vocab
        self.metadata = [("block_count", layers), ("context_length", context), ("embedding_length", hidden)]
        self.set(**metadata)
        self.small = [("output_norm.weight", (hidden,), 1.0)]
        self.big = [("token_embd.weight", (vocab, hidden), embedding)] + ([] if tied else [("output.weight", (vocab, hidden), 0.02)])

    def set(self, **metadata):
        self.metadata += [(key.replace("__", "."), value) for key, value in metadata.items()]

    def add(self, parts):
        self.small += parts[0]
        self.big += parts[1]


def qwen3_moe(layers, hidden, heads, kv_heads, head, count, top_k, ffn, vocab, context_scale):
    """context_scale: what attention adds, falling with depth: see make_big_gguf.py."""
    m = Model("qwen3moe", hidden, layers, vocab, 40960, embedding=1.0, feed_forward_length=ffn, attention__head_count=heads,
              attention__head_count_kv=kv_heads, attention__key_length=head, attention__value_length=head, rope__freq_base=1e6,
              attention__layer_norm_rms_epsilon=1e-6, expert_count=count, expert_used_count=top_k, expert_feed_forward_length=ffn)
    for i in range(layers):
        p = f"blk.{i}."
        m.add(attention_layer(p, hidden, heads, kv_heads, head, head, context_scale / (i + 1), qk_norm=head))
        m.small += [(p + "ffn_norm.weight", (hidden,), 1.0)]
        m.add(experts(p, hidden, count, ffn))
    return m


def qwen_delta(arch, layers, count, top_k, vocab):
    """Qwen3-Next and Qwen3.5: every fourth layer has attention."""
    hidden, heads, kv_heads, head, k_heads, v_heads, dim, ffn = 2048, 16, 2, 256, 16, 32, 128, 512
    m = Model(arch, hidden, layers, vocab, 262144, attention__head_count=heads, attention__head_count_kv=kv_heads, attention__key_length=head,
              attention__value_length=head, rope__freq_base=1e7, rope__dimension_count=head // 4, attention__layer_norm_rms_epsilon=1e-6,
              expert_count=count, expert_used_count=top_k, expert_feed_forward_length=ffn, expert_shared_feed_forward_length=ffn,
              ssm__conv_kernel=4, ssm__state_size=dim, ssm__group_count=k_heads, ssm__time_step_rank=v_heads, ssm__inner_size=v_heads * dim,
              full_attention_interval=4)
    if arch == "qwen35moe":
        m.set(rope__dimension_sections=[11, 11, 10, 0])
    for i in range(layers):
        p = f"blk.{i}."
        if i % 4 == 3:
            m.add(attention_layer(p, hidden, heads, kv_heads, head, head, qk_norm=head, q_rows=2 * heads * head))
        else:
            m.add(delta_layer(p, hidden, k_heads, v_heads, dim, joint_ba=arch == "qwen3next"))
        m.small += [(p + "post_attention_norm.weight", (hidden,), 1.0), (p + "ffn_gate_inp_shexp.weight", (hidden,), 0.01)]
        m.add(experts(p, hidden, count, ffn))
        m.big += network(p, hidden, ffn, "_shexp")
    return m


def gpt_oss(layers, count):
    hidden, heads, kv_heads, head, ffn = 2880, 64, 8, 64, 2880
    m = Model("gpt-oss", hidden, layers, 201088, 131072, feed_forward_length=ffn, attention__head_count=heads, attention__head_count_kv=kv_heads,
              attention__key_length=head, attention__value_length=head, rope__freq_base=150000.0, rope__scaling__type="yarn",
              rope__scaling__factor=32.0, rope__scaling__original_context_length=4096, rope__scaling__yarn_beta_fast=32.0,
              rope__scaling__yarn_beta_slow=1.0, attention__layer_norm_rms_epsilon=1e-5, attention__sliding_window=128, expert_count=count,
              expert_used_count=4, expert_feed_forward_length=ffn)
    for i in range(layers):
        p = f"blk.{i}."
        m.add(attention_layer(p, hidden, heads, kv_heads, head, head))
        m.small += [(p + "attn_q.bias", (heads * head,), 0.0), (p + "attn_k.bias", (kv_heads * head,), 0.0),
                    (p + "attn_v.bias", (kv_heads * head,), 0.0), (p + "attn_output.bias", (hidden,), 0.0),
                    (p + "attn_sinks.weight", (heads,), 0.0), (p + "post_attention_norm.weight", (hidden,), 1.0),
                    (p + "ffn_gate_inp.bias", (count,), 0.0), (p + "ffn_gate_exps.bias", (count, ffn), 0.0),
                    (p + "ffn_up_exps.bias", (count, ffn), 0.0), (p + "ffn_down_exps.bias", (count, hidden), 0.0)]
        m.add(experts(p, hidden, count, ffn))
    return m


def gemma4():
    hidden, heads, layers, count, ffn, dense = 2816, 16, 30, 128, 704, 2112
    full = [i % 6 == 5 for i in range(layers)]
    m = Model("gemma4", hidden, layers, 262144, 262144, tied=True, feed_forward_length=dense, attention__head_count=heads,
              attention__head_count_kv=[2 if f else 8 for f in full], rope__freq_base=1e6, rope__freq_base_swa=1e4,
              attention__layer_norm_rms_epsilon=1e-6, expert_count=count, expert_used_count=8, attention__key_length=512,
              attention__value_length=512, final_logit_softcapping=30.0, attention__sliding_window=1024, attention__shared_kv_layers=0,
              embedding_length_per_layer_input=0, attention__sliding_window_pattern=[not f for f in full], attention__key_length_swa=256,
              attention__value_length_swa=256, expert_feed_forward_length=ffn, rope__dimension_count=512, rope__dimension_count_swa=256)
    m.small += [("rope_freqs.weight", (256,), 1.0)]
    for i in range(layers):
        p, head, kv = f"blk.{i}.", 512 if full[i] else 256, 2 if full[i] else 8
        small, big = attention_layer(p, hidden, heads, kv, head, head, qk_norm=head)
        m.add((small, [t for t in big if not full[i] or not t[0].endswith("attn_v.weight")]))
        m.small += [(p + n + ".weight", (hidden,), 1.0) for n in ("ffn_norm", "post_attention_norm", "post_ffw_norm", "post_ffw_norm_1",
                                                                   "post_ffw_norm_2", "pre_ffw_norm_2")]
        m.small += [(p + "layer_output_scale.weight", (1,), 1.0), (p + "ffn_down_exps.scale", (count,), 1.0), (p + "ffn_gate_inp.scale", (hidden,), 1.0)]
        m.add(experts(p, hidden, count, ffn, fused=True))
        m.big += network(p, hidden, dense)
    return m


def glm4_moe():
    hidden, heads, kv_heads, head, layers, count, ffn = 4096, 96, 8, 128, 46, 128, 1408
    m = Model("glm4moe", hidden, layers, 151552, 131072, feed_forward_length=10944, attention__head_count=heads,
              attention__head_count_kv=kv_heads, attention__key_length=head, attention__value_length=head, rope__freq_base=1e6,
              rope__dimension_count=head // 2, attention__layer_norm_rms_epsilon=1e-5, expert_count=count, expert_used_count=8,
              expert_group_count=1, expert_group_used_count=1, expert_feed_forward_length=ffn, expert_shared_count=1,
              leading_dense_block_count=1, expert_gating_func=2, expert_weights_scale=1.0, expert_weights_norm=True)
    for i in range(layers):
        p = f"blk.{i}."
        m.add(attention_layer(p, hidden, heads, kv_heads, head, head))
        m.small += [(p + "attn_q.bias", (heads * head,), 0.0), (p + "attn_k.bias", (kv_heads * head,), 0.0),
                    (p + "attn_v.bias", (kv_heads * head,), 0.0), (p + "post_attention_norm.weight", (hidden,), 1.0)]
        if i < 1:
            m.big += network(p, hidden, 10944)
            continue
        m.small += [(p + "exp_probs_b.bias", (count,), 0.0)]
        m.add(experts(p, hidden, count, ffn))
        m.big += network(p, hidden, ffn, "_shexp")
    return m


def deepseek(layers, hidden, heads, q_rank, count, top_k, ffn, dense_layers, dense, shared, vocab, groups, scale, sigmoid, factor, log_multiplier):
    kv_rank, nope, rope, value = 512, 128, 64, 128
    m = Model("deepseek2", hidden, layers, vocab, 163840, feed_forward_length=dense, attention__head_count=heads, attention__head_count_kv=1,
              rope__freq_base=1e4, rope__scaling__type="yarn", rope__scaling__factor=factor, rope__scaling__original_context_length=4096,
              rope__scaling__yarn_log_multiplier=log_multiplier, attention__layer_norm_rms_epsilon=1e-6, expert_count=count,
              expert_used_count=top_k, expert_group_count=groups[0], expert_group_used_count=groups[1], expert_gating_func=2 if sigmoid else 1,
              attention__key_length=kv_rank + rope, attention__value_length=kv_rank, leading_dense_block_count=dense_layers, vocab_size=vocab,
              attention__kv_lora_rank=kv_rank, attention__key_length_mla=nope + rope, attention__value_length_mla=value,
              expert_feed_forward_length=ffn, expert_shared_count=shared, expert_weights_scale=scale, rope__dimension_count=rope)
    if q_rank:
        m.set(attention__q_lora_rank=q_rank)
    if sigmoid:
        m.set(expert_weights_norm=True)
    for i in range(layers):
        p = f"blk.{i}."
        m.add(latent_layer(p, hidden, heads, q_rank, kv_rank, nope, rope, value))
        m.small += [(p + "ffn_norm.weight", (hidden,), 1.0)]
        if i < dense_layers:
            m.big += network(p, hidden, dense)
            continue
        if sigmoid:
            m.small += [(p + "exp_probs_b.bias", (count,), 0.0)]
        m.add(experts(p, hidden, count, ffn))
        m.big += network(p, hidden, shared * ffn, "_shexp")
    return m


# The published models. "-4gib" ones have fewer layers or experts, for benches.
MODELS = {
    "qwen3.5-35b": lambda: qwen_delta("qwen35moe", 40, 256, 8, 248320),
    "gemma4-26b": gemma4,
    "gpt-oss-120b": lambda: gpt_oss(36, 128),
    "qwen3-next-80b": lambda: qwen_delta("qwen3next", 48, 512, 10, 151936),
    "glm-4.5-air": glm4_moe,
    "deepseek-v3": lambda: deepseek(61, 7168, 128, 1536, 256, 8, 2048, 3, 18432, 1, 129280, (8, 4), 2.5, True, 40.0, 0.1),
    "kimi-k2": lambda: deepseek(61, 7168, 64, 1536, 384, 8, 2048, 1, 18432, 1, 163840, (1, 1), 2.827, True, 32.0, 0.1),
    "deepseek-v2-lite": lambda: deepseek(27, 2048, 16, None, 64, 6, 1408, 1, 10944, 2, 102400, (1, 1), 1.0, False, 40.0, 0.0707),
    "gpt-oss-4gib": lambda: gpt_oss(8, 32),
    "qwen3.5-4gib": lambda: qwen_delta("qwen35moe", 16, 128, 8, 151936),
    "deepseek-v2-lite-4gib": lambda: deepseek(27, 2048, 16, None, 28, 6, 1408, 1, 10944, 2, 102400, (1, 1), 1.0, False, 40.0, 0.0707),
}
