"""``beichen generate --input``: every record of a file answered, at the engine's full speed, and resumable where an output is named.

All records are read and rendered before the first answer is computed, so that a bad one is named at once and not after hours.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.terminal import make_reporter, print_json, print_json_line
from beichen.data.account import BadInput
from beichen.data.files import expand_paths
from beichen.data.records import Record, read_records
from beichen.errors import BeichenError, DataError, MissingExtraError
from beichen.util.progress import Reporter, Task

if TYPE_CHECKING:
    from beichen.inference.answers_file import AnswersFile
    from beichen.inference.api import Completion, Request
    from beichen.inference.language_model import LanguageModel
    from beichen.inference.questions import Question

FAULTS_NAMED = 10
KEPT = 1000  # characters of a line that could not be read


@dataclass(frozen=True)
class Unread:
    """A line that holds no record. ``place``: of the record behind it."""

    place: int
    fault: DataError
    told: dict[str, Any]  # as the file of faults has it


class _Unread(BadInput):
    """Lines of one file that are no records, until they are taken."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file, self._found = file, list[tuple[DataError, dict[str, Any]]]()

    def refuse(self, reason: str, size: int, fault: DataError, *, line: int | None = None, content: bytes = b"") -> None:
        raw = content[: 4 * KEPT].decode("utf-8", "replace")[:KEPT]
        self._found.append((fault, {"fault": str(fault.args[0]), "file": str(self._file), "line": line, "raw": raw}))

    def take(self, place: int) -> list[Unread]:
        found, self._found = self._found, []
        return [Unread(place, fault, told) for fault, told in found]


class Questions:
    """The records of ``--input``, as often as they are asked for, and what each asks of the model."""

    def __init__(
        self, path: Path, model: LanguageModel, settings: Mapping[str, Any], *, name: str, thinking: bool | None, answer_key: str
    ) -> None:
        """name: what lines of OpenAI's batch interface call the model."""
        self.files, self.path = expand_paths([path]), path
        self._model, self._name, self._settings, self._thinking, self._answer_key = model, name, settings, thinking, answer_key

    def lines(self) -> Iterator[tuple[int, Record] | Unread]:
        """Every record with its place among the records, and what holds none, in the order of the file."""
        from beichen.inference.questions import COLUMNS, WAYS

        place = 0
        for file in self.files:
            bad = _Unread(file)
            for record in read_records(file, bad, columns=WAYS, optional_columns=[one for one in COLUMNS if one not in WAYS]):
                yield from bad.take(place)
                yield place, record
                place += 1
            yield from bad.take(place)

    def records(self) -> Iterator[tuple[int, Record]]:
        """The records alone."""
        return (line for line in self.lines() if not isinstance(line, Unread))

    def read(self, place: int, record: Record) -> Question:
        """Raises DataError with the record's place in its file."""
        from beichen.inference.questions import at_place, read_question

        try:
            if "custom_id" in record.value and "body" in record.value:
                return self._batch_line(record.value)
            return read_question(
                self._model, record.value, number=place, settings=self._settings, thinking=self._thinking, answer_key=self._answer_key
            )
        except MissingExtraError:
            raise
        except BeichenError as fault:
            raise at_place(fault, record.origin, record.value) from fault

    def _batch_line(self, value: Mapping[str, Any]) -> Question:
        try:
            from beichen.serve.batch_lines import read_batch_line
        except ImportError as fault:
            raise MissingExtraError(str(fault.name), extra="serve", purpose="reading lines of OpenAI's batch interface") from fault
        return read_batch_line(self._model, self._name, value)


