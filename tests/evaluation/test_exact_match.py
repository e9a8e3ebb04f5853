"""Accuracy: shares agree with the checks, intervals with their definition, and the record holds every raw answer."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial

import pytest

from beichen.errors import BeichenError, DataError
from beichen.evaluation.exact_match import Question, Share, measure_accuracy, wilson_interval
from beichen.inference.api import Completion, Delta, Request
from beichen.inference.generation import DecoderGenerator
from beichen.text.messages import Message
from beichen.util.progress import SILENT, Reporter
from tests.inference.small_models import small_decoder, small_tokenizer


class Echo:
    """A generator that answers with the length of the prompt."""

    def check(self, request: Request) -> None:
        """Everything can be answered."""

    def each(self, requests: Iterable[Request]) -> Generator[tuple[int, Completion | BeichenError]]:
        yield from enumerate(self.generate(list(requests)))

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        return [Completion(text=str(len(request.prompt_ids)), ids=(), finish_reason="stop") for request in requests]

    def stream(self, request: Request) -> Iterator[Delta]:
        raise AssertionError("accuracy is measured on whole answers")


def ask(text: str) -> tuple[Message, ...]:
    return (Message(role="system", content="s"), Message(role="user", content=text))


def test_shares_count_the_checks_per_group(tmp_path):
    tokenizer = small_tokenizer()
    texts = ["x" * number for number in range(1, 21)]
    length = {text: str(len(tokenizer.render(ask(text), add_generation_prompt=True).ids)) for text in texts}

    def right(text: str, answer: str) -> bool:
        return answer == length[text] and len(text) > 5

    questions = [
        Question(messages=ask(text), check=partial(right, text), group="even" if len(text) % 2 == 0 else "odd", expected=length[text])
        for text in texts
    ]
    accuracy = measure_accuracy(Echo(), tokenizer, questions, max_new_tokens=5)
    assert (accuracy.overall.right, accuracy.overall.total) == (15, 20)
    assert {name: (share.right, share.total) for name, share in accuracy.groups.items()} == {"odd": (7, 10), "even": (8, 10)}
    accuracy.write(tmp_path / "answers.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == [length[text] for text in texts]
    assert sum(line["right"] for line in lines) == 15 and lines[0]["messages"][1]["content"] == "x"
    assert accuracy.as_dict()["groups"]["odd"]["right"] == 7


def test_a_real_generator_answers_through_the_chat_template():
    decoder, tokenizer = small_decoder(seed=2, trained_length=256), small_tokenizer()
    generator = DecoderGenerator(decoder, tokenizer)
    questions = [Question(messages=ask(f"{number} + 1"), check=lambda answer: len(answer) > 3, group="sum") for number in range(9)]
    accuracy = measure_accuracy(generator, tokenizer, questions, max_new_tokens=6)
    for one in accuracy.answers:
        prompt = tokenizer.render(one.question.messages, add_generation_prompt=True).ids
        assert one.answer == generator.generate([Request(prompt_ids=prompt, max_new_tokens=6, stop_ids=tokenizer.stop_ids)])[0].text
        assert one.right == (len(one.answer) > 3)


@pytest.mark.parametrize(("right", "total"), [(0, 10), (5, 10), (10, 10), (93, 100), (1, 1), (1940, 2000)])
def test_the_interval_solves_its_own_equation(right, total):
    """Wilson: both ends p satisfy |share - p| = z sqrt(p (1 - p) / n)."""
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    for end in (low, high):
        assert math.isclose(abs(right / total - end), 1.959964 * math.sqrt(end * (1 - end) / total), abs_tol=1e-6)


def test_nothing_asked_is_said_so():
    assert math.isnan(Share(right=0, total=0).value) and Share(right=0, total=0).interval == (0.0, 1.0)
    with pytest.raises(DataError, match="no questions"):
        measure_accuracy(Echo(), small_tokenizer(), [], max_new_tokens=1)
