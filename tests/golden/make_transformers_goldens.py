"""Makes ``tests/golden/{llama,qwen}/*`` and ``ndl/ndl-*``: tiny random checkpoints with the numbers of stock ``transformers``.

A dense NDL is a Llama under other names. Run once, from the repository root: ``python tests/golden/make_transformers_goldens.py``. The
layout of the files is that of the published goldens: config and weights under original names, ``golden.safetensors`` with inputs and
expected tensors, ``golden.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).parent
SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
MSCALE = {"mscale": 0.7, "mscale_all_dim": 1.0, "beta_fast": 16, "truncate": False}
TOKENS, PADS, NEW_TOKENS = 20, 4, 12
STORAGE = torch.bfloat16  # the numbers are those of the rounded weights, computed in float32

SHAPE = ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "layers.1.self_attn.k_proj.weight", "layers.1.mlp.up_proj.weight")


@dataclass(frozen=True)
class Case:
    """One golden: which model, its config beyond ``SIZES``, on which side a row is padded, how large a shard may be, whose gradients."""

    family: str
    config: type
    model: type
    keys: dict[str, Any]
    side: str = "left"
    shard_size: str = "1GB"
    publish: Callable[[Path], None] = lambda folder: None  # rewrites what transformers saved, where the family publishes otherwise
    gradients: tuple[str, ...] = SHAPE


def heads(query: int, key_value: int, width: int | None = None) -> dict[str, Any]:
    """Keys of the attention's shape."""
    return {"num_attention_heads": query, "num_key_value_heads": key_value} | ({} if width is None else {"head_dim": width})


def as_ndl(folder: Path) -> None:
    """NDL's tensor names, and its keys for what the Llama config says; rope grows with the length beyond ``max_position_embeddings``."""
    names = {"mlp.down_proj": "mlp.o_proj", "mlp.gate_proj": "mlp.ffn2_proj", "mlp.up_proj": "mlp.ffn1_proj"}
    names |= {f"self_attn.{part}_proj": f"self_attn.{part}" for part in "qkvo"}

    def renamed(name: str) -> str:
        return next((name.replace(old, new) for old, new in names.items() if old in name), name)

    weights = folder / "model.safetensors"
    save_file({renamed(name): tensor for name, tensor in load_file(weights).items()}, weights)
    keys = json.loads((folder / "config.json").read_text())
    same = (*SIZES, "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "attention_bias")
    base = keys["rope_parameters"]["rope_theta"]
    ndl = {"architectures": ["NDLForCausalLM"], "model_type": "Ndl", "rope_scaling": "NTK", "rope_theta": base}
    (folder / "config.json").write_text(json.dumps(ndl | {key: keys[key] for key in same}, indent=1) + "\n")


BIASES = ("layers.0.self_attn.v_proj.bias",)
NORMS = ("layers.0.self_attn.q_norm.weight", "layers.1.self_attn.k_norm.weight")
LLAMA, QWEN2, QWEN3 = (
    ("llama", LlamaConfig, LlamaForCausalLM),
    ("qwen", Qwen2Config, Qwen2ForCausalLM),
    ("qwen", Qwen3Config, Qwen3ForCausalLM),
)
CASES: dict[str, Case] = {
    "llama2": Case(*LLAMA, heads(4, 4) | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True}),
    "llama3": Case(
        *LLAMA,
        heads(8, 2) | {"rope_parameters": {"rope_theta": 500.0, **LLAMA3}, "attention_bias": True, "mlp_bias": True},
        shard_size="12KB",
        gradients=(*SHAPE, *BIASES, "layers.0.self_attn.o_proj.bias", "layers.1.mlp.down_proj.bias"),
    ),
    "llama-yarn": Case(*LLAMA, heads(4, 1, 12) | {"rope_parameters": {"rope_theta": 1000.0, **YARN, **MSCALE}}, side="right"),
    "qwen2": Case(*QWEN2, heads(4, 2) | {"tie_word_embeddings": True}, side="right", gradients=(*SHAPE, *BIASES)),
    "qwen2-yarn": Case(
        *QWEN2,
        heads(4, 4) | {"rope_parameters": {"rope_theta": 1000.0, **YARN}, "sliding_window": 32, "use_sliding_window": False},
        gradients=(*SHAPE, *BIASES),
    ),
    "qwen3": Case(*QWEN3, heads(4, 2, 12) | {"tie_word_embeddings": True}, gradients=(*SHAPE, *NORMS)),
    "qwen3-bias": Case(
        *QWEN3,
        heads(2, 1, 16) | {"attention_bias": True, "rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}},
        side="right",
        gradients=(*SHAPE, *NORMS, *BIASES, "layers.0.self_attn.o_proj.bias"),
    ),
    "ndl-dense": Case(
        "ndl",
        LlamaConfig,
        LlamaForCausalLM,
        heads(4, 1)
        | {"attention_bias": True, "tie_word_embeddings": True, "max_position_embeddings": 40}
        | {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "dynamic", "factor": 1.0}},
        side="right",
        publish=as_ndl,
        gradients=("embed_tokens.weight", "layers.0.input_layernorm.weight", "norm.weight"),  # names that both have
    ),
}


