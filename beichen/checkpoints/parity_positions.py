"""What goldens say of positions: rope rules as numbers, query scales, and forwards beyond the trained length.

In: the decoder and a golden's tensors. Out: for such a key, ours beside the golden's, cut to what is defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from beichen.nn.attention import query_scale
from beichen.nn.decoder import Decoder
from beichen.nn.rope import RopeRule, rope_rule

INPUTS = ("rope.lengths", "logn.positions", "long_batch.input_ids", "long_batch.attention_mask")
TOLERANCES = {"rope.alpha": 0.0, "rope.mscale": 1e-6, "rope.inv_freq_rel": 1e-6}  # where the golden states none
COS_SIN_TOLERANCE = 5e-3  # float32 angles at high positions differ by their order of operations


class Pair(NamedTuple):
    """Ours, what the golden says, and the name or the value of the tolerance where it is not that of the key."""

    ours: Tensor
    expected: Tensor
    tolerance: str | float | None = None


@torch.no_grad()
def pair(decoder: Decoder, golden: Mapping[str, Tensor], key: str) -> Pair | None:
    """Ours beside the golden's, or None where the key is not about positions or lacks its input."""
    expected = golden[key]
    if key.startswith("rope.") and "rope.lengths" in golden:
        return _rope(decoder, golden["rope.lengths"].tolist(), key.removeprefix("rope."), expected.cpu())
    if key == "logn.factor" and "logn.positions" in golden and decoder.config.query_scaling_length is not None:
        return Pair(query_scale(golden["logn.positions"] - 1, decoder.config.query_scaling_length), expected)
    if key == "long_batch.logits" and {*INPUTS[2:]} <= golden.keys():
        mask = golden["long_batch.attention_mask"]
        logits = decoder.logits(decoder(golden["long_batch.input_ids"], rope_length=mask.sum(1).tolist()))  # padded on the right
        return Pair(logits[mask.bool()], expected[mask.bool()])
    if key == "logits_long_plain":
        return _as_in_training(decoder, golden, expected)
    ids = golden.get(key.removesuffix("_tail").replace("logits_long", "input_ids_long"))
    if key.startswith("logits_long") and ids is not None:
        return Pair(decoder.logits(decoder(ids)[:, -expected.shape[1] :]), expected)
    return None


def keeps_its_rule(decoder: Decoder, first: int, last: int) -> bool:
    """Whether a sequence that grows between these lengths keeps its rope rule."""
    start, *others = _rules(decoder, list(range(first, last + 1)))
    return all(
        rule.attention_scale == start.attention_scale and torch.equal(rule.inverse_frequencies, start.inverse_frequencies)
        for rule in others
    )


def _rules(decoder: Decoder, lengths: list[int]) -> list[RopeRule]:
    return [rope_rule(decoder.config.rope, decoder.config.head_dim, length) for length in lengths]


def _rope(decoder: Decoder, lengths: list[int], kind: str, expected: Tensor) -> Pair | None:
    rules = _rules(decoder, lengths)
    inverse = torch.stack([rule.inverse_frequencies for rule in rules])
    scales = torch.tensor([rule.attention_scale for rule in rules])
    if kind == "alpha":
        return Pair(torch.tensor([rule.stretch for rule in rules]), expected)
    if kind == "mscale":
        return Pair(scales, expected)
    if kind == "inv_freq":
        return Pair(inverse / expected, torch.ones_like(expected), "rope.inv_freq_rel")
    if kind == "cos_sin_last":
        angles = (torch.tensor(lengths, dtype=torch.float32) - 1)[:, None] * inverse
        tables = torch.stack((angles.cos(), angles.sin()), dim=1).repeat(1, 1, 2) * scales[:, None, None]
        return Pair(tables, expected, COS_SIN_TOLERANCE)
    return None


def _as_in_training(decoder: Decoder, golden: Mapping[str, Tensor], expected: Tensor) -> Pair | None:
    """The last long row with neither rope nor queries knowing of its length, as some originals train."""
    fitting = [ids for key, ids in sorted(golden.items()) if key.startswith("input_ids_long") and ids.shape[1] == expected.shape[1]]
    if not fitting or decoder.config.attention_dropout or decoder.config.hidden_dropout:
        return None
    mode = decoder.training
    hidden = decoder.train()(fitting[-1])
    decoder.train(mode)
    return Pair(decoder.logits(hidden), expected)
