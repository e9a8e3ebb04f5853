"""Files and folders appear whole or not at all, whichever system call fails and wherever a process dies."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from beichen.errors import StorageError
from beichen.util import files
from beichen.util.files import (
    FolderLock,
    check_free_space,
    next_numbered_folder,
    prepare_folder,
    sha256_of,
    write_atomically,
    write_folder_atomically,
)

CALLS = ("open", "fsync", "rename", "replace", "mkdir", "link", "write")
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


class Faults:
    """Counts the system's calls that change the disk and lets the n-th one fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int | None, fault: BaseException) -> None:
        self.calls, self.fail_at, self.fault = 0, fail_at, fault
        for name in CALLS:
            monkeypatch.setattr(os, name, self.watched(getattr(os, name)))
        monkeypatch.setattr(files, "_exchange", self.watched(files._exchange))

    def watched(self, call):
        def run(*arguments, **options):
            self.calls += 1
            if self.calls == self.fail_at:
                raise self.fault
            return call(*arguments, **options)

        return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_model(folder, text):
    with write_folder_atomically(folder) as inside:
        (inside / "weights").write_bytes(text * 1000)
        (inside / "sub").mkdir()
        (inside / "sub" / "config").write_bytes(text)


def every_fault(action, monkeypatch, fault):
    """Runs ``action`` with the first call failing, then the second, ... until one run meets no fault; yields after each."""
    for number in range(1, 100):
        with monkeypatch.context() as patch:
            faults = Faults(patch, number, fault)
            try:
                action()
            except (StorageError, KeyboardInterrupt):
                failed = True
            else:
                failed = False
        yield failed
        if faults.calls < number:
            assert not failed
            return
    raise AssertionError("the action never got through")


FAULTS = pytest.mark.parametrize(
    "fault",
    [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "Permission denied"), KeyboardInterrupt()],
    ids=["full disk", "forbidden", "killed"],
)


@FAULTS
@pytest.mark.parametrize("exists", [True, False])
def test_a_file_is_old_or_new_at_every_fault(tmp_path, monkeypatch, fault, exists):
    path = tmp_path / "file"
    count = 0
    if exists:
        path.write_bytes(b"old")
    for failed in every_fault(lambda: write_atomically(path, b"new"), monkeypatch, fault):
        count += 1
        now = path.read_bytes() if path.exists() else None
        assert now == b"new" or (failed and now == (b"old" if exists else None))
        assert [entry.name for entry in tmp_path.iterdir()] in (["file"], [])
        path.unlink(missing_ok=True)
        if exists:
            path.write_bytes(b"old")
    assert count > 3


@FAULTS
@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_is_old_or_new_at_every_fault(tmp_path, monkeypatch, fault, exists):
    folder = tmp_path / "model"
    old = {"weights": b"old" * 1000, "sub/config": b"old", "mine/log": b"kept"} if exists else {}
    new = {"weights": b"new" * 1000, "sub/config": b"new"} | ({"mine/log": b"kept"} if exists else {})

    def reset(others=()):
        for entry in (folder, *others):
            if entry.exists():
                shutil.rmtree(entry)
        if exists:
            write_model(folder, b"old")
            (folder / "mine").mkdir()
            (folder / "mine" / "log").write_bytes(b"kept")

    reset()
    count = 0
    for failed in every_fault(lambda: write_model(folder, b"new"), monkeypatch, fault):
        count += 1
        now = contents(folder) if folder.exists() else {}
        assert now == new or (failed and now == old)
        others = [entry for entry in tmp_path.iterdir() if entry != folder]
        assert all(entry.name.endswith(".partial") for entry in others)  # when tidying up is what failed
        reset(others)
    assert count > 6


