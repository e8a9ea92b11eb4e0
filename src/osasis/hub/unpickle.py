"""Torch pickles to safetensors, in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osasis.config.artefacts import data_folder, describe_bytes
from osasis.errors import OsasisError, UserError
from osasis.formats.huggingface import check_room
from osasis.hub.download import refuse_web_page

MAX_BYTES = 16_000_000_000  # of a checkpoint
OLD_MAGIC = b"\x80\x02"
MAX_OLD = 100_000_000
MAX_PICKLE = 64_000_000  # of the part that is not numbers
MAX_ENTRIES = 100_000
MEMORY = 6_000_000_000  # bytes beside the file itself
SECONDS = 1800


@dataclass(frozen=True)
class Unpickled:
    """What was in a pickle.

    Attributes:
        names: shape of every tensor by its path, such as "state_dict/ema_model.out.0.weight".
        plain: numbers and texts by their path.
        path: safetensors file with the tensors that were asked for.
    """

    names: dict[str, tuple[int, ...]]
    plain: dict[str, Any]
    path: Path


@contextmanager
def unpickle(
    path: Path, keep: Sequence[str] = ("",), *, before_zip: bool = False
) -> Iterator[Unpickled]:
    """Convert a torch checkpoint; the result is a temporary file, gone afterwards.

    Args:
        path: file of `torch.save`, in its zip format.
        keep: beginnings of the names to keep; "" keeps every tensor.
        before_zip: also read the format before torch 1.6, of at most 100 MB, whose contents cannot
            be looked at beforehand: for files whose hash is known.

    Raises:
        UserError: it is no such file.
        OsasisError: it is refused, or reading it fails.
    """
    old = before_zip and _is_old(path)
    if not old:
        _check_container(path)
    home = data_folder() / "tmp"
    check_room(home, path.stat().st_size)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="convert-") as folder:
        output = Path(folder) / "tensors.safetensors"
        answer = _run(path, output, keep, old=old)
        if "error" in answer:
            raise OsasisError(f"{path.name} is refused: {answer['error']}")
        shapes = {name: tuple(shape) for name, shape in answer["names"].items()}
        yield Unpickled(shapes, answer["plain"], output)


def _is_old(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > MAX_OLD:
        return False
    return path.read_bytes()[:2] == OLD_MAGIC


def _check_container(path: Path) -> None:
    """Look at the file without reading its pickle."""
    if not path.is_file():
        raise UserError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        limit = describe_bytes(MAX_BYTES)
        raise UserError(f"{path.name} has {describe_bytes(size)}; the limit is {limit}")
    refuse_web_page(path, path.name)
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == OLD_MAGIC:
        raise UserError(
            f"{path.name} is a pickle in the format before torch 1.6, or none of torch",
            hint="open it with the program it belongs to and save it again with torch.save",
        )
    if magic != b"PK":
        raise UserError(f"{path.name} is not a file of torch.save (it begins with {magic!r})")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(
            f"{path.name} is cut off or damaged: {error}", hint="download it again"
        ) from error
    _check_entries(path, entries, size)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UserError(f"{path.name} is compressed, which torch never does: it may be a zip bomb")
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > size:
        raise UserError(f"{path.name} claims to hold more than its {describe_bytes(size)}")
    if any(".." in Path(entry.filename).parts or entry.filename[:1] == "/" for entry in entries):
        raise UserError(f"{path.name} holds names that lead out of it")
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{path.name} is a zip file, but not one of torch.save")
    if pickles[0].file_size > MAX_PICKLE:
        raise UserError(f"{path.name} has a pickle of {describe_bytes(pickles[0].file_size)}")


def _run(path: Path, output: Path, keep: Sequence[str], *, old: bool) -> dict[str, Any]:
    size = path.stat().st_size
    job = {
        "input": str(path.resolve()),
        "output": str(output),
        "keep": list(keep),
        "old": old,
        "memory": 2 * size + MEMORY,
        "seconds": SECONDS,
        "size": size + MAX_PICKLE,
        "path": [os.path.abspath(entry) for entry in sys.path if entry],
    }
    worker = Path(__file__).with_name("unpickle_worker.py")
    environment = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
        if name in os.environ
    }
    with subprocess.Popen(
        [sys.executable, "-I", "-B", str(worker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=output.parent,
    ) as process:
        try:
            out, _ = process.communicate(json.dumps(job).encode(), timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise OsasisError(f"{path.name} is refused: reading it takes too long") from error
        except BaseException:
            process.kill()
            raise
    try:
        answer = json.loads(out)
    except ValueError as error:
        raise OsasisError(
            f"{path.name} is refused: reading it ended with status {process.returncode}, "
            "as when memory runs out"
        ) from error
    return dict(answer)
