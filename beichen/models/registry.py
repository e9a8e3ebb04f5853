"""Family name -> its folder, resolved when first used; and which family a published config belongs to.

Architecture names overlap between the TeleChat generations, so the keys decide among them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from beichen.errors import ConfigError, nearest
from beichen.models.family import Family

FAMILIES = {
    "telechat": "beichen.models.telechat",
    "telechat2": "beichen.models.telechat2",
    "telechat52b": "beichen.models.telechat52b",
    "llama": "beichen.models.llama",
    "qwen": "beichen.models.qwen",
    "qwen1": "beichen.models.qwen1",
    "ndl": "beichen.models.ndl",
}

_TELECHAT_NAMES = ("TelechatForCausalLM", "TeleChatForCausalLM", "Telechat2ForCausalLM", "TeleChat2ForCausalLM", "TELECHAT")
_NDL_NAMES = ("NDLForCausalLM", "NDLMOEForCausalLM")
_QWEN_NAMES = {"QWenLMHeadModel": "qwen1", "Qwen2ForCausalLM": "qwen", "Qwen3ForCausalLM": "qwen"}
_ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    **_QWEN_NAMES,
    **dict.fromkeys(_NDL_NAMES, "ndl"),
    **dict.fromkeys(_TELECHAT_NAMES, "telechat"),
}
_MODEL_TYPES = {
    "llama": "llama",
    "qwen": "qwen1",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "Ndl": "ndl",
    "NdlMOE": "ndl",
    "telechat": "telechat",
    "telechat2": "telechat",
}


class UnsupportedFamilyError(ConfigError):
    """A config of an architecture that this version has no tables for."""


def load_family(name: str, *, experts: bool = False) -> Family:
    """The tables of a family by its name; ``experts``: a mixture is wanted, which not every family has."""
    if name not in FAMILIES:
        raise UnsupportedFamilyError(
            f"unknown model family '{name}'{nearest(name, FAMILIES)}", remedy=f"known: {', '.join(sorted(FAMILIES))}"
        )
    family = importlib.import_module(FAMILIES[name]).FAMILY
    assert isinstance(family, Family)
    if experts and not family.has_experts:
        able = ", ".join(sorted(other for other in FAMILIES if load_family(other).has_experts))
        raise ConfigError(
            f"family '{name}' has no mixture of experts", remedy=f"leave the experts out, or take a family that has them: {able}"
        )
    return family


def family_of(published: Mapping[str, Any]) -> str:
    """The family of a published config, by its architecture and keys."""
    architectures = published.get("architectures") or []
    if not isinstance(architectures, list):
        raise ConfigError(f"config.json: architectures={architectures!r} is not a list of names")
    model_type = published.get("model_type")
    stems = {_ARCHITECTURES[name] for name in architectures if name in _ARCHITECTURES}
    stem = next(iter(stems)) if len(stems) == 1 else None
    if not architectures and isinstance(model_type, str):
        stem = _MODEL_TYPES.get(model_type)
    if stem is None:
        raise _unknown(architectures, model_type)
    return _telechat_generation(published) if stem == "telechat" else stem


def _telechat_generation(published: Mapping[str, Any]) -> str:
    if "n_embd" in published or published.get("use_mup"):
        return "telechat52b"
    return "telechat2" if "base_seqlen" in published or "num_experts" in published else "telechat"


def _unknown(architectures: list[Any], model_type: object) -> UnsupportedFamilyError:
    known = sorted(_ARCHITECTURES)
    if not architectures and model_type is None:
        return UnsupportedFamilyError(
            "config.json states neither 'architectures' nor 'model_type'", remedy=f"known architectures: {', '.join(known)}"
        )
    stated = str(architectures[0] if architectures else model_type)
    close = nearest(stated, known if architectures else _MODEL_TYPES)
    return UnsupportedFamilyError(f"config.json: unknown architecture '{stated}'{close}", remedy=f"known architectures: {', '.join(known)}")
