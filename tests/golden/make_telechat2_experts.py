"""Makes ``tests/golden/telechat2/telechat2-experts``: a tiny random TeleChat2 with experts, computed in float64 by the code below.

The network is written here once more from its description, every expert over every token, without a line of ours: no published
code of it is at hand. Run once, from the repository root: ``python tests/golden/make_telechat2_experts.py [GOLDEN]``; with the folder of a
published golden of this network it first prints how far its logits and balance losses are from that one's.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).parent / "telechat2" / "telechat2-experts"
CONFIG: dict[str, Any] = {
    "architectures": ["TeleChat2ForCausalLM"], "model_type": "telechat", "vocab_size": 72, "hidden_size": 24, "n_layer": 2, "n_head": 4,
    "num_key_value_heads": 2, "ffn_hidden_size": 10, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False, "training_seqlen": 64,
    "base_seqlen": 64, "num_experts": 6, "num_chosen_experts": 2, "aux_loss_factor": 0.01,
}  # fmt: skip
TOKENS, PADS, NEW_TOKENS, CAPACITY = 18, 4, 12, 1.0
GRADIENTS = (
    "h.0.mlp.router.weight", "h.1.mlp.router.weight", "h.0.mlp.local_experts.1.down_proj.bias", "h.1.mlp.local_experts.4.gate_proj.weight",
    "h.0.mlp.local_experts.0.down_proj.weight", "h.0.self_attention.key_value.weight", "ln_f.weight", "word_embeddings.weight",
)  # fmt: skip
Weights = dict[str, Tensor]


def shapes() -> dict[str, tuple[int, ...]]:
    """Published name -> shape."""
    hidden, width, vocab = CONFIG["hidden_size"], CONFIG["ffn_hidden_size"], CONFIG["vocab_size"]
    kept = 2 * CONFIG["num_key_value_heads"] * (hidden // CONFIG["n_head"])
    found: dict[str, tuple[int, ...]] = {"transformer.word_embeddings.weight": (vocab, hidden)}
    for layer in range(CONFIG["n_layer"]):
        own = {
            "input_layernorm.weight": (hidden,), "self_attention.query.weight": (hidden, hidden),
            "self_attention.key_value.weight": (kept, hidden), "self_attention.dense.weight": (hidden, hidden),
            "self_attention.dense.bias": (hidden,), "post_attention_layernorm.weight": (hidden,),
            "mlp.router.weight": (CONFIG["num_experts"], hidden),
        }  # fmt: skip
        for expert in range(CONFIG["num_experts"]):
            parts = {"gate_proj.weight": (width, hidden), "up_proj.weight": (width, hidden), "down_proj.weight": (hidden, width),
                     "down_proj.bias": (hidden,)}  # fmt: skip
            own |= {f"mlp.local_experts.{expert}.{name}": shape for name, shape in parts.items()}
        found |= {f"transformer.h.{layer}.{name}": shape for name, shape in own.items()}
    return found | {"transformer.ln_f.weight": (hidden,), "lm_head.weight": (vocab, hidden)}


def forward(weights: Weights, config: dict[str, Any], ids: Tensor, mask: Tensor, capacity: float | None = None) -> tuple[Tensor, Weights]:
    """Hidden states after the final norm, and what the routers said by golden key."""
    heads, said = config["n_head"], Weights()
    width = config["hidden_size"] // heads

    def norm(x: Tensor, name: str) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + config["layer_norm_epsilon"]).rsqrt() * weights[name]

    columns = torch.arange(ids.shape[1])
    angles = columns[:, None] * 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)

    def turn(x: Tensor) -> Tensor:
        first, second = x[..., : width // 2], x[..., width // 2 :]
        return torch.cat((first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), -1)

    hidden_by_mask = ~((columns[:, None] >= columns) & mask.bool()[:, None, None, :])
    x = weights["transformer.word_embeddings.weight"][ids]
    for layer in range(config["n_layer"]):
        own = {name.removeprefix(f"transformer.h.{layer}."): one for name, one in weights.items() if f"transformer.h.{layer}." in name}
        y = norm(x, f"transformer.h.{layer}.input_layernorm.weight")
        query = (y @ own["self_attention.query.weight"].T).unflatten(-1, (heads, width)).transpose(1, 2)
        pairs = (y @ own["self_attention.key_value.weight"].T).unflatten(-1, (-1, 2, width)).permute(0, 2, 3, 1, 4)
        group = heads // pairs.shape[1]
        key, value = (pairs[:, :, part].repeat_interleave(group, 1) for part in (0, 1))
        scores = (turn(query) @ turn(key).mT / math.sqrt(width)).masked_fill(hidden_by_mask, -1e30).softmax(-1)
        mixed = (scores @ value).transpose(1, 2).flatten(2)
        x = x + mixed @ own["self_attention.dense.weight"].T + own["self_attention.dense.bias"]
        y = norm(x, f"transformer.h.{layer}.post_attention_layernorm.weight")
        out, router = mixture(own, config, y, capacity)
        x = x + out
        said |= {f"{key}.{layer}": one for key, one in router.items()}
    return norm(x, "transformer.ln_f.weight"), said


def mixture(own: Weights, config: dict[str, Any], y: Tensor, capacity: float | None) -> tuple[Tensor, Weights]:
    """Softmax over all experts, the best few renormalised, each expert's bias inside the weighted sum."""
    number, choices = config["num_experts"], config["num_chosen_experts"]
    logits = y @ own["mlp.router.weight"].T
    scores = logits.softmax(-1)
    best, chosen = scores.topk(choices, -1)
    weights = best / (best.sum(-1, keepdim=True) + 1e-9)
    limit = math.inf if capacity is None else min(math.ceil(choices * y[..., 0].numel() * capacity / number), y[..., 0].numel())
    kept, served = torch.ones_like(chosen), [0] * number
    for choice in range(choices):
        for row in range(y.shape[0]):
            for token in range(y.shape[1]):
                expert = int(chosen[row, token, choice])
                kept[row, token, choice] = int(served[expert] < limit)
                served[expert] += 1
    out = torch.zeros_like(y)
    for expert in range(number):
        part = {name.removeprefix(f"mlp.local_experts.{expert}."): one for name, one in own.items() if f"local_experts.{expert}." in name}
        gate, up = y @ part["gate_proj.weight"].T, y @ part["up_proj.weight"].T
        answer = gate / (1 + torch.exp(-gate)) * up @ part["down_proj.weight"].T + part["down_proj.bias"]
        out = out + ((chosen == expert) * kept * weights).sum(-1, keepdim=True) * answer
    share = torch.stack([(chosen == expert).double().mean() for expert in range(number)])
    balance = config["aux_loss_factor"] * number * (share * scores.flatten(0, 1).mean(0)).sum()
    said = {"router_logits": logits, "router_topk_ids": chosen, "router_topk_weights": weights, "aux_loss": balance, "router_kept": kept}
    return out, said


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def distance_from(folder: Path) -> dict[str, float]:
    """How far this file is from a published golden of the same network."""
    config, golden = json.loads((folder / "config.json").read_text()), load_file(folder / "golden.safetensors")
    weights = {name: one.double() for name, one in load_file(folder / "model.safetensors").items()}
    hidden, said = forward(weights, config, golden["input_ids"], golden["attention_mask"])
    real = golden["attention_mask"].bool()
    found = {"logits": float(((hidden @ weights["lm_head.weight"].T)[real] - golden["logits"][real]).abs().max())}
    return found | {key: float((said[key] - golden[key]).abs().max()) for key in said if "aux_loss" in key}


def make(seed: int) -> None:
    """Write the case."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes().items():
        values = torch.randn(shape, generator=generator) * (0.2 if "norm" in name or "ln_f" in name else 0.3)
        weights[name] = (values + 1.0 if "norm" in name or "ln_f" in name else values).bfloat16()
    wide = {name: one.double().requires_grad_() for name, one in weights.items()}
    ids = torch.randint(5, CONFIG["vocab_size"], (2, TOKENS), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, -PADS:], mask[1, -PADS:] = 3, 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :3] = -100
    hidden, said = forward(wide, CONFIG, ids, mask)
    logits = hidden @ wide["lm_head.weight"].T
    loss, balance = loss_of(logits, labels), sum(one for key, one in said.items() if key.startswith("aux_loss"))
    (loss + balance).backward()
    tensors: Weights = {
        "logits": logits,
        "hidden_last": hidden,
        "loss": loss,
        "loss_total": loss + balance,
        "aux_loss": torch.as_tensor(balance),
    }
    tensors |= {key: one for key, one in said.items() if not key.startswith("router_kept")}
    for name in GRADIENTS:
        gradient = wide[f"transformer.{name}"].grad
        assert gradient is not None
        tensors[f"grad.transformer.{name}"] = gradient
    with torch.no_grad():
        limited, kept = forward(wide, CONFIG, ids, mask, CAPACITY)
        tensors["logits_capacity"] = limited @ wide["lm_head.weight"].T
        tensors["loss_capacity"] = loss_of(tensors["logits_capacity"], labels)
        tensors |= {key: one for key, one in kept.items() if key.startswith("router_kept")}
        tensors["greedy"], margin = greedy(wide, ids[:1])
    stored = {key: (one.float() if one.is_floating_point() else one).detach().contiguous() for key, one in tensors.items()}
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    save_file(weights, FOLDER / "model.safetensors")
    save_file({"input_ids": ids, "attention_mask": mask, "labels": labels, **stored}, FOLDER / "golden.safetensors")
    gaps = torch.cat(
        [(one.softmax(-1).topk(3).values[..., 1:].diff().abs()).flatten() for key, one in said.items() if "router_logits" in key]
    )
    golden = {
        "kind": "forward",
        "case": FOLDER.name,
        "family": "telechat2",
        "source": {"path": "tests/golden/make_telechat2_experts.py"},
        "computed_with": {"torch": torch.__version__, "device": "cpu", "dtype": "float64"},
        "compute_dtype": "float32",
        "storage_dtype": "bfloat16",
        "seed": seed,
        "padding": {"row": 1, "side": "right", "count": PADS},
        "grad_of": "loss_total",
        "moe_capacity_factor_for_logits_capacity": CAPACITY,
        "tolerance": {"logits": 1e-4, "hidden_last": 1e-4, "loss": 1e-5, "grad_rel": 1e-3, "greedy": "exact"},
        "measured": {
            "greedy_min_margin": margin, "logits_std": logits.std().item(), "router_min_gap": gaps.min().item(),
            "dropped": [int((one == 0).sum()) for key, one in kept.items() if key.startswith("router_kept")],
        },
    }  # fmt: skip
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def greedy(weights: Weights, ids: Tensor) -> tuple[Tensor, float]:
    """New tokens by full recomputation at every step, and the smallest gap between the two best logits."""
    margins = []
    for _ in range(NEW_TOKENS):
        hidden, _ = forward(weights, CONFIG, ids, torch.ones_like(ids))
        best = (hidden[0, -1] @ weights["lm_head.weight"].T).topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        ids = torch.cat((ids, best.indices[:1][None]), dim=1)
    return ids[0, -NEW_TOKENS:], min(margins)


if __name__ == "__main__":
    for published in sys.argv[1:]:
        print(distance_from(Path(published)))
    make(seed=1)
