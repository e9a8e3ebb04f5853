"""The tensor side of generation: prompts side by side in one key-value cache, one new column a step.

Prompts are padded on the left, so that every row writes to the same column; padding sees only itself and nobody sees it. All rows
of a batch share one rope rule, fixed for the whole life of the request: cached and uncached passes then agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from beichen.nn.cache import DenseCache
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.rope import rope_rule
from beichen.nn.stepping import Stepper

PREFILL_TOKENS = 4096  # prompt tokens, all rows together, that one pass takes


def rope_key(config: DecoderConfig, length: int) -> tuple[float, float]:
    """Equal for lengths under which queries and keys are rotated alike."""
    rule = rope_rule(config.rope, config.head_dim, length)
    return float(rule.inverse_frequencies[-1]), rule.attention_scale


def pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids [rows, columns] with zeros in front, and the number of those zeros [rows]."""
    columns = max(map(len, prompts))
    ids = torch.zeros(len(prompts), columns, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, columns - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.int64)
    padding = torch.tensor([columns - len(prompt) for prompt in prompts])
    return ids.to(device), padding.to(device)


def interval_of(start: Tensor, stop: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """positions and first_visible [rows, n] of ``columns`` [n] where row r is real in ``start[r] .. stop[r] - 1``; padding sees itself."""
    real = (columns >= start[:, None]) & (columns < stop[:, None])
    positions = (columns - start[:, None]).clamp(min=0).minimum(stop[:, None] - start[:, None] - 1)
    first_visible = torch.where(real, start[:, None], columns).to(torch.int32)
    return positions, first_visible


class DecodingBatch:
    """Rows that grow together: ``prefill`` once, then ``step`` with the ids that were chosen."""

    def __init__(self, decoder: Decoder, *, rope_length: int) -> None:
        self.decoder, self.rope_length = decoder, rope_length
        self._step = Stepper(decoder, rope_length=rope_length)

    def prefill(self, prompts: Sequence[Sequence[int]], *, room: int, chunk_tokens: int = PREFILL_TOKENS) -> Tensor:
        """Read the prompts, ``chunk_tokens`` at a time; ``room`` columns are left for answers.  -> last column's logits [rows, vocab]"""
        weight = self.decoder.head_weight
        ids, padding = pad_left(prompts, weight.device)
        rows, columns = ids.shape
        self.cache = DenseCache(self.decoder.config, rows=rows, capacity=columns + room, dtype=weight.dtype, device=weight.device)
        self._padding = padding  # [rows]
        self._first_visible = padding.to(torch.int32) if bool(padding.any()) else None  # [rows], what a new column sees
        width = max(1, chunk_tokens // rows)
        for begin in range(0, columns, width):
            end = min(begin + width, columns)
            positions, first_visible = None, None
            if self._first_visible is not None:
                span = torch.arange(begin, end, device=ids.device)
                positions, first_visible = interval_of(padding, torch.full_like(padding, columns), span)
            hidden = self.decoder(
                ids[:, begin:end], positions=positions, first_visible=first_visible, cache=self.cache, rope_length=self.rope_length
            )
        return self.decoder.logits(hidden[:, -1])

    def step(self, ids: Tensor) -> Tensor:
        """Append one id per row [rows].  -> logits [rows, vocab]"""
        positions = (self.cache.length - self._padding).clamp(max=self.rope_length - 1)  # a finished row may run on beyond its length
        return self.decoder.logits(self._step(ids, positions, self._first_visible, self.cache))

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.cache.keep_rows(rows)
        self._padding = self._padding[rows]
        self._first_visible = None if self._first_visible is None else self._first_visible[rows]
