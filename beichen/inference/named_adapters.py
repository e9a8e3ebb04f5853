"""Adapters beside a loaded base: what each folder holds, for models that answer under several names (``LanguageModel.with_adapter``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from beichen.checkpoints.adapter_loading import check_is_adapter, load_beside
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import Checkpoint
from beichen.checkpoints.published_files import GENERATION_CONFIG
from beichen.errors import TokenizerError
from beichen.inference.generation_defaults import GenerationDefaults, read_generation_defaults
from beichen.nn.spans import Updates
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.text.vocabulary_folder import holds_tokenizer
from beichen.util.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What one does to the base, and its own ways of asking and answering, where its folder has them."""

    updates: Updates
    tokenizer: Tokenizer | None = None  # the base's tokens, its own chat format
    defaults: GenerationDefaults | None = None


@dataclass(frozen=True, kw_only=True)
class FoundAdapter:
    """A folder that holds an adapter, and what its small files say."""

    folder: Path
    tokenizer: Tokenizer | None
    defaults: GenerationDefaults | None


def find_adapters(
    folders: Mapping[str, str | Path], tokenizer: Tokenizer | None, *, template: str | None, default_template: str | None,
    reporter: Reporter,
) -> dict[str, FoundAdapter]:  # fmt: skip
    """Before the base is read. tokenizer: the base's. Raises CheckpointError for what holds no adapter, TokenizerError for other tokens."""
    found = {}
    for name, one in folders.items():
        folder = find_folder(one, reporter=reporter)
        check_is_adapter(folder)
        own = read_tokenizer(folder, template=template, default_template=default_template) if holds_tokenizer(folder) else None
        if own is not None and tokenizer is not None:
            check_same_tokens(tokenizer, own, folder)
        defaults = read_generation_defaults(folder) if (folder / GENERATION_CONFIG).exists() else None
        found[name] = FoundAdapter(folder=folder, tokenizer=own, defaults=defaults)
    return found


def open_adapters(found: Mapping[str, FoundAdapter], checkpoint: Checkpoint, base: Path, *, reporter: Reporter) -> dict[str, Adapter]:
    """base: where ``checkpoint`` came from. Raises for what does not belong to it, or is not understood."""
    return {
        name: Adapter(
            updates=load_beside(one.folder, checkpoint, base, reporter=reporter), tokenizer=one.tokenizer, defaults=one.defaults
        )
        for name, one in found.items()
    }  # fmt: skip


def check_same_tokens(base: Tokenizer, own: Tokenizer, folder: Path) -> None:
    """Raises TokenizerError where an adapter's folder counts other tokens than its base."""
    if own.vocab_size != base.vocab_size or any(own.piece(token) != base.piece(token) for token in range(base.vocab_size)):
        raise TokenizerError(f"{folder}: its tokens are not those of the base", remedy="serve it alone: its folder instead of the base's")
