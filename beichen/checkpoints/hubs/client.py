"""What the rest needs of a hub, whichever it is; each hub's own library stands behind one such client.

A client turns every fault of its library into ``CheckpointError``; ``UnreachableError`` is the one after which a cached copy serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from beichen.errors import CheckpointError


@dataclass(frozen=True)
class HubName:
    """``hf:org/name@revision`` in its parts."""

    hub: str  # "hf", "ms"
    repository: str  # "org/name"
    revision: str | None  # a branch, tag or commit; None: the main branch

    def __str__(self) -> str:
        return f"{self.hub}:{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class HubFile:
    """A file that a repository offers."""

    name: str
    size: int
    sha256: str | None  # None: the hub states none for it


class UnreachableError(CheckpointError):
    """The hub did not answer, or broke off."""


class HubClient(Protocol):
    """A hub through its own library: its cache, its resuming of downloads, its tokens."""

    def listing(self, name: HubName) -> list[HubFile]:
        """All files of the revision."""
        ...

    def cached(self, name: HubName) -> Path | None:
        """The folder of the revision in the cache, perhaps with some files only; asks nobody."""
        ...

    def fetch(self, name: HubName, files: Sequence[HubFile], advance: Callable[[int], None]) -> Path:
        """The folder, after these files are in it; ``advance`` hears of the bytes that came."""
        ...


def unreachable(name: HubName, reason: str) -> UnreachableError:
    """The fault, with what can be done about it."""
    return UnreachableError(
        f"{name}: the hub cannot be reached, or broke off ({reason})",
        remedy="check the network and the proxy, then run it again: whole files are kept; or give a folder",
    )


def no_such_model(name: HubName, *, login: str) -> CheckpointError:
    """A name that the hub does not show to us; hubs do not tell a private model from none."""
    return CheckpointError(
        f"{name}: the hub has no model '{name.repository}', or it is private and you may not see it",
        remedy=f"check the spelling of org/name; for a private one, {login}",
    )


def no_such_revision(name: HubName) -> CheckpointError:
    """A branch, tag or commit that does not exist."""
    return CheckpointError(
        f"{name}: '{name.repository}' has no revision '{name.revision}'", remedy="name a branch, a tag or a commit, or leave '@...' out"
    )


def first_line(error: BaseException) -> str:
    """What a library's message says, without its advice."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
