"""Where an object ends in a text that comes in pieces: at its last brace, or at a tag.

Rules kept here, the same however the text is cut: braces count outside strings only, and a string is what stands between two equal
quotes, double or single. A tag outside a string ends the object. A closing tag inside a string is text of that string, if the string
comes to its end on the same line; if not, it was never closed, and the tag ends the object. A control character inside a string, which
JSON forbids there, is shown as its escape.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Literal

Stop = Literal["", "object", "tag"]


class ObjectScan:
    """Reads on from where it stopped; ``depth`` braces are open already."""

    def __init__(self, *, open_tag: str, close_tag: str, depth: int = 0) -> None:
        self._tags, self._close, self._depth = (close_tag, open_tag), close_tag, depth
        self._quote = ""
        self._patterns = _patterns(open_tag[0] + close_tag[0])

    def feed(self, text: str, start: int, *, final: bool) -> tuple[int, str, Stop]:
        """Reads ``text`` from ``start``: up to where all is certain, what it shows as, and why it ends there, if it does.

        What was not certain is given again, with more behind it; ``final``: nothing more comes.
        """
        shown: list[str] = []
        stop: Stop = ""
        place = start
        while place < len(text) and not stop:
            found = self._patterns[self._quote].search(text, place)
            at = len(text) if found is None else found.start()
            shown.append(text[place:at])
            if found is None:
                return at, "".join(shown), ""
            place, piece, stop = self._inside(text, at, final) if self._quote else self._outside(text, at, final)
            shown.append(piece)
            if place == at:
                break
        return place, "".join(shown), stop

    def _outside(self, text: str, at: int, final: bool) -> tuple[int, str, Stop]:
        letter = text[at]
        if letter in "\"'":
            self._quote = letter
        elif letter == "{":
            self._depth += 1
        elif letter == "}":
            self._depth -= 1
            if self._depth <= 0:
                return at + 1, letter, "object"
        elif text.startswith(self._tags, at):
            return at, "", "tag"
        elif not final and _begins(self._tags, text[at:]):
            return at, "", ""
        return at + 1, letter, ""

    def _inside(self, text: str, at: int, final: bool) -> tuple[int, str, Stop]:
        letter = text[at]
        if letter == self._quote:
            self._quote = ""
        elif letter == "\\":
            after = text[at + 1 : at + 2]
            if not after and not final:
                return at, "", ""
            size = 2 if after >= " " else 1
            return min(at + size, len(text)), text[at : at + size], ""
        elif letter < " ":
            return at + 1, json.dumps(letter)[1:-1], ""
        elif text.startswith(self._close, at):
            return self._tag_in_string(text, at, final)
        elif not final and _begins((self._close,), text[at:]):
            return at, "", ""
        return at + 1, letter, ""

    def _tag_in_string(self, text: str, at: int, final: bool) -> tuple[int, str, Stop]:
        line = self._patterns["line" + self._quote].match(text, at)
        end = len(text) if line is None else line.end()
        if text[end : end + 1] == self._quote:
            return at + len(self._close), self._close, ""
        if not final and (end == len(text) or (end == len(text) - 1 and text[end] == "\\")):
            return at, "", ""
        return at, "", "tag"


@lru_cache(maxsize=16)
def _patterns(firsts: str) -> dict[str, re.Pattern[str]]:
    """What to look at outside strings and inside them, and what a string can hold to its end or that of its line."""
    tags = re.escape(firsts)
    patterns = {"": re.compile(rf"[\"'{{}}{tags}]")}
    for quote in "\"'":
        patterns[quote] = re.compile(rf"[{quote}\\\x00-\x1f{tags}]")
        patterns["line" + quote] = re.compile(rf"(?:[^{quote}\\\x00-\x1f]|\\[^\x00-\x1f])*")
    return patterns


def _begins(tags: tuple[str, ...], text: str) -> bool:
    return any(tag.startswith(text) for tag in tags)
