"""The learning race: held-out bits per byte after some minutes of training on four public texts, beside xz and other small trainers.

The training is the program's own (``beichen.train`` with a recipe); this file checks the split, computes the compressor's figures in
place, and checks that every token and end token of the held-out text was scored.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from beichen.data.sources import read_documents
from beichen.data.split import is_held_out
from beichen.errors import BeichenError, DataError
from beichen.text.tokenizer import read_tokenizer
from beichen.train.run import train
from beichen.train.settings import TrainRecipe
from beichen.util.progress import Reporter
from bench.records import BenchResult, Run

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "telechat2" / "race_10min.yaml"
HELD_OUT = 0.05
EXPECTED_DOCUMENTS, EXPECTED_HELD_OUT = 4_728, 229  # of the race's four files


@dataclass(frozen=True)
class Split:
    """Texts to learn from, and texts that are only scored."""

    seen: list[str]
    held_out: list[str]

    @property
    def held_out_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.held_out)


def split_documents(files: Sequence[str]) -> Split:
    """All documents by the race's rule: SHA-256 of the text, first 8 hex digits / 2^32, under 0.05."""
    split = Split([], [])
    for document in read_documents(files):
        (split.held_out if is_held_out(document.text, HELD_OUT) else split.seen).append(document.text)
    return split


def xz_bits_per_byte(split: Split) -> dict[str, float]:
    """xz -9 on the held-out text alone, and as what it adds behind the rest; its window of 64 MiB sees all of it."""
    held_out, seen = _joined(split.held_out), _joined(split.seen)
    with ProcessPoolExecutor(2) as pool:
        alone, rest, both = pool.map(_xz_size, (held_out, seen, seen + held_out))
    return {"xz -9, held-out text alone": 8 * alone / len(held_out), "xz -9 that has seen the rest": 8 * (both - rest) / len(held_out)}


def measure(run: Run, files: Sequence[str], recipe: TrainRecipe, reporter: Reporter) -> list[BenchResult]:
    """Train and score. Raises DataError for other files, AssertionError when a token was not scored exactly once."""
    split = split_documents(files)
    counts = len(split.seen) + len(split.held_out), len(split.held_out)
    if counts != (EXPECTED_DOCUMENTS, EXPECTED_HELD_OUT):
        raise DataError(
            f"documents, held out: {counts}; the race's four files have {EXPECTED_DOCUMENTS}, {EXPECTED_HELD_OUT}",
            remedy="bench/README.md names the files",
        )
    compressors = xz_bits_per_byte(split)
    for name, value in compressors.items():
        reporter.line(f"{name}: {value:.3f} bits per byte")
    result = train(recipe, reporter)
    if result.bits_per_byte is None or result.held_out_loss is None:
        raise BeichenError("the run was stopped before its held-out text was scored", remedy="the same --out goes on from there")

    tokenizer = read_tokenizer(result.folder)
    targets = sum(len(ids) + 1 for ids in tokenizer.encode_batch(split.held_out))  # the end token counts
    bits = result.held_out_loss * targets / math.log(2) / split.held_out_bytes
    if abs(bits - result.bits_per_byte) > 1e-6 * bits:
        raise AssertionError(f"not every token was scored once: the run says {result.bits_per_byte}, recounted {bits}")
    records = [
        run.record(
            "learning race", f"ours, {recipe.budget.minutes:g} min", [bits], "bits/byte", settings=summary(recipe),
            details={
                "parameters": result.parameters, "steps": result.steps, "tokens": result.tokens,
                "tokens per second": result.tokens_per_second, "training seconds": result.seconds,
                "held-out tokens": targets, "held-out bytes": split.held_out_bytes,
            },
        )
    ]  # fmt: skip
    return records + [run.record("learning race", name, [value], "bits/byte") for name, value in compressors.items()]


def summary(recipe: TrainRecipe) -> str:
    """The settings that matter most, in a line."""
    model = recipe.model
    return (
        f"{model.family}, hidden {model.hidden_size}, {model.num_hidden_layers} layers, vocabulary {recipe.tokenizer.vocab_size}, "
        f"{recipe.optimizer.name}, {recipe.batch.rows_per_step} rows of {recipe.data.sequence_length}"
    )


def _joined(texts: list[str]) -> bytes:
    return "\n".join(texts).encode()


def _xz_size(data: bytes) -> int:
    return len(lzma.compress(data, preset=9))
