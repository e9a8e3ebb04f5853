"""Cutting, counting, merging and encoding in C++, compiled on first use; each has a slow twin in Python that runs where it cannot."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beichen.util.native import NativeLibrary

_LIBRARY = NativeLibrary(
    "text",
    Path(__file__).parent / "source",
    what="compiled text routines",
    otherwise="tokenizers and slower Python",
    flags=("-pthread",),
)
library = _LIBRARY.library
status = _LIBRARY.status
switched_off = _LIBRARY.switched_off
function = _LIBRARY.function

PATTERN_NUMBERS = {"gpt2": 0, "qwen2": 1, "llama3": 2, "han": 3}  # the enumeration of splitting.h
_WATCH_SECONDS = 0.2


def watched(call: Callable[..., Any], *arguments: Any, advance: Callable[[int], None], more: tuple[Any, ...] = ()) -> Any:
    """Runs a long routine beside this thread, which reports its progress and can be interrupted. The routine's next argument is where it
    adds up its progress and looks for the wish to stop; ``more`` come after."""
    progress = (ctypes.c_int64 * 2)()
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(call(*arguments, progress, *more)), daemon=True)
    thread.start()
    seen = 0
    try:
        while thread.is_alive():
            thread.join(_WATCH_SECONDS)
            now = int(progress[0])
            advance(now - seen)
            seen = now
    except BaseException:
        progress[1] = 1
        thread.join()
        raise
    advance(progress[0] - seen)  # the thread may have ended between two looks
    return answer[0]


def check(code: int, path: Path | str) -> None:
    """Raises what an error number says about a file."""
    if code == errno.ENOMEM:
        raise MemoryError(f"no memory for {path}")
    if code:
        raise OSError(code, os.strerror(code), str(path))
