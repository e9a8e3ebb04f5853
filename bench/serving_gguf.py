"""The bench model as a GGUF file, which llama.cpp reads: no vocabulary, for all contenders answer in ids.

llama.cpp turns neighbouring columns where the published layout turns halves, so the rows of query and key weights change places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from beichen.models.llama import FAMILY
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder

FORMATS = {"f16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "embed_tokens": "token_embd", "lm_head": "output", "norm": "output_norm",
}  # fmt: skip


def write_gguf(path: Path, decoder: Decoder, number_format: str) -> None:
    """A decoder of the Llama family, its matrices in one of ``FORMATS``, its norms in float32."""
    import gguf

    config = decoder.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.base)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    kind = {"f16": gguf.LlamaFileType.MOSTLY_F16, "bf16": gguf.LlamaFileType.MOSTLY_BF16}[number_format]
    writer.add_file_type(kind)
    for name, view in FAMILY.names.views(dict(decoder.named_parameters()), config).items():
        add_tensor(writer, gguf_name(name), _turned(name, view.tensor().detach(), config), number_format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` -> ``blk.3.ffn_up.weight``."""
    parts = name.removeprefix("model.").removesuffix(".weight").split(".")
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{_NAMES['.'.join(parts[2:])]}.weight"
    return f"{_NAMES['.'.join(parts)]}.weight"


def _turned(name: str, tensor: Tensor, config: DecoderConfig) -> Tensor:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)


def add_tensor(writer: Any, name: str, tensor: Tensor, number_format: str) -> None:
    """One tensor: bf16 goes as its bytes, which numpy has no type for."""
    import gguf

    if tensor.dim() == 1:
        writer.add_tensor(name, tensor.float().numpy())
        return
    stored = tensor.to(FORMATS[number_format]).contiguous()
    if number_format == "bf16":
        content = stored.view(torch.uint8).numpy()
        writer.add_tensor(name, np.ascontiguousarray(content), raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, stored.numpy())
