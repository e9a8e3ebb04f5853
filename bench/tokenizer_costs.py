"""What training and using a tokenizer costs: time and peak memory of the whole process tree, beside the libraries in use elsewhere.

Every contender reads the same file of JSON lines in a process of its own (``tokenizer_contenders.py``; ours is the command as users type
it) and makes 32,000 ids; our merges must be those of ``tokenizers`` wherever nothing was sampled. Encoding takes the tokenizer that ours
made, once on one core and once on all; ids must be equal. Texts: the corpus of ``varied_corpus.py``. A library that is not installed is
left out, by name.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.process_tree import Measured, run_measured
from bench.records import FOLDER, BenchResult, Run
from bench.tokenizer_contenders import CORES, ENCODE_SETTINGS, MERGES_FILE, PATTERN, TRAIN_SETTINGS
from bench.tokenizer_verdicts import ENCODING, TRAINING
from bench.varied_corpus import write_varied

IDS = 32_000
MEMORY, MARGIN = 512 * 2**20, 150 * 10**6  # what --memory says, and how far above it the peak may lie
LARGEST = 160  # MB; for ours alone
ENCODED = 40  # MB
CORPUS = FOLDER.parents[1] / "shared/data/corpus"
TEXTS = FOLDER.parent / "runs" / "bench-texts"
SLOW = ("tokenizers", "sentencepiece")  # measured once


def measure_training(run: Run, *, rounds: int, sizes: Sequence[int]) -> list[BenchResult]:
    """Records of training from so many megabytes of text."""
    with tempfile.TemporaryDirectory(prefix="beichen-bench-") as place:
        bench = _Training(Path(place), rounds=min(rounds, 3))
        return [record for size in sizes for record in bench.measure(run, size, _texts(size))]


def measure_encoding(run: Run, *, rounds: int) -> list[BenchResult]:
    """Records of encoding."""
    file = _texts(ENCODED)
    with tempfile.TemporaryDirectory(prefix="beichen-bench-") as place:
        run_measured(_ours(file, Path(place), PATTERN), cwd=FOLDER.parent)
        return list(_encoding(run, Path(place), file, rounds=min(rounds, 3)))


def _texts(size: int) -> Path:
    return write_varied(corpus_files(CORPUS), size * 10**6, TEXTS / f"varied-{size}MB.jsonl")


def corpus_files(folder: Path) -> list[Path]:
    """The corpus, each text once: a packed file stands for the same file unpacked."""
    names = sorted(folder.glob("*.jsonl*"))
    return [path for path in names if path.with_name(path.name + ".zst") not in names]


def missing(contenders: Iterable[str]) -> list[str]:
    """Those that are not installed; said on standard error."""
    absent = [name for name in contenders if name != "ours" and find_spec(name) is None]
    for name in absent:
        print(f"{name} is not installed and not measured: pip install {name}", file=sys.stderr)
    return absent


class _Training:
    def __init__(self, place: Path, *, rounds: int) -> None:
        self._place, self._rounds = place, rounds
        self._absent = missing(TRAIN_SETTINGS)
        self.made = place / "ours"  # our last tokenizer with the pattern that all share

    def measure(self, run: Run, size: int, file: Path) -> Iterator[BenchResult]:
        """Contenders take turns; the slow ones sit out after the first round."""
        names = [f"ours, {PATTERN}", "ours, han", *(name for name in TRAIN_SETTINGS if size != LARGEST and name not in self._absent)]
        taken: dict[str, list[Measured]] = defaultdict(list)
        for number in range(self._rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if not (number and name in SLOW):
                    print(f"tokenizer training, {size} MB, {name}", file=sys.stderr, flush=True)
                    taken[name].append(self._train(name, file))
        sampled = self._sampled(self.made)
        if "tokenizers" in taken and sampled == 1:
            self._check_merges()
        for name, measured in taken.items():
            peak = max(one.peak_bytes for one in measured)
            settings = TRAIN_SETTINGS.get(name) or f"beichen tokenizer train --memory 512MiB --pattern {name.removeprefix('ours, ')}"
            details = {"MB": size, "peak MB": peak / 1e6}
            if name not in TRAIN_SETTINGS:
                details |= {"aim MB": (MEMORY + MARGIN) / 1e6, "sampled below": self._sampled(self._out(name))}
            settings = f"{settings}; peak {peak / 1e6:,.0f} MB"
            yield run.record(TRAINING[size], name, [one.seconds for one in measured], "s", settings=settings, details=details)

    def _out(self, name: str) -> Path:
        return self.made if name == f"ours, {PATTERN}" else self._place / name.replace(", ", "-")

    def _train(self, name: str, file: Path) -> Measured:
        out = self._out(name)
        shutil.rmtree(out, ignore_errors=True)
        if name in TRAIN_SETTINGS:
            out.mkdir()
            return run_measured(_contender("train", name, file, IDS, out), cwd=FOLDER.parent)
        return run_measured(_ours(file, out, name.removeprefix("ours, ")), cwd=FOLDER.parent)

    def _sampled(self, folder: Path) -> int:
        return int(json.loads((folder / "training.json").read_text(encoding="utf-8"))["sampled_below"])

    def _check_merges(self) -> None:
        ours = json.loads((self.made / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
        theirs = json.loads((self._place / "tokenizers" / MERGES_FILE).read_text(encoding="utf-8"))
        if ours != theirs[: len(ours)]:
            place = next(number for number, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
            raise RuntimeError(f"merge {place} is {ours[place]} here and {theirs[place]} in tokenizers")


def _encoding(run: Run, folder: Path, file: Path, *, rounds: int) -> Iterator[BenchResult]:
    absent = missing(ENCODE_SETTINGS)
    names = [name for name in ENCODE_SETTINGS if name not in absent]
    for cores in dict.fromkeys((1, CORES)):
        found: dict[str, list[tuple[dict[str, Any], int]]] = defaultdict(list)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                print(f"tokenizer encoding, {cores} cores, {name}", file=sys.stderr, flush=True)
                found[name].append(_encode(name, file, folder, cores))
        if len({figures["digest"] for taken in found.values() for figures, _ in taken}) != 1:
            raise RuntimeError("the contenders' ids differ")
        for name, taken in found.items():
            rates = [figures["bytes"] / figures["seconds"] / 1e6 for figures, _ in taken]
            tokens = statistics.median(figures["tokens"] / figures["seconds"] for figures, _ in taken)
            peak = max(peak for _, peak in taken)
            settings = f"{ENCODE_SETTINGS[name]}; {tokens / 1e6:,.2f} M tok/s; peak {peak / 1e6:,.0f} MB"
            details = {"cores": cores, "tok/s": tokens, "peak MB": peak / 1e6}
            yield run.record(ENCODING, f"{cores} cores, {name}", rates, "MB/s", settings=settings, details=details)


def _encode(name: str, file: Path, folder: Path, cores: int) -> tuple[dict[str, Any], int]:
    held = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, held[:cores])  # what is started inherits it
    try:
        measured = run_measured(_contender("encode", name, file, ENCODED * 10**6 - 10**6, folder), cwd=FOLDER.parent)
    finally:
        os.sched_setaffinity(0, held)
    return json.loads(measured.output.splitlines()[-1]), measured.peak_bytes


def _ours(file: Path, out: Path, pattern: str) -> Sequence[str]:
    words = ["tokenizer", "train", "--input", file, "--vocab-size", IDS, "--out", out, "--memory", "512MiB", "--pattern", pattern]
    return [sys.executable, "-m", "beichen", *map(str, words), "--special", "<|end|>", "--end", "<|end|>"]


def _contender(job: str, name: str, file: Path, number: int, folder: Path) -> Sequence[str]:
    return [sys.executable, "-m", "bench.tokenizer_contenders", job, name, str(file), str(number), str(folder)]
