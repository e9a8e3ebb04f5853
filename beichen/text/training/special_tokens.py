"""Control tokens of a new vocabulary: which, in what order, at which ids.

Comes in: names in order, ids chosen for some of them, and how many slots to keep for later. Goes out: an id for every control token
and every piece. Rules: chosen ids hold; the other control tokens stand in their order at the first free ids, or at the last; pieces
take what is left, in the order in which they were learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from beichen.errors import TokenizerError


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The control tokens of a vocabulary."""

    names: Sequence[str]
    chosen: Mapping[str, int] = field(default_factory=dict)  # ids that are fixed
    reserved: int = 0  # further tokens without a meaning yet
    last: bool = False  # behind the pieces, not before them

    def __post_init__(self) -> None:
        if len(set(self.all_names)) != len(self.all_names):
            raise TokenizerError(f"control tokens repeat: {', '.join(self.all_names)}")
        unknown = [name for name in self.chosen if name not in self.all_names]
        if unknown:
            raise TokenizerError(f"an id is chosen for '{unknown[0]}', which is no control token", remedy="name it as a control token, too")
        if len(set(self.chosen.values())) != len(self.chosen):
            raise TokenizerError("two control tokens were given one id: " + ", ".join(f"{name}={i}" for name, i in self.chosen.items()))
        if "" in self.all_names:
            raise TokenizerError("a control token has an empty name")

    @property
    def all_names(self) -> tuple[str, ...]:
        """Reserved slots included."""
        return (*self.names, *(f"<_reserved_{number}>" for number in range(self.reserved)))

    def place(self, pieces: int) -> tuple[dict[str, int], list[int]]:
        """Ids of the control tokens by name, and of the pieces in order."""
        size = pieces + len(self.all_names)
        beyond = {name: token for name, token in self.chosen.items() if not 0 <= token < size}
        if beyond:
            name, token = next(iter(beyond.items()))
            raise TokenizerError(
                f"the control token '{name}' was given id {token}, the vocabulary has ids 0 to {size - 1}",
                remedy="choose a smaller id; a corpus that is too small gives fewer pieces than asked for",
            )
        others = [name for name in self.all_names if name not in self.chosen]
        free = [token for token in range(size) if token not in set(self.chosen.values())]
        taken = free[len(free) - len(others) :] if self.last else free[: len(others)]
        ids = {**self.chosen, **dict(zip(others, taken, strict=True))}
        used = set(ids.values())
        return {name: ids[name] for name in self.all_names}, [token for token in range(size) if token not in used]
