"""Which tokens of a forward are moved by which adapter, where several adapters share one base and one batch.

The base knows nothing of them: whoever makes a pass says what each stretch of its tokens carries (``Places.spans``), and a linear layer
looks itself up there. Tokens that no span covers are the base's own; a pass without spans costs nothing. Rule kept: what a token becomes
is what it would become with its adapter alone on the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from beichen.nn.linear_layer import LinearLayer


class Update(Protocol):
    """What an adapter does to one linear layer: ``nn.low_rank.LowRank``."""

    def __call__(self, x: Tensor, out: Tensor, layer: LinearLayer, ends: Tensor | None = None) -> Tensor:
        """x and what the layer made of it, which may be overwritten.  -> what it is with the adapter"""


Updates = Mapping[LinearLayer, Update]  # one adapter: the layers that it moves


@dataclass(frozen=True)
class Span:
    """Tokens [begin, end) of a pass, counted through its rows."""

    begin: int
    end: int
    updates: Updates


def moved(layer: LinearLayer, x: Tensor, out: Tensor, spans: Sequence[Span]) -> Tensor:
    """x [..., in] and what the layer made of it, ``out`` [..., out], contiguous, which is overwritten.  -> ``out``"""
    rows, results = x.view(-1, x.shape[-1]), out.view(-1, out.shape[-1])
    for span in spans:
        update = span.updates.get(layer)
        if update is not None:
            part = results[span.begin : span.end]
            after = update(rows[span.begin : span.end], part, layer)
            if after.data_ptr() != part.data_ptr():
                part.copy_(after)
    return out


def stretches(spans: Sequence[Span], tokens: int) -> Iterator[Span]:
    """All tokens of a pass in their order: the spans, and between them what is the base's own."""
    done = 0
    for span in spans:
        if done < span.begin:
            yield Span(done, span.begin, {})
        yield span
        done = span.end
    if done < tokens:
        yield Span(done, tokens, {})
