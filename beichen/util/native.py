"""C++ sources of a folder as a loaded library: compiled on first use, kept, and never required.

In: a folder of sources, the machine's g++ and its CPU. Out: the library, or None and the reason. The rule kept: a compiler is
optional. Without one (or with ``BEICHEN_KERNELS=off``) the caller takes its slower way instead, after one warning. Libraries are kept
per machine under ``$XDG_CACHE_HOME/beichen/kernels`` (default ``~/.cache``), named by a hash of everything that they depend
on, and appear there whole, so that several processes may build one at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLAGS = ("-O3", "-std=c++17", "-march=native", "-fPIC", "-fvisibility=hidden", "-w")
SWITCH = "BEICHEN_KERNELS"

_warned_of: set[str] = set()  # causes, in this process

_CODES: dict[str, Any] = {"p": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int}


@dataclass(frozen=True, kw_only=True)
class Status:
    """What ``beichen env`` and every printed figure say about compiled code."""

    available: bool
    reason: str  # the instructions used, or why there is no library
    compiler: str | None = None
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Built:
    library: ctypes.CDLL | None
    status: Status


class _BuildError(Exception):
    """Why there is no library, in words for the user."""


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beichen" / "kernels"


class NativeLibrary:
    """The library made of one folder; it exports ``<name>_instructions``, a C string that says what the code was compiled for."""

    def __init__(
        self,
        name: str,
        source: Path,
        *,
        what: str,
        otherwise: str,
        flags: Sequence[str] = (),
        linked: Callable[[], Sequence[str]] = tuple,
        versions: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """``what`` is not available, ``otherwise`` is used instead: the words of the warning. ``linked``: further arguments of the
        linker; ``versions``: what else the compiled code depends on."""
        self.name, self.source, self.what, self.otherwise = name, source, what, otherwise
        self._flags, self._linked, self._versions = (*FLAGS, *flags), linked, versions
        self._lock = threading.Lock()
        self._built: _Built | None = None
        self._switched_off = False
        self._functions: dict[tuple[str, str], Callable[..., Any]] = {}

    def library(self) -> ctypes.CDLL | None:
        """The library, built on the first call; None where there is none. If nobody asked for that, its cause is warned of once, whatever
        number of libraries it concerns."""
        if self._switched_off or os.environ.get(SWITCH, "").lower() in ("off", "0", "false"):
            return None
        built = self._build_once()
        if built.library is None and built.status.reason not in _warned_of:
            _warned_of.add(built.status.reason)
            warnings.warn(f"{self.what} are not available ({built.status.reason}): using {self.otherwise}", stacklevel=2)
        return built.library

    def status(self) -> Status:
        """Whether the library runs here, and why not. Builds it if that has not happened yet."""
        if self._switched_off:
            return Status(available=False, reason="switched off by the program")
        if self.library() is None and os.environ.get(SWITCH):
            return Status(available=False, reason=f"switched off by {SWITCH}={os.environ[SWITCH]}")
        return self._build_once().status

    @contextlib.contextmanager
    def switched_off(self) -> Iterator[None]:
        """Without the library inside the block: for references, comparisons and tests."""
        before, self._switched_off = self._switched_off, True
        try:
            yield
        finally:
            self._switched_off = before

    def function(self, name: str, signature: str) -> Callable[..., Any]:
        """The C function ``name``; one letter per argument: p pointer, l long, f float, d double, i int; ``p>l``: what it returns."""
        if (name, signature) not in self._functions:
            found = self.library()
            if found is None:
                raise RuntimeError(f"{name}: {self.what} are not available; ask library() first")
            call = found[name]
            arguments, _, result = signature.replace(" ", "").partition(">")
            call.argtypes = [_CODES[letter] for letter in arguments]
            call.restype = _CODES[result] if result else None
            self._functions[name, signature] = call
        return self._functions[name, signature]

    def _build_once(self) -> _Built:
        with self._lock:
            if self._built is None:
                try:
                    self._built = self._build()
                except _BuildError as error:
                    self._built = _Built(library=None, status=Status(available=False, reason=str(error)))
            return self._built

    def _build(self) -> _Built:
        compiler = shutil.which("g++")
        if compiler is None:
            raise _BuildError("no compiler: g++ not found")
        version = _compiler_version(compiler)
        parts = [version, _cpu(), *self._versions(), *self._flags]
        parts += [path.name + "\n" + path.read_text(encoding="utf-8") for path in sorted(self.source.glob("*.*"))]
        target = cache_folder() / f"{self.name}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:20]}.so"
        if not target.exists():
            self._compile(compiler, target)
        try:
            library = ctypes.CDLL(str(target))
        except OSError as error:
            raise _BuildError(f"cannot load {target}: {error}") from error
        instructions = library[f"{self.name}_instructions"]
        instructions.restype = ctypes.c_char_p
        return _Built(library=library, status=Status(available=True, reason=instructions().decode(), compiler=version, path=target))

    def _compile(self, compiler: str, target: Path) -> None:
        """Write the shared library ``target``; its folder gets it by one rename."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:

                def run(arguments: Sequence[str]) -> None:
                    done = subprocess.run(
                        [compiler, *arguments], cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace"
                    )
                    if done.returncode:
                        raise _BuildError(
                            f"{compiler} failed: {next((x for x in done.stderr.splitlines() if 'error' in x), done.stderr[-300:])}"
                        )

                names = sorted(path.name for path in self.source.glob("*.cpp"))
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    list(pool.map(lambda name: run([*self._flags, "-c", str(self.source / name), "-o", name + ".o"]), names))
                run(["-shared", *(name + ".o" for name in names), "-o", "library.so", *self._linked()])
                os.replace(Path(folder) / "library.so", target)
        except OSError as error:
            raise _BuildError(
                f"cannot write {error.filename or target.parent}: {error.strerror} (set XDG_CACHE_HOME to a writable folder)"
            ) from error


def _compiler_version(compiler: str) -> str:
    return subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, encoding="utf-8", errors="replace", check=True
    ).stdout.splitlines()[0]


def _cpu() -> str:
    """What -march=native looks at: the model and its feature flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
