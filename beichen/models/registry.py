"""The families, one line each: where its tables lie, resolved when first used, and by what its published configs are known.

Several families may share the name of an architecture, as the TeleChat generations do; then the keys decide among them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beichen.errors import ConfigError, nearest
from beichen.models.family import Family


@dataclass(frozen=True)
class Known:
    """A family's line. ``told_by``: any of these keys tells it from the families above that have its names; ``false`` is no such key."""

    module: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]  # of a config that states no architecture
    told_by: tuple[str, ...] = ()

    def fits(self, published: Mapping[str, Any]) -> bool:
        """Whether the keys are those of this family."""
        return not self.told_by or any(published.get(key, False) is not False for key in self.told_by)


_TELECHAT = (
    ("TelechatForCausalLM", "TeleChatForCausalLM", "Telechat2ForCausalLM", "TeleChat2ForCausalLM", "TELECHAT"),
    ("telechat", "telechat2"),
)  # every generation was published under names of the others
FAMILIES = {
    "telechat": Known("beichen.models.telechat", *_TELECHAT),
    "telechat2": Known("beichen.models.telechat2", *_TELECHAT, told_by=("base_seqlen", "num_experts")),
    "telechat52b": Known("beichen.models.telechat52b", *_TELECHAT, told_by=("n_embd", "use_mup")),
    "llama": Known("beichen.models.llama", ("LlamaForCausalLM",), ("llama",)),
    "qwen": Known("beichen.models.qwen", ("Qwen2ForCausalLM", "Qwen3ForCausalLM"), ("qwen2", "qwen3")),
    "qwen1": Known("beichen.models.qwen1", ("QWenLMHeadModel",), ("qwen",)),
    "ndl": Known("beichen.models.ndl", ("NDLForCausalLM", "NDLMOEForCausalLM"), ("Ndl", "NdlMOE")),
}


class UnsupportedFamilyError(ConfigError):
    """A config of an architecture that this version has no tables for."""


def load_family(name: str, *, experts: bool = False) -> Family:
    """The tables of a family by its name; ``experts``: a mixture is wanted, which not every family has."""
    if name not in FAMILIES:
        raise UnsupportedFamilyError(
            f"unknown model family '{name}'{nearest(name, FAMILIES)}", remedy=f"known: {', '.join(sorted(FAMILIES))}"
        )
    family = importlib.import_module(FAMILIES[name].module).FAMILY
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
    if architectures:
        stated = {name for name in architectures if any(name in known.architectures for known in FAMILIES.values())}
        named = [name for name, known in FAMILIES.items() if stated and stated.issubset(known.architectures)]
    else:
        named = [name for name, known in FAMILIES.items() if model_type in known.model_types]
    fitting = [name for name in named if FAMILIES[name].fits(published)]
    if not fitting:
        raise _unknown(architectures, model_type)
    return fitting[-1]


def _unknown(architectures: list[Any], model_type: object) -> UnsupportedFamilyError:
    names = sorted({name for known in FAMILIES.values() for name in known.architectures})
    types = sorted({name for known in FAMILIES.values() for name in known.model_types})
    remedy = f"known architectures: {', '.join(names)}"
    if not architectures and model_type is None:
        return UnsupportedFamilyError("config.json states neither 'architectures' nor 'model_type'", remedy=remedy)
    stated = str(architectures[0] if architectures else model_type)
    close = nearest(stated, names if architectures else types)
    return UnsupportedFamilyError(f"config.json: unknown architecture '{stated}'{close}", remedy=remedy)
