"""What surrounds the process that reads pickles, behind torch's `weights_only` reader.

On Linux (x86-64 and arm64) the kernel's filter of system calls leaves it computing, reading files
and writing to files that are open already: no program, socket, signal or other file, whoever asks,
native code included. Elsewhere an audit hook refuses Python's own calls for these, no sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
from typing import Any

FORBIDDEN = (
    "socket.", "subprocess.", "sqlite3.", "ctypes.", "shutil.", "pty.", "urllib.", "webbrowser.",
    "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.kill", "os.remove",
    "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.utime", "os.setxattr", "os.removexattr",
    "os.chmod", "os.chown", "os.link", "os.symlink",
)  # fmt: skip
# Linux's numbers of system calls, architecture by architecture (audit.h and unistd.h)
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PLACE = {"x86_64": 0, "aarch64": 1}
_ALLOWED = {
    "read": (0, 63), "write": (1, 64), "pread64": (17, 67), "pwrite64": (18, 68),
    "readv": (19, 65), "writev": (20, 66), "close": (3, 57), "lseek": (8, 62), "dup": (32, 23),
    "stat": (4, None), "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79),
    "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None),
    "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17),
    "readahead": (187, 213), "fadvise64": (221, 223), "mmap": (9, 222), "munmap": (11, 215),
    "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233), "brk": (12, 214),
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getrusage": (98, 165), "uname": (63, 160),
    "sysinfo": (99, 179), "getrandom": (318, 278), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "getcpu": (309, 168), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_OPEN = {"open": (2, None), "openat": (257, 56)}  # with their flags as argument 1 and 2
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437)}  # arguments are out of the filter's sight
_CLONE, _SECCOMP = (56, 220), (317, 277)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
_NO_NETWORK = 0x10000000 | 0x40000000  # CLONE_NEWUSER lets CLONE_NEWNET work without root
_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of BPF
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
_NO_NEW_PRIVILEGES, _FILTER, _ALL_THREADS = 38, 1, 1


def leave_network() -> None:
    """Move into a network namespace of our own, where the system allows it."""
    with contextlib.suppress(AttributeError, OSError):  # elsewhere than on Linux
        ctypes.CDLL(None, use_errno=True).unshare(_NO_NETWORK)


def limit_resources(memory: int, seconds: int, size: int) -> None:
    """Bound memory, processor time and the size of what is written."""
    try:
        import resource
    except ImportError:
        return  # not on Windows
    for kind, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a system that does not know this limit
            resource.setrlimit(kind, (value, value))


def close_doors() -> bool:
    """Refuse programs, network, signals and writing to files that are not open, from here on.

    Returns:
        Whether the kernel does so; else only Python's own calls are refused.
    """
    filtered = _filter_calls()
    sys.addaudithook(_hook)
    return filtered


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(FORBIDDEN):
        raise PermissionError("the conversion may not do this: " + event)
    if event == "open" and len(args) > 2:
        path, mode, flags = args[0], args[1], args[2]
        if (isinstance(flags, int) and flags & _WRITES) or (mode and set("wax+") & set(str(mode))):
            raise PermissionError("the conversion may not write " + repr(path))


def _filter_calls() -> bool:
    """Have Linux refuse all system calls but ours; False where it cannot."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _PLACE or sys.maxsize < 2**32:
        return False
    program = b"".join(_rules(machine))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: how many rules of 8 bytes, and where
    given = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    number = _SECCOMP[_PLACE[machine]]
    return bool(libc.syscall(number, _FILTER, _ALL_THREADS, given) == 0)


def _rules(machine: str) -> list[bytes]:
    """The filter, in the kernel's packet filter language."""
    place = _PLACE[machine]

    def rule(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    def argument(number: int | None, index: int, bits: int, found: int, none: int) -> list[bytes]:
        """For one call: `found` where any of `bits` is set in an argument, else `none`."""
        if number is None:
            return []
        return [rule(_EQUAL, number, 0, 4), rule(_LOAD, 16 + 8 * index),
                rule(_ANY_BIT, bits, 0, 1), rule(_RETURN, found), rule(_RETURN, none)]  # fmt: skip

    def always(numbers: tuple[int | None, ...], answer: int) -> list[bytes]:
        number = numbers[place]
        return [] if number is None else [rule(_EQUAL, number, 0, 1), rule(_RETURN, answer)]

    rules = [rule(_LOAD, 4), rule(_EQUAL, _ARCHITECTURES[machine], 1), rule(_RETURN, _KILL),
             rule(_LOAD, 0), rule(_ABOVE, 0x40000000, 0, 1), rule(_RETURN, _KILL)]  # fmt: skip
    for index, numbers in enumerate(_OPEN.values(), start=1):
        rules += argument(numbers[place], index, _WRITES, _EPERM, _ALLOW)
    rules += argument(_CLONE[place], 0, _CLONE_THREAD, _ALLOW, _EPERM)
    for numbers in _UNKNOWN.values():
        rules += always(numbers, _ENOSYS)
    for numbers in _ALLOWED.values():
        rules += always(numbers, _ALLOW)
    return [*rules, rule(_RETURN, _EPERM)]
