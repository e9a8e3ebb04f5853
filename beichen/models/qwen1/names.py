"""Qwen 1's published tensors <-> the decoder's parameters: one projection for queries, keys, values; ``w2`` is the gate, ``w1`` goes up."""

from beichen.models.naming import NameTable, Row, gate_and_up

_LAYER = "transformer.h.{i}."

NAMES = NameTable(
    rows=(
        Row("embedding.weight", ("transformer.wte.weight",)),
        Row("layers.{i}.attention_norm.weight", (_LAYER + "ln_1.weight",)),
        Row("layers.{i}.attention.qkv.weight", (_LAYER + "attn.c_attn.weight",)),
        Row("layers.{i}.attention.qkv.bias", (_LAYER + "attn.c_attn.bias",)),
        Row("layers.{i}.attention.output.weight", (_LAYER + "attn.c_proj.weight",)),
        Row("layers.{i}.attention.output.bias", (_LAYER + "attn.c_proj.bias",)),
        Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "ln_2.weight",)),
        Row("layers.{i}.feed_forward.gate_up.weight", (_LAYER + "mlp.w2.weight", _LAYER + "mlp.w1.weight"), gate_and_up),
        Row("layers.{i}.feed_forward.gate_up.bias", (_LAYER + "mlp.w2.bias", _LAYER + "mlp.w1.bias"), gate_and_up),
        Row("layers.{i}.feed_forward.down.weight", (_LAYER + "mlp.c_proj.weight",)),
        Row("layers.{i}.feed_forward.down.bias", (_LAYER + "mlp.c_proj.bias",)),
        Row("final_norm.weight", ("transformer.ln_f.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    ),
    ignorable=(r"transformer\.rotary_emb\.inv_freq", r"transformer\.h\.\d+\.attn\.(masked_)?bias"),
    embedding="transformer.wte.weight",
)
