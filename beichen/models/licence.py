"""The terms on a family's published weights, as a notice to who loads them; no legal advice, and not the terms of this toolkit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Licence:
    """What the publisher grants."""

    name: str
    commercial_use: str  # a few words: free, on permission, not granted, ...
    conditions: tuple[str, ...] = ()  # a sentence each