def make(name: str, case: Case, seed: int) -> None:
    """Write one case."""
    torch.manual_seed(seed)
    model = case.model(case.config(**(SIZES | case.keys), attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.normal_(1.0, 0.2) if parameter_name.endswith("norm.weight") else parameter.normal_(0.0, 0.15)
            parameter.copy_(parameter.to(STORAGE))
    ids = torch.randint(5, SIZES["vocab_size"], (2, TOKENS))
    mask = torch.ones_like(ids)
    pads = slice(0, PADS) if case.side == "left" else slice(TOKENS - PADS, TOKENS)
    ids[1, pads], mask[1, pads] = 3, 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, : PADS + 2] = -100
    out = model(input_ids=ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    out.loss.backward()
    tensors: dict[str, Tensor] = {"input_ids": ids, "attention_mask": mask, "labels": labels, "logits": out.logits, "loss": out.loss}
    tensors["hidden_last"] = out.hidden_states[-1]
    tensors |= {f"grad.model.{one}": model.get_parameter(f"model.{one}").grad.clone() for one in case.gradients}
    tensors["greedy"], margin = greedy(model, ids[:1])
    tensors["input_ids_long"] = torch.randint(5, SIZES["vocab_size"], (1, 50))
    with torch.no_grad():
        tensors["logits_long"] = model(tensors["input_ids_long"]).logits
    rotation = model.model.rotary_emb
    tensors["rope.lengths"] = torch.tensor([tensors["input_ids_long"].shape[1]])  # the last forward's
    tensors["rope.inv_freq"], tensors["rope.mscale"] = rotation.inv_freq[None], torch.tensor([float(rotation.attention_scaling)])
    folder = HERE / case.family / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.to(STORAGE).save_pretrained(folder, max_shard_size=case.shard_size)
    (folder / "generation_config.json").unlink(missing_ok=True)
    case.publish(folder)
    save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, folder / "golden.safetensors")
    golden = {
        "kind": "forward",
        "case": name,
        "family": case.family,
        "source": {"package": "transformers", "version": transformers.__version__},
        "computed_with": {"torch": torch.__version__, "device": "cpu", "attention": "eager"},
        "compute_dtype": "float32",
        "storage_dtype": str(STORAGE).removeprefix("torch."),
        "seed": seed,
        "padding": {"row": 1, "side": case.side, "count": PADS},
        "grad_of": "loss",
        "tolerance": {"logits": 1e-4, "hidden_last": 1e-4, "loss": 1e-5, "grad_rel": 1e-3, "logits_long": 2e-4, "greedy": "exact"},
        "measured": {"greedy_min_margin": margin, "logits_std": out.logits.std().item()},
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


@torch.no_grad()
def greedy(model: PreTrainedModel, ids: Tensor) -> tuple[Tensor, float]:
    """Full recomputation at every step.  -> new tokens, and the smallest gap between the two best logits"""
    start, margins = ids.shape[1], []
    for _ in range(NEW_TOKENS):
        best = model(ids).logits[0, -1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        ids = torch.cat((ids, best.indices[:1][None]), dim=1)
    return ids[0, start:], min(margins)


if __name__ == "__main__":
    for number, (name, case) in enumerate(CASES.items()):
        make(name, case, seed=number)
