"""TeleChat-52B's published tensors <-> the decoder's parameters: projections stored [in, out], queries, keys and values in one."""

from beichen.models.naming import NameTable, Row, transposed

_LAYER = "transformer.h.{i}."

NAMES = NameTable(
    rows=(
        Row("embedding.weight", ("transformer.wte.weight",)),
        Row("layers.{i}.attention_norm.weight", (_LAYER + "ln_1.weight",)),
        Row("layers.{i}.attention.qkv.weight", (_LAYER + "attn.c_attn.weight",), transposed),
        Row("layers.{i}.attention.output.weight", (_LAYER + "attn.c_proj.weight",), transposed),
        Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "ln_2.weight",)),
        Row("layers.{i}.feed_forward.gate_up.weight", (_LAYER + "mlp.c_fc.weight",), transposed),
        Row("layers.{i}.feed_forward.down.weight", (_LAYER + "mlp.c_proj.weight",), transposed),
        Row("final_norm.weight", ("transformer.ln_f.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    ),
    ignorable=(r"transformer\.h\.\d+\.attn\.(masked_)?bias", r"transformer\.wpe\.inv_freq"),
    constants={_LAYER + "attn.masked_bias": -10000.0},
    embedding="transformer.wte.weight",
)
