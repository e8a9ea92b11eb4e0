"""Which photos are meant: files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from osasis.errors import UserError
from osasis.extras import install
from osasis.imaging.load import HAS_HEIC, HEIC_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES
from osasis.imaging.save import mark_of

STDIN = "-"
_FILMS = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".3gp", ".wmv", ".mpg",
    ".mpeg",
)  # fmt: skip
_OTHER = (
    ".avif", ".jxl", ".jp2", ".j2k", ".psd", ".xcf", ".exr", ".hdr", ".tga", ".pcx", ".ppm", ".pgm",
)  # fmt: skip
# thumbnails, recycle bins and copies that other programs keep beside photos
_NOT_ALBUMS = frozenset(
    ("@eadir", "#recycle", "@recycle", "$recycle.bin", "__macosx", "lost+found")
)


@dataclass(frozen=True)
class Kind:
    """Why something in a folder was passed over.

    Attributes:
        name: of several.
        hint: what reads them.
        unread: whether photos may be among them.
    """

    name: str
    hint: str
    unread: bool


RESULTS = Kind("results of osasis", "named outright they are redrawn", False)
FILMS = Kind("films", "`osasis film` redraws one", False)
BINS = Kind("folders of thumbnails or deleted files", "named outright they are searched", False)
LOOPS = Kind("links to a folder around them", "which is searched already", False)
HEIC = Kind("HEIC photos", "" if HAS_HEIC else f"{install('heic')} reads them", True)
RAW = Kind("raw files of cameras", "develop them first: export JPEG or TIFF", True)
OTHER = Kind("pictures of formats that are not read", "convert them to PNG, JPEG or WebP", True)
CLOSED = Kind("folders that may not be read", "check who may read them", True)
LINES = Kind("lines of the list that can be no file's name", "one path a line", True)


@dataclass
class PassedOver:
    """What was passed over in folders and lists, by kind."""

    found: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, what: str | Path) -> None:
        """Count one; a file or folder reached twice counts once."""
        paths = self.found.setdefault(kind, [])
        if str(what) not in paths[-1:]:
            paths.append(str(what))

    @property
    def unread(self) -> bool:
        """Whether photos may be among it."""
        return any(kind.unread for kind in self.found)

    def lines(self) -> list[str]:
        """One sentence for each kind."""
        return [
            f"left out, {kind.name}: {len(paths)} ({kind.hint}): "
            f"{', '.join(paths[:3])}{' ...' if len(paths) > 3 else ''}"
            for kind, paths in self.found.items()
        ]


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
    passed: PassedOver | None = None,
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
        passed: gets what was passed over, by kind.

    Raises:
        UserError: a path does not exist, a folder holds no picture, or nothing is left.
    """
    done = {path.resolve() for path in outputs}
    found: dict[Path, FoundPhoto] = {}
    passed = PassedOver() if passed is None else passed

    def add(paths: Iterable[Path], root: Path | None, *, named: bool = True) -> None:
        for path in paths:
            key = path.resolve()
            if not named and (key in done or mark_of(path)):
                passed.add(RESULTS, path)
            else:
                folder = path.parent.relative_to(root) if root else Path()
                found.setdefault(key, FoundPhoto(path, folder))

    for text in given:
        if text == STDIN:
            add(_listed(listed, passed), None)
            continue
        path = expanded(text)
        if path.is_dir():
            add(find_images([path], passed), path, named=False)
        elif path.exists() or not glob.has_magic(text):
            add(find_images([path]), None)  # says so where it does not exist
        else:
            add(_matches(path, passed), None, named=False)
    if not found:
        raise UserError(
            "no photo is left to redraw",
            hint="; ".join(passed.lines()) or "the list on standard input is empty",
        )
    return list(found.values())


