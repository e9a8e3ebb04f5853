"""The rope of a config in the form that ``transformers`` reads and writes <-> ``RopeConfig``; for all families published in that form.

In: ``rope_theta`` with ``rope_scaling`` (version 4), or ``rope_parameters`` (version 5), which holds both. A rule or a number that is
not understood is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beichen.errors import ConfigError, nearest
from beichen.models.published import PublishedKeys
from beichen.nn.config import RopeConfig, RopeRuleName
from beichen.nn.rope import yarn_attention_scale

ORIGINAL_LENGTH = "original_max_position_embeddings"


@dataclass(frozen=True)
class _Rule:
    """A published rule: our name of it, published keys of numbers -> our fields, and keys that need not be there."""

    ours: RopeRuleName
    numbers: Mapping[str, str]
    optional: frozenset[str] = frozenset()


_RULES = {
    "default": _Rule("default", {}),
    "linear": _Rule("linear", {"factor": "factor"}),
    "dynamic": _Rule("dynamic_ntk", {"factor": "factor"}),
    "yarn": _Rule(
        "yarn",
        {
            "factor": "factor",
            ORIGINAL_LENGTH: "original_length",
            "beta_slow": "slow_turns",
            "beta_fast": "fast_turns",
            "attention_factor": "attention_scale",
        },
        frozenset({"factor", ORIGINAL_LENGTH, "beta_slow", "beta_fast", "attention_factor"}),
    ),
    "llama3": _Rule(
        "llama3",
        {
            "factor": "factor",
            "low_freq_factor": "low_frequency_factor",
            "high_freq_factor": "high_frequency_factor",
            ORIGINAL_LENGTH: "original_length",
        },
    ),
}
_PUBLISHED = {rule.ours: name for name, rule in _RULES.items()}


def read_rope(keys: PublishedKeys, *, max_position_embeddings: int) -> RopeConfig:
    """The rope that the config states under either form; where it uses both, they must agree."""
    base = keys.optional_number("rope_theta")
    forms = {name: keys.mapping(name) for name in ("rope_scaling", "rope_parameters")}
    stated = [
        _read(_Table(name, table), base, max_position_embeddings) for name, table in forms.items() if table
    ]  # an empty object states nothing
    if len(stated) == 2 and stated[0] != stated[1]:
        raise ConfigError("config.json: 'rope_scaling' and 'rope_parameters' state one fact and disagree", remedy="keep one of the two")
    return stated[0] if stated else RopeConfig(base=10000.0 if base is None else base)


def publish_rope(rope: RopeConfig) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling``, the form that every reader knows.

    A rule that this form lacks leaves ``rope_scaling`` empty; ``Family.from_decoder_config`` notices.
    """
    name = _PUBLISHED.get(rope.rule, "default")
    scaling: dict[str, Any] = {"rope_type": name} | {key: getattr(rope, field) for key, field in _RULES[name].numbers.items()}
    if not rope.whole_pairs:
        scaling["truncate"] = False
    return {"rope_theta": rope.base, "rope_scaling": None if name == "default" else scaling}


def _read(table: _Table, base: float | None, max_position_embeddings: int) -> RopeConfig:
    rule = _RULES[table.rule()]
    own_base = table.number("rope_theta")
    if base is not None and own_base is not None and base != own_base:
        raise ConfigError(f"config.json: rope_theta={base} and {table.name}.rope_theta={own_base} are names of one fact and disagree")
    if table.number("partial_rotary_factor") not in (None, 1.0):
        raise ConfigError(f"config.json: {table.name}.partial_rotary_factor: heads that are rotated in part are not supported")
    numbers: dict[str, Any] = {field: table.number(key, optional=key in rule.optional) for key, field in rule.numbers.items()}
    if rule.ours == "yarn":
        numbers |= _yarn(numbers, table, max_position_embeddings)
    if rule.ours == "dynamic_ntk":
        numbers["original_length"] = max_position_embeddings
    if "original_length" in numbers:
        numbers["original_length"] = int(numbers["original_length"])
    table.finish()
    chosen = own_base if base is None else base
    return RopeConfig(rule=rule.ours, base=10000.0 if chosen is None else chosen, **numbers)


def _yarn(numbers: Mapping[str, float | None], table: _Table, max_position_embeddings: int) -> dict[str, Any]:
    """What yarn takes where its table is silent: the authors' numbers, and lengths and scale that follow from the others."""
    original = numbers["original_length"] or max_position_embeddings
    factor = numbers["factor"] or max_position_embeddings / original
    growth, reference = table.number("mscale"), table.number("mscale_all_dim")
    growths = {"growth": growth, "reference_growth": reference} if growth and reference else {}
    return {
        "original_length": original,
        "factor": factor,
        "slow_turns": numbers["slow_turns"] or 1.0,
        "fast_turns": numbers["fast_turns"] or 32.0,
        "attention_scale": numbers["attention_scale"] or yarn_attention_scale(factor, **growths),
        "whole_pairs": table.boolean("truncate", default=True),
    }


class _Table:
    """One of the two objects while it is read; ``finish`` rejects what was never asked for."""

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self.name, self._left = name, dict(table)
        self._rule = ""

    def rule(self) -> str:
        """The published name of the rule, under the old or the new key."""
        old, new = self._left.pop("type", None), self._left.pop("rope_type", None)
        if old is not None and new is not None and old != new:
            raise ConfigError(f"config.json: {self.name} states the rule twice, as type={old!r} and rope_type={new!r}")
        self._rule = str(new or old or "default")
        if self._rule not in _RULES:
            raise ConfigError(
                f"config.json: {self.name} asks for the rope rule {self._rule!r}{nearest(self._rule, _RULES)}",
                remedy=f"known: {', '.join(_RULES)}",
            )
        return self._rule

    def number(self, key: str, *, optional: bool = True) -> float | None:
        """A positive number, or None where it is absent or null."""
        value = self._left.pop(key, None)
        if value is None and optional:
            return None
        if value is None:
            raise ConfigError(f"config.json: {self.name} with the rule '{self._rule}' lacks '{key}'")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigError(f"config.json: {self.name}.{key}={value!r} is not a positive number")
        return float(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        """true or false; null is the default."""
        value = self._left.pop(key, None)
        if value is not None and not isinstance(value, bool):
            raise ConfigError(f"config.json: {self.name}.{key}={value!r} is neither true nor false")
        return default if value is None else value

    def finish(self) -> None:
        """Reject every key that the rule does not know."""
        if self._left:
            raise ConfigError(
                f"config.json: {self.name} holds {', '.join(map(repr, self._left))}, which the rope rule '{self._rule}' does not know"
            )
