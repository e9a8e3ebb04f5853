"""NDL's published tensors <-> the decoder's parameters. ``ffn2_proj`` is the gate, ``ffn1_proj`` the other factor."""

from beichen.models.naming import NameTable, Row, gate_and_up, query_key_value

_LAYER = "model.layers.{i}."
_ATTENTION, _FEED_FORWARD = _LAYER + "self_attn.", _LAYER + "mlp."
_EXPERT, _SHARED = _FEED_FORWARD + "experts.{e}.", _FEED_FORWARD + "shared_experts."


def _feed_forward(ours: str, published: str) -> tuple[Row, Row]:
    """The two rows of one feed-forward, or of a stack of them."""
    gate_up = (published + "ffn2_proj.weight", published + "ffn1_proj.weight")
    return Row(ours + "gate_up.weight", gate_up, gate_and_up), Row(ours + "down.weight", (published + "o_proj.weight",))


NAMES = NameTable(
    rows=(
        Row("embedding.weight", ("model.embed_tokens.weight",)),
        Row("layers.{i}.attention_norm.weight", (_LAYER + "input_layernorm.weight",)),
        Row("layers.{i}.attention.qkv.weight", tuple(f"{_ATTENTION}{part}.weight" for part in "qkv"), query_key_value),
        Row("layers.{i}.attention.qkv.bias", tuple(f"{_ATTENTION}{part}.bias" for part in "qkv"), query_key_value),
        Row("layers.{i}.attention.output.weight", (_ATTENTION + "o.weight",)),
        Row("layers.{i}.attention.output.bias", (_ATTENTION + "o.bias",)),
        Row("layers.{i}.feed_forward_norm.weight", (_LAYER + "post_attention_layernorm.weight",)),
        *_feed_forward("layers.{i}.feed_forward.", _FEED_FORWARD),
        Row("layers.{i}.feed_forward.router.weight", (_FEED_FORWARD + "gate.weight",)),
        Row("layers.{i}.feed_forward.router.bias", (_FEED_FORWARD + "gate.e_score_correction_bias",)),  # named as DeepSeek does
        *_feed_forward("layers.{i}.feed_forward.experts.", _EXPERT),
        *_feed_forward("layers.{i}.feed_forward.shared.", _SHARED),
        Row("final_norm.weight", ("model.norm.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    ),
    ignorable=(r".*\.rotary_emb\.inv_freq",),
    embedding="model.embed_tokens.weight",
)
