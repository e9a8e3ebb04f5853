"""What the tests of training share: a decoder of a few thousand weights, random batches, a corpus of a few words, a recipe."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from beichen.data.batch import IGNORED, Batch
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.initialization import initialize
from beichen.util.progress import SilentReporter, Task

WORDS = (
    "天气",
    "很好",
    "我们",
    "去",
    "公园",
    "看",
    "花",
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "dog",
    "far",
    "一",
    "二",
    "三",
)


def tiny_decoder(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Decoder:
    settings: dict[str, Any] = {
        "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "intermediate_size": 24, "max_position_embeddings": 32, "attention_output_bias": True, "down_bias": True,
        "initializer_range": 0.1,
    }  # fmt: skip
    decoder = Decoder(DecoderConfig(**{**settings, **changes}))
    initialize(decoder, seed)
    return decoder.to(dtype)


def random_batch(*, rows: int, tokens: int, seed: int, scored: float = 1.0, packed: bool = True, vocab_size: int = 30) -> Batch:
    """Rows of random documents; each id is likely to be followed by its double, so that there is something to learn."""
    rng = random.Random(seed)
    ids, targets, positions, starts = (torch.zeros(rows, tokens, dtype=torch.int64) for _ in range(4))
    for row in range(rows):
        begin, token = 0, rng.randrange(vocab_size)
        for column in range(tokens):
            if packed and column and rng.random() < 0.2:
                begin = column
            following = token * 2 % vocab_size if rng.random() < 0.8 else rng.randrange(vocab_size)
            ids[row, column], positions[row, column], starts[row, column] = token, column - begin, begin
            targets[row, column] = following if rng.random() < scored else IGNORED
            token = following
    return Batch(
        input_ids=ids, targets=targets, positions=positions.int(), first_visible=starts.int(),
        target_count=int((targets != IGNORED).sum()), token_count=rows * tokens,
    )  # fmt: skip


class RandomBatches:
    """A batch source: step s always gives the same ``micro_batches`` batches."""

    def __init__(self, *, micro_batches: int = 1, rows: int = 2, tokens: int = 12, steps_per_epoch: float = 10.0) -> None:
        self.number, self.rows, self.tokens, self.steps_per_epoch = micro_batches, rows, tokens, steps_per_epoch

    def samples(self, step: int) -> list[list[str]]:
        return [[f"sample {step}.{number}.{row}" for row in range(self.rows)] for number in range(self.number)]

    def micro_batches(self, step: int) -> Sequence[Batch]:
        return [
            random_batch(rows=self.rows, tokens=self.tokens, seed=1000 * step + number, scored=0.7) for number in range(self.number)
        ]  # fmt: skip


class AtStep(SilentReporter):
    """Does something once, when a run of a number of steps has taken so many of them."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action, self.done = step, action, False
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def then(self, step: int, action: Callable[[], object]) -> None:
        """What is done next, from within an action."""
        self.step, self.action, self.done = step, action, False

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        with super().track(label, total=total, unit=unit, begun=begun) as task:
            yield self if unit == "steps" else task

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        raise AssertionError("training sets its bar")

    def set(self, done: float, **figures: float | str) -> None:
        if done >= self.step - 1e-6 and not self.done:
            self.done = True
            self.action()


def write_corpus(path: Path, *, documents: int = 150, seed: int = 0) -> Path:
    """jsonl of sentences from a few words."""
    rng = random.Random(seed)
    texts = (" ".join(rng.choice(WORDS) for _ in range(25)) for _ in range(documents))
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


def write_dialogues(path: Path, *, number: int = 60) -> Path:
    """jsonl of questions whose answer is the last word of the question."""
    rng = random.Random(1)
    lines = []
    for _ in range(number):
        words = [rng.choice(WORDS) for _ in range(4)]
        messages = [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": words[-1]}]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def tiny_recipe(out: Path, corpus: Path, *, steps: int = 30, **changes: Any) -> dict[str, Any]:
    """A run of a second; ``changes`` replace whole sections."""
    recipe: dict[str, Any] = {
        "out": str(out),
        "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
        "tokenizer": {"vocab_size": 320, "template": "telechat2-bare"},
        "data": {"files": [str(corpus)], "sequence_length": 32},
        "batch": {"rows_per_step": 4, "rows_per_micro_batch": 2},
        "budget": {"steps": steps},
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
    }
    return {**recipe, **changes}
