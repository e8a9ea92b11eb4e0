"""Results in a folder: their keys, their manifest, and names that replace nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from PIL import Image

from osasis.errors import OsasisError, UserError
from osasis.files import sha256
from osasis.imaging.photo_file import Kept
from osasis.imaging.save import (
    SUFFIXES,
    is_taken,
    mark_of,
    numbered,
    save_image,
    suffix_for,
    write_error,
)
from osasis.imaging.squares import Redrawn

try:
    import fcntl
except ImportError:  # Windows: one process at a time
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.jsonl"
_FIRST = '{"output": '  # with which every line begins, also one cut short
MAX_LINE, MAX_FILES = 1_000_000, 10_000  # characters of a line, files of a result


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OsasisError: it cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise OsasisError(f"{path} cannot be read: {error.strerror}") from error


def result_key(photo_hash: str, made: Mapping[str, Any]) -> str:
    """Names a result by what determines it: the photo's bytes and everything in `made`."""
    text = json.dumps({"photo_sha256": photo_hash, **made}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Manifest:
    """The file `manifest.jsonl` of an output folder: one line a result, the last of a name counts.

    Lines are added as results are saved, from any thread and, where the system has file locks,
    any process. A line cut short by a kill is passed over, and that photo is done again.

    Attributes:
        foreign: lines that are none of ours and were passed over.

    Raises:
        UserError: the folder has a file of that name that another program wrote, or that is a link.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / MANIFEST
        self._lock = threading.Lock()
        self._records: dict[str, dict[str, Any]] = {}
        self.foreign = 0
        if self._path.is_symlink() or (self._path.exists() and not self._path.is_file()):
            raise UserError(
                f"{self._path} is a link, or no regular file",
                hint="remove it, or choose another -o",
            )
        if self._path.is_file():
            with self._path.open(encoding="utf-8", errors="replace") as lines:
                ours = [self._remember(line) for line in lines]
            if not self._records and not all(ours):
                raise UserError(
                    f"{self._path} was not written by osasis", hint="choose another folder with -o"
                )

    @property
    def outputs(self) -> list[Path]:
        """Every file that the manifest says was written."""
        return [self._folder / name for r in self._records.values() for name in r["files"]]

    def has(self, output: Path, key: str) -> bool:
        """Whether `output` was made by what `key` names, and its files are all there."""
        record = self._records.get(self._name(output), {})
        return record.get("key") == key and all(
            (self._folder / name).is_file() for name in record["files"]
        )

    def find(self, wanted: Path, key: str) -> Path | None:
        """The result that `key` names: `wanted`, or with a number; None where it is not there."""
        of_name = re.compile(re.escape(wanted.stem) + r"(-\d+)?" + re.escape(wanted.suffix))
        for name, record in self._records.items():
            path = self._folder / name
            fits = path.parent == wanted.parent and of_name.fullmatch(path.name)
            if fits and record.get("key") == key and self.has(path, key):
                return path
        return None

    def add(self, output: Path, files: Sequence[Path], record: Mapping[str, Any]) -> None:
        """Write down how `output` was made, and which files belong to it.

        Raises:
            OsasisError: the manifest cannot be written.
        """
        names = [self._name(file) for file in files]
        line = json.dumps({"output": self._name(output), "files": names, **record})
        try:
            with self._lock, self._path.open("a+b", buffering=0) as file:
                _lock_file(file)  # until the file is closed
                file.write(b"\n" * _is_torn(file) + line.encode() + b"\n")
                self._remember(line)
        except OSError as error:
            raise write_error(self._path, error) from error

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _remember(self, line: str) -> bool:
        """Take a line; returns whether it can be ours, whole or cut short."""
        if not line.strip():
            return True
        record: Any
        try:
            record = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            record = None
        if _is_record(record):
            self._records[record["output"]] = record
        else:
            self.foreign += 1
        return line.startswith(_FIRST[: len(line.rstrip("\n"))])


def _is_record(record: Any) -> bool:
    """Whether a line names an output and its files, all below the manifest's folder."""
    if not isinstance(record, dict) or not isinstance(record.get("files"), list):
        return False
    names = [record.get("output"), *record["files"]]
    return len(names) <= MAX_FILES and all(map(_is_below, names))


def _is_below(name: Any) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= 4096 or "\0" in name:
        return False
    parts = PurePosixPath(name).parts
    return (
        ".." not in parts
        and not name.startswith("/")
        and all(len(part.encode(errors="replace")) <= 255 for part in parts)
    )


def _lock_file(file: BinaryIO) -> None:
    if fcntl is not None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)


