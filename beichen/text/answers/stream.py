"""An answer's text in pieces to events: prose, a thought, tool calls; what the HTTP stream is made of.

Comes in: text as the incremental decoder gives it, the tags of the format shown. Goes out: :mod:`~beichen.text.answers.events`. Rules:

1. What has been said after a text depends on that text alone, never on how it was cut; an event leaves as soon as it is certain.
2. A thought stands at the beginning, between its tags; line breaks around it are not part of it.
3. An opening tag before a brace begins a call; any other is prose. The separator of the format, or white space where there is no prose,
   belongs to the call. Prose may stand behind calls too.
4. A call whose object begins as the format writes it (the name, then an object of arguments) is streamed, its arguments as the model wrote
   them: faults inside them are the client's to see, as OpenAI's interface has it. What follows the arguments says nothing.
5. Any other object is held to its end and then read by :func:`~beichen.text.tool_calls.parse_call`: a Python dictionary, arguments in a
   string, keys in another order. What cannot be read so is prose, tag and all.
6. A call ends with its object (:mod:`~beichen.text.answers.object_scan`), whether its closing tag follows or not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from beichen.text.answers.events import CallArguments, CallBegin, CallEnd, Event, Said, Thought, Unsaid
from beichen.text.answers.format import AnswerFormat, CallFormat
from beichen.text.answers.object_scan import ObjectScan
from beichen.text.answers.whole_call import whole_call

_WHITE = " \t\r\n"
_CLOSING = re.compile(r"[ \t\r\n}]*")  # a surplus brace is a common fault
HEADER_MOST = 1024  # characters in which a call must say its name to be streamed


class AnswerStream:
    """One answer. ``push`` every piece of text, then ``finish`` once."""

    def __init__(self, form: AnswerFormat, *, in_thought: bool = False, calls: bool = True) -> None:
        """``in_thought``: the prompt has opened the thought; ``calls=False``: no tools were offered, so all is prose."""
        self._calls = form.calls if calls else None
        self._thought = form.thought
        self._call_tails = _beginnings(self._calls.separator + self._calls.open, self._calls.open) if self._calls else frozenset[str]()
        self._thought_tails = _beginnings(self._thought[1]) if self._thought else frozenset[str]()
        self._rest = ""  # not yet certain
        self._events: list[Event] = []
        self._index = 0  # of the next call
        self._gap = self._calls is not None  # only white space since the beginning, the thought or the last call
        self._lead = ""  # the separator before an opening tag
        self._scan: ObjectScan | None = None
        self._scanned = 0
        self._step: Callable[[bool], bool] = self._prose
        if self._thought is not None:
            self._step = self._thought_begins if in_thought else self._opening

    def push(self, text: str) -> list[Event]:
        """What this piece makes certain."""
        self._rest += text
        return self._run(final=False)

    def finish(self) -> list[Event]:
        """What was held back, once no more text comes."""
        return self._run(final=True)

    def _run(self, *, final: bool) -> list[Event]:
        while self._step(final):
            pass
        events, self._events = self._events, []
        return events

    # Each step reads from the front of the rest and says whether the next one can go on.

    def _opening(self, final: bool) -> bool:
        assert self._thought is not None
        body = self._rest.lstrip(_WHITE)
        if not final and self._thought[0].startswith(body):
            return False
        if not body.startswith(self._thought[0]):
            return self._to(self._prose)
        self._skip(len(self._rest) - len(body) + len(self._thought[0]))
        return self._to(self._thought_begins)

    def _thought_begins(self, final: bool) -> bool:
        self._skip(len(self._rest) - len(self._rest.lstrip("\n")))
        return bool(self._rest) and self._to(self._thinks)

    def _thinks(self, final: bool) -> bool:
        assert self._thought is not None
        tag = self._thought[1]
        at = self._rest.find(tag)
        certain = at if at >= 0 else len(self._rest) - (0 if final else _held(self._rest, self._thought_tails))
        said = self._rest[:certain] if final and at < 0 else self._rest[:certain].rstrip("\n")
        if said:
            self._events.append(Thought(said, self._take(len(said))))
        if at < 0:
            return False
        self._skip(at - len(said) + len(tag))
        return self._to(self._thought_ended)

    def _thought_ended(self, final: bool) -> bool:
        self._skip(len(self._rest) - len(self._rest.lstrip("\n")))
        return bool(self._rest) and self._to(self._prose)

    def _prose(self, final: bool) -> bool:
        if self._gap and self._calls is not None:
            return self._after_gap(self._calls, final)
        at = -1 if self._calls is None else self._rest.find(self._calls.open)
        if self._calls is None or at < 0:
            self._say(len(self._rest) - (0 if final else _held(self._rest, self._call_tails)))
            return False
        separator = self._calls.separator
        self._say(at - len(separator) if self._rest.endswith(separator, 0, at) else at)
        self._lead = self._take(len(separator) if separator and self._rest.startswith(separator) else 0)
        return self._to(self._block)

    def _after_gap(self, calls: CallFormat, final: bool) -> bool:
        body = self._rest.lstrip(_WHITE)
        if body.startswith(calls.open):
            self._lead = self._take(len(self._rest) - len(body))
            return self._to(self._block)
        if not final and calls.open.startswith(body):
            return False
        if not body and self._index:
            self._skip(len(self._rest))
        self._gap = False
        return bool(self._rest)

    def _block(self, final: bool) -> bool:
        """The rest begins with an opening tag."""
        assert self._calls is not None
        size = len(self._calls.open)
        body = self._rest[size:].lstrip(_WHITE)
        if not body and not final:
            return False
        if not body.startswith("{"):
            return self._give_up(size)
        self._lead += self._take(len(self._rest) - len(body))
        self._scan, self._scanned = self._new_scan(), 0
        return self._to(self._object)

    def _object(self, final: bool) -> bool:
        """The rest begins with a call's object: until it is known whether it can be streamed, or else as a whole."""
        assert self._calls is not None and self._scan is not None
        found = _header(self._calls).match(self._rest, 0, HEADER_MOST) if self._scanned < HEADER_MOST else None
        name = _name(found["name"]) if found else ""
        if found and name:
            self._begin(name, found.end("before"))
            self._scan = self._new_scan()
            return self._to(self._arguments)
        self._scanned, _, stop = self._scan.feed(self._rest, self._scanned, final=final)
        if not stop and not final:
            return False
        call = whole_call(self._rest[: self._scanned], self._calls)
        if call is None:
            return self._give_up(self._scanned)
        self._begin(call[0], self._scanned)
        self._events += [CallArguments(self._index, call[1], ""), CallEnd(self._index)]
        return self._to(self._closing)

    def _arguments(self, final: bool) -> bool:
        assert self._scan is not None
        end, shown, stop = self._scan.feed(self._rest, 0, final=final)
        if end:
            self._events.append(CallArguments(self._index, shown, self._take(end)))
        if not stop and not final:
            return False
        self._events.append(CallEnd(self._index))
        return self._to(self._object_ends if stop == "object" else self._closing)

    def _object_ends(self, final: bool) -> bool:
        """Behind the arguments: a brace, or more keys."""
        body = self._rest.lstrip(_WHITE)
        if not body and not final:
            return False
        if body.startswith(","):
            self._scan = self._new_scan(depth=1)
            return self._to(self._more_keys)
        if body.startswith("}"):
            self._skip(len(self._rest) - len(body) + 1)
        return self._to(self._closing)

    def _more_keys(self, final: bool) -> bool:
        assert self._scan is not None
        end, _, stop = self._scan.feed(self._rest, 0, final=final)
        self._skip(end)
        return bool(stop or final) and self._to(self._closing)

    def _closing(self, final: bool) -> bool:
        assert self._calls is not None
        tag = self._calls.close
        braces = _CLOSING.match(self._rest)
        size = braces.end() if braces else 0
        if self._rest.startswith(tag, size):
            self._skip(size + len(tag))
        elif tag.startswith(self._rest[size:]):
            if not final:
                return False
            self._skip(len(self._rest))
        self._index += 1
        self._gap = True
        return self._to(self._prose)

    # -- what steps do

    def _to(self, step: Callable[[bool], bool]) -> bool:
        self._step = step
        return True

    def _take(self, size: int) -> str:
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _skip(self, size: int) -> None:
        if size:
            self._events.append(Unsaid(self._take(size)))

    def _say(self, size: int) -> None:
        if size:
            text = self._take(size)
            self._events.append(Said(text, text))

    def _begin(self, name: str, size: int) -> None:
        source, self._lead = self._lead + self._take(size), ""
        self._events.append(CallBegin(self._index, name, source))

    def _give_up(self, size: int) -> bool:
        """What looked like a call is prose; a separator at its end may belong to the next call."""
        assert self._calls is not None
        separator = self._calls.separator
        size -= len(separator) if self._rest.endswith(separator, 0, size) else 0
        text, self._lead = self._lead + self._take(size), ""
        self._events.append(Said(text, text))
        self._gap = False
        return self._to(self._prose)

    def _new_scan(self, depth: int = 0) -> ObjectScan:
        assert self._calls is not None
        return ObjectScan(open_tag=self._calls.open, close_tag=self._calls.close, depth=depth)


