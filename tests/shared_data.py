"""Data beside the repository (``<repository>/../shared``) that some tests use; a plain clone lacks it and skips them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str) -> Path:
    """A file or folder of it; skips the calling test where it is absent."""
    found = ROOT / path
    if not found.exists():
        pytest.skip(f"needs {path} of the shared data, which stands beside the repository as ../shared")
    return found
