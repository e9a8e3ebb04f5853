"""Text to ids on disk: tokens a second and the memory of all processes, beside what others do.

Every contender is a command from its start to its end, imports included, and reads the same jsonl file: the corpus beside the repository,
grown by copies with moved characters (``varied_corpus``). The first comparison uses a byte-level tokenizer that is trained here, the second
TeleChat-52B's own. Rule: all contenders of a comparison give the same number of ids, or the run stops.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from beichen.data.encoded_text import read_description
from beichen.data.sources import read_documents
from beichen.errors import DataError
from beichen.text.byte_pair_training import train_tokenizer
from bench.process_tree import Measured, run_measured
from bench.records import FOLDER, BenchResult, Run
from bench.varied_corpus import write_varied

SHARED = FOLDER.parents[1] / "shared"
CORPUS, SLOW_TOKENIZER = SHARED / "data/corpus", SHARED / "golden/tokenizers/telechat-52b"
SIZE, LARGE = 40_000_000, 400_000_000
MEMORY_AIM = 1 << 30
VOCABULARY = 32_000
OURS, LARGER = "ours", "ours, ten times the text"
FAST = {"datasets": "map(batched, num_proc=2), tokenizers' encode_batch_fast", "tiktoken": "all in memory, 2 threads"}
SLOW_OURS, SLOW = "ours, TeleChat-52B's tokenizer", "TeleChat-52B's route"
SLOW_SETTINGS = "all in memory, transformers' Python tokenizer over SentencePiece, 2 processes"


def measure(run: Run, *, rounds: int) -> list[BenchResult]:
    """Records of speed and of peak memory."""
    files = [file for file in sorted(CORPUS.glob("*.jsonl*")) if file.name != "zh_novels_classic.jsonl"]  # a part of the .zst beside it
    if not files:
        raise DataError(f"{CORPUS}: no corpus here", remedy="put the shared data beside the repository")
    with tempfile.TemporaryDirectory(prefix="beichen-encoding-") as place:
        return list(_measure(run, Path(place), files, rounds))


def _measure(run: Run, place: Path, files: list[Path], rounds: int) -> Iterator[BenchResult]:
    tokenizer, text = place / "tokenizer", write_varied(files, SIZE, place / "text.jsonl")
    sample = [document.text for document in islice(read_documents([text]), 1000)]
    train_tokenizer(sample, vocab_size=VOCABULARY, pattern="qwen2", template="telechat2-bare").save(tokenizer)
    commands = {OURS: _ours(text, tokenizer)} | {name: _other(name, text, tokenizer) for name in FAST}
    for name, taken in _take_turns(commands, place, rounds).items():
        yield from _records(run, name, taken, SIZE, FAST.get(name, f"beichen data encode, vocabulary {VOCABULARY}"))
    for name, taken in _take_turns({SLOW_OURS: _ours(text, SLOW_TOKENIZER), SLOW: _other("slow", text, SLOW_TOKENIZER)}, place, 1).items():
        yield from _records(run, name, taken, SIZE, SLOW_SETTINGS if name == SLOW else "beichen data encode")
    large = write_varied(files, LARGE, place / "large.jsonl")
    for name, taken in _take_turns({LARGER: _ours(large, tokenizer)}, place, 1).items():
        yield from _records(run, name, taken, LARGE, "beichen data encode")


def _ours(text: Path, tokenizer: Path) -> list[str]:
    words = ["beichen", "data", "encode", "--input", str(text), "--tokenizer", str(tokenizer), "--held-out", "0"]
    return [sys.executable, "-m", *words, "--out"]


def _other(route: str, text: Path, tokenizer: Path) -> list[str]:
    return [sys.executable, "-m", "bench.encoding_routes", route, str(text), str(tokenizer)]


def _take_turns(commands: dict[str, list[str]], place: Path, rounds: int) -> dict[str, tuple[list[Measured], int]]:
    """What each command took, and the number of ids that all of them wrote."""
    names, found, counts = list(commands), {name: list[Measured]() for name in commands}, set[int]()
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                out = Path(folder) / "out"
                found[name].append(run_measured([*commands[name], str(out)], cwd=FOLDER.parent))
                counts.add(_tokens(out))
    if len(counts) != 1:
        raise RuntimeError(f"{', '.join(names)}: different numbers of ids: {sorted(counts)}")
    return {name: (runs, next(iter(counts))) for name, runs in found.items()}


def _tokens(out: Path) -> int:
    counted = out / "tokens"
    return int(json.loads(counted.read_text(encoding="utf-8")) if counted.exists() else read_description(out)["ledger"]["used"]["tokens"])


def _records(run: Run, name: str, taken: tuple[list[Measured], int], size: int, settings: str) -> Iterator[BenchResult]:
    runs, tokens = taken
    seconds = {"seconds": statistics.median(one.seconds for one in runs), "tokens": tokens}
    stated = f"{size / 1e6:.0f} MB; {settings}"
    yield run.record("encoding", name, [tokens / one.seconds for one in runs], "tok/s", settings=stated, details=seconds)
    aim = MEMORY_AIM / 1e6 if name in (OURS, LARGER, SLOW_OURS) else None
    yield run.record("encoding", f"{name}: memory", [one.peak_bytes / 1e6 for one in runs], "MB", ceiling=aim, settings=stated)