def _is_torn(file: BinaryIO) -> bool:
    """Whether the last line has no end: its process was killed."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


CROPS = "crops"  # folder of the squares


class Results:
    """Names and keeps results; threads and processes may share a folder.

    A result belongs to its photo's content and to the options: what is there already is not drawn
    again, and another result of that name becomes NAME-2. A picture's file as `output` takes one
    result, without a manifest.

    Args:
        output: a folder, or a file with the suffix of a picture.
        kind: format of results in a folder, of `FORMATS`.

    Raises:
        UserError: a file that is no picture, or a manifest of another program.
    """

    def __init__(self, output: Path, kind: str = "same") -> None:
        self._kind = kind
        self.is_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
        if output.is_file() and not self.is_file:
            raise UserError(f"{output} is a file, and results go into a folder")
        self._output = output
        self.folder = output.parent if self.is_file else output
        self._manifest = None if self.is_file else Manifest(output)
        self._lock = threading.Lock()
        self._reserved: set[str] = set()

    @property
    def foreign(self) -> int:
        """Lines of the manifest that are not ours and were passed over."""
        return 0 if self._manifest is None else self._manifest.foreign

    @property
    def outputs(self) -> list[Path]:
        """Every file that the manifest says was written."""
        return [] if self._manifest is None else self._manifest.outputs

    def wanted(self, photo: Path, below: Path) -> Path:
        """The name that a photo's result has where it is free."""
        name = f"{photo.stem}{suffix_for(photo, self._kind)}"
        return self._output if self.is_file else self.folder / below / name

    def has(self, wanted: Path, key: str) -> bool:
        """Whether the result that `key` names is there, under whatever number."""
        if self._manifest is None:
            return _key_of(wanted) == key
        return self._manifest.find(wanted, key) is not None

    def reserve(self, wanted: Path, key: str) -> Path:
        """A name for a result before it is drawn; no other of this run gets it.

        Raises:
            UserError: the one file that was asked for is taken.
        """
        with self._lock:
            for path in [wanted] if self.is_file else numbered(wanted):
                name = str(path).casefold()  # one file on macOS and Windows
                if name not in self._reserved and (not is_taken(path) or _key_of(path) == key):
                    self._reserved.add(name)
                    return path
        raise UserError(f"{wanted} exists, and is not this result", hint="choose another with -o")

    def save(
        self,
        output: Path,
        redrawn: Redrawn,
        record: Mapping[str, Any],
        metadata: Mapping[str, str],
        *,
        crops: bool = False,
    ) -> Path:
        """Write a result and its squares; add it to the manifest.

        Args:
            output: as `reserve` gave it.
            redrawn: with what of its photo's file is kept.
            record: how it was made, its "key" included; the faces and what was said are added.
            crops: also write the squares.

        Returns:
            Where it is: another number where somebody has just taken the name.

        Raises:
            OsasisError: it cannot be written.
        """
        record = {**record, **told(redrawn)}
        text = {**metadata, "osasis": json.dumps(record)}
        key = str(record["key"])
        written = self._write(output, redrawn.whole, text, key, redrawn.kept)
        files = [written]
        below = (self.folder / CROPS / output.relative_to(self.folder)).with_suffix("")
        for number, square in enumerate(redrawn.squares if crops else (), start=1):
            path = below.with_name(f"{below.name}-{number}{output.suffix}")
            files.append(self._write(path, square, text, key))
        if self._manifest is not None:
            self._manifest.add(written, files, record)
        return written

    def _write(
        self,
        path: Path,
        picture: Image.Image,
        text: Mapping[str, str],
        key: str,
        kept: Kept = Kept(),
    ) -> Path:
        for free in [path] if self.is_file else numbered(path):
            same = _key_of(free) == key
            if is_taken(free) and not same:
                continue
            try:
                save_image(picture, free, metadata=text, kept=kept, replace=same)
            except FileExistsError:  # since a moment; another run may have made the same
                if _key_of(free) != key:
                    continue
            return free
        raise OsasisError(f"{path} exists, and is not this result", hint="choose another with -o")


def with_losses(redrawn: Redrawn, kind: str) -> Redrawn:
    """The same, with a note of what a format, "png", "jpg", "jpeg" or "webp", cannot hold."""
    if redrawn.kept.alpha is None or kind not in ("jpg", "jpeg"):
        return redrawn
    note = "JPEG has no transparency: white is in its place"
    return replace(redrawn, kept=replace(redrawn.kept, notes=(*redrawn.kept.notes, note)))


def told(redrawn: Redrawn) -> dict[str, Any]:
    """What a record says of a result beside how it was made."""
    return {
        "faces": redrawn.faces,
        "redrawn": len(redrawn.squares),
        "notes": list(redrawn.kept.notes),
    }


def _key_of(path: Path) -> str | None:
    key = mark_of(path).get("key")
    return key if isinstance(key, str) else None
