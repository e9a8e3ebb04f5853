"""TeleChat-52B's tensors in MindFormers <-> the decoder's parameters: always fused, whole or grouped by tensor-parallel rank."""

from beichen.models.mindspore import PLAIN, RANKS, by_rank
from beichen.models.naming import NameTable, Row, Views, whole

_LAYER = "model.layers.{i}."


def _table(query_key_value: Views, gate_up: Views) -> NameTable:
    rows = (
        Row("embedding.weight", ("model.tok_embeddings.embedding_weight",)),
        Row("layers.{i}.attention_norm.weight", (_LAYER + "attention_norm.weight",)),
        Row("layers.{i}.attention.qkv.weight", (_LAYER + "attention.w_qkv.weight",), query_key_value),
        Row("layers.{i}.attention.output.weight", (_LAYER + "attention.wo.weight",)),
        Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "ffn_norm.weight",)),
        Row("layers.{i}.feed_forward.gate_up.weight", (_LAYER + "feed_forward.w_gate_hidden.weight",), gate_up),
        Row("layers.{i}.feed_forward.down.weight", (_LAYER + "feed_forward.w2.weight",)),
        Row("final_norm.weight", ("model.norm_out.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    )
    return NameTable(rows=rows, embedding="model.tok_embeddings.embedding_weight")


LAYOUTS = {PLAIN: _table(whole, whole)} | {name: _table(by_rank(3, ranks), by_rank(2, ranks)) for name, ranks in RANKS.items()}
