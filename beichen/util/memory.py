"""The memory of this process: how much it is, large pages for what is read over and over, keeping what is freed, since a training step
will want it again a moment later, and not keeping what will hardly be wanted again.

glibc gives every large block back to the system when it is freed and takes fresh pages for the next; in a step that frees and
takes gigabytes, faulting those pages in costs as much as a tenth of the arithmetic, and more on virtual machines.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_HUGE_PAGE, _MADV_HUGEPAGE = 2 << 20, 14  # of x86 and most others; sys/mman.h
_PREPARED, _KEPT_SHAPES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"), 128  # of oneDNN, and of what torch calls it by
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


def forget_old_shapes() -> None:
    """Let torch's CPU products keep what they have prepared for fewer shapes, unless the environment says how many. A server's batches
    are of ever other lengths: a thousand of them take 0.7 GB, and to prepare one again takes half a millisecond. Before the first product
    of the process."""
    for name in _PREPARED:
        os.environ.setdefault(name, str(_KEPT_SHAPES))


def ask_for_huge_pages(tensor: Tensor) -> Tensor:
    """Let the system hold a tensor, into which nothing has been written yet, in pages of 2 MB, where it can: the processor fetches ahead
    within a page, so that weights and caches larger than its own are read up to a fifth faster. Without such pages nothing changes.
    -> the tensor"""
    begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    if sys.platform.startswith("linux") and tensor.device.type == "cpu" and tensor.nbytes >= _HUGE_PAGE:
        page = resource.getpagesize()
        begin, end = begin // page * page, -(-end // page) * page
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_HUGEPAGE)
    return tensor


def resident_bytes() -> int:
    """Memory that this process holds in RAM now; where the system does not tell, the most that it has held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
