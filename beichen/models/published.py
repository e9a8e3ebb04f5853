"""Reading a published ``config.json`` key by key: each key is read once, by type, and none is left over.

In: the JSON object of a checkpoint. Out: plain values. The rule: a key that nobody asked for and nobody
listed as inert is an error that names it, because a fact ignored here is a model that runs silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from beichen.errors import ConfigError, nearest

COMMON_INERT = frozenset({
    # who wrote the file and with what; facts about tokens and generation that the tokenizer and generation_config.json hold
    "_name_or_path", "architectures", "auto_map", "model_type", "dtype", "torch_dtype", "tokenizer_class", "transformers_version",
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "use_cache",
    "chunk_size_feed_forward", "id2label", "label2id", "is_encoder_decoder", "output_attentions", "output_hidden_states",
    "problem_type", "return_dict", "_attn_implementation_autoset",
})  # fmt: skip
"""Keys that any publisher may write and that promise nothing about the network."""

SELECTION_BIAS = "beichen_selection_bias"  # a key of our own: routers have biases, of which no original code of these families knows


class PublishedKeys:
    """One published config while it is being translated; ``finish`` rejects what was never asked for."""

    def __init__(self, published: Mapping[str, Any], *, family: str) -> None:
        self._published = published
        self._family = family
        self._known: set[str] = set()

    def integer(self, *names: str, default: int | None = None) -> int:
        """A whole number under any of ``names`` (several names of one fact must agree)."""
        value = self._take(names, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"config.json: {names[0]}={value!r} is not a whole number")
        return value

    def optional_integer(self, *names: str) -> int | None:
        """A whole number, or None where the key is absent or null."""
        self._known.update(names)
        given = [name for name in names if self._published.get(name) is not None]
        return self.integer(*given) if given else None

    def number(self, *names: str, default: float | None = None) -> float:
        """A number, as float."""
        value = self._take(names, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"config.json: {names[0]}={value!r} is not a number")
        return float(value)

    def optional_number(self, *names: str) -> float | None:
        """A number, or None where the key is absent or null."""
        self._known.update(names)
        given = [name for name in names if self._published.get(name) is not None]
        return self.number(*given) if given else None

    def boolean(self, name: str, *, default: bool | None = None) -> bool:
        """true or false."""
        value = self._take((name,), default)
        if not isinstance(value, bool):
            raise ConfigError(f"config.json: {name}={value!r} is neither true nor false")
        return value

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        """An object, or None where the key is absent or null."""
        self._known.add(name)
        value = self._published.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"config.json: {name}={value!r} is not an object")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        """A list of words, empty where the key is absent or null."""
        self._known.add(name)
        value = self._published.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
            raise ConfigError(f"config.json: {name}={value!r} is not a list of words")
        return tuple(value or ())

    def one_of(self, name: str, allowed: Iterable[str], *, default: str) -> str:
        """A word out of a fixed set."""
        value = self._take((name,), default)
        allowed = tuple(allowed)
        if value not in allowed:
            raise ConfigError(f"config.json: {name}={value!r} is not supported by family '{self._family}' (known: {', '.join(allowed)})")
        return str(value)

    def positive(self, name: str) -> float:
        """A number above zero."""
        value = self.number(name)
        if value <= 0:
            raise ConfigError(f"config.json: {name}={value!r} must be positive")
        return value

    def fixed(self, name: str, only: str | float | bool, *, default: str | float | bool | None = None) -> None:
        """A switch of which this decoder computes one value; it must be stated, unless a silent config means ``default``."""
        value = self._take((name,), default)
        if value != only or isinstance(value, bool) != isinstance(only, bool):
            raise ConfigError(f"config.json: {name}={value!r} is not supported by family '{self._family}' (only {only!r} is)")

    def inert(self, names: Iterable[str]) -> None:
        """Declare keys that are understood and change nothing."""
        self._known.update(names)

    def finish(self) -> None:
        """Reject every key that was neither read nor declared inert."""
        unknown = sorted(set(self._published) - self._known - COMMON_INERT)
        if unknown:
            named = ", ".join(f"'{key}'={self._published[key]!r}{nearest(key, self._known)}" for key in unknown)
            raise ConfigError(
                f"config.json: family '{self._family}' does not understand {named}",
                remedy="a key may change the network, so none is ignored; remove it if it is a mere remark",
            )

    def _take(self, names: tuple[str, ...], default: Any) -> Any:
        self._known.update(names)
        given = {name: self._published[name] for name in names if name in self._published}
        if len(set(map(repr, given.values()))) > 1:
            raise ConfigError(f"config.json: {given} are names of one fact and disagree")
        if given:
            return next(iter(given.values()))
        if default is None:
            others = "" if len(names) == 1 else f" (also written {', '.join(names[1:])})"
            raise ConfigError(f"config.json lacks '{names[0]}'{others}, which family '{self._family}' needs")
        return default


def head_width(hidden_size: int, num_attention_heads: int, *, heads_key: str) -> int:
    """The width of one head where the config does not state it."""
    if num_attention_heads <= 0 or hidden_size % num_attention_heads:
        raise ConfigError(
            f"config.json: hidden_size={hidden_size} does not divide by {heads_key}={num_attention_heads}: every head has the same width",
            remedy="correct one of the two",
        )
    return hidden_size // num_attention_heads
