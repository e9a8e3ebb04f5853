"""Accuracy by exact check: questions in, free answers from any ``Generator``, share of right ones per group out.

Every raw answer is kept and can be written as JSON lines, so that each figure can be looked up question by question.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

from beichen.errors import DataError
from beichen.inference.api import Generator, Request, SamplingSettings
from beichen.text.messages import Message
from beichen.text.tokenizer import Tokenizer
from beichen.util.files import write_atomically
from beichen.util.progress import SILENT, Reporter


@dataclass(frozen=True, kw_only=True)
class Question:
    """A dialogue that ends with a question, and when its answer is right."""

    messages: Sequence[Message]
    check: Callable[[str], bool]
    group: str
    expected: str = ""  # for people who read the record


@dataclass(frozen=True, kw_only=True)
class Share:
    """``right`` of ``total``, with the Wilson score interval at 95 %."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """NaN where nothing was asked."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share lies with 95 % confidence."""
        return wilson_interval(self.right, self.total)

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        low, high = self.interval
        return {"value": self.value, "right": self.right, "total": self.total, "low": low, "high": high}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question with what the model said."""

    question: Question
    answer: str
    finish_reason: str
    right: bool

    def as_dict(self) -> dict[str, Any]:
        """A line of the record."""
        messages = [{"role": message.role, "content": message.content} for message in self.question.messages]
        return {
            "group": self.question.group, "right": self.right, "answer": self.answer, "expected": self.question.expected,
            "finish_reason": self.finish_reason, "messages": messages,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """All answers, and the shares that follow from them."""

    answers: Sequence[Answered] = field(repr=False)

    @property
    def overall(self) -> Share:
        """Over all questions, whatever their group."""
        return _share(self.answers)

    @property
    def groups(self) -> dict[str, Share]:
        """Per group, in the order in which groups first appear."""
        names = dict.fromkeys(one.question.group for one in self.answers)
        return {name: _share([one for one in self.answers if one.question.group == name]) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """For reports: ``overall`` and ``groups``."""
        return {"overall": self.overall.as_dict(), "groups": {name: share.as_dict() for name, share in self.groups.items()}}

    def write(self, path: Path | str) -> None:
        """Every question and raw answer, a JSON line each."""
        write_atomically(path, "".join(json.dumps(one.as_dict(), ensure_ascii=False) + "\n" for one in self.answers))


def measure_accuracy(
    generator: Generator,
    tokenizer: Tokenizer,
    questions: Iterable[Question],
    *,
    max_new_tokens: int,
    sampling: SamplingSettings | None = None,
    reporter: Reporter = SILENT,
) -> Accuracy:
    """Ask everything and check the answers. An answer that reaches ``max_new_tokens`` without an end is checked like any other."""
    asked = list(questions)
    if not asked:
        raise DataError("there are no questions to ask", remedy="check that the held-out set is not empty")
    requests = [
        Request(
            prompt_ids=tokenizer.render(question.messages, add_generation_prompt=True).ids,
            max_new_tokens=max_new_tokens,
            stop_ids=tokenizer.stop_ids,
            sampling=sampling or SamplingSettings(),
        )
        for question in asked
    ]
    completions = generator.generate(requests, reporter=reporter)
    return Accuracy(
        answers=[
            Answered(question=question, answer=one.text, finish_reason=one.finish_reason, right=question.check(one.text))
            for question, one in zip(asked, completions, strict=True)
        ]
    )


def wilson_interval(right: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share (E. B. Wilson, 1927); (0, 1) where nothing was asked."""
    if not total:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (0.0 if not right else (centre - spread) / scale), (1.0 if right == total else (centre + spread) / scale)


def _share(answers: Sequence[Answered]) -> Share:
    return Share(right=sum(one.right for one in answers), total=len(answers))
