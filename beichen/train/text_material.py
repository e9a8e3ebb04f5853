"""What a run on documents reads: its sources encoded, or encoded text as it is, and the stretches of its phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from beichen.data.account import Account
from beichen.data.curriculum import Phase, plan_phases
from beichen.data.encoded_text import open_encoded_text
from beichen.data.encoding import encode_corpus
from beichen.data.mixture import Mixture
from beichen.data.rows import PretrainingRows, RowSource
from beichen.data.scoring import ScoringRows
from beichen.data.store import TokenStore
from beichen.errors import SettingsError
from beichen.text.tokenizer import Tokenizer
from beichen.train.material import ONLY, Material, sources_of
from beichen.train.plan import Plan
from beichen.train.settings import TrainRecipe
from beichen.util.progress import Reporter


def read_documents(recipe: TrainRecipe, tokenizer: Tokenizer, reporter: Reporter) -> Material:
    """Encode what is not encoded yet, and plan it."""
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
