"""The contenders of the training race: each is one optimizer step on a batch of ids, clipping and AdamW included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.profiler import record_function

from beichen.data.batch import Batch
from beichen.nn.config import DecoderConfig
from beichen.objectives.next_token import next_token
from beichen.train.optimizers import Optimizer
from beichen.train.settings import OptimizerSettings
from bench.workload import ours, theirs

OPTIMIZER = "bench: optimizer"  # the name of clipping and update in a profile
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP_NORM = 3e-4, (0.9, 0.95), 0.1, 1.0


@dataclass(frozen=True)
class Contender:
    """A name, how it is set up, and its step: ids [rows, tokens + 1] -> mean loss in nats per target."""

    name: str
    settings: str
    step: Callable[[Tensor], float]


def as_batch(ids: Tensor) -> Batch:
    """Causal rows without packing: the batch that every contender sees."""
    rows, tokens = ids.shape[0], ids.shape[1] - 1
    return Batch(
        input_ids=ids[:, :-1].contiguous(), targets=ids[:, 1:].contiguous(),
        positions=torch.arange(tokens, dtype=torch.int32).repeat(rows, 1),
        first_visible=torch.zeros(rows, tokens, dtype=torch.int32),
        token_count=rows * tokens, target_count=rows * tokens,
    )  # fmt: skip


def our_trainer(config: DecoderConfig) -> Contender:
    """What ``train.loop`` does in a step: bf16 computation, float32 masters and moments."""
    decoder = ours(config, torch.bfloat16).train()
    optimizer = Optimizer(
        decoder,
        OptimizerSettings(
            name="adamw", learning_rate=LEARNING_RATE, beta1=BETAS[0], beta2=BETAS[1], weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM
        ),
    )

    def step(ids: Tensor) -> float:
        batch = as_batch(ids)
        loss = next_token(decoder, batch).loss_sum
        loss.backward()
        with record_function(OPTIMIZER):
            optimizer.step(1.0, batch.target_count)
        return float(loss.detach()) / batch.target_count

    return Contender("ours", "bf16 computation, float32 master weights and moments, AdamW, clipping", step)


def their_trainer(config: DecoderConfig, *, autocast: bool, compiled: bool) -> Contender:
    """transformers with the settings that its Trainer and the PyTorch guides name for a CPU."""
    model = theirs(config, torch.float32 if autocast else torch.bfloat16).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    forward = torch.compile(model) if compiled else model

    def step(ids: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = forward(input_ids=ids[:, :-1], labels=ids[:, :-1], shift_labels=ids[:, 1:].contiguous(), use_cache=False).loss
        loss.backward()
        with record_function(OPTIMIZER):
            torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    weights = "bf16 autocast over float32 weights" if autocast else "pure bf16 weights and moments"
    name = f"transformers {'autocast' if autocast else 'pure bf16'}{', compiled' if compiled else ''}"
    return Contender(name, f"{weights}, attention sdpa, fused AdamW{', torch.compile' if compiled else ''}", step)


def contenders(*, compiled: bool) -> dict[str, Callable[[DecoderConfig], Contender]]:
    """Makers by name, ours first; each builds its own model from the same weights."""
    makers: dict[str, Callable[[DecoderConfig], Contender]] = {"ours": our_trainer}
    for compile_it in (False, True) if compiled else (False,):
        for autocast in (True, False):
            name = f"{'autocast' if autocast else 'bf16'}{'-compiled' if compile_it else ''}"
            makers[name] = partial(their_trainer, autocast=autocast, compiled=compile_it)
    return makers
