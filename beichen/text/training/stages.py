"""The stages of a training, one after the other: count texts, combine the counts, choose what fits, learn merges.

Each takes the workspace, finds there what has been done already, and does the rest.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

from beichen.errors import TokenizerError
from beichen.text.normalization import normalizer
from beichen.text.training.counting import Counters
from beichen.text.training.learning import LearningTask, Pair, open_learner
from beichen.text.training.runs import Row, combine_runs
from beichen.text.training.sampling import smallest_threshold
from beichen.text.training.settings import TextSource, TrainingSettings
from beichen.text.training.workspace import Workspace
from beichen.text.training.writing import byte_symbols, spelled_bytes
from beichen.util.machine import usable_cores
from beichen.util.progress import Reporter
from beichen.util.quantities import byte_count, count

_BATCH_BYTES, _BATCH_TEXTS = 1 << 20, 2048
_CHECKPOINT_SECONDS = 60.0
_MOST_RUNS = 64  # combined at once
_TABLES = (8, 10)  # share of the memory for counting tables; the rest is for texts on their way
_LEARN_SECONDS = 0.5  # between two reports


def count_texts(settings: TrainingSettings, sources: Sequence[TextSource], workspace: Workspace, reporter: Reporter) -> None:
    """Cut the texts of all sources into pieces and count these: runs of counts lie in the workspace then. Goes on behind the last text that
    the workspace knows as counted. Raises what reading a source raises."""
    progress = workspace.progress
    if progress.complete or progress.source >= len(sources):
        return
    workers = settings.workers or usable_cores()
    budget = settings.memory * _TABLES[0] // _TABLES[1]
    normalize = normalizer(settings.normalization)
    sizes = [source.size for source in sources if source.size is not None]
    on_disk = len(sizes) == len(sources)
    with (
        reporter.track("counting pieces", total=sum(sizes) if on_disk else None, unit="B") as task,
        Counters(workspace.folder, settings.pattern, budget=budget, workers=workers, normalize=normalize) as counters,
    ):
        texts, size = progress.texts, progress.bytes
        last = time.monotonic()
        if on_disk:
            task.set(sum(sizes[: progress.source]))
        for number in range(progress.source, len(sources)):
            done = progress.text if number == progress.source else 0
            for batch in _batches(sources[number].read(task.advance if on_disk else _ignore), skip=done):
                counters.add(batch)
                done += len(batch)
                texts += len(batch)
                added = sum(len(text.encode()) for text in batch)
                size += added
                if not on_disk:
                    task.advance(added)
                if time.monotonic() - last > _CHECKPOINT_SECONDS:
                    workspace.counted(source=number, text=done, texts=texts, bytes_=size, runs=counters.spill())
                    last = time.monotonic()
        workspace.counted(source=len(sources), text=0, texts=texts, bytes_=size, runs=counters.spill())


def _ignore(size: int) -> None:
    return


def _batches(texts: Iterable[str], *, skip: int) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        if number < skip:
            continue
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES or len(batch) == _BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def combine_counts(workspace: Workspace, reporter: Reporter) -> None:
    """All runs become one file of words with their counts, and a histogram of these. Raises TokenizerError where no text was counted."""
    if workspace.progress.complete:
        return
    if not workspace.progress.bytes:
        raise TokenizerError("there is no text to train a tokenizer from: the corpus is empty", remedy="check the corpus files")
    runs = workspace.progress.runs
    sizes = [workspace.path(name).stat().st_size for name in runs]
    with reporter.track("combining counts", total=float(sum(sizes)), unit="B") as task:
        while len(workspace.progress.runs) > _MOST_RUNS:
            group = workspace.progress.runs[:_MOST_RUNS]
            into = f"combined-{group[0].removesuffix('.run')}.run"
            combine_runs([workspace.path(name) for name in group], workspace.path(into), advance=task.advance)
            workspace.combined(group, into)
        paths = [workspace.path(name) for name in workspace.progress.runs]
        combine_runs(paths, workspace.words, workspace.histogram, advance=task.advance)
        workspace.complete()


def choose_threshold(settings: TrainingSettings, histogram: Sequence[Row], reporter: Reporter) -> int:
    """The count below which words are sampled: the settings' own, or as high as it takes for the others to fit into their memory (bytes),
    which is said."""
    needed = smallest_threshold(histogram, memory=settings.memory, symbols=settings.vocab_size)
    words = sum(row.words for row in histogram)
    if needed > settings.sample_below:
        rare = sum(row.words for row in histogram if row.count < needed)
        reporter.warn(
            f"{count(words)} distinct words ({byte_count(sum(row.bytes for row in histogram))}) do not fit into "
            f"{byte_count(settings.memory)}: the {count(rare)} that occur fewer than {needed} times are sampled in proportion to their "
            "counts; more memory or a pattern that bounds its words (han) avoids it"
        )
    else:
        needed = settings.sample_below
    return needed


def learn_merges(
    settings: TrainingSettings, workspace: Workspace, histogram: Sequence[Row], threshold: int, reporter: Reporter,
    *, known: Sequence[Pair] = (),
) -> list[Pair]:  # fmt: skip
    """The merges that follow ``known`` ones, until there are as many ids as the settings say."""
    names = settings.specials.all_names
    wanted = settings.vocab_size - len(names) - 256 - len(known)
    forbidden = sorted({spelled for name in names if (spelled := spelled_bytes(name)) is not None})
    learnt_with = {"threshold": threshold, "forbidden": [piece.hex() for piece in forbidden]}
    if known:
        learnt_with["known"] = hashlib.sha256(repr(list(known)).encode()).hexdigest()
    merges = workspace.begin_learning(learnt_with)[:wanted]
    if len(merges) == wanted:
        return merges
    task = LearningTask(
        byte_symbols=byte_symbols(), forbidden=forbidden, most_symbols=256 + len(known) + wanted, threshold=threshold,
        budget=settings.memory, threads=settings.workers or usable_cores(),
    )  # fmt: skip
    with ExitStack() as stack:
        size = workspace.words.stat().st_size
        with reporter.track("reading counted words", total=float(size), unit="B") as reading:
            learner = stack.enter_context(open_learner(workspace.words, histogram, task, [*known, *merges], reading.advance))
        bar = stack.enter_context(reporter.track("learning merges", total=float(wanted), unit="merges"))
        bar.set(len(merges))
        while len(merges) < wanted and (more := learner.learn(wanted - len(merges), _LEARN_SECONDS)):
            workspace.learnt(more)
            merges += more
            bar.set(len(merges))
    if len(merges) < wanted:
        reporter.warn(
            f"the text is too short for {settings.vocab_size:,} ids: no pair of pieces is left after {len(merges):,} merges, "
            f"so there are {settings.vocab_size - wanted + len(merges):,}"
        )
    return merges
