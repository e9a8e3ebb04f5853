"""A training step with experts beside the same with a python loop over them, and beside a dense model of the active parameters.

The model is NDL-MoE scaled down: 12 layers, the first dense, then 15 experts of which a token chooses 4 beside a shared one, balanced
row by row. The loop is that of published code: three linear modules an expert, a mask for each, rows gathered and written back; same
weights, same data. The dense model has one feed-forward in each mixture's place, as wide as what a token meets there. All take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.models.ndl import FAMILY
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.nn.experts import Experts, Mixture
from beichen.nn.feed_forward import FeedForward
from beichen.nn.spans import Span
from beichen.objectives.next_token import next_token
from bench.records import BenchResult, Run
from bench.timing import take_turns
from bench.trainers import as_batch
from bench.workload import ours, random_batch

LOSS_TOLERANCE = 5e-3  # nats; in bf16 another expert may be chosen where two score alike
LARGEST = 2048  # tokens of the largest batch
VOCABULARY, EXPERTS, CHOICES, LAYERS, HEADS = 1000, 15, 4, 12, 4


@dataclass(frozen=True)
class Shape:
    """How far the model and the batch are scaled down."""

    hidden: int
    width: int  # of an expert
    rows: int
    tokens: int

    def __str__(self) -> str:
        return f"hidden {self.hidden}, experts {self.width} wide, {self.rows} x {self.tokens} tokens"

    @property
    def turns(self) -> int:
        """Turns of a round: a short step is disturbed more by what else the machine does, so it takes more of them."""
        return max(1, LARGEST // (self.rows * self.tokens))

    def decoder(self, dtype: torch.dtype) -> Decoder:
        """Random weights, in training mode; proportions as published: dense 9 x hidden, shared 2 x an expert."""
        experts = ExpertsConfig(
            num_experts=EXPERTS, num_experts_per_token=CHOICES, intermediate_size=self.width, shared_intermediate_size=2 * self.width,
            first_dense_layers=1, balance_factor=0.001, balance_form="sequence",
        )  # fmt: skip
        config = FAMILY.new_config(
            vocab_size=VOCABULARY, hidden_size=self.hidden, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=9 * self.hidden, max_position_embeddings=1024, experts=experts,
        )  # fmt: skip
        return ours(config, dtype).train()


SHAPES = (Shape(64, 40, 1, 128), Shape(64, 40, 4, 128), Shape(128, 80, 2, 128), Shape(200, 128, 4, 128), Shape(256, 160, 8, 256))


class OneExpert(nn.Module):
    """down(silu(gate x) * (up x)) as three linear modules."""

    def __init__(self, gate_up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(part.shape[1], part.shape[0], bias=False) for part in (*gate_up.chunk(2), down))
        for module, weight in zip((self.gate, self.up, self.down), (*gate_up.chunk(2), down), strict=True):
            module.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class LoopedExperts(nn.Module):
    """The same experts, one after another."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        stacked = zip(experts.gate_up.weight, experts.down.weight, strict=True)
        self.experts = nn.ModuleList(OneExpert(gate_up, down) for gate_up, down in stacked)

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor, spans: Sequence[Span] = ()) -> Tensor:
        assert not spans, "no adapters here"
        flat, repeated = chosen.flatten(), x.flatten(0, -2).repeat_interleave(chosen.shape[-1], dim=0)
        out = torch.empty_like(repeated)
        for number, expert in enumerate(self.experts):
            out[flat == number] = expert(repeated[flat == number])
        return (out.view(*chosen.shape, -1) * weights[..., None].to(out.dtype)).sum(-2)


def looped(decoder: Decoder) -> Decoder:
    """The decoder with its experts exchanged for the loop."""
    for module in decoder.modules():
        if isinstance(module, Mixture):
            module.experts = LoopedExperts(module.experts)  # type: ignore[assignment]  # the loop has the experts' call and no more; a protocol in nn only for this bench would be worse
    return decoder


def densified(decoder: Decoder) -> Decoder:
    """The decoder with dense feed-forwards of the active width in place of its mixtures; the weights are new ones."""
    for layer in decoder.layers:
        mixture = layer.feed_forward
        if isinstance(mixture, Mixture):
            width = CHOICES * mixture.config.intermediate_size + mixture.config.shared_intermediate_size
            dense = FeedForward(decoder.config, intermediate_size=width).to(decoder.dtype)
            for parameter in dense.parameters():
                nn.init.normal_(parameter, 0.0, decoder.config.initializer_range)
            layer.feed_forward = dense
    return decoder


def step_of(decoder: Decoder, ids: Tensor) -> Callable[[], float]:
    """Forward, backward, gradients dropped.  -> mean loss in nats per target"""
    batch, parameters = as_batch(ids), list(decoder.parameters())

    def step() -> float:
        scored = next_token(decoder, batch)
        scored.minimised.backward()
        for parameter in parameters:
            parameter.grad = None
        return float(scored.loss_sum.detach()) / batch.target_count

    return step


def measure(run: Run, *, rounds: int = 5) -> list[BenchResult]:
    """Records of all three for every shape and number format. Raises AssertionError when first losses of ours and the loop differ."""
    records = []
    for shape in SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            mine, theirs = shape.decoder(dtype), looped(shape.decoder(dtype))
            ids = random_batch(mine.config, 0, rows=shape.rows, tokens=shape.tokens)
            steps = {"ours": step_of(mine, ids), "loop": step_of(theirs, ids)}
            losses = {name: step() for name, step in steps.items()}
            if abs(losses["ours"] - losses["loop"]) > LOSS_TOLERANCE:
                raise AssertionError(f"{shape}: first losses {losses} differ: not the same model")
            steps["dense"] = step_of(densified(shape.decoder(dtype)), ids)
            steps["dense"]()
            seconds = take_turns(steps, rounds=rounds * shape.turns)
            label = f"{shape}, {str(dtype).removeprefix('torch.')}"
            for name, values in seconds.items():
                speeds = [shape.rows * shape.tokens / value for value in values]
                records.append(run.record("experts", f"{label}: {name}", speeds, "tok/s", settings="forward and backward"))
    return records
