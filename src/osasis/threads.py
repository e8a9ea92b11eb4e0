"""Cores and memory of the process; commands ask for it, the library does not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container on Linux: microseconds, of how many


def cores() -> int:
    """Cores that this process may use: the machine's, its own share of them, a container's."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        allowed, period = _QUOTA.read_text(encoding="ascii").split()
        count = min(count, int(allowed) // int(period))  # "max" is no number: no quota
    return max(1, count)


def share_cores(threads: int | None = None) -> None:
    """Compute with as many threads as there are cores, and let threads that wait sleep.

    Waiting threads spin by default, which takes the cores from whom they wait for as soon as
    another program runs beside: a photo then took 6 times as long (docs/PERFORMANCE.md).

    Args:
        threads: how many instead; without, OMP_NUM_THREADS counts where it is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    if threads is not None or "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(threads or cores())
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", os.environ["OMP_NUM_THREADS"])  # face finding
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


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
