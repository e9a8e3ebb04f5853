"""The law of answers, slowly: a whole text to what it says, one character after another, with nothing held back and nothing cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from beichen.text.answers.events import CallArguments, CallBegin, CallEnd, Event, Said, Thought
from beichen.text.answers.format import AnswerFormat, CallFormat
from beichen.text.answers.whole_call import whole_call

WHITE = " \t\r\n"
Statement = list[Any]  # ["said" | "thought", text] or ["call", name, arguments, whole]


def merged(events: Iterable[Event]) -> list[Statement]:
    """Events as what they say, deltas joined; checks that calls come one after another."""
    found: list[Statement] = []
    for event in events:
        if isinstance(event, Said | Thought):
            kind = "said" if isinstance(event, Said) else "thought"
            if found and found[-1][0] == kind:
                found[-1][1] += event.text
            else:
                found.append([kind, event.text])
        elif isinstance(event, CallBegin):
            assert event.index == sum(one[0] == "call" for one in found)
            found.append(["call", event.name, "", False])
        elif isinstance(event, CallArguments | CallEnd):
            assert found[-1][0] == "call" and not found[-1][3] and event.index == sum(one[0] == "call" for one in found) - 1
            if isinstance(event, CallArguments):
                found[-1][2] += event.text
            else:
                found[-1][3] = True
    return found


def reference(form: AnswerFormat, text: str, *, in_thought: bool = False, calls: bool = True) -> list[Statement]:
    """What a whole answer says."""
    found: list[Statement] = []
    if form.thought is not None:
        opened, closed = form.thought
        inside = in_thought
        if not inside and text.lstrip(WHITE).startswith(opened):
            text, inside = text.lstrip(WHITE)[len(opened) :], True
        if inside:
            thought, ended, text = text.lstrip("\n").partition(closed)
            thought = thought.rstrip("\n") if ended else thought
            found += [["thought", thought]] if thought else []
            text = text.lstrip("\n")
    said = _prose_and_calls(form.calls, text) if form.calls and calls else [["said", text]]
    for one in [one for one in said if one[1]]:
        if found and found[-1][0] == one[0] == "said":
            found[-1][1] += one[1]
        else:
            found.append(one)
    return found


def _prose_and_calls(form: CallFormat, text: str) -> list[Statement]:
    found: list[Statement] = []
    prose = ""
    place = 0
    while place < len(text):
        call = _call_at(form, text, place) if text.startswith(form.open, place) else None
        if call is None:
            size = max(1, 0 if not text.startswith(form.open, place) else _tried(form, text, place))
            prose, place = prose + text[place : place + size], place + size
            continue
        name, arguments, place = call
        prose = "" if not prose.strip(WHITE) else prose.removesuffix(form.separator)
        found += [["said", prose], ["call", name, arguments, True]]
        prose = ""
    behind_call = bool(found)
    return [*found, ["said", "" if behind_call and not prose.strip(WHITE) else prose]]


def _tried(form: CallFormat, text: str, place: int) -> int:
    """How far a block was read that turned out to be prose."""
    start = _after(text, place + len(form.open))
    return (_object(form, text, start, 0)[0] if text.startswith("{", start) else place + len(form.open)) - place


def _call_at(form: CallFormat, text: str, place: int) -> tuple[str, str, int] | None:
    start = _after(text, place + len(form.open))
    if not text.startswith("{", start):
        return None
    key, arguments_key = json.dumps(form.name), json.dumps(form.arguments)
    name = r'"(?:\\[^\x00-\x1f]|[^"\\\x00-\x1f])*"'
    header = re.match(rf"\{{\s*{key}\s*:\s*({name})\s*,\s*{arguments_key}\s*:\s*", text[start:])
    if header and re.match(r'\{\s*["}]', text[start + header.end() :]) and _named(header[1]):
        end, shown, stop = _object(form, text, start + header.end(), 0)
        if stop == "object":
            following = _after(text, end)
            if text.startswith(",", following):
                end = _object(form, text, end, 1)[0]
            elif text.startswith("}", following):
                end = following + 1
        return _named(header[1]), shown, _closing(form, text, end)
    end, _, _ = _object(form, text, start, 0)
    call = whole_call(text[start:end], form)
    return None if call is None else (*call, _closing(form, text, end))


def _named(literal: str) -> str:
    try:
        name = json.loads(literal).strip()
        name.encode()
    except ValueError:
        return ""
    return name


def _closing(form: CallFormat, text: str, place: int) -> int:
    behind = place
    while text[behind : behind + 1] and text[behind] in WHITE + "}":
        behind += 1
    if text.startswith(form.close, behind):
        return behind + len(form.close)
    return len(text) if form.close.startswith(text[behind:]) else place


def _after(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in WHITE:
        place += 1
    return place


def _object(form: CallFormat, text: str, place: int, depth: int) -> tuple[int, str, str]:
    """The end of the object at ``place``, its text with control characters in strings escaped, and what ended it."""
    shown = ""
    quote = ""
    while place < len(text):
        letter = text[place]
        if not quote and (text.startswith(form.close, place) or text.startswith(form.open, place)):
            return place, shown, "tag"
        if quote and text.startswith(form.close, place) and _never_closed(text, place, quote):
            return place, shown, "tag"
        if quote and letter == "\\" and text[place + 1 : place + 2] >= " ":
            shown, place = shown + text[place : place + 2], place + 2
            continue
        shown += json.dumps(letter)[1:-1] if quote and letter < " " else letter
        place += 1
        if letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
        elif not quote and letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth == 0:
                return place, shown, "object"
    return place, shown, ""


def _never_closed(text: str, place: int, quote: str) -> bool:
    """Whether the line ends before the string does."""
    while place < len(text) and text[place] >= " ":
        if text[place] == quote:
            return False
        place += 2 if text[place] == "\\" and text[place + 1 : place + 2] >= " " else 1
    return True
