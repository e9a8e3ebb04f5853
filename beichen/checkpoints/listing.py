"""Many tensor names as text, not one left out: as they are while they are few, else layers and experts as ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

FEW = 24

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def listed(lines: Sequence[str]) -> list[str]:
    """The lines; more than ``FEW`` are summed up: those that differ in one number alone become ``h.{0-29}.mlp.bias``."""
    if len(lines) <= FEW:
        return list(lines)
    for place in (1, 0):  # experts, then layers
        lines = _summed_up(lines, place)
    return list(lines)


def _summed_up(lines: Iterable[str], place: int) -> list[str]:
    """Lines that are equal but for their number at ``place``, as one line."""
    groups: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        numbers = list(_NUMBER.finditer(line))
        if len(numbers) > place:
            number = numbers[place]
            groups.setdefault((line[: number.start()], line[number.end() :]), []).append(int(number[0]))
        else:
            groups[line, ""] = []
    return [before + _ranges(numbers) + after for (before, after), numbers in groups.items()]


def _ranges(numbers: list[int]) -> str:
    """``7``, ``{0-29}`` or ``{0-3,7}``."""
    if len(numbers) < 2:
        return "".join(map(str, numbers))
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return "{" + ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts) + "}"
