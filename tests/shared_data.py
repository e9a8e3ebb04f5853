"""Read-only data beside the repository (``../shared``): real texts and golden numbers. A fresh clone has none; its tests skip."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def shared(path: str) -> Path:
    """The file or folder ``../shared/<path>``; skips the test, saying why, where it is absent."""
    place = SHARED / path
    if not place.exists():
        pytest.skip(f"needs ../shared/{path}, which is not beside this clone")
    return place
