"""Rotary position embedding: one rule per function, from a ``RopeConfig`` to the angles of a length.

In: the config, the head width, the largest length that a pass (or a request) may reach. Out: inverse frequencies and the
scale on cos and sin; tables of them; rotated queries and keys. Everything is float32 until the rotated result is cast once,
unless the config asks for a ``rounding`` that some original code applies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beichen.nn.config import RopeConfig, RopeRuleName


@dataclass(frozen=True)
class RopeRule:
    """What a rule says for one length: ``inverse_frequencies`` [head_dim / 2] float32, and the scale on cos and sin.

    ``stretch``: what the length made of the base, before any exponent.
    """

    inverse_frequencies: Tensor
    attention_scale: float = 1.0
    stretch: float = 1.0


def default_frequencies(base: float, head_dim: int) -> Tensor:
    """Pair p turns by base ** (-2p / head_dim) a position (Su et al., arXiv 2104.09864).  -> [head_dim / 2]"""
    return 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def _default(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    return RopeRule(default_frequencies(config.base, head_dim))


def _linear(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """Positions divided by ``factor`` (position interpolation, arXiv 2306.15595)."""
    return RopeRule(default_frequencies(config.base, head_dim) / config.factor)


def stretched(base: float, by: float, head_dim: int) -> float:
    """NTK-aware: the slowest pair turns ``by`` times slower, the fastest as before."""
    return float(base * by ** (head_dim / (head_dim - 2)))


def step_factor(length: int, original_length: int) -> int:
    """1 up to ``original_length``, 3 up to twice it, 7 up to four times, ...: max(2 ** ceil(log2(length / original) + 1) - 1, 1)."""
    steps = 0
    while original_length << steps < length:
        steps += 1
    return 2 ** (steps + 1) - 1 if steps else 1


def _ntk(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """The base stretched once and for all, so that the longest wavelength grows by ``factor``."""
    return RopeRule(default_frequencies(stretched(config.base, config.factor, head_dim), head_dim))


def _dynamic_ntk(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """The base stretched in proportion to the length: by 1 at ``original_length``, by ``factor`` more with each such length."""
    stretch = 1.0 + config.factor * (max(length / config.original_length, 1.0) - 1.0)
    return RopeRule(default_frequencies(stretched(config.base, stretch, head_dim), head_dim), stretch=stretch)


def _stepped_ntk(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """The base stretched in steps, so that one table serves many lengths (Qwen 1)."""
    stretch = step_factor(length, config.original_length)
    return RopeRule(default_frequencies(stretched(config.base, stretch, head_dim), head_dim), stretch=stretch)


def _scaled_stepped_ntk(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """The same, never below the step of the trained length; beyond it cos and sin grow by 0.1 ln(length / trained).

    Source: Tele-AI/TeleChat2 ``modeling_telechat.py``, ``RotaryEmbedding``; there the tables were rounded to float16, here not.
    """
    longest = max(length, config.trained_length)
    stretch = step_factor(longest, config.original_length)
    scale = 1.0 + 0.1 * math.log(longest / config.trained_length)
    return RopeRule(default_frequencies(stretched(config.base, stretch, head_dim), head_dim), scale, stretch)


def _stepped_base(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """The base times the step itself, without an exponent (TeleChat-52B)."""
    stretch = step_factor(length, config.original_length)
    return RopeRule(default_frequencies(config.base * stretch, head_dim), stretch=stretch)


def _yarn(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """Slow pairs divided by ``factor``, fast ones kept, a ramp over the pairs between; scores scaled (arXiv 2309.00071)."""

    def pair_that_turns(times: float) -> float:
        """The (fractional) pair that turns so often over the original length."""
        return head_dim * math.log(config.original_length / (times * 2 * math.pi)) / (2 * math.log(config.base))

    first, last = pair_that_turns(config.fast_turns), pair_that_turns(config.slow_turns)
    if config.whole_pairs:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    width = last - first or 0.001
    divided = ((torch.arange(head_dim // 2, dtype=torch.float32) - first) / width).clamp(0.0, 1.0)
    frequencies = default_frequencies(config.base, head_dim)
    return RopeRule(frequencies / config.factor * divided + frequencies * (1.0 - divided), config.attention_scale)


def yarn_attention_scale(factor: float, *, growth: float = 1.0, reference_growth: float = 0.0) -> float:
    """The scale on cos and sin where none is stated: 1 + 0.1 ``growth`` ln(factor), over the same of the reference."""
    stretch = math.log(max(factor, 1.0))
    return (1.0 + 0.1 * growth * stretch) / (1.0 + 0.1 * reference_growth * stretch)


def _llama3(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """Long wavelengths divided by ``factor``, short ones kept, a ramp over the frequencies between (Llama 3.1)."""
    frequencies = default_frequencies(config.base, head_dim)
    turns = config.original_length * frequencies / (2 * math.pi)  # how often a pair turns over the original length
    ramp = (turns - config.low_frequency_factor) / (config.high_frequency_factor - config.low_frequency_factor)
    ramp = ramp.clamp(0.0, 1.0)
    return RopeRule(frequencies * (ramp + (1.0 - ramp) / config.factor))


RULES: dict[RopeRuleName, Callable[[RopeConfig, int, int], RopeRule]] = {
    "default": _default,
    "linear": _linear,
    "ntk": _ntk,
    "dynamic_ntk": _dynamic_ntk,
    "stepped_ntk": _stepped_ntk,
    "scaled_stepped_ntk": _scaled_stepped_ntk,
    "stepped_base": _stepped_base,
    "yarn": _yarn,
    "llama3": _llama3,
}


def rope_rule(config: RopeConfig, head_dim: int, length: int) -> RopeRule:
    """The rule in force when the longest sequence of a pass, or of a whole request, has ``length`` tokens."""
    rule = RULES[config.rule](config, head_dim, length)
    if config.rounding == "bfloat16_frequencies" and rule.stretch == 1.0:  # stretched ones are computed anew, in float32
        return replace(rule, inverse_frequencies=rule.inverse_frequencies.bfloat16().float())
    return rule


class RopeTables:
    """cos and sin for every position so far asked for; one table for all layers, kept per device for the rules asked for last."""

    kept = 8  # a rule that moves with every token would else leave a table for each length

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        self.config, self.head_dim = config, head_dim
        self._tables: dict[tuple[float, float, torch.device], tuple[Tensor, Tensor]] = {}

    def rows(self, positions: Tensor, length: int | Sequence[int], *, reach: int | None = None) -> tuple[Tensor, Tensor]:
        """cos, sin of ``positions`` [rows, tokens], under the rule for ``length``.  -> two of [rows, tokens, head_dim / 2] float32

        length: one for all rows, or one for each. reach: what all positions are below (default: the length).
        """
        if not isinstance(length, int):
            each = [self.rows(row[None], own, reach=reach) for row, own in zip(positions, length, strict=True)]
            return torch.cat([cos for cos, _ in each]), torch.cat([sin for _, sin in each])
        reach = max(reach or length, 1)
        rule = rope_rule(self.config, self.head_dim, length)
        key = (float(rule.inverse_frequencies[-1]), rule.attention_scale, positions.device)
        table = self._tables.pop(key, None)
        if table is None or table[0].shape[0] < reach:
            reach = reach if table is None else max(reach, 2 * table[0].shape[0])
            angles = torch.arange(reach, dtype=torch.float32)[:, None] * rule.inverse_frequencies
            turns = torch.stack((angles.cos(), angles.sin()))
            if self.config.rounding == "float16_tables":
                turns = turns.half()
            cos, sin = (turns * rule.attention_scale).to(positions.device, torch.float32)
            table = (cos, sin)
        self._tables[key] = table
        if len(self._tables) > self.kept:
            del self._tables[next(iter(self._tables))]
        return table[0][positions], table[1][positions]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pair (p, p + head_dim / 2) of every head by its angle, in float32.

    x [rows, tokens, heads, head_dim]; cos, sin [rows or 1, tokens, head_dim / 2].  -> like x
    """
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1).type_as(x)
