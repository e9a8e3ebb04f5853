"""Numbers and addresses that point to a person, replaced by what they are: ``<phone>``, ``<mail>``, ``<id>`` and so on.

Rule: a number with check digits (identity and bank cards) is masked only when they are right; all else goes by its pattern. A name is
masked only behind a word that announces it; finding names in running text is beyond patterns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

_EDGE = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"


def _identity_card(digits: str) -> bool:
    """GB 11643: the last sign of eighteen is the check sign of the others, modulo 11."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    if len(digits) != 18 or not digits[:17].isdigit():
        return False
    return "10X98765432"[sum(int(digit) * weight for digit, weight in zip(digits[:17], weights, strict=True)) % 11] == digits[17].upper()


def _bank_card(written: str) -> bool:
    digits = [int(sign) for sign in reversed(written) if sign.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _internet_address(written: str) -> bool:
    return all(int(part) < 256 for part in written.split("."))


def _holds_digit(written: str) -> bool:
    """``d::a`` is a name in C++."""
    return any(sign.isdigit() for sign in written)


def _bounded(pattern: str) -> str:
    return f"{_EDGE[0]}(?P<secret>{pattern}){_EDGE[1]}"


_PHONE_ABROAD = r"(?:\+\d{1,3} ?)?\(\d{3}\) ?\d{3}-\d{4}|(?:\+\d{1,3}[ -])?\d{3}-\d{3}-\d{4}|555-\d{4}"
_LANDLINE = r"\(0\d{2,3}\) ?\d{3,4}-?\d{4}|0\d{2,3}-\d{7,8}|0\d{2,3}-\d{4}-\d{4}"
_HEX = "[0-9A-Fa-f]{1,4}"
_IPV6 = rf"(?:{_HEX}:){{7}}{_HEX}|(?:{_HEX}:){{1,6}}:(?:{_HEX}(?::{_HEX}){{0,5}})?"
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"

# In this order: what a rule has replaced, no later one sees. Only the group ``secret`` is replaced.
_RULES: tuple[tuple[str, str, Callable[[str], bool] | None], ...] = (
    ("login", r"(?<=://)(?P<secret>[^\s/@:]+:[^\s/@]+)(?=@)", None),
    ("mail", _bounded(r"[0-9A-Za-z._%+-]+@[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*\.[A-Za-z]{2,}"), None),
    ("id", _bounded(r"[1-9]\d{16}[0-9Xx]"), _identity_card),
    ("card", _bounded(r"\d{4}(?:[ -]?\d{4}){2,3}(?:[ -]?\d{1,3})?"), _bank_card),
    ("phone", _bounded(r"1[3-9]\d(?:\d{8}|[- ]\d{4}[- ]\d{4})"), None),
    ("phone", rf"(?<![0-9A-Za-z])(?P<secret>{_LANDLINE})(?!\d)", None),
    ("phone", rf"(?<![0-9A-Za-z+])(?P<secret>{_PHONE_ABROAD})(?!\d)", None),
    ("address", _bounded(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"), _internet_address),
    ("address", rf"(?<![0-9A-Za-z:])(?P<secret>{_IPV6})(?![0-9A-Za-z:])", _holds_digit),
    ("account", r"(?:微信号?|WeChat|QQ号?)\s*(?:是|[:：])?\s*(?P<secret>[A-Za-z][0-9A-Za-z_-]{5,19}|[1-9]\d{4,10})(?![0-9A-Za-z])", None),
    ("plate", rf"(?P<secret>[{_PROVINCES}][A-Z][·• ]?[0-9A-HJ-NP-Z]{{5,6}})(?![0-9A-Za-z])", None),
    ("name", r"(?:收件人|收货人|联系人|姓名)[:：]\s*(?P<secret>[\u4e00-\u9fff·]{2,8})", None),
)
_COMPILED = tuple((kind, re.compile(pattern), check) for kind, pattern, check in _RULES)
_WORTH_A_LOOK = re.compile(r"[0-9@]|收件人|收货人|联系人|姓名|微信|WeChat")


def mask(text: str) -> tuple[str, Counter[str]]:
    """The text with what is masked, and how many of each kind."""
    found: Counter[str] = Counter()
    if not _WORTH_A_LOOK.search(text):
        return text, found

    for kind, pattern, check in _COMPILED:

        def replace(match: re.Match[str], kind: str = kind, check: Callable[[str], bool] | None = check) -> str:
            secret = match["secret"]
            if check is not None and not check(secret):
                return match[0]
            found[kind] += 1
            start, end = match.span("secret")
            return f"{match[0][: start - match.start()]}<{kind}>{match[0][end - match.start() :]}"

        text = pattern.sub(replace, text)
    return text, found
