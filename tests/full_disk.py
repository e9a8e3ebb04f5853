"""A disk that is full, without one: no file of this process may grow beyond a size, and the system says so as it would of a disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


def limit_file_size(num_bytes: int | None) -> None:
    """``None`` lifts the limit again. Only for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if num_bytes is None else num_bytes, hard))


@contextmanager
def full_disk(num_bytes: int = 0) -> Iterator[None]:
    """Within the block no file grows beyond ``num_bytes``."""
    limit_file_size(num_bytes)
    try:
        yield
    finally:
        limit_file_size(None)
