"""What a run will hold in memory, before anything of it exists.

In: a decoder without storage (on the device ``meta``), the recipe. Out: bytes of weights, optimizer, gradients, activations, and the
peak. Weights, optimizer and gradients are counted on the decoder and a real ``Optimizer`` of it. What a layer keeps for the backward
pass is not a formula here: one layer of each kind runs on a few tokens, and what it keeps is counted and scaled, so the figure follows
kernels, recomputation and experts. Working memory follows from the largest products.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from beichen.checkpoints.adapter_folder import read_adapter
from beichen.checkpoints.loading import load_config
from beichen.models.adapters import attach
from beichen.models.registry import load_family
from beichen.nn import kernels
from beichen.nn.cross_entropy import CHUNK_ROWS
from beichen.nn.decoder import Decoder
from beichen.nn.kernels.cross_entropy import CHUNK_LOGITS
from beichen.nn.quantized import quantize
from beichen.nn.recomputation import Recompute
from beichen.train.adaptation import new_shape
from beichen.train.optimizers import Optimizer
from beichen.train.preparation import fresh_config
from beichen.train.settings import TrainRecipe

PROBE_DOCUMENTS, PROBE_TOKENS = 4, 32  # documents in the one row of a probe, and the tokens of each
CHUNK_COPIES = 4  # float32 copies of a chunk of logits that torch's operations hold at once
OUTSIDE = 64 << 20  # bytes that libraries and threads take once arithmetic begins, as measured
HOLES = 1.09  # what glibc's heap takes for tensors of many sizes, over their sum, as measured by bench/memory_estimate.py
MUON_COPIES = 3  # of a group of equal matrices, while they are made orthogonal


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device, above the process with its imports and without the text."""

    parameters: int  # their number
    trained: int  # number of those that move
    weights: int
    optimizer: int  # masters, moments, average
    gradients: int
    activations: int  # kept for the backward pass of one micro-batch
    peak: int

    def as_text(self) -> str:
        """One line for people."""
        some = "" if self.trained == self.parameters else f" ({self.trained:,} trained)"
        parts = ", ".join(f"{name} {_megabytes(getattr(self, name))}" for name in ("weights", "optimizer", "gradients", "activations"))
        return f"memory: {self.parameters:,} parameters{some}; {parts}; peak about {_megabytes(self.peak)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 10**10 else f"{size / 1e9:,.1f} GB"


def planned_decoder(recipe: TrainRecipe, vocab_size: int, dtype: torch.dtype) -> Decoder:
    """What a recipe trains, on ``meta``: of a fresh model's sizes, or of those of the checkpoint that it goes on from; with adapters."""
    start, adapters = recipe.model.start_from, recipe.lora
    if start is None:
        with torch.device("meta"):
            return Decoder(fresh_config(recipe, vocab_size)).to(dtype)
    config, _, name = load_config(start)
    with torch.device("meta"):
        decoder = Decoder(config).to(dtype)
    if adapters is not None:
        family = load_family(name)
        shape = new_shape(decoder, family, adapters) if adapters.start_from is None else read_adapter(adapters.start_from).shape
        if adapters.base_format != "full":
            quantize(decoder, adapters.base_format)
        attach(decoder, family.names, shape, seed=recipe.seed, dropout=adapters.dropout)
    return decoder


