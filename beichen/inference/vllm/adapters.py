"""Adapters for vLLM's server: folders as ``beichen serve --adapter`` names them -> folders that vLLM puts beside its base.

Rule: each belongs to this base, by its weights' hash and its layers; what vLLM cannot do (DoRA, ranks above 512, a chat format or default
settings of the adapter's own) is refused or told by name. For a base in Llama layout the adapter is written anew under Llama's names, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from beichen.checkpoints.adapter_folder import StoredAdapter, read_adapter
from beichen.checkpoints.adapter_loading import check_fit, check_is_adapter
from beichen.checkpoints.fingerprints import check_base, folder_print
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.llama_adapters import export_adapter
from beichen.checkpoints.loading import load_config
from beichen.checkpoints.published_files import GENERATION_CONFIG
from beichen.errors import SettingsError
from beichen.inference.generation_defaults import read_generation_defaults
from beichen.inference.named_adapters import check_same_tokens
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.text.chat_jinja import to_jinja
from beichen.text.chat_template import ChatTemplate
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.text.vocabulary_folder import holds_tokenizer
from beichen.util.progress import SILENT, Reporter

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM makes room for


@dataclass(frozen=True, kw_only=True)
class VllmAdapters:
    """Folders in PEFT's format by the names that clients know, and vLLM's room for the widest."""

    folders: Mapping[str, Path]
    rank: int


def adapters_for_vllm(
    given: Mapping[str, str], base: Path, served: Path, cache: Path, *, tokenizer: Tokenizer, template: str | None,
    reporter: Reporter = SILENT,
) -> VllmAdapters:  # fmt: skip
    """given: folders by name. base: whose adapters they are; served: what vLLM computes of it, ``base`` itself or its export.
    tokenizer: the base's, with the chat format that is served. template: the name of that format, if one was asked for.

    Raises CheckpointError and TokenizerError for an adapter that is not one of this base, SettingsError for what vLLM cannot do.
    """
    config, _, family_name = load_config(base)
    family = load_family(family_name)
    with torch.device("meta"):
        decoder = Decoder(config)
    folders, rank = {}, 1
    for name, place in given.items():
        folder = find_folder(place, reporter=reporter)
        check_is_adapter(folder)
        stored = read_adapter(folder)
        check_fit(decoder, family.names, stored)
        if stored.base is not None:
            check_base(stored.base, base, reporter=reporter)
            if stored.base.quantized is not None:
                held = f"its base in {stored.base.quantized}, which vLLM holds in full precision"
                reporter.warn(f"--adapter {name}: was trained on {held}: answers may differ a little")
        _check_form(name, stored)
        _check_ways(name, folder, base, tokenizer, template=template, usual=family.chat_template, reporter=reporter)
        rank = max(rank, *stored.shape.ranks.values())
        folders[name] = folder
        if served != base:
            folders[name] = cache / f"{folder.resolve().name}-{folder_print(folder)}-{folder_print(base)}"
            if not folders[name].exists():
                export_adapter(stored, config, family.names, folders[name], base=served)
    return VllmAdapters(folders=folders, rank=next(room for room in RANKS if room >= rank))


def _check_form(name: str, stored: StoredAdapter) -> None:
    merge = "fold it into its base (beichen merge) and serve that"
    if stored.shape.dora:
        raise SettingsError(f"--adapter {name}: vLLM does not compute DoRA", remedy=merge)
    widest = max(stored.shape.ranks.values())
    if widest > RANKS[-1]:
        raise SettingsError(f"--adapter {name}: rank {widest}, and vLLM takes {RANKS[-1]} at most", remedy=merge)


def _check_ways(
    name: str, folder: Path, base: Path, tokenizer: Tokenizer, *, template: str | None, usual: str | None, reporter: Reporter
) -> None:  # fmt: skip
    """vLLM asks and answers for all adapters as for the base."""
    if holds_tokenizer(folder):
        own = read_tokenizer(folder, template=template, default_template=usual)
        check_same_tokens(tokenizer, own, folder)
        if _program(own) != _program(tokenizer):
            raise SettingsError(
                f"--adapter {name}: its folder has another chat format than the base, and vLLM has one for all",
                remedy="--template NAME gives all of them the same",
            )
    if (folder / GENERATION_CONFIG).exists() and read_generation_defaults(folder) != read_generation_defaults(base):
        reporter.warn(f"--adapter {name}: its {GENERATION_CONFIG} differs from the base's, which vLLM follows for all")


def _program(tokenizer: Tokenizer) -> str:
    form = tokenizer.chat_format
    return to_jinja(form) if isinstance(form, ChatTemplate) else form.source
