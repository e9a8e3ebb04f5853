"""Where an answer ends in its text: stop strings may begin in one token and end in a later one.

In: ids one by one. Out: text that is certain to belong to the answer. Rules: the result depends on the text alone, never on how
tokens cut it; of several stop strings the one that is complete first ends the answer; where ids end inside a character, the text ends
before it, while bytes that no further id could have made a character are U+FFFD, as ``Tokenizer.decode`` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import Tokenizer


class StopStrings:
    """Text in pieces -> text before the first stop string; what may be the beginning of one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.found = False
        self._held = ""

    def push(self, text: str) -> str:
        """What can be shown now; after ``found``, nothing more."""
        if self.found or not self.strings:
            return "" if self.found else text
        self._held += text
        ends = [(start + len(stop), start) for stop in self.strings if (start := self._held.find(stop)) >= 0]
        if ends:
            self.found = True
            shown, self._held = self._held[: min(ends)[1]], ""
            return shown
        cut = len(self._held) - self._unsafe_suffix()
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        shown, self._held = self._held, ""
        return shown

    def _unsafe_suffix(self) -> int:
        longest = min(len(self._held), max(map(len, self.strings)) - 1)
        return next((size for size in range(longest, 0, -1) if self._is_prefix(self._held[-size:])), 0)

    def _is_prefix(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self.strings)


class AnswerText:
    """The text of one answer while its ids come."""

    def __init__(
        self, tokenizer: Tokenizer | None, stop_strings: Sequence[str], *, min_new_tokens: int = 0, shown: Sequence[str] = ()
    ) -> None:
        """min_new_tokens: a stop string counts only if it begins behind the text that so many ids make certain. shown: control tokens
        whose names are part of the text."""
        self._decoder = None if tokenizer is None else IncrementalDecoder(tokenizer, shown=shown)
        self._stops = StopStrings(stop_strings)
        self._unsearched = min_new_tokens

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._stops.found

    def push(self, token: int) -> str:
        """Text that this id makes certain."""
        if self._decoder is None:
            return ""
        text = self._decoder.push(token)
        if self._unsearched:
            self._unsearched -= 1
            return text
        return self._stops.push(text)

    def finish(self) -> str:
        """The rest, once no more ids come; the bytes of a character that did not become whole are left out."""
        return "" if self._stops.found else self._stops.finish()


def text_of(tokenizer: Tokenizer | None, ids: Iterable[int]) -> str:
    """The text of an answer that has ended, where nobody followed it on the way."""
    text = AnswerText(tokenizer, ())
    return "".join([text.push(token) for token in ids]) + text.finish()
