"""``Material``: what a recipe reads, and the plan of when what is read; each kind of training has a reader of its own.

Encoded text is kept in the run's folder and found again when the run resumes; what `beichen data encode` wrote is read where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from beichen.data.account import Account
from beichen.data.batch import Batch
from beichen.data.preference_tokens import PreferenceTokens
from beichen.data.source_list import Source, read_source_file
from beichen.errors import SettingsError
from beichen.text.tokenizer import Tokenizer
from beichen.train.plan import Plan
from beichen.train.settings import DataSettings, TrainRecipe
from beichen.train.source_settings import SourceSettings
from beichen.util.late import resolve
from beichen.util.progress import Reporter

ONLY = "text"  # the name of the source that data.files are


class HeldOutRows(Protocol):
    """What is only evaluated; ``ScoringRows`` and ``HeldOutDialogues`` are such."""

    @property
    def num_bytes(self) -> int | None: ...

    def num_batches(self, rows: int) -> int: ...

    def batches(self, rows: int) -> Iterator[Batch]: ...


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is trained on and what is held out, by source."""

    plan: Plan
    held_out: Sequence[tuple[str, HeldOutRows]]  # a source may stand in several stores
    account: Account
    tokens_per_byte: float | None = None  # of plain text
    preferences: PreferenceTokens | None = None


def sources_of(data: DataSettings) -> list[SourceSettings]:
    """The sources whose files the run reads itself, whichever way they are given."""
    if data.sources_file is not None:
        return [_plain(source, data.sources_file) for source in read_source_file(Path(data.sources_file), {})]
    if not data.sources and not data.files and data.encoded is None:
        raise SettingsError("data.files: empty; name at least one file to train on")
    if data.files:
        return [SourceSettings(name=ONLY, files=data.files)]
    return list(data.sources)


def _plain(source: Source, path: str) -> SourceSettings:
    """A listed source, unless it is to be read in a way that training does not."""
    if source != Source(name=source.name, files=source.files, weight=source.weight):
        raise SettingsError(
            f"data.sources_file: {path} lists '{source.name}' with options of its own, which training does not read",
            remedy=f"encode first (beichen data encode --sources {path}), and name the folder in data.encoded",
        )
    return SourceSettings(name=source.name, files=tuple(map(str, source.files)), weight=source.weight)


def read_material(recipe: TrainRecipe, tokenizer: Tokenizer, reporter: Reporter) -> Material:
    """Encode or render everything that the recipe names, and plan it."""
    material: Material = resolve(recipe.training.read)(recipe, tokenizer, reporter)
    return material
