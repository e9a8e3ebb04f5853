"""Files and folders that appear whole or not at all: written beside, flushed, renamed; and the lock on a folder.

A disk that is full or a place that may not be written raises ``StorageError`` naming the path; what stood there before is
unchanged then, also when the process is killed at any instant.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from beichen.errors import StorageError
from beichen.util.quantities import byte_count

LOCK = ".lock"  # the file in a folder that its lock is
_REMEDIES = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "your disk quota is used up: free some space, or choose another folder",
    errno.EFBIG: "this file system takes no file of that size: choose another folder",
    errno.EACCES: "choose a folder that you may write, or change its permissions",
    errno.EPERM: "choose a folder that you may write, or change its permissions",
    errno.EROFS: "this disk is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EISDIR: "a folder stands at this path: choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk reports a fault: choose another one",
}


@contextlib.contextmanager
def explain_storage_faults(path: Path, *, inside: Path | None = None) -> Iterator[None]:
    """Turns the system's complaints about writing ``path`` into ``StorageError``; those about files outside ``inside`` pass."""
    try:
        yield
    except OSError as fault:
        elsewhere = inside is not None and fault.filename is not None and not Path(os.fsdecode(fault.filename)).is_relative_to(inside)
        if fault.errno not in _REMEDIES or elsewhere:
            raise
        raise StorageError(f"cannot write {path}: {fault.strerror}", remedy=_REMEDIES[fault.errno]) from fault


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as fault:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from fault
    except FileNotFoundError as fault:  # what /proc answers, where nobody can make a folder
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from fault


def check_free_space(path: Path | str, needed: int) -> None:
    """Raises ``StorageError`` when the disk that holds ``path`` (which need not exist yet) has fewer than ``needed`` bytes free."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StorageError(f"{path}: {byte_count(needed)} are needed and {byte_count(free)} are free", remedy=_REMEDIES[errno.ENOSPC])


def prepare_folder(path: Path | str) -> Path:
    """Makes the folder if it is missing, and proves that it can be written, before hours of work depend on it."""
    folder = Path(path)
    with explain_storage_faults(folder):
        _make_folder(folder)
        probe = folder / f".probe-{os.getpid()}-{time.monotonic_ns()}"
        probe.write_bytes(b"x")
        probe.unlink()
    return folder


def next_numbered_folder(stem: Path | str) -> Path:
    """Makes and returns ``stem-001``, or the number after the highest that exists; two processes never get the same."""
    stem = Path(stem)
    pattern = re.compile(re.escape(stem.name) + r"-(\d+)")
    with explain_storage_faults(stem.parent):
        _make_folder(stem.parent)
        while True:
            taken = [int(match.group(1)) for entry in stem.parent.iterdir() if (match := pattern.fullmatch(entry.name))]
            folder = stem.with_name(f"{stem.name}-{max(taken, default=0) + 1:03d}")
            with contextlib.suppress(FileExistsError):  # another process was faster: look again
                folder.mkdir()
                return folder


def sha256_of(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path | str, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Writes one file: bytes, text (UTF-8), or whatever a function writes into the open file. Missing parents are made."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{_owner()}.partial")
    with explain_storage_faults(path, inside=path.parent):
        _make_folder(path.parent)
        _remove_abandoned(path)
        try:
            with open(beside, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextlib.contextmanager
def write_folder_atomically(path: Path | str, *, obsolete: Callable[[str], bool] = lambda name: False) -> Iterator[Path]:
    """``with write_folder_atomically(path) as inside``: fill ``inside``; on leaving, it takes the place of ``path`` in one step.

    Entries of a folder that stands there already, and that were not written anew, are kept, unless ``obsolete(name)``.
    """
    path = Path(path)
    inside = path.with_name(f".{path.name}.{_owner()}.partial")
    with explain_storage_faults(path, inside=path.parent):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        _make_folder(path.parent)
        _remove_abandoned(path)
        inside.mkdir()
        try:
            yield inside
            if path.exists():
                for entry in path.iterdir():
                    if not obsolete(entry.name) and not os.path.lexists(inside / entry.name):
                        _link(entry, inside / entry.name)
            _sync_tree(inside)
            if path.exists():
                _exchange(inside, path)
            else:
                os.rename(inside, path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(inside, ignore_errors=True)  # half-written on a fault, else what stood there before


class FolderLock:
    """``with FolderLock(folder):`` one process at a time works in ``folder``; a second gets a ``StorageError`` naming the first.

    The lock is the system's (flock), so it ends with its process, however that ends.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._file: int | None = None

    def __enter__(self) -> FolderLock:
        import fcntl  # late: the rest of this file also serves systems without it

        with explain_storage_faults(self.folder):
            _make_folder(self.folder)
            file = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            owner = os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise StorageError(f"{self.folder} is in use by {owner}", remedy="wait until it has ended, or choose another folder") from fault
        self._file = file
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with explain_storage_faults(self.folder):
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()} since {since}: {' '.join(sys.argv)[:300]}\n".encode(), 0)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"


def _remove_abandoned(path: Path) -> None:
    """Removes what a killed process of this machine left beside ``path``."""
    pattern = re.compile(re.escape(f".{path.name}.{socket.gethostname()}-") + r"(\d+)-\d+\.partial")
    for entry in path.parent.iterdir():
        match = pattern.fullmatch(entry.name)
        if match and not _is_alive(int(match.group(1))):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _link(old: Path, new: Path) -> None:
    """The same file under a second name (copied where the file system has no links); folders entry by entry."""
    if old.is_dir() and not old.is_symlink():
        new.mkdir()
        for entry in old.iterdir():
            _link(entry, new / entry.name)
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as fault:
        if fault.errno not in (errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.ENOSYS):
            raise
        shutil.copy2(old, new, follow_symlinks=False)


def _sync_tree(folder: Path) -> None:
    for here, _, names in os.walk(folder):
        for name in names:
            file = Path(here) / name
            if not file.is_symlink():
                _sync(file)
        _sync_folder(Path(here))


def _sync_folder(folder: Path) -> None:
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(new: Path, old: Path) -> None:
    """Both folders change places in one step where the system can (Linux, macOS), else in two with the old one put back on a fault."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            code = library.renamex_np(os.fsencode(new), os.fsencode(old), ctypes.c_uint(2))  # RENAME_SWAP
        else:
            at_here = ctypes.c_int(-100)  # AT_FDCWD
            code = library.renameat2(at_here, os.fsencode(new), at_here, os.fsencode(old), ctypes.c_uint(2))  # RENAME_EXCHANGE
        if code == 0:
            return
    aside = new.with_name(f"{new.name}.before")
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)
