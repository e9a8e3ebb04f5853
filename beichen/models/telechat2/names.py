"""TeleChat2's published tensors <-> the decoder's parameters."""

from beichen.models.naming import NameTable, Row, gate_and_up, query_and_interleaved_key_value

_LAYER = "transformer.h.{i}."
_EXPERT = _LAYER + "mlp.local_experts.{e}."

NAMES = NameTable(
    rows=(
        Row("embedding.weight", ("transformer.word_embeddings.weight",)),
        Row("embedding_norm.weight", ("transformer.word_embeddings_layernorm.weight",)),
        Row("layers.{i}.attention_norm.weight", (_LAYER + "input_layernorm.weight",)),
        Row(
            "layers.{i}.attention.qkv.weight",
            (_LAYER + "self_attention.query.weight", _LAYER + "self_attention.key_value.weight"),
            query_and_interleaved_key_value,
        ),
        Row("layers.{i}.attention.output.weight", (_LAYER + "self_attention.dense.weight",)),
        Row("layers.{i}.attention.output.bias", (_LAYER + "self_attention.dense.bias",)),
        Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "post_attention_layernorm.weight",)),
        Row("layers.{i}.feed_forward.gate_up.weight", (_LAYER + "mlp.gate_proj.weight", _LAYER + "mlp.up_proj.weight"), gate_and_up),
        Row("layers.{i}.feed_forward.down.weight", (_LAYER + "mlp.down_proj.weight",)),
        Row("layers.{i}.feed_forward.down.bias", (_LAYER + "mlp.down_proj.bias",)),
        Row("layers.{i}.feed_forward.router.weight", (_LAYER + "mlp.router.weight",)),
        Row("layers.{i}.feed_forward.router.bias", (_LAYER + "mlp.router.topk_bias",)),  # named as in MindFormers
        Row("layers.{i}.feed_forward.experts.gate_up.weight", (_EXPERT + "gate_proj.weight", _EXPERT + "up_proj.weight"), gate_and_up),
        Row("layers.{i}.feed_forward.experts.down.weight", (_EXPERT + "down_proj.weight",)),
        Row("layers.{i}.feed_forward.experts.down.bias", (_EXPERT + "down_proj.bias",)),
        Row("final_norm.weight", ("transformer.ln_f.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    ),
    optional_prefix="transformer.",
    ignorable=(r".*\.rotary_emb\.inv_freq",),
    embedding="transformer.word_embeddings.weight",
)
