"""Which photos are meant: files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from osasis.errors import UserError
from osasis.imaging.load import find_images
from osasis.imaging.save import mark_of

STDIN = "-"


@dataclass(frozen=True)
class FoundPhoto:
    """A photo, and the folder below the one that was named in which it lies ("." for a file)."""

    path: Path
    folder: Path

    @property
    def name(self) -> str:
        """What it is called in manifests: its path below the folder that was named."""
        return (self.folder / self.path.name).as_posix()


def find_photos(
    given: Sequence[str],
    listed: Iterable[str] = (),
    *,
    outputs: Collection[Path] = (),
    left_out: list[Path] | None = None,
) -> list[FoundPhoto]:
    """Find the photos; each is there once, in the order given, folders sorted.

    A file named outright or listed is taken whatever its suffix; a listed one need not exist, and
    fails when it is read. Patterns (`*`, `?`, `[a-z]`, `**` for folders at any depth) are for
    shells that do not expand them, and for lists too long for a command line.

    Args:
        given: files, folders, patterns, and "-" for `listed`.
        listed: lines with one path each.
        outputs: results of earlier runs: passed over in folders and patterns, as is every
            picture that says of itself that osasis made it.
        left_out: gets those.

    Raises:
        UserError: a path does not exist, a folder holds no picture, or nothing is left.
    """
    done = {path.resolve() for path in outputs}
    found: dict[Path, FoundPhoto] = {}
    passed: list[Path] = [] if left_out is None else left_out

    def add(paths: Iterable[Path], root: Path | None, *, named: bool = True) -> None:
        for path in paths:
            key = path.resolve()
            if not named and (key in done or mark_of(path)):
                passed.append(path)
            else:
                folder = path.parent.relative_to(root) if root else Path()
                found.setdefault(key, FoundPhoto(path, folder))

    for text in given:
        path = Path(text).expanduser()
        if text == STDIN:
            lines = (line.strip().lstrip("\ufeff") for line in listed)  # Windows' mark
            add((Path(line).expanduser() for line in lines if line), None)
        elif path.is_dir():
            add(find_images([path]), path, named=False)
        elif path.exists() or not glob.has_magic(text):
            add(find_images([path]), None)  # says so where it does not exist
        else:
            add(_matches(str(path)), None, named=False)
    if not found:
        raise UserError(
            "no photo is left to redraw",
            hint="the list on standard input is empty, or all that was named are results already",
        )
    return list(found.values())


def _matches(pattern: str) -> list[Path]:
    matched = sorted(glob.glob(pattern, recursive=True))
    if not matched:
        raise UserError(
            f"no file matches {pattern}", hint="check the pattern, and put quotes on it"
        )
    return find_images(matched)
