"""Where a command may write: nothing that stands there is replaced, but for a page or picture that Beichen drew itself.

Comes in: the path after ``--out``, ``--html``, ``--png`` or ``--plot``. A command asks here before its work begins, so that hours are not
lost over a name. Pages and pictures can be drawn anew from what they show; all else may be somebody's only copy.
"""

from __future__ import annotations

from pathlib import Path

from beichen.errors import SettingsError

_HEAD_BYTES = 1000  # the mark of a page or a picture of ours stands in its first bytes


def new_file(path: Path) -> Path:
    """The path, where nothing stands yet."""
    if path.exists():
        raise SettingsError(f"{path} exists, and nothing is overwritten", remedy="choose another name")
    return path


def drawn_file(path: Path) -> Path:
    """The path of a page or picture: free, or held by one that Beichen drew."""
    from beichen.util.page import PAGE_MARK, PICTURE_MARK

    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
        if PAGE_MARK.encode() in head or PICTURE_MARK in head:
            return path
    if path.exists():
        raise SettingsError(
            f"{path} exists and is no page or picture that Beichen drew: only those are replaced", remedy="choose another name"
        )
    return path
