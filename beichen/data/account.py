"""``Account``: what was read, what was used, and what was dropped for which reason; the sums must agree.

Readers add to ``read`` and to ``dropped``, writers to ``used``, each on its own, so that ``check`` is a real check:
``read = used + dropped + changed``, in items, size and tokens. Nothing leaves the data path without a line here. The size of a document
is that of its UTF-8 text, of a line that holds no usable text that of the line; rendered dialogues are measured in tokens. Tokens
are those of the text as it was used or dropped, its end token included; a line without usable text has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from beichen.errors import DataError
from beichen.util.progress import SILENT, Reporter
from beichen.util.quantities import counted

OnBad = Literal["raise", "count"]
WARNINGS_SHOWN = 10  # bad lines named on the screen; the rest is counted


@dataclass
class Tally:
    """A number of items (documents, dialogues), their size (bytes, or what ``Account.unit`` says), and tokens where they were counted."""

    items: int = 0
    size: int = 0
    tokens: int = 0

    def add(self, size: int, items: int = 1, tokens: int = 0) -> None:
        self.items += items
        self.size += size
        self.tokens += tokens


@dataclass
class Account:
    """Counts of one pass over the data. ``noted`` holds what happened to items that were still used (shortened, for example), ``changed``
    the size that cleaning took from texts (negative: added to them), ``refused`` how many items were unusable as they stood."""

    item: str = "documents"
    unit: str = "bytes"
    read: Tally = field(default_factory=Tally)
    used: Tally = field(default_factory=Tally)
    dropped: dict[str, Tally] = field(default_factory=dict)
    noted: dict[str, Tally] = field(default_factory=dict)
    changed: dict[str, Tally] = field(default_factory=dict)
    refused: int = 0

    def drop(self, reason: str, size: int, items: int = 1, tokens: int = 0) -> None:
        self.dropped.setdefault(reason, Tally()).add(size, items, tokens)

    def change(self, rule: str, size: int) -> None:
        self.changed.setdefault(rule, Tally()).add(size)

    def note(self, fact: str, size: int, items: int = 1) -> None:
        self.noted.setdefault(fact, Tally()).add(size, items)

    def check(self) -> None:
        """Fail loudly when something was lost on the way: that would be a fault of this program, not of the data."""
        parts = [self.used, *self.dropped.values()]
        changed = sum(tally.size for tally in self.changed.values())  # their items are among the used and dropped
        found = Tally(sum(p.items for p in parts), sum(p.size for p in parts) + changed, sum(p.tokens for p in parts))
        if self.read != found:
            raise RuntimeError(f"{self.item}: {self.read} ({self.unit}) read, {found} accounted for")

    def merge(self, other: Account) -> None:
        """Adds what another pass counted."""
        self.read.add(other.read.size, other.read.items, other.read.tokens)
        self.used.add(other.used.size, other.used.items, other.used.tokens)
        self.refused += other.refused
        for ours, theirs in ((self.dropped, other.dropped), (self.noted, other.noted), (self.changed, other.changed)):
            for reason, tally in theirs.items():
                ours.setdefault(reason, Tally()).add(tally.size, tally.items, tally.tokens)

    def as_dict(self) -> dict[str, Any]:
        """For metadata files and reports."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Account:
        return cls(
            item=fields["item"],
            unit=fields["unit"],
            read=Tally(**fields["read"]),
            used=Tally(**fields["used"]),
            dropped={reason: Tally(**tally) for reason, tally in fields["dropped"].items()},
            noted={fact: Tally(**tally) for fact, tally in fields["noted"].items()},
            changed={rule: Tally(**tally) for rule, tally in fields["changed"].items()},
            refused=fields["refused"],
        )

    def as_text(self) -> str:
        """One line for the screen, with reasons where there are any."""
        parts = [f"{self.used.items:,} used", *(f"{tally.items:,} dropped ({reason})" for reason, tally in sorted(self.dropped.items()))]
        line = f"{counted(self.read.items, self.item)} ({self.read.size:,} {self.unit}) read = {' + '.join(parts)}"
        return line + "".join(f"; {tally.items:,} {fact}" for fact, tally in sorted(self.noted.items()))

    def as_table(self) -> list[str]:
        """The ledger: one line for each reason, its sums checked, for the screen and for a file."""
        self.check()
        rows = [("", self.item, self.unit, "tokens"), ("read", *_figures(self.read)), ("written", *_figures(self.used))]
        rows += [(f"dropped: {reason}", *_figures(tally)) for reason, tally in sorted(self.dropped.items())]
        rows += [(f"changed: {rule}", f"({tally.items:,})", f"{tally.size:,}", "") for rule, tally in sorted(self.changed.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return ["  ".join([row[0].ljust(widths[0]), *(row[c].rjust(widths[c]) for c in (1, 2, 3))]).rstrip() for row in rows]


def _figures(tally: Tally) -> tuple[str, str, str]:
    return f"{tally.items:,}", f"{tally.size:,}", f"{tally.tokens:,}"


@dataclass
class BadInput:
    """What to do with an item that cannot be used: stop at once, or count it, name the first few and go on. One fault that many items
    share takes a third of the names at most, so that others are seen too."""

    on_bad: OnBad = "raise"
    account: Account = field(default_factory=Account)
    reporter: Reporter = SILENT
    show: int = WARNINGS_SHOWN  # how many are named
    _named: Counter[str] = field(default_factory=Counter)  # how many items of each fault; the fault is what follows its place
    _silent: bool = False

    def refuse(self, reason: str, size: int, fault: DataError, *, line: int | None = None, content: bytes = b"") -> None:
        """``reason`` is the heading under which the item is counted; ``fault`` names the place and the remedy. ``line`` and ``content``:
        where it stands and what stands there, for those who keep it."""
        if self.on_bad == "raise":
            fault.remedy = fault.remedy or "correct or remove it; a recipe with data.on_bad: count leaves such records out"
            raise fault
        self.account.drop(reason, size)
        self.account.refused += 1
        what = fault.args[0].rpartition(": ")[2]
        if self._named.total() < self.show and self._named[what] < max(1, self.show // 3):
            self._named[what] += 1
            self.reporter.warn(f"{fault.args[0]}; left out")
        elif not self._silent:
            self._silent = True
            self.reporter.warn("from here on not every bad item is named; all are counted")
