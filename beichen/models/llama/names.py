"""Llama's published tensors <-> the decoder's parameters."""

from beichen.models.naming import NameTable, Row, gate_and_up, query_key_value

_LAYER = "model.layers.{i}."
_ATTENTION, _FEED_FORWARD = _LAYER + "self_attn.", _LAYER + "mlp."

NAMES = NameTable(
    rows=(
        Row("embedding.weight", ("model.embed_tokens.weight",)),
        Row("layers.{i}.attention_norm.weight", (_LAYER + "input_layernorm.weight",)),
        Row("layers.{i}.attention.qkv.weight", tuple(f"{_ATTENTION}{part}_proj.weight" for part in "qkv"), query_key_value),
        Row("layers.{i}.attention.qkv.bias", tuple(f"{_ATTENTION}{part}_proj.bias" for part in "qkv"), query_key_value),
        Row("layers.{i}.attention.output.weight", (_ATTENTION + "o_proj.weight",)),
        Row("layers.{i}.attention.output.bias", (_ATTENTION + "o_proj.bias",)),
        Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "post_attention_layernorm.weight",)),
        Row("layers.{i}.feed_forward.gate_up.weight", (_FEED_FORWARD + "gate_proj.weight", _FEED_FORWARD + "up_proj.weight"), gate_and_up),
        Row("layers.{i}.feed_forward.gate_up.bias", (_FEED_FORWARD + "gate_proj.bias", _FEED_FORWARD + "up_proj.bias"), gate_and_up),
        Row("layers.{i}.feed_forward.down.weight", (_FEED_FORWARD + "down_proj.weight",)),
        Row("layers.{i}.feed_forward.down.bias", (_FEED_FORWARD + "down_proj.bias",)),
        Row("final_norm.weight", ("model.norm.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    ),
    ignorable=(r".*\.rotary_emb\.inv_freq",),
    embedding="model.embed_tokens.weight",
)