def estimate_memory(decoder: Decoder, recipe: TrainRecipe, *, device: torch.device) -> MemoryEstimate:
    """decoder: as it will be trained, adapters included, on ``meta``, in the format of the computation."""
    optimizer = Optimizer(decoder, recipe.optimizer)
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    weights = sum(tensor.nbytes for tensor in (*decoder.parameters(), *decoder.buffers()))
    gradients = sum(parameter.nbytes for parameter in trained)
    own = sum(tensor.nbytes for tensor in optimizer.state().values()) - sum(
        slot.master.nbytes for slot in optimizer.slots if slot.rounded is None
    )
    tokens = recipe.batch.rows_per_micro_batch * recipe.data.sequence_length
    layers, around = _kept(decoder, recipe.recompute, device, tokens)
    whole, _ = _kept(decoder, "nothing", device, tokens)
    passing = 2 * max(all_of_it - some for all_of_it, some in zip(whole, layers, strict=True))  # made forwards, and again backwards
    activations = sum(layers) + around
    compiled = device.type == "cpu" and kernels.status().available
    making, made = _loss(decoder, tokens, compiled=compiled)
    earlier = gradients if recipe.batch.rows_per_step > recipe.batch.rows_per_micro_batch else 0  # of micro-batches before
    inside = made + passing + _widest(decoder, tokens, compiled=compiled)
    backward = [
        activations - sum(layers[len(layers) - done :]) + inside + max(earlier, gradients * done // len(layers))
        for done in range(len(layers))
    ]
    working = max(activations + making + earlier, *backward, gradients + _updating(optimizer, compiled=compiled))
    peak = weights + own + working
    if device.type == "cpu":
        peak = round(HOLES * peak) + OUTSIDE
    return MemoryEstimate(
        parameters=sum(parameter.numel() for parameter in decoder.parameters()), trained=sum(parameter.numel() for parameter in trained),
        weights=weights, optimizer=own, gradients=gradients, activations=activations, peak=peak,
    )  # fmt: skip


def _kept(decoder: Decoder, recompute: Recompute, device: torch.device, tokens: int) -> tuple[list[int], int]:
    """Bytes that each layer keeps for the backward pass, and what stands around the layers; on a few tokens, each kind of layer once."""
    kinds: dict[tuple[Any, ...], tuple[int, int]] = {}
    found = []
    for layer in decoder.layers:
        kind = tuple((name, tuple(parameter.shape), parameter.requires_grad) for name, parameter in layer.named_parameters())
        if kind not in kinds:
            probe = _Probe(decoder, layer, recompute, device)
            two, three = (probe.kept(layers) * tokens // (PROBE_DOCUMENTS * PROBE_TOKENS) for layers in (2, 3))
            kinds[kind] = three - two, two - 2 * (three - two)
        found.append(kinds[kind])
    return [one for one, _ in found], found[-1][1]


class _Probe:
    """A small decoder whose layers are all the same one, with real numbers in it."""

    def __init__(self, decoder: Decoder, layer: nn.Module, recompute: Recompute, device: torch.device) -> None:
        weight = next(layer.parameters())
        config = replace(decoder.config, num_hidden_layers=1, vocab_size=2 * PROBE_TOKENS)
        with torch.device("meta"):
            self._decoder = Decoder(config)
        self._decoder.layers = nn.ModuleList([copy.deepcopy(layer)])
        self._decoder.to(weight.dtype).to_empty(device=device).train()
        with torch.no_grad():
            for parameter in self._decoder.parameters():
                parameter.normal_(std=0.02)
        self._decoder.recompute, self._decoder.attention_backend, self._device = recompute, decoder.attention_backend, device

    def kept(self, layers: int) -> int:
        """Bytes that so many layers keep, each piece of memory counted once and weights not at all."""
        self._decoder.layers = nn.ModuleList([self._decoder.layers[0]] * layers)
        own = {parameter.untyped_storage().data_ptr() for parameter in self._decoder.parameters()}
        storages: dict[int, tuple[int, Tensor]] = {}  # tensors are held, so that no place is used twice

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes(), tensor
            return tensor

        length = PROBE_DOCUMENTS * PROBE_TOKENS
        places = torch.arange(length, device=self._device)[None]
        positions = (places % PROBE_TOKENS).int()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._decoder(positions.long(), positions=positions, first_visible=(places - positions).int())
        return sum(size for size, _ in storages.values())


def _loss(decoder: Decoder, tokens: int, *, compiled: bool) -> tuple[int, int]:
    """(while the loss and its gradients are made, what of that is kept until the backward pass); all positions scored."""
    head = decoder.head_weight
    vocab, item, learns = head.shape[0], head.itemsize, head.requires_grad
    of_hidden = tokens * head.shape[1] * item
    if compiled and head.dtype == torch.bfloat16:
        rows = min(tokens, max(64, CHUNK_LOGITS // vocab // 64 * 64))
        of_weight = (4 if rows < tokens else 2) * head.numel() * learns
        return of_hidden + of_weight + rows * vocab * item + head.nbytes * learns, of_hidden + of_weight
    of_weight = 4 * head.numel() * learns
    return of_hidden + 2 * of_weight + CHUNK_COPIES * 4 * min(tokens, CHUNK_ROWS) * vocab, of_hidden + of_weight


def _widest(decoder: Decoder, tokens: int, *, compiled: bool) -> int:
    """Gradients of a feed-forward's inside while a layer is gone through backwards, and of what goes in and out of it."""
    config, item = decoder.config, decoder.dtype.itemsize
    wide = config.intermediate_size
    if config.experts is not None:
        wide = max(wide, config.experts.num_experts_per_token * config.experts.intermediate_size)
    inside = 3 if compiled and decoder.dtype == torch.bfloat16 else 8  # torch makes both halves' gradients, then joins them
    return tokens * (inside * wide + 2 * config.hidden_size) * item


def _updating(optimizer: Optimizer, *, compiled: bool) -> int:
    """Working memory of the optimizer's step."""
    plain = [slot.master.numel() for slot in optimizer.slots if not slot.parts]
    shapes: Counter[tuple[int, int]] = Counter()
    for slot in optimizer.slots:
        for rows in slot.parts:
            shapes[rows, slot.parameter.shape[-1]] += rows * slot.parameter.shape[-1]
    orthogonal = 2 * (sum(shapes.values()) + MUON_COPIES * max(shapes.values(), default=0))  # in bf16
    return max(orthogonal, 0 if compiled else 4 * 4 * max(plain, default=0))
