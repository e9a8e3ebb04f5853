"""``generation_config.json``: how its publisher wants a model to answer when nobody says otherwise.

Comes in: the JSON object. Goes out: :class:`GenerationDefaults`. Rules: what the caller states wins; sampling settings of a file that says
``do_sample: false`` stay inert until the caller asks for a temperature; a setting that would change answers and that
we do not have is told by a warning, never ignored in silence.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beichen.errors import ConfigError

FILE = "generation_config.json"
_USUAL_TOP_K = 50  # what the publishers' library samples from when a file says nothing
_INERT = frozenset({
    "_from_model_config", "_commit_hash", "transformers_version", "use_cache",
    "eos_token_id", "bos_token_id", "pad_token_id", "unk_token_id",
    "user_token_id", "bot_token_id", "start_token_id", "chat_format", "max_window_size", "cache_implementation", "trust_remote_code",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate", "num_return_sequences",
    "length_penalty", "early_stopping", "decoder_start_token_id", "low_memory", "remove_invalid_values", "renormalize_logits",
})  # fmt: skip
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # settings that we do not have, and the values that ask for nothing
    "num_beams": (1,), "num_beam_groups": (1,), "diversity_penalty": (0,), "no_repeat_ngram_size": (0,), "penalty_alpha": (0,),
    "encoder_no_repeat_ngram_size": (0,), "encoder_repetition_penalty": (1,), "typical_p": (1,), "epsilon_cutoff": (0,),
    "eta_cutoff": (0,), "min_length": (0,), "guidance_scale": (1,), "top_h": (1,),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults:
    """A file's settings; a ``None`` was not stated. ``tokens``: the ids that it names, as it names them."""

    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    max_length: int | None = None
    stop_strings: tuple[str, ...] = ()
    tokens: Mapping[str, Any] = field(default_factory=dict)

    def sampling(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The caller's settings, completed."""
        chosen = {"repetition_penalty": self.repetition_penalty, **given}
        if self.do_sample and "temperature" not in given:
            chosen["temperature"] = 1.0 if self.temperature is None else self.temperature
        if chosen.get("temperature"):
            usual = (_USUAL_TOP_K if self.top_k is None else self.top_k) if self.do_sample else self.top_k
            chosen = {"top_k": usual or None, "top_p": self.top_p, "min_p": self.min_p, **chosen}
        return {name: value for name, value in chosen.items() if value is not None}

    def new_tokens(self, prompt_length: int) -> int | None:
        """How long an answer may become, as the file says."""
        if self.max_new_tokens is not None or self.max_length is None:
            return self.max_new_tokens
        return max(1, self.max_length - prompt_length)


def read_generation_defaults(folder: str | Path) -> GenerationDefaults:
    """The defaults in a folder; none where there is no file."""
    path = Path(folder) / FILE
    if not path.is_file():
        return GenerationDefaults()
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected an object, got {type(values).__name__}")
    return parse_generation_defaults(values, str(path))


def parse_generation_defaults(values: Mapping[str, Any], origin: str) -> GenerationDefaults:
    """The defaults in a JSON object."""
    known: dict[str, Any] = {}
    for name, kind in (("temperature", float), ("top_p", float), ("min_p", float), ("repetition_penalty", float),
                       ("top_k", int), ("max_new_tokens", int), ("min_new_tokens", int),
                       ("max_length", int), ("do_sample", bool)):  # fmt: skip
        value = values.get(name)
        if value is None:
            continue
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise ConfigError(f"{origin}: {name}={value!r}, expected {'true or false' if kind is bool else 'a number'}")
        known[name] = kind(value)
    strings = values.get("stop_strings") or ()
    stops = (strings,) if isinstance(strings, str) else tuple(map(str, strings))
    others = {name: value for name, value in values.items() if name not in known and name not in _INERT and name != "stop_strings"}
    left_out = [
        f"{name}={value!r}" for name, value in others.items() if value not in (None, False, [], {}) and value not in _NEUTRAL.get(name, ())
    ]
    if left_out:
        warnings.warn(f"{origin}: {', '.join(left_out)}: not supported, answers are made without", stacklevel=2)
    tokens = {name: value for name, value in values.items() if name.endswith("_token_id")}
    return GenerationDefaults(**known, stop_strings=stops, tokens=tokens)
