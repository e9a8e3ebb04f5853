"""Makes ``tests/golden/llama/*``: tiny random Llama checkpoints with the numbers that stock ``transformers`` computes for them.

Run once, from the repository root: ``python tests/golden/make_llama.py``. The layout of the files is that of the published
goldens: config and weights under original names, ``golden.safetensors`` with inputs and expected tensors, ``golden.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent / "llama"
SIZES: dict[str, Any] = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2}
SCALING = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES: dict[str, dict[str, Any]] = {
    "llama2": {"num_attention_heads": 4, "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}
    | {"tie_word_embeddings": True},
    "llama3": {"num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "max_position_embeddings": 64}
    | {"rope_parameters": {"rope_theta": 500.0, **SCALING}, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
}
GRADIENTS = ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "layers.1.self_attn.k_proj.weight", "layers.1.mlp.up_proj.weight")
TOKENS, PADS, NEW_TOKENS = 20, 4, 12


def make(case: str, seed: int) -> None:
    """Write one case."""
    torch.manual_seed(seed)
    config = LlamaConfig(**SIZES, **CASES[case], attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.normal_(1.0, 0.2)
            else:
                parameter.normal_(0.0, 0.15 if parameter.ndim == 2 else 0.1)
    ids = torch.randint(5, SIZES["vocab_size"], (2, TOKENS))
    mask = torch.ones_like(ids)
    ids[1, :PADS], mask[1, :PADS] = 3, 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, : PADS + 2] = -100
    out = model(input_ids=ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    out.loss.backward()
    tensors: dict[str, Tensor] = {"input_ids": ids, "attention_mask": mask, "labels": labels, "logits": out.logits, "loss": out.loss}
    tensors["hidden_last"] = out.hidden_states[-1]
    tensors |= {f"grad.model.{name}": model.get_parameter(f"model.{name}").grad for name in GRADIENTS}
    tensors["greedy"], margin = greedy(model, ids[:1])
    tensors["input_ids_long"] = torch.randint(5, SIZES["vocab_size"], (1, 50))
    with torch.no_grad():
        tensors["logits_long"] = model(tensors["input_ids_long"]).logits
    folder = HERE / case
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "golden.safetensors")
    golden = {
        "kind": "forward",
        "case": case,
        "family": "llama",
        "source": {"package": "transformers", "version": transformers.__version__},
        "computed_with": {"torch": torch.__version__, "device": "cpu", "attention": "eager"},
        "compute_dtype": "float32",
        "storage_dtype": "float32",
        "seed": seed,
        "padding": {"row": 1, "side": "left", "count": PADS},
        "grad_of": "loss",
        "tolerance": {"logits": 1e-4, "hidden_last": 1e-4, "loss": 1e-5, "grad_rel": 1e-3, "logits_long": 2e-4, "greedy": "exact"},
        "measured": {"greedy_min_margin": margin, "logits_std": out.logits.std().item()},
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


@torch.no_grad()
def greedy(model: LlamaForCausalLM, ids: Tensor) -> tuple[Tensor, float]:
    """Full recomputation at every step.  -> new tokens, and the smallest gap between the two best logits"""
    start, margins = ids.shape[1], []
    for _ in range(NEW_TOKENS):
        best = model(ids).logits[0, -1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        ids = torch.cat((ids, best.indices[:1][None]), dim=1)
    return ids[0, start:], min(margins)


if __name__ == "__main__":
    for number, name in enumerate(CASES):
        make(name, seed=number)