def test_a_killed_process_leaves_the_old_and_the_next_one_tidies_up(tmp_path):
    folder = tmp_path / "model"
    write_model(folder, b"old")
    program = f"""
import os, signal
from beichen.util.files import write_folder_atomically
with write_folder_atomically({str(folder)!r}) as inside:
    (inside / "weights").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert contents(folder) == {"weights": b"old" * 1000, "sub/config": b"old"}
    assert len(list(tmp_path.iterdir())) == 2
    write_model(folder, b"new")
    assert contents(folder) == {"weights": b"new" * 1000, "sub/config": b"new"}
    assert len(list(tmp_path.iterdir())) == 1


def test_the_exchange_without_the_systems_help(tmp_path, monkeypatch):
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    folder = tmp_path / "model"
    write_model(folder, b"old")
    write_model(folder, b"new")
    assert contents(folder)["sub/config"] == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_entries_of_others_stay_and_obsolete_ones_go(tmp_path):
    folder = tmp_path / "run"
    (folder / "state" / "deep").mkdir(parents=True)
    (folder / "state" / "deep" / "a").write_bytes(b"a")
    (folder / "shard-2").write_bytes(b"old")
    (folder / "config").write_bytes(b"old")
    log = open(folder / "log", "ab", buffering=0)  # noqa: SIM115  (stays open across the exchange, as a run's log does)
    log.write(b"1")
    with write_folder_atomically(folder, obsolete=lambda name: name.startswith("shard")) as inside:
        (inside / "config").write_bytes(b"new")
    log.write(b"2")
    log.close()
    assert contents(folder) == {"config": b"new", "log": b"12", "state/deep/a": b"a"}


def test_a_fault_of_the_body_passes_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), write_folder_atomically(tmp_path / "x"):
        open(tmp_path / "missing" / "source", encoding="utf-8").close()
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "y", lambda file: 1 // 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["文", "文".encode(), lambda file: file.write("文".encode())])
def test_contents(tmp_path, content):
    path = tmp_path / "a" / "b"
    write_atomically(path, content)
    assert path.read_text(encoding="utf-8") == "文"
    assert sha256_of(path) == hashlib.sha256("文".encode()).hexdigest()


@pytest.mark.parametrize("work", [lambda path: write_atomically(path, b""), write_folder_atomically, FolderLock, prepare_folder])
def test_a_path_through_a_file_is_a_storage_error(tmp_path, work):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StorageError, match="remedy"), work(tmp_path / "file" / "below") or pytest.fail("no error"):
        pass
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_file_in_a_folders_place_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for work in (prepare_folder, lambda path: write_folder_atomically(path).__enter__()):
        with pytest.raises(StorageError, match="file"):
            work(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder stands at this path"):
        write_atomically(tmp_path / "folder", b"")


@needs_user
def test_an_unwritable_folder_is_a_storage_error(tmp_path):
    tmp_path.chmod(0o500)
    for work in (
        lambda: write_atomically(tmp_path / "a", b""),
        lambda: prepare_folder(tmp_path),
        lambda: next_numbered_folder(tmp_path / "a"),
    ):
        with pytest.raises(StorageError, match="Permission denied"):
            work()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a place where even root cannot write: /proc")
def test_a_place_that_nobody_may_write():
    for work in (lambda: write_atomically("/proc/a/b", b""), lambda: prepare_folder("/proc/a"), lambda: next_numbered_folder("/proc/a/b")):
        with pytest.raises(StorageError, match="Permission denied\n  remedy: choose a folder that you may write"):
            work()


def test_a_really_full_disk(tmp_path):
    """The kernel's own refusal (a limit on file size), not a patched call."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = f"""
import resource, signal
from beichen.errors import StorageError
from beichen.util.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomically({str(path)!r}, b"x" * 100_000)
except StorageError as fault:
    print(fault)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"cannot write {path}: File too large" in answer.stdout and "remedy" in answer.stdout
    assert contents(tmp_path) == {"file": b"old"}


def test_free_space(tmp_path):
    check_free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(StorageError, match=r"1000000\.00 TB|TB are needed and .* are free"):
        check_free_space(tmp_path / "not" / "yet", 10**18)


def test_numbered_folders_are_never_shared(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quick-007").mkdir()
    (tmp_path / "runs" / "quick-x").mkdir()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: next_numbered_folder(tmp_path / "runs" / "quick"), range(20)))
    assert sorted(path.name for path in made) == [f"quick-{number:03d}" for number in range(8, 28)]


def hold(folder, ready, release):
    with FolderLock(folder):
        ready.set()
        release.wait(30)


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready, release))
    process.start()
    assert ready.wait(30)
    with pytest.raises(StorageError, match=f"run is in use by process {process.pid} on "), FolderLock(tmp_path / "run"):
        pass
    process.kill()
    process.join()
    with FolderLock(tmp_path / "run"), pytest.raises(StorageError, match=f"process {os.getpid()}"), FolderLock(tmp_path / "run"):
        pass
    with FolderLock(tmp_path / "run"):
        pass


def test_a_lock_survives_the_exchange_of_its_folder(tmp_path):
    with FolderLock(tmp_path / "run"):
        write_model(tmp_path / "run", b"new")
        with pytest.raises(StorageError), FolderLock(tmp_path / "run"):
            pass
