"""How the process uses memory; commands ask for it, the library does not."""

from __future__ import annotations

import ctypes
import platform

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc hand freed memory to the next tensors; elsewhere do nothing.

    By default it gives large blocks back to the kernel, which then clears and maps the same pages
    for every layer of a network anew: half the time of large updates on a CPU. The process keeps
    its peak until it ends, about a fifth more than without.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
