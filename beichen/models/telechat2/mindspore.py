"""TeleChat's and TeleChat2's tensors in MindFormers <-> the decoder's parameters: training, fused, and grouped-expert layouts."""

from beichen.models.mindspore import FUSED, GROUPED, PLAIN, stacked_bias, stacked_gate_and_up, stacked_gate_and_up_transposed
from beichen.models.naming import NameTable, Row, gate_and_up, query_and_interleaved_key_value, transposed

_LAYER = "model.layers.{i}."
_EXPERTS = _LAYER + "feed_forward.ffn."
_COMMON = (
    Row("embedding.weight", ("model.tok_embeddings.embedding_weight",)),
    Row("layers.{i}.attention_norm.weight", (_LAYER + "attention_norm.weight",)),
    Row("layers.{i}.attention.output.weight", (_LAYER + "attention.wo.weight",)),
    Row("layers.{i}.attention.output.bias", (_LAYER + "attention.wo.bias",)),
    Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "ffn_norm.weight",)),
    Row("layers.{i}.feed_forward.down.weight", (_LAYER + "feed_forward.w2.weight",)),
    Row("layers.{i}.feed_forward.down.bias", (_LAYER + "feed_forward.w2.bias",)),
    Row("layers.{i}.feed_forward.router.weight", (_LAYER + "feed_forward.router.dense.weight",)),
    Row("layers.{i}.feed_forward.router.bias", (_LAYER + "feed_forward.router.router.topk_bias",)),
    Row("layers.{i}.feed_forward.experts.down.bias", (_EXPERTS + "w2.bias",), stacked_bias, merged=False),
    Row("final_norm.weight", ("model.norm_out.weight",)),
    Row("head.weight", ("lm_head.weight",)),
)
_APART = (
    Row(
        "layers.{i}.attention.qkv.weight",
        (_LAYER + "attention.wq.weight", _LAYER + "attention.wk_v.weight"),
        query_and_interleaved_key_value,
    ),
    Row("layers.{i}.feed_forward.gate_up.weight", (_LAYER + "feed_forward.w1.weight", _LAYER + "feed_forward.w3.weight"), gate_and_up),
)
_FUSED = (
    Row("layers.{i}.attention.qkv.weight", (_LAYER + "attention.w_qkv.weight",)),
    Row("layers.{i}.feed_forward.gate_up.weight", (_LAYER + "feed_forward.w_gate_hidden.weight",)),
)
_GATE_UP, _DOWN = (_EXPERTS + "w1.weight", _EXPERTS + "w3.weight"), (_EXPERTS + "w2.weight",)
_STACKED = (
    Row("layers.{i}.feed_forward.experts.gate_up.weight", _GATE_UP, stacked_gate_and_up),
    Row("layers.{i}.feed_forward.experts.down.weight", _DOWN),
)
_GROUPED = (
    Row("layers.{i}.feed_forward.experts.gate_up.weight", _GATE_UP, stacked_gate_and_up_transposed),
    Row("layers.{i}.feed_forward.experts.down.weight", _DOWN, transposed),
)


def _table(*rows: Row) -> NameTable:
    training_only = (r".*\.router\.router\.(topk_bias|expert_load|e_score_correction_bias)",)
    return NameTable(rows=_COMMON + rows, ignorable=training_only, embedding="model.tok_embeddings.embedding_weight")


LAYOUTS = {
    PLAIN: _table(*_APART, *_STACKED),
    FUSED: _table(*_FUSED, *_STACKED),
    GROUPED: _table(*_APART, *_GROUPED),
}
EXPERT_LAYOUTS = frozenset({GROUPED})
DENSE_LAYOUTS = {name: table for name, table in LAYOUTS.items() if name not in EXPERT_LAYOUTS}
