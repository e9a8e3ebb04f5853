"""The memory of this process: how much it is, and keeping what is freed, since a training step will want it again a moment later.

glibc gives every large block back to the system when it is freed and takes fresh pages for the next; in a step that frees and
takes gigabytes, faulting those pages in costs as much as a tenth of the arithmetic, and more on virtual machines.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt's names in malloc.h


def keep_freed_memory() -> bool:
    """Tell the allocator to keep what is freed.  -> whether this system's allocator takes such a wish (glibc does)"""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    wishes = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 256 << 20))
    taken = [library.mallopt(name, value) == 1 for name, value in wishes]
    return all(taken)


def resident_bytes() -> int:
    """Memory that this process holds in RAM now; where the system does not tell, the most that it has held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