@lru_cache(maxsize=16)
def _header(form: CallFormat) -> re.Pattern[str]:
    """The beginning of a call that can be streamed, with the first letter of its arguments: they are JSON, or empty."""
    name, arguments = (rf'"{re.escape(key)}"\s*:\s*' for key in (form.name, form.arguments))
    return re.compile(rf'(?P<before>\{{\s*{name}(?P<name>"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*")\s*,\s*{arguments})\{{\s*["}}]')


def _name(literal: str) -> str:
    """A name in quotes; empty where it is no text, or none that can be sent."""
    try:
        name = str(json.loads(literal)).strip()
        name.encode()
    except ValueError:
        return ""
    return name


@lru_cache(maxsize=64)
def _beginnings(*texts: str) -> frozenset[str]:
    return frozenset(text[:size] for text in texts for size in range(1, len(text)))


def _held(text: str, beginnings: frozenset[str]) -> int:
    """How much of a text's end may be the beginning of what must not be shown."""
    most = max(map(len, beginnings), default=0)
    return next((size for size in range(min(most, len(text)), 0, -1) if text[-size:] in beginnings), 0)


def read_answer(form: AnswerFormat, text: str, *, in_thought: bool = False, calls: bool = True) -> Sequence[Event]:
    """The events of a whole answer."""
    stream = AnswerStream(form, in_thought=in_thought, calls=calls)
    return [*stream.push(text), *stream.finish()]
