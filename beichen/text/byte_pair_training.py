"""Training a byte-level BPE tokenizer from texts, in bounded memory.

Comes in: texts, or sources of texts that can be read again. Goes out: a :class:`~beichen.text.tokenizer.Tokenizer` with the control tokens
first (ids as in TeleChat2, unless others are asked for), then the 256 bytes, then merges. Rules: the same texts give the same
file, whatever the order, the number of workers, the memory (while nothing has to be left out) or the number of times that the training was
killed; the merges are those of ``tokenizers``; any text can be encoded and comes back exactly, unless normalization was asked for.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from beichen.text.normalization import ordered_steps
from beichen.text.tokenizer import Tokenizer
from beichen.text.training.runs import read_histogram
from beichen.text.training.settings import TELECHAT2_SPECIALS, TextSource, TrainingSettings
from beichen.text.training.special_tokens import SpecialTokens
from beichen.text.training.stages import choose_threshold, combine_counts, count_texts, learn_merges
from beichen.text.training.workspace import Workspace
from beichen.text.training.writing import tokenizer_files
from beichen.util.files import FolderLock
from beichen.util.progress import SILENT, Reporter

__all__ = ["TELECHAT2_SPECIALS", "SpecialTokens", "TextSource", "Trained", "TrainingRecord", "TrainingSettings", "train", "train_tokenizer"]


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a training did; nothing in it depends on how it was carried out."""

    pattern: str
    normalization: tuple[str, ...]
    vocab_size: int
    merges: int
    texts: int
    text_bytes: int
    distinct_words: int
    word_bytes: int
    sampled_below: int  # words seen less often were sampled; 1: every word counted

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A tokenizer, how it was made, and the seconds that each stage took."""

    tokenizer: Tokenizer
    record: TrainingRecord
    seconds: dict[str, float]


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    pattern: str = "han",
    special_tokens: Sequence[str] = TELECHAT2_SPECIALS,
    template: str = "telechat2",
    start: str = "<_start>",
    end: str = "<_end>",
    pad: str = "<_pad>",
    unknown: str = "<_unk>",
    reporter: Reporter = SILENT,
) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` ids, or of fewer when the texts are too few for so many merges."""
    settings = TrainingSettings(
        vocab_size=vocab_size, pattern=pattern, specials=SpecialTokens(names=tuple(special_tokens)), template=template,
        start=start, end=end, pad=pad, unknown=unknown,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="beichen-tokenizer-") as folder:
        return train(settings, [TextSource("texts", lambda consumed: texts)], Path(folder), reporter=reporter).tokenizer


def train(settings: TrainingSettings, sources: Sequence[TextSource], folder: Path, *, reporter: Reporter = SILENT) -> Trained:
    """Trains from sources, with what has been done kept in ``folder``: killed and called again, it goes on from there."""
    steps = ordered_steps(settings.normalization)
    counted_with = {
        "pattern": settings.pattern,
        "normalization": steps,
        "sources": [[source.name, source.identity] for source in sources],
    }
    with FolderLock(folder):
        workspace = Workspace(folder, counted_with, reporter)
        seconds: dict[str, float] = {}
        with _timed(seconds, "counting"):
            count_texts(settings, sources, workspace, reporter)
        with _timed(seconds, "combining"):
            combine_counts(workspace, reporter)
        with _timed(seconds, "merging"):
            histogram = read_histogram(workspace.histogram)
            threshold = choose_threshold(settings, histogram, reporter)
            merges = learn_merges(settings, workspace, histogram, threshold, reporter)
        progress = workspace.progress
    files = tokenizer_files(
        merges, settings.specials, settings.roles, pattern=settings.pattern, template=settings.template, normalization=steps
    )
    tokenizer = Tokenizer(files, origin="a tokenizer just trained")
    record = TrainingRecord(
        pattern=settings.pattern, normalization=steps, vocab_size=tokenizer.vocab_size, merges=len(merges), texts=progress.texts,
        text_bytes=progress.bytes, distinct_words=sum(row.words for row in histogram), word_bytes=sum(row.bytes for row in histogram),
        sampled_below=threshold,
    )  # fmt: skip
    return Trained(tokenizer=tokenizer, record=record, seconds=seconds)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin
