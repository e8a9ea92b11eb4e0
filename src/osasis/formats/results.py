"""Results in a folder: none replaces what is not that very result."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from osasis.errors import OsasisError, UserError
from osasis.formats.records import Manifest
from osasis.imaging.photo_file import Kept
from osasis.imaging.save import SUFFIXES, is_taken, mark_of, numbered, save_image, suffix_for
from osasis.imaging.squares import Redrawn

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