def answer_file(model: LanguageModel, questions: Questions, arguments: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Answers on standard output, or in ``--output``.  -> the exit code"""
    reporter = make_reporter()
    if arguments.output is None:
        return _print_answers(model, questions, reporter, skip=arguments.skip_bad)
    from beichen.inference.answers_file import AnswersFile

    started = time.monotonic()
    with AnswersFile(arguments.output, settings, reporter=reporter) as answers:
        kept = len(answers)
        waiting, unread = _check(questions, answers, reporter, skip=arguments.skip_bad)
        try:
            tokens = _work(model, questions, answers, reporter, waiting=waiting, kept=kept)
        except KeyboardInterrupt:
            if len(answers):
                reporter.line(f"{len(answers)} questions are done and kept in {answers.journal}: the same command goes on from there")
            raise
        faults = answers.finish([(one.place, one.told) for one in unread])
    seconds = time.monotonic() - started
    if faults:
        reporter.warn(f"{faults} questions have no answer; why not stands in {answers.faults}")
    if arguments.json:
        print_json(
            {
                "output": arguments.output,
                "answers": len(answers) + len(unread) - faults,
                "kept": kept,
                "faults": faults,
                "tokens": tokens,
                "seconds": seconds,
            }
        )
    else:
        print(arguments.output)
    return 0


def _check(questions: Questions, answers: AnswersFile | None, reporter: Reporter, *, skip: bool) -> tuple[int, list[Unread]]:
    """Read every record that has no answer yet; faults end the command, or are put aside. Those that an earlier command put aside are named
    again.  -> how many are to be answered, and what is no record"""
    faults, unread, waiting, found = list[DataError](), list[Unread](), 0, 0
    put_aside = 0  # of the faults, by an earlier command
    with reporter.track("reading questions", total=None, unit="questions") as task:
        for line in questions.lines():
            if isinstance(line, Unread):
                unread.append(line)
                faults.append(line.fault)
                continue
            place, record = line
            found += 1
            task.advance()
            if answers is not None and answers.holds(place, record.value):
                told = answers.fault_of(place)
                if told is not None:
                    faults.append(DataError(told))
                    put_aside += 1
                continue
            try:
                questions.read(place, record)
                waiting += 1
            except DataError as fault:
                faults.append(fault)
                if skip and answers is not None:
                    answers.add(place, record.value, fault=_told(record, str(fault.args[0])))
    if not found and not faults:
        raise DataError(f"{questions.path}: holds no records", remedy='a line looks like {"prompt": "..."} or {"messages": [...]}')
    ends = not skip and len(faults) > put_aside
    for named in faults[1 if ends else 0 : FAULTS_NAMED]:
        reporter.warn(str(named.args[0]))
    if len(faults) > FAULTS_NAMED:
        reporter.warn(f"and {len(faults) - FAULTS_NAMED} more")
    if ends:
        remedy = faults[0].remedy or "correct or remove it"
        raise DataError(str(faults[0].args[0]), remedy=f"{remedy}; --skip-bad answers the others and puts bad records aside")
    return waiting, unread


def _told(record: Record, fault: str) -> dict[str, Any]:
    """Why a record has no answer, as the file of faults has it."""
    return {"fault": fault, "file": record.source, "line": record.line}


def _work(model: LanguageModel, questions: Questions, answers: AnswersFile, reporter: Reporter, *, waiting: int, kept: int) -> int:
    """Answer what has no answer yet.  -> tokens of the answers"""
    asked: dict[int, tuple[int, Record, Question]] = {}

    def requests() -> Iterator[Request]:
        numbers = count()
        for place, record in questions.records():
            if not answers.holds(place, record.value):
                question = questions.read(place, record)
                asked[next(numbers)] = place, record, question
                yield question.request

    tokens = 0
    meter = Pace()
    label = f"answering ({kept} kept)" if kept else "answering"
    with reporter.track(label, total=waiting, unit="answers") as task, closing(model.generator.each(requests())) as ended:
        for number, answer in ended:
            place, record, question = asked.pop(number)
            if isinstance(answer, BeichenError):
                answers.add(place, record.value, fault=_told(record, f"{record.origin}: {answer.args[0]}"))
            else:
                answers.add(place, record.value, answer=question.write(answer))
                tokens += len(answer.ids)
            meter.show(task, tokens)
    return tokens


class Pace:
    """Tokens of answers per second, beside the count of answers."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def show(self, task: Task, tokens: int) -> None:
        seconds = time.monotonic() - self._started
        task.advance(1, **{"tokens/s": round(tokens / seconds) if seconds > 0 else 0})


def _print_answers(model: LanguageModel, questions: Questions, reporter: Reporter, *, skip: bool) -> int:
    """A line for each answer, in the order of the questions, each as soon as those before it are out."""
    waiting, _ = _check(questions, None, reporter, skip=skip)
    asked: deque[tuple[Record, Question]] = deque()  # not yet printed
    ended: dict[int, Completion | BeichenError] = {}
    printed = 0

    def requests() -> Iterator[Request]:
        for place, record in questions.records():
            try:
                question = questions.read(place, record)
            except DataError:
                continue  # named above, before the first answer
            asked.append((record, question))
            yield question.request

    with reporter.track("answering", total=waiting, unit="answers") as task, closing(model.generator.each(requests())) as answers:
        for number, answer in answers:
            ended[number] = answer
            task.advance()
            while printed in ended:
                record, question = asked.popleft()
                said = ended.pop(printed)
                printed += 1
                if isinstance(said, BeichenError):
                    reporter.warn(f"{record.origin}: {said.args[0]}")
                else:
                    print_json_line(question.write(said))
    return 0
