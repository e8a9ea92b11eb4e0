"""What can be fetched by name, what of it is here, and what it is held to."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from osasis.config.tables import from_table, parsed, read_toml, typed
from osasis.errors import OsasisError, UserError
from osasis.files import write_text

Kind = Literal["file", "folder", "tensors", "checkpoint", "base", "lpips", "adain", "page"]
PLACE_KINDS = ("hub", "url", "drive", "page")


@dataclass(frozen=True)
class Known:
    """What is known of a file before it is fetched: bytes (0: unknown), SHA-256 ("": unknown)."""

    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Place:
    """One place an artefact can be had: one of the first four says where.

    Attributes:
        hub: repository of the Hugging Face hub.
        url: address of the file.
        drive: id of a file of Google Drive.
        page: address of a page for people.
        file: the file's name there; empty for a repository of several.
        revision: commit of the repository; empty takes the newest at first use, and that one after.
    """

    hub: str | None = None
    url: str | None = None
    drive: str | None = None
    page: str | None = None
    file: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        if sum(getattr(self, kind) is not None for kind in PLACE_KINDS) != 1:
            raise UserError(f"a place needs exactly one of {', '.join(PLACE_KINDS)}")
        for part in PurePosixPath(self.file).parts:
            plain_name(part)

    @property
    def kind(self) -> str:
        """Which of `PLACE_KINDS` it is."""
        return next(kind for kind in PLACE_KINDS if getattr(self, kind) is not None)

    @property
    def at(self) -> str:
        """Repository, address or file id."""
        return str(getattr(self, self.kind))

    @property
    def link(self) -> str:
        """An address that a person can open."""
        if self.hub is not None:
            return f"https://huggingface.co/{self.hub}"
        if self.drive is not None:
            return f"https://drive.google.com/file/d/{self.drive}/view"
        return self.at


@dataclass(frozen=True)
class Artefact:
    """One entry of the registry; see the head of `registry.toml` for the fields."""

    name: str
    kind: Kind
    licence: str
    about: str = ""
    commercial: str = "unknown"
    needed_by: str = ""
    files: dict[str, Known] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    parts: tuple[str, ...] = ()
    architecture: str = ""
    from_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name):
            raise UserError(f"{self.name!r} cannot be the name of an artefact")
        for file in self.files:
            plain_name(file)

    @property
    def bytes(self) -> int:
        """Bytes of its files as far as they are known; 0 when they are not."""
        sizes = [known.bytes for known in self.files.values()]
        return sizes[0] if len(sizes) == 1 else 0

    @property
    def given_names(self) -> tuple[str, ...]:
        """Names that its file may have where it is given by hand."""
        return tuple(self.files) if self.from_names is None else self.from_names


@dataclass(frozen=True)
class _LockFile:
    """The lock file as it is written; see `Lock`."""

    pins: dict[str, dict[str, dict[str, Any]]]
    installed: dict[str, dict[str, Any]]
    version: int = 1


def data_folder() -> Path:
    """Where fetched models and the lock file are: $OSASIS_DATA, else ~/.local/share/osasis."""
    own = os.environ.get("OSASIS_DATA")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "osasis"


@lru_cache(maxsize=4)
def _read(path: Path, stamp: float) -> dict[str, Any]:
    return read_toml(path)


def registry() -> dict[str, Any]:
    """The tables `artefacts` and `architectures`; those of $OSASIS_REGISTRY come first.

    Raises:
        UserError: a registry that cannot be read.
    """
    tables: dict[str, Any] = {"artefacts": {}, "architectures": {}}
    paths = [Path(__file__).with_name("registry.toml")]
    own = os.environ.get("OSASIS_REGISTRY")
    if own:
        paths.append(Path(own).expanduser())
    for path in paths:
        stamp = path.stat().st_mtime if path.exists() else 0.0
        raw = _read(path, stamp)
        for table in tables:
            where = f"{table} of {path}"
            tables[table] |= typed(raw.get(table, {}), dict[str, dict[str, Any]], where)
    return tables


def artefacts() -> dict[str, Artefact]:
    """Everything that can be fetched, by name."""
    return {
        name: from_table(Artefact, raw, where=f"the registry's entry {name!r}", name=name)
        for name, raw in registry()["artefacts"].items()
    }


def artefact(name: str) -> Artefact:
    """One entry of the registry.

    Raises:
        UserError: there is none of that name.
    """
    known = artefacts()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(
            f"nothing called {name!r} can be fetched",
            hint=f"{hint}`osasis models list` shows what there is",
        )
    return known[name]


def plain_name(text: str) -> str:
    """`text`, if it is the name of a file and cannot lead anywhere else.

    Raises:
        UserError: it is empty, absolute, or climbs out.
    """
    if text in ("", ".", "..") or re.search(r"[/\\\0:]", text):
        raise UserError(f"{text!r} is not a plain file name")
    return text


class Lock:
    """The lock file: what every fetched file is held to, and what is installed.

    `pins`: artefact -> file -> sha256, bytes, from, revision. They outlive `remove`.
    `installed`: artefact -> either {"folder", "files": {name: sha256}} of ours, inside the data
    folder, or {"hub", "revision", "files"} in the hub's cache.
    """

    def __init__(self) -> None:
        self.path = data_folder() / "lock.json"
        try:
            raw = parsed(self.path.read_text(encoding="utf-8"), "it")
            read = from_table(_LockFile, raw, where="it")
        except FileNotFoundError:
            read = _LockFile({}, {})
        except (OSError, ValueError, UserError) as error:
            raise OsasisError(
                f"the lock file {self.path} cannot be read: {error}",
                hint="restore it, or remove it to trust what is fetched next",
            ) from error
        self.pins, self.installed = read.pins, read.installed

    def save(self) -> None:
        """Write it, at once or not at all."""
        content = {"version": 1, "pins": self.pins, "installed": self.installed}
        write_text(self.path, json.dumps(content, indent=2, sort_keys=True))

    def pin(self, name: str, file: str) -> dict[str, Any]:
        """What is held of a file; empty before its first fetch."""
        return dict(self.pins.get(name, {}).get(file, {}))

    def files(self, name: str) -> dict[str, tuple[Path, str]]:
        """Installed files of an artefact with the SHA-256 they had; only those that are there.

        Raises:
            OsasisError: an entry that leads out of the data folder.
        """
        entry = self.installed.get(name, {})
        found = {}
        for file, digest in entry.get("files", {}).items():
            path = _hub_path(entry, file) if "hub" in entry else self._own_path(entry, file)
            if path is not None and path.is_file():
                found[file] = (path, str(digest))
        return found

    def _own_path(self, entry: dict[str, Any], file: str) -> Path:
        folder = data_folder().resolve()
        path = folder / str(entry.get("folder", "")) / file
        if not path.resolve().is_relative_to(folder):
            raise OsasisError(f"{self.path} names {file}, which leads out of {folder}")
        return path


def _hub_path(entry: dict[str, Any], file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(entry["hub"], file, revision=entry["revision"])
    return Path(found) if isinstance(found, str) else None


def fetched(name: str, lock: Lock | None = None) -> Path | None:
    """Where a fetched artefact is: its file, or its folder if it has several; None if it is not."""
    lock = lock or Lock()
    wanted = lock.installed.get(name, {}).get("files", {})
    found = lock.files(name)
    if not wanted or len(found) < len(wanted):
        return None
    first = next(iter(found.values()))[0]
    return first if len(wanted) == 1 else first.parent


def path(name: str) -> Path:
    """Local file (or folder, for a model of several files) of a fetched artefact.

    Nothing is downloaded. Artefacts of the kind "tensors" are safetensors with the original names.

    Raises:
        UserError: it is not here; the message says what it is and what fetches it.
    """
    entry = artefact(name)
    found = fetched(name)
    if found is None:
        about = f"{entry.about} ({describe_bytes(entry.bytes)}, licence: {entry.licence})"
        raise UserError(
            f"{name} is not here: {about}",
            hint=f"osasis models fetch {name}"
            + (" - not for commercial use" if entry.commercial == "no" else ""),
        )
    return found


def fetched_repository(repository: str) -> Path | None:
    """Folder of a repository of the hub that was fetched by its name here; None if none was."""
    for name, entry in artefacts().items():
        if entry.kind == "folder" and any(place.at == repository for place in entry.places):
            return fetched(name)
    return None


def describe_bytes(count: int) -> str:
    """A size for people; 0 is an unknown one."""
    if count <= 0:
        return "size unknown"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
