"""Records of a file as requests, and their answers as records: what ``beichen generate --input`` reads and writes.

Comes in: ``{"prompt": text}``, continued as it is; ``{"messages": [...], "tools": [...]}``, answered in the folder's chat format; or
``{"input": text}``, MindFormers' file, the one message of a user. Goes out: the record with the answer beside what it held; nothing that it
held is replaced. Settings of sampling that stand in a record go before those of the command; a record may hold whatever else it likes, but
nothing that looks like a setting misspelt.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beichen.errors import BeichenError, DataError
from beichen.inference.api import Completion, Constraint, Request
from beichen.inference.language_model import LanguageModel, numbered
from beichen.inference.usage import token_usage
from beichen.text.answers.format import answer_format
from beichen.text.answers.message import MessageParts, end_reason
from beichen.text.answers.stream import read_answer
from beichen.util.json_kinds import json_kind

Number = (int, float)
SETTINGS: dict[str, tuple[type, ...]] = {
    "max_new_tokens": (int,), "min_new_tokens": (int,), "temperature": Number, "top_k": (int,), "top_p": Number, "min_p": Number,
    "repetition_penalty": Number, "presence_penalty": Number, "frequency_penalty": Number, "seed": (int,), "stop": (str, list),
    "regex": (str,), "json_schema": (dict, bool), "thinking": (bool,),
}  # fmt: skip
OTHER_NAMES = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}
ALIKE, SHORTEST = 0.85, 7  # how like a setting a key must be to be one misspelt, and of how many letters; one of other case always is
WAYS = ("prompt", "messages", "input")
COLUMNS = (*WAYS, "tools", *SETTINGS, *OTHER_NAMES)  # of a table, beside which others come back unread
WRITTEN = ("finish_reason", "usage", "reasoning_content", "tool_calls")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the generator is asked, and the record that its answer makes."""

    request: Request
    write: Callable[[Completion], dict[str, Any]]


def read_question(
    model: LanguageModel, record: Mapping[str, Any], *, number: int, settings: Mapping[str, Any], thinking: bool | None = None,
    answer_key: str = "answer",
) -> Question:  # fmt: skip
    """number: the record's place, which its seed is made from unless it names one. settings: those of ``LanguageModel.request``.
    answer_key: what the answer is called. Raises what is wrong with the record."""
    for key in (answer_key, *WRITTEN):
        if key in record:
            remedy = "--answer-key gives the answer another name" if key == answer_key else "rename it"
            raise DataError(f'the record holds "{key}" already, and nothing is replaced', remedy=remedy)
    ways = [way for way in WAYS if record.get(way) is not None]
    if len(ways) != 1:
        found = ", ".join(map(repr, record)) or "nothing"
        raise DataError(
            f'expected "prompt" (a text), "messages" (a list of turns) or "input" (what a user says), one of them; found {found}'
        )
    _refuse_misspelt(record)
    own = _own_settings(record, numbered(settings, number))
    think = own.pop("thinking", thinking)
    value: Any = record[ways[0]]
    if not isinstance(value, list if ways[0] == "messages" else str):
        raise DataError(f'"{ways[0]}": expected {"a list of turns" if ways[0] == "messages" else "a text"}, got {json_kind(value)}')
    if ways[0] == "prompt":
        return _continued(model, record, model.request(value, **own), answer_key)
    messages: list[Any] = [{"role": "user", "content": value}] if isinstance(value, str) else value
    strange = next((turn for turn in messages if not isinstance(turn, dict)), None)
    if strange is not None:
        raise DataError(f'"messages": expected objects with "role" and "content", got {json_kind(strange)}')
    return _answered(model, record, messages, own, think, answer_key)


def _refuse_misspelt(record: Mapping[str, Any]) -> None:
    """Raises DataError for a key that is all but a setting: ``temprature``, ``max-tokens``, ``topK``."""
    settings = {_letters(name): name for name in (*SETTINGS, *OTHER_NAMES)}
    for key in record:
        if key in settings.values():
            continue
        letters = _letters(key)
        long = [name for name in settings if min(len(name), len(letters)) >= SHORTEST and abs(len(name) - len(letters)) <= 2]
        close = [letters] if letters in settings else difflib.get_close_matches(letters, long, n=1, cutoff=ALIKE)
        if close:
            raise DataError(
                f'"{key}" is no setting (did you mean "{settings[close[0]]}"?)',
                remedy="correct it, or give it a name less like a setting's if it is something else",
            )


def _letters(key: str) -> str:
    """What remains of a name however it is written: max_tokens, max-tokens, maxTokens."""
    return re.sub("[^a-z0-9]", "", key.lower())


def _own_settings(record: Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    for key, value in record.items():
        name = OTHER_NAMES.get(key, key)
        if name not in SETTINGS or value is None:
            continue
        kinds = SETTINGS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise DataError(f'"{key}": expected {_expected(kinds)}, got {_written(value)}')
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise DataError(f'"{key}": expected a text or a list of texts, got {_written(value)}')
        if name == "regex":
            settings["constraint"] = Constraint(regex=record[key])
        elif name == "json_schema":
            settings["constraint"] = Constraint(json_schema=record[key])
        else:
            settings[name] = value
    if record.get("regex") is not None and record.get("json_schema") is not None:
        raise DataError('"regex" and "json_schema" both say what the answer must be: give one')
    return settings


def _expected(kinds: Sequence[type]) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", list: "a list of texts", dict: "an object", bool: "true or false"}
    return "a number" if kinds == Number else " or ".join(words[kind] for kind in kinds)


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _continued(model: LanguageModel, record: Mapping[str, Any], request: Request, answer_key: str) -> Question:
    def write(answer: Completion) -> dict[str, Any]:
        return {**record, answer_key: answer.text, "finish_reason": answer.finish_reason, "usage": token_usage([request], len(answer.ids))}

    return _checked(model, Question(request=request, write=write))


def _answered(
    model: LanguageModel, record: Mapping[str, Any], messages: list[Any], own: dict[str, Any], thinking: bool | None, answer_key: str
) -> Question:
    tools = record.get("tools") or ()
    form = answer_format(model.tokenizer.chat_format, model.tokenizer.special_ids)
    request = model.chat_request(messages, tools=tools, thinking=thinking, shown_tokens=form.tags if tools else form.thought or (), **own)
    in_thought = form.begins_in_thought(model.tokenizer.decode(request.prompt_ids[-16:], skip_special=False))

    def write(answer: Completion) -> dict[str, Any]:
        message = MessageParts()
        for event in read_answer(form, answer.text, in_thought=in_thought, calls=bool(tools)):
            message.add(event)
        written: dict[str, Any] = {**record, answer_key: message.content}
        if message.thought:
            written["reasoning_content"] = message.thought
        if message.calls:
            written["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in message.calls]
        reason = end_reason(answer.finish_reason, called=bool(message.calls))
        return {**written, "finish_reason": reason, "usage": token_usage([request], len(answer.ids))}

    return _checked(model, Question(request=request, write=write))


def _checked(model: LanguageModel, question: Question) -> Question:
    model.generator.check(question.request)
    return question


def at_place(fault: BeichenError, origin: str, record: Mapping[str, Any]) -> DataError:
    """The same fault, saying where the record stands, by the names that the record uses."""
    words = str(fault.args[0])
    for other, name in OTHER_NAMES.items():
        if record.get(other) is not None:
            words = words.replace(name, other)
    return DataError(f"{origin}: {words}", remedy=fault.remedy)
