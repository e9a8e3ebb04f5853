"""Numbers for people: durations, counts and bytes as short text."""

from __future__ import annotations

import re


def duration(seconds: float) -> str:
    """0:07, 12:30, 1:02:03; below ten seconds with one decimal: '3.2 s'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(number: float) -> str:
    """Three digits and a unit: 950, 1.23 k, 12.3 M, 1.80 G."""
    return _scaled(number, 1000.0, ("", " k", " M", " G", " T"))


def byte_count(number: float) -> str:
    """Decimal units, as disks are sold: 950 B, 1.23 kB, 12.3 MB."""
    return _scaled(number, 1000.0, (" B", " kB", " MB", " GB", " TB"))


def singular(plural: str) -> str:
    """One of what ``plural`` names: tokens -> token, batches -> batch, passes -> pass; a unit such as B stays."""
    return plural[:-2] if plural.endswith(("ches", "shes", "sses", "xes")) else plural.removesuffix("s") if len(plural) > 1 else plural


def counted(number: int, plural: str) -> str:
    """'1 fault', '2 faults', '12,000 faults'."""
    return f"{number:,} {singular(plural) if number == 1 else plural}"


_BYTE_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_bytes(text: str) -> int:
    """The number of bytes that ``512MiB``, ``2 GB`` or ``1000`` says; ``ValueError`` for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?\s*", text)
    if match is None:
        raise ValueError(f"'{text}' is no amount of memory such as 512MiB or 2GB")
    unit = (match[2] or "").replace("K", "k")
    return int(float(match[1]) * _BYTE_UNITS["Ki" if unit == "ki" else unit])


def _scaled(number: float, base: float, units: tuple[str, ...]) -> str:
    size, place = abs(number), 0
    while size >= base * 0.9995 and place < len(units) - 1:  # 999.6 would print as 1000
        size, place = size / base, place + 1
    digits = 0 if (place == 0 and float(number).is_integer()) or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{'-' if number < 0 else ''}{size:.{digits}f}{units[place]}"
