"""What a recipe reads: its sources encoded or its dialogues rendered, and the plan of when what is read.

Encoded text is kept in the run's folder and found again when the run resumes; what `beichen data encode` wrote is read where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from beichen.data.account import Account
from beichen.data.batch import Batch
from beichen.data.curriculum import Phase, plan_phases
from beichen.data.dialogue_files import read_dialogues
from beichen.data.dialogue_tokens import collect_dialogues, rendered_for_training
from beichen.data.encoded_text import open_encoded_text
from beichen.data.encoding import encode_corpus
from beichen.data.held_out_dialogues import HeldOutDialogues
from beichen.data.mixture import Mixture
from beichen.data.pool import Pool
from beichen.data.preference_tokens import PreferenceTokens
from beichen.data.rows import DialogueRows, PretrainingRows, RowSource
from beichen.data.scoring import ScoringRows
from beichen.data.source_list import Source, read_source_file
from beichen.data.split import is_held_out
from beichen.data.store import TokenStore
from beichen.errors import SettingsError
from beichen.text.bulk_rendering import RenderedDialogues
from beichen.text.messages import Dialogue
from beichen.text.tokenizer import Tokenizer
from beichen.train.item_walk import walk_items
from beichen.train.plan import Plan
from beichen.train.preference_material import plan_preferences
from beichen.train.settings import DataSettings, TrainRecipe
from beichen.train.source_settings import SourceSettings
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
    if recipe.data.kind == "dialogues":
        return _dialogues(recipe, sources_of(recipe.data), tokenizer, reporter)
    if recipe.data.kind == "preferences":
        stretch, tokens = plan_preferences(recipe, sources_of(recipe.data), tokenizer, reporter)
        return Material(plan=Plan(recipe, (stretch,)), held_out=(), account=tokens.account, preferences=tokens)
    data, corpus = recipe.data, _corpus(recipe, tokenizer, reporter)

    def make_rows(mixture: Mixture, sequence_length: int) -> RowSource:
        return PretrainingRows(mixture, sequence_length=sequence_length, seed=recipe.seed, isolate=data.isolate_documents)

    stretches = plan_phases(
        corpus.train, _phases(recipe, corpus.weights), seed=recipe.seed, make_rows=make_rows, weigh_by=data.weigh_by
    )  # fmt: skip
    held_out = [(name, ScoringRows(store, sequence_length=data.longest_row)) for name, store in corpus.held_out]
    stores = [store for own in corpus.train.values() for store in own]
    return Material(
        plan=Plan(recipe, tuple(stretches)), held_out=held_out, account=corpus.account,
        tokens_per_byte=sum(store.num_tokens for store in stores) / max(1, sum(store.num_bytes for store in stores)),
    )  # fmt: skip


@dataclass
class _Corpus:
    """Encoded text by source."""

    train: dict[str, list[TokenStore]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    held_out: list[tuple[str, TokenStore]] = field(default_factory=list)
    account: Account = field(default_factory=Account)


def _corpus(recipe: TrainRecipe, tokenizer: Tokenizer, reporter: Reporter) -> _Corpus:
    data, corpus = recipe.data, _Corpus()
    if data.encoded is not None:
        text = open_encoded_text(data.encoded, tokenizer_fingerprint=tokenizer.fingerprint)
        for name, store, weight in zip(text.names, text.train, text.weights, strict=True):
            corpus.train.setdefault(name, []).append(store)
            corpus.weights[name] = weight
        corpus.held_out = [(store.directory.parent.name, store) for store in text.held_out]
        corpus.account = text.account
        return corpus
    folder = Path(recipe.out) / "encoded"
    for source in sources_of(data):
        encoded = encode_corpus(
            source.files, tokenizer, folder if source.name == ONLY else folder / source.name,
            held_out_fraction=data.held_out_fraction, on_bad=data.on_bad, reporter=reporter,
        )  # fmt: skip
        corpus.train[source.name], corpus.weights[source.name] = [encoded.train], source.weight
        corpus.held_out += [(source.name, encoded.held_out)] if encoded.held_out is not None else []
        corpus.account.merge(encoded.account)
    return corpus


def _phases(recipe: TrainRecipe, weights: Mapping[str, float]) -> list[Phase]:
    data = recipe.data
    if not data.phases:
        rows = recipe.budget.samples
        until = None if rows is None else rows * data.sequence_length
        return [Phase(name="all", weights=weights, sequence_length=data.sequence_length, until_tokens=until)]
    for phase in data.phases:
        for name in phase.weights or {}:
            if name not in weights:
                raise SettingsError(f"data.phases: '{phase.name}' names source '{name}'; the sources are {', '.join(weights)}")
    return [
        Phase(
            name=phase.name, weights=phase.weights or weights, sequence_length=phase.sequence_length or data.sequence_length,
            until_tokens=phase.until_tokens, grades=phase.grades,
        )
        for phase in data.phases
    ]  # fmt: skip


def _dialogues(recipe: TrainRecipe, sources: Sequence[SourceSettings], tokenizer: Tokenizer, reporter: Reporter) -> Material:
    data = recipe.data
    account, begins = Account(item="dialogues", unit="tokens"), [0] * len(sources)  # the number of each source's first dialogue
    held_out: list[bool] = []  # of each dialogue

    def dialogues() -> Iterator[Dialogue]:
        read = 0
        for place, source in enumerate(sources):
            begins[place] = read
            for dialogue in read_dialogues(source.files, settings=data.dialogues, on_bad=data.on_bad, reporter=reporter):
                held_out.append(is_held_out("\n".join(message.content for message in dialogue.messages), data.held_out_fraction))
                yield dialogue
                read += 1

    def rendered() -> Iterator[RenderedDialogues]:
        with reporter.track("rendering dialogues", total=None, unit="dialogues") as task:
            for chunk in rendered_for_training(dialogues(), tokenizer, data.dialogues):
                yield chunk
                task.advance(len(chunk))

    collected = collect_dialogues(
        rendered(), sequence_length=data.sequence_length, pad_id=tokenizer.pad_id, too_long=data.dialogues.too_long, account=account
    )
    owner = np.searchsorted(begins, collected.numbers, side="right") - 1
    evaluated = np.array(held_out, bool)[collected.numbers]
    scored = [
        (source.name, HeldOutDialogues(collected, items, sequence_length=data.sequence_length))
        for place, source in enumerate(sources)
        if len(items := np.flatnonzero(evaluated & (owner == place)))
    ]
    owner[evaluated] = -1  # trained on by nobody

    def make_rows(pool: Pool) -> RowSource:
        return DialogueRows(
            collected, sequence_length=data.sequence_length, seed=recipe.seed, isolate=data.isolate_documents, pool=pool
        )  # fmt: skip

    positions = collected.lengths - 1  # the last id of a dialogue is a target only
    stretch = walk_items(recipe, sources, owner, positions, make_rows, item="dialogue")
    return Material(plan=Plan(recipe, (stretch,)), held_out=scored, account=account)
