"""Writing files whole or not at all, and hashes of their content."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from osasis.errors import UserError

Report = Callable[[str, int, int], None]
"""`report(phase, done, total)`, in bytes."""

CHUNK = 1 << 20
STYLE_SUFFIX = ".osasis.safetensors"


def snapshot_file(output: Path) -> Path:
    """Where the unfinished run that will write `output` is kept: a hidden file beside it."""
    return output.with_name(f".{output.stem}.partial.safetensors")


def silent(phase: str, done: int, total: int) -> None:
    """A `Report` that does nothing."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes: a pipe or device would be waited for, or never end.

    Raises:
        OSError: it cannot be opened.
        UserError: it is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is not a regular file", hint="name a file, no pipe or device")
    return os.fdopen(handle, "rb")


def sha256(path: Path, report: Report = silent) -> str:
    """SHA-256 of a file, read in pieces.

    Raises:
        OSError: it cannot be read.
        UserError: it is no regular file.
    """
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with open_regular(path) as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            done += len(piece)
            report(f"checking {path.name}", done, total)
    return digest.hexdigest()


@contextmanager
def atomic_path(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there on success, delete it on failure.

    The parent folder is created. The temporary name is short and keeps the suffix of `path`.

    Raises:
        FileExistsError: something is at `path` and `replace` is false.
        OSError: it cannot be written; what is named is `path`, not the temporary one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # by a hash: a name of 255 bytes leaves no room for more
    named = f"{platform.node()}/{path.name}".encode(errors="surrogateescape")
    prefix = f".{hashlib.sha256(named).hexdigest()[:16]}-"
    _remove_abandoned(path.parent, prefix)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f"{prefix}{os.getpid()}-", suffix=path.suffix[:32]
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if not replace:  # another process cannot make it between this line and the next
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, at once or not at all; files' names in it as their bytes are."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def reserved(path: Path) -> Iterator[None]:
    """Keep other runs of osasis from making the same file meanwhile, where there are file locks.

    Raises:
        UserError: another run is making it.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    named = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()
    file = path.with_name(f".{named[:16]}.lock")
    try:
        lock = FileLock(file).acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another run is making {path}", hint="wait for it, or choose another -o"
        ) from error
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps a file that is open
                file.unlink()


def duration(seconds: float) -> str:
    """A time for people: '42 s', '3 min 5 s', '2 h 10 min'."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def _remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove what killed processes of this machine left that wrote the same file."""
    for left in folder.glob(f"{prefix}*"):
        process = left.name.removeprefix(prefix).partition("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
