"""``Cleaner``: what is changed in texts and which texts are dropped, by named steps, each counted.

In: a text. Out: the text as it goes on, what each rule took from it, and why it is dropped, if it is. Steps run in the order of ``STEPS``,
however they were named; ``name=value`` sets a step's number. Rule: nothing is cleaned unless asked for.
"""

from __future__ import annotations

import html
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from beichen.data.masking import mask
from beichen.data.scripts import looks_garbled, script_shares
from beichen.errors import SettingsError, nearest
from beichen.text.normalization import normalizer

LANGUAGES = ("zh", "en", "ja", "ko", "ru", "other")


@dataclass
class Cleaned:
    """A text on its way through the steps. ``changed``: bytes that each rule took away (negative: added)."""

    text: str
    dropped: str | None = None
    changed: dict[str, int] = field(default_factory=dict)
    noted: Counter[str] = field(default_factory=Counter)

    def change(self, rule: str, text: str) -> None:
        if text != self.text:
            self.changed[rule] = len(self.text.encode()) - len(text.encode())
            self.text = text


Step = Callable[[Cleaned], None]


class Cleaner:
    """The steps that were asked for, ready to run."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = parse_steps(tuple(steps))

    def __call__(self, text: str) -> Cleaned:
        cleaned = Cleaned(text)
        for step in self._steps:
            step(cleaned)
            if cleaned.dropped is None and not cleaned.text.strip():
                cleaned.dropped = "blank after cleaning"
            if cleaned.dropped is not None:
                break
        return cleaned


@lru_cache
def parse_steps(steps: tuple[str, ...]) -> tuple[Step, ...]:
    """The steps in their order; an unknown one, or a value that does not fit, is an error."""
    values: dict[str, str] = {}
    for step in steps:
        name, _, value = step.partition("=")
        if name not in STEPS:
            raise SettingsError(f"no cleaning step is called '{name}'{nearest(name, STEPS)}", remedy=f"known: {', '.join(STEPS)}")
        values[name] = value
    return tuple(make(values[name]) for name, make in STEPS.items() if name in values)


_TAG = re.compile(
    r"</?(?:a|article|b|body|br|div|em|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|li|link|main|meta|nav|ol|p|section|span"
    r"|strong|table|tbody|td|th|thead|title|tr|u|ul)(?:\s[^<>]*|/)?>",
    re.IGNORECASE,
)
_SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_BLOCK_END = re.compile(r"</(?:p|div|li|tr|h[1-6]|section|article)\s*>|<br\s*/?>", re.IGNORECASE)
_TAGS_OF_A_PAGE = 3  # a text with fewer tags speaks about HTML


def _html(_: str) -> Step:
    def step(cleaned: Cleaned) -> None:
        if "<" in cleaned.text and len(_TAG.findall(cleaned.text)) >= _TAGS_OF_A_PAGE:
            text = _BLOCK_END.sub("\n", _SCRIPT.sub("", cleaned.text))
            cleaned.change("html", html.unescape(_TAG.sub("", text)).strip())

    return step


_CONTROL = re.compile("\x1b\\[[0-9;]*[A-Za-z]|[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def _control(_: str) -> Step:
    """Signs that print nothing go; joiners inside emoji and scripts stay; all line ends become one."""

    def step(cleaned: Cleaned) -> None:
        cleaned.change("control", _LINE_ENDS.sub("\n", _CONTROL.sub("", cleaned.text)))

    return step


def _normalization(name: str) -> Callable[[str], Step]:
    def make(_: str) -> Step:
        normalize = normalizer((name,))
        assert normalize is not None
        return lambda cleaned: cleaned.change(name, normalize(cleaned.text))

    return make


def _mojibake(_: str) -> Step:
    def step(cleaned: Cleaned) -> None:
        if looks_garbled(cleaned.text):
            cleaned.dropped = "mojibake"

    return step


def _length(value: str) -> Step:
    """``length=50:100000``: characters, both ends allowed."""
    least, most = _numbers("length", value or "20:1000000", 2)

    def step(cleaned: Cleaned) -> None:
        if len(cleaned.text) < least:
            cleaned.dropped = "too short"
        elif len(cleaned.text) > most:
            cleaned.dropped = "too long"

    return step


def _language(value: str) -> Step:
    """``language=zh,en:0.6``: so much of the letters must be in these languages."""
    names, _, share = (value or "zh,en:0.6").partition(":")
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in LANGUAGES]:
        raise SettingsError(f"cleaning step language={value}: '{unknown[0]}' is none of {', '.join(LANGUAGES)}")
    (least,) = _numbers("language", share or "0.6", 1)

    def step(cleaned: Cleaned) -> None:
        shares = script_shares(cleaned.text)
        if sum(shares.get(name, 0.0) for name in wanted) < least:
            cleaned.dropped = "language"

    return step


def _lines(value: str) -> Step:
    """``lines=0.5``: at most so much of the text in lines that stood there before."""
    (most,) = _numbers("lines", value or "0.5", 1)

    def step(cleaned: Cleaned) -> None:
        lines = [line.strip() for line in cleaned.text.split("\n")]
        seen: set[str] = set()
        repeated = total = 0
        for line in lines:
            total += len(line)
            repeated += len(line) if line in seen else 0
            seen.add(line)
        if repeated > most * total:
            cleaned.dropped = "repeated lines"

    return step


def _repetition(value: str) -> Step:
    """``repetition=10``: a text that zlib makes more than so many times smaller says the same again and again."""
    (most,) = _numbers("repetition", value or "10", 1)

    def step(cleaned: Cleaned) -> None:
        data = cleaned.text.encode()[: 1 << 20]
        if len(data) > most * len(zlib.compress(data, 1)):
            cleaned.dropped = "repetition"

    return step


def _mask(_: str) -> Step:
    def step(cleaned: Cleaned) -> None:
        text, found = mask(cleaned.text)
        cleaned.change("masking", text)
        cleaned.noted.update({f"masked {kind}": count for kind, count in found.items()})

    return step


def _numbers(name: str, value: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in value.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) != count or any(number < 0 for number in numbers):
        wanted = "one number" if count == 1 else "two numbers, a colon between them"
        raise SettingsError(f"cleaning step {name}={value}: expected {wanted}")
    return numbers


STEPS: dict[str, Callable[[str], Step]] = {
    "html": _html,
    "control": _control,
    "t2s": _normalization("t2s"),
    "nfkc": _normalization("nfkc"),
    "mojibake": _mojibake,
    "length": _length,
    "language": _language,
    "lines": _lines,
    "repetition": _repetition,
    "mask": _mask,
}