def find_images(paths: Sequence[str | Path], passed: PassedOver | None = None) -> list[Path]:
    """List picture files: files as given, folders searched recursively (engineering choice).

    A file named outright is kept whatever its suffix. In folders only `IMAGE_SUFFIXES` count;
    hidden files and folders (a leading dot) are passed over, and so are other programs' folders of
    thumbnails and deleted files. Linked folders are searched, each folder once. The list is sorted
    and each file is in it once, also when reached by two ways.

    Args:
        passed: gets what was passed over, by kind.

    Raises:
        UserError: nothing was given, a path does not exist, or a folder holds no picture.
    """
    if not paths:
        raise UserError("no picture was given", hint="name one or more files or folders")
    passed = PassedOver() if passed is None else passed
    found: dict[Path, Path] = {}
    for path in map(expanded, paths):
        if path.is_dir():
            inside = list(_walk(path, passed))
            if not inside:
                suffixes = " ".join(sorted(IMAGE_SUFFIXES))
                raise UserError(
                    f"the folder {path} holds no picture that can be read",
                    hint="; ".join(passed.lines())
                    or f"these suffixes are looked for, in subfolders too: {suffixes}",
                )
        elif path.exists():
            inside = [path]
        else:
            raise UserError(f"{path} does not exist", hint="check the spelling of the path")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return sorted(found.values())


def expanded(text: str | Path) -> Path:
    """A path with `~` and `~somebody` replaced by their folders.

    Raises:
        UserError: it can be no path, or nobody has that name.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
        path.exists()
        if "\0" in str(path):
            raise ValueError("it holds a NUL character")
    except (RuntimeError, ValueError, OSError) as error:  # no such user; NUL; too long
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{str(text)[:80]!r} can be no path: {reason}", hint="check its spelling"
        ) from error
    return path


def _listed(lines: Iterable[str], passed: PassedOver) -> Iterator[Path]:
    for line in lines:
        text = line.strip().lstrip("\ufeff")  # Windows' mark
        if not text:
            continue
        try:
            yield expanded(text)
        except UserError:
            passed.add(LINES, text[:80])


def _matches(pattern: Path, passed: PassedOver) -> list[Path]:
    """Files of a pattern; folders above it that exist are taken as they are, brackets and all."""
    fixed = next(folder for folder in pattern.parents if folder.is_dir())
    below = str(pattern.relative_to(fixed)) if fixed != Path() else str(pattern)
    matched = sorted(str(fixed / name) for name in glob.glob(below, root_dir=fixed, recursive=True))
    if not matched:
        raise UserError(
            f"no file matches {pattern}", hint="check the pattern, and put quotes on it"
        )
    there = [name for name in matched if os.path.exists(name)]
    found = find_images(there, passed) if there else []
    lost = map(Path, set(matched).difference(there))  # dangling links: said when they are read
    return sorted([*found, *lost])


def _walk(root: Path, passed: PassedOver) -> Iterator[Path]:
    """Pictures below `root`; linked folders are followed, each folder once."""
    real_root = root.resolve()
    seen = {real_root}  # each by its own name before links to it

    def say_closed(error: OSError) -> None:
        passed.add(CLOSED, error.filename)

    for parent, folders, files in os.walk(root, followlinks=True, onerror=say_closed):
        folders[:] = [name for name in folders if _is_album(Path(parent, name), real_root, passed)]
        folders.sort(key=lambda name: _links_last(Path(parent, name)))
        places = {name: Path(parent, name).resolve() for name in folders}
        folders[:] = [name for name, place in places.items() if place not in seen]
        seen.update(places.values())
        for file in sorted((Path(parent, name) for name in files), key=_links_last):
            name = file.name
            suffix = file.suffix.lower()
            if name.startswith("."):
                continue
            if suffix in IMAGE_SUFFIXES:
                yield file
            elif kind := _kind_of(suffix):
                passed.add(kind, file)


def _links_last(path: Path) -> tuple[bool, str]:
    """Sorts what is found under several names: its own first."""
    return path.is_symlink(), path.name


def _is_album(folder: Path, root: Path, passed: PassedOver) -> bool:
    if folder.name.casefold() in _NOT_ALBUMS:
        passed.add(BINS, folder)
        return False
    if folder.is_symlink() and root.is_relative_to(folder.resolve()):
        passed.add(LOOPS, folder)
        return False
    return not folder.name.startswith(".")


def _kind_of(suffix: str) -> Kind | None:
    kinds = {HEIC: HEIC_SUFFIXES, RAW: RAW_SUFFIXES, FILMS: _FILMS, OTHER: _OTHER}
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), None)
