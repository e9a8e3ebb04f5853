"""Learning further pieces from text, behind those that a tokenizer has.

Comes in: a byte-level tokenizer and sources of texts. Goes out: further merges, as its file spells pieces. The texts are rewritten, cut
and merged as the tokenizer does it, and learning goes on from there, with the memory, the journal and the rule for ties of a training. So
what the tokenizer knows stays as it is, and a text changes its ids only where a new piece fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from beichen.errors import TokenizerError
from beichen.text.byte_pair_encoding import pattern_name
from beichen.text.extension import Merge
from beichen.text.normalization import NORMALIZATION_KEY, STATED_STEPS, normalizer, ordered_steps
from beichen.text.tokenizer import Tokenizer
from beichen.text.training.learning import Pair
from beichen.text.training.runs import read_histogram
from beichen.text.training.settings import DEFAULT_MEMORY, TextSource, TrainingSettings
from beichen.text.training.special_tokens import SpecialTokens
from beichen.text.training.stages import choose_threshold, combine_counts, count_texts, learn_merges
from beichen.text.training.workspace import Workspace
from beichen.text.training.writing import byte_spellings
from beichen.text.vocabulary_folder import JSON_FILE, SETTINGS_FILE, parse_object
from beichen.util.files import FolderLock
from beichen.util.progress import SILENT, Reporter


def learn_further(
    tokenizer: Tokenizer, sources: Sequence[TextSource], number: int, folder: Path, *, memory: int = DEFAULT_MEMORY,
    workers: int | None = None, reporter: Reporter = SILENT,
) -> list[Merge]:  # fmt: skip
    """Up to ``number`` merges; what is done so far is kept in ``folder``."""
    state = parse_object(tokenizer.file(JSON_FILE), JSON_FILE)
    pattern = pattern_name(state.get("pre_tokenizer"))
    if pattern is None:
        raise TokenizerError(
            "further pieces can be learnt for byte-level vocabularies with a pattern known here only", remedy="add whole words instead"
        )
    spellings, known = _known_pairs(state["model"])
    names = tuple(tokenizer.special_ids)
    settings = TrainingSettings(
        vocab_size=len(names) + 256 + len(known) + number, pattern=pattern, specials=SpecialTokens(names=names), template=None, start=None,
        end=tokenizer.piece(tokenizer.end_id), pad=None, unknown=None, memory=memory, workers=workers,
    )  # fmt: skip
    rewrite = _rewriting(tokenizer, state)
    counted = [_rewritten(source, rewrite) for source in sources]
    counted_with = {
        "pattern": pattern,
        "extends": _rewriting_digest(tokenizer, state),
        "sources": [[one.name, one.identity] for one in sources],
    }
    with FolderLock(folder):
        workspace = Workspace(folder, counted_with, reporter)
        count_texts(settings, counted, workspace, reporter)
        combine_counts(workspace, reporter)
        histogram = read_histogram(workspace.histogram)
        threshold = choose_threshold(settings, histogram, reporter)
        merges = learn_merges(settings, workspace, histogram, threshold, reporter, known=known)
    found = []
    for left, right in merges:
        found.append((spellings[left], spellings[right]))
        spellings.append(spellings[left] + spellings[right])
    return found


def _known_pairs(model: Mapping[str, Any]) -> tuple[list[str], list[Pair]]:
    """How the learner numbers the pieces, and the merges in its numbers."""
    spellings = byte_spellings()
    symbols = {piece: symbol for symbol, piece in enumerate(spellings)}
    pairs = []
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        if left not in symbols or right not in symbols or left + right in symbols:
            raise TokenizerError(
                f"the merge '{left} {right}' makes a piece that another makes, too, or joins one that none makes: such a vocabulary cannot "
                "go on learning",
                remedy="add whole words instead",
            )
        pairs.append((symbols[left], symbols[right]))
        symbols[left + right] = len(spellings)
        spellings.append(left + right)
    return spellings, pairs


def _rewriting(tokenizer: Tokenizer, state: Mapping[str, Any]) -> Callable[[str], str] | None:
    """What the tokenizer does to a text before it is cut."""
    steps = ordered_steps(_settings(tokenizer).get(NORMALIZATION_KEY) or ())
    first = normalizer([step for step in steps if step not in STATED_STEPS])
    stated = tokenizers.Tokenizer.from_str(json.dumps(state)).normalizer
    if stated is None:
        return first
    return lambda text: stated.normalize_str(text if first is None else first(text))


def _rewriting_digest(tokenizer: Tokenizer, state: Mapping[str, Any]) -> str:
    what = [state.get("normalizer"), _settings(tokenizer).get(NORMALIZATION_KEY)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    return parse_object(tokenizer.file(SETTINGS_FILE), SETTINGS_FILE)


def _rewritten(source: TextSource, rewrite: Callable[[str], str] | None) -> TextSource:
    if rewrite is None:
        return source

    def read(consumed: Callable[[int], None]) -> Iterable[str]:
        return map(rewrite, source.read(consumed))

    return TextSource(source.name, read, source.identity, source.size)
