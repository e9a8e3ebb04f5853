"""A disk whose n-th operation fails: every write, flush, sync, rename, new folder, link and removal of this process is counted."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from beichen.util import files


class FailingDisk:
    """Counts operations by kind; the ``fail_at``-th of all (from 1) raises."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at, self.count = fail_at, 0
        self.failed: str | None = None
        self.by_kind: dict[str, int] = {}

    def meet(self, kind: str) -> None:
        """One more operation. Raises OSError if it is the one that fails."""
        self.count += 1
        self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        if self.count == self.fail_at:
            self.failed = kind
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class _File:
    """An open file whose writes and flushes are counted; closing flushes."""

    def __init__(self, file: Any, disk: FailingDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> int:
        self._disk.meet("write")
        return int(self._file.write(data))

    def flush(self) -> None:
        self._disk.meet("flush")
        self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._file.close()


@contextmanager
def failing_disk(fail_at: int | None = None) -> Iterator[FailingDisk]:
    """Within the block, writing goes through a ``FailingDisk``."""
    disk = FailingDisk(fail_at)
    real_open = builtins.open
    before: list[tuple[Any, str, Any]] = []

    def replaced(owner: Any, name: str, value: Any) -> None:
        before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        found = real_open(file, mode, *rest, **options)
        return _File(found, disk) if set(mode) & set("wax+") else found

    def counted(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            disk.meet(kind)
            return function(*arguments, **options)

        return call

    for owner in (builtins, io):
        replaced(owner, "open", opened)
    for name, kind in {"fsync": "sync", "rename": "rename", "replace": "rename", "mkdir": "new folder", "link": "link"}.items():
        replaced(os, name, counted(kind, getattr(os, name)))
    replaced(files, "_exchange", counted("rename", files._exchange))
    replaced(shutil, "rmtree", _tolerant(counted("removal", shutil.rmtree)))
    try:
        yield disk
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def _tolerant(function: Callable[..., Any]) -> Callable[..., Any]:
    """``rmtree``'s own rule: faults pass where ``ignore_errors`` says so."""

    def call(path: Any, ignore_errors: bool = False, **options: Any) -> None:
        try:
            function(path, ignore_errors, **options)
        except OSError:
            if not ignore_errors:
                raise

    return call
