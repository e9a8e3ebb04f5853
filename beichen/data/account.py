"""``Account``: what was read, what was used, and what was dropped for which reason; the sums must agree.

Readers add to ``read`` and to ``dropped``, writers to ``used``, each on its own, so that ``check`` is a real check:
``read = used + dropped``, in items and in size. Nothing leaves the data path without a line here. The size of a document is
that of its UTF-8 text, of a line that holds no usable text that of the line; rendered dialogues are measured in tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from beichen.errors import DataError
from beichen.util.progress import SILENT, Reporter

OnBad = Literal["raise", "count"]
WARNINGS_SHOWN = 10  # bad lines named on the screen; the rest is counted


@dataclass
class Tally:
    """A number of items (documents, dialogues) and their size (bytes, or what ``Account.unit`` says)."""

    items: int = 0
    size: int = 0

    def add(self, size: int, items: int = 1) -> None:
        self.items += items
        self.size += size


@dataclass
class Account:
    """Counts of one pass over the data. ``noted`` holds what happened to items that were still used (shortened, for example)."""

    item: str = "documents"
    unit: str = "bytes"
    read: Tally = field(default_factory=Tally)
    used: Tally = field(default_factory=Tally)
    dropped: dict[str, Tally] = field(default_factory=dict)
    noted: dict[str, Tally] = field(default_factory=dict)

    def drop(self, reason: str, size: int, items: int = 1) -> None:
        self.dropped.setdefault(reason, Tally()).add(size, items)

    def note(self, fact: str, size: int, items: int = 1) -> None:
        self.noted.setdefault(fact, Tally()).add(size, items)

    def check(self) -> None:
        """Fail loudly when something was lost on the way: that would be a fault of this program, not of the data."""
        parts = [self.used, *self.dropped.values()]
        items, size = sum(part.items for part in parts), sum(part.size for part in parts)
        if (self.read.items, self.read.size) != (items, size):
            raise RuntimeError(f"{self.item}: {self.read.items} ({self.read.size} {self.unit}) read, {items} ({size}) accounted for")

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
        )

    def as_text(self) -> str:
        """One line for the screen, with reasons where there are any."""
        parts = [f"{self.used.items:,} used", *(f"{tally.items:,} dropped ({reason})" for reason, tally in sorted(self.dropped.items()))]
        line = f"{self.read.items:,} {self.item} ({self.read.size:,} {self.unit}) read = {' + '.join(parts)}"
        return line + "".join(f"; {tally.items:,} {fact}" for fact, tally in sorted(self.noted.items()))


@dataclass
class BadInput:
    """What to do with an item that cannot be used: stop at once, or count it, name the first few and go on."""

    on_bad: OnBad = "raise"
    account: Account = field(default_factory=Account)
    reporter: Reporter = SILENT
    _shown: int = 0

    def refuse(self, reason: str, size: int, fault: DataError) -> None:
        """``reason`` is the heading under which the item is counted; ``fault`` names the place and the remedy."""
        if self.on_bad == "raise":
            raise fault
        self.account.drop(reason, size)
        self._shown += 1
        if self._shown <= WARNINGS_SHOWN:
            self.reporter.warn(f"{fault.args[0]}; left out")
        if self._shown == WARNINGS_SHOWN:
            self.reporter.warn("further bad items are counted, not shown")
