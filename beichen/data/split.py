"""Held-out documents, chosen by a hash of their text.

Rule: the choice depends on the text alone, not on order, file or seed. So exact copies of a held-out text are all held
out, and the same documents stay held out when others are added.
"""

from __future__ import annotations

import hashlib


def split_position(text: str) -> float:
    """A fixed number in [0, 1): the first 8 hex digits of the text's SHA-256, divided by 2**32."""
    return int(hashlib.sha256(text.encode("utf-8")).hexdigest()[:8], 16) / 2**32


def is_held_out(text: str, fraction: float) -> bool:
    """Whether this text belongs to the held-out ``fraction``."""
    return fraction > 0 and split_position(text) < fraction
