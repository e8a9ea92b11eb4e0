"""What visitors bring and make: one folder a visitor, one folder an item, names of our own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from osasis.errors import OsasisError, UserError
from osasis.files import write_text
from osasis.studio.config import Limits
from osasis.studio.failures import not_kept

RECORD = "item.json"
STYLE, PHOTO, RESULT, SHEET = "style", "photo", "result", "sheet"
KINDS = (STYLE, PHOTO, RESULT, SHEET)
MAX_NAME = 60
_ID = re.compile(r"[0-9a-f]{32}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")
_TEMPORARY = 900.0  # seconds
ADDRESS_SHARE = 0.25  # of all bytes, for the uploads of one address


def new_token() -> str:
    """A visitor's secret: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Whether `text` can be a visitor's secret."""
    return _TOKEN.fullmatch(text) is not None


def plain_name(text: str, otherwise: str) -> str:
    """A name for people: one line of printable characters, never used as a path."""
    kept = "".join(c if c.isprintable() and c not in '/\\<>"' else " " for c in text)
    return " ".join(kept.split())[:MAX_NAME].strip(" .") or otherwise


@dataclass(frozen=True)
class Item:
    """One thing of a visitor.

    Attributes:
        id: 32 hexadecimal digits.
        kind: one of `KINDS`.
        name: for people.
        created: seconds since 1970.
        folder: where its files are.
        data: what is known about it.
    """

    id: str
    kind: str
    name: str
    created: float
    folder: Path
    data: dict[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """A file of it."""
        return self.folder / name


class Visitor:
    """One visitor's things, and the address it asks from; made by `Store.visitor`."""

    def __init__(self, folder: Path, store: Store, address: str = "") -> None:
        self.folder, self._store, self.address = folder, store, address

    @property
    def id(self) -> str:
        """A name that does not give the secret away."""
        return self.folder.name

    def add(
        self,
        kind: str,
        name: str,
        write: Callable[[Path], None],
        data: dict[str, Any] | None = None,
    ) -> Item:
        """Keep a new item whose files `write(folder)` writes: whole, or not at all.

        Raises:
            UserError: the visitor, or the studio, has used up its place.
            OsasisError: it cannot be written.
        """
        self._store.check_room(self)
        key = secrets.token_hex(16)
        item = Item(key, kind, name, self._store.clock(), self.folder / key, data or {})
        unfinished = self.folder / f".{key}"
        try:
            unfinished.mkdir(parents=True)
            write(unfinished)
            self._record(replace(item, folder=unfinished))
            unfinished.rename(item.folder)
        except UserError:
            raise
        except (OSError, OsasisError) as error:
            raise not_kept(error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self._store.grew(_size(item.folder))
        return item

    def update(self, item: Item, *, name: str | None = None, **data: Any) -> Item:
        """Change an item's name or data."""
        changed = replace(item, name=name or item.name, data=item.data | data)
        self._record(changed)
        return changed

    def items(self, kind: str) -> list[Item]:
        """The visitor's items of a kind, the newest first."""
        found = [item for item in self._all() if item.kind == kind]
        return sorted(found, key=lambda item: (-item.created, item.id))

    def item(self, key: str, kind: str | None = None) -> Item:
        """One item.

        Raises:
            UserError: the visitor has none of that id. Whether another has is not told.
        """
        found = _read(self.folder / key) if _ID.fullmatch(key) else None
        if found is None or kind not in (None, found.kind):
            raise UserError(f"there is no {kind or 'item'} of that id", hint="it may have expired")
        return found

    def remove(self, item: Item) -> None:
        """Delete an item's files."""
        shutil.rmtree(item.folder, ignore_errors=True)

    def touch(self, item: Item) -> None:
        """Note that an item was used."""
        if item.folder.is_dir():
            os.utime(item.folder)

    def _all(self) -> Iterator[Item]:
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                item = _read(path) if _ID.fullmatch(path.name) else None
                if item is not None:
                    yield item

    def _record(self, item: Item) -> None:
        record = {"kind": item.kind, "name": item.name, "created": item.created, "data": item.data}
        write_text(item.file(RECORD), json.dumps(record))


class Store:
    """Everything visitors bring and make, below one folder.

    Args:
        folder: `visitors/` and `uploads/` (what is on its way in) lie below it.
        limits: how much, and how long.
        clock: seconds since 1970.
    """

    def __init__(
        self, folder: Path, limits: Limits, clock: Callable[[], float] = time.time
    ) -> None:
        self.limits, self.clock = limits, clock
        self._visitors, self.uploads = folder / "visitors", folder / "uploads"
        for path in (self._visitors, self.uploads):
            path.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._lock = threading.Lock()
        self._bytes = _size(self._visitors)
        self._coming: list[Upload] = []

    def everybody(self) -> list[Visitor]:
        """All visitors who keep something."""
        return [Visitor(folder, self) for folder in self._visitors.iterdir() if folder.is_dir()]

    def visitor(self, token: str, address: str = "") -> Visitor:
        """The visitor with a secret; its folder is made when something is kept.

        Raises:
            UserError: that is no secret of a visitor.
        """
        if not is_token(token):
            raise UserError("no visitor is known", hint="open the page first, and allow its cookie")
        name = hashlib.sha256(token.encode()).hexdigest()[:32]
        return Visitor(self._visitors / name, self, address)

    def check_room(self, visitor: Visitor) -> None:
        """Refuse more where too much is kept already.

        Raises:
            UserError: it is.
        """
        if _size(visitor.folder) >= self.limits.visitor_bytes:
            raise UserError(
                f"your files take {self.limits.visitor_bytes // 1_000_000} MB, which is the limit",
                hint="delete photos, results or styles that you no longer need",
            )
        if self._bytes >= self.limits.all_bytes:
            raise UserError("the studio's disk is full", hint="try again later")

    @contextmanager
    def reserved(self, visitor: Visitor, count: int) -> Iterator[Upload | None]:
        """Keep room for `count` bytes while they are uploaded; None where there is none.

        Uploads lie for a quarter of an hour: so long a visitor has `visitor_bytes` for them, and
        an address `ADDRESS_SHARE` of everything. What the disk has not is not taken either.
        """
        limits, now = self.limits, self.clock()
        with self._lock:
            self._coming = [up for up in self._coming if up.is_open or up.began > now - _TEMPORARY]
            mine = sum(up.count for up in self._coming if up.visitor == visitor.id)
            near = sum(up.count for up in self._coming if up.address == visitor.address)
            open_ = sum(up.count for up in self._coming if up.is_open)
            there = _size(self.uploads) + self._bytes + open_
            fits = (
                mine + count <= limits.visitor_bytes
                and near + count <= ADDRESS_SHARE * limits.all_bytes
                and there + count <= limits.all_bytes
                # an upload is copied once on its way
                and open_ + 2 * count <= shutil.disk_usage(self.uploads).free
            )
            upload = Upload(visitor.id, visitor.address, now, count)
            if fits:
                self._coming.append(upload)
        try:
            yield upload if fits else None
        finally:
            upload.is_open = False

    def grew(self, count: int) -> None:
        """Note that `count` bytes were added."""
        with self._lock:
            self._bytes += count

    def uploaded(self, path: str | Path) -> Path:
        """A file that came in, and nothing else.

        Raises:
            UserError: the path leads anywhere else.
        """
        found = Path(path).resolve()
        if not found.is_relative_to(self.uploads.resolve()) or not found.is_file():
            raise UserError("that is not an uploaded file", hint="upload it again")
        return found

    def sweep(self, busy: frozenset[str] = frozenset()) -> int:
        """Remove what has expired; return how many items. Items named in `busy` stay."""
        now, removed = self.clock(), 0
        oldest = {STYLE: now - 86400 * self.limits.keep_style_days}
        for folder in list(self._visitors.iterdir()):
            for path in list(folder.iterdir()):
                item = _read(path)
                used = path.stat().st_mtime if item and item.kind == STYLE else 0.0
                made = max(item.created, used) if item else path.stat().st_mtime
                limit = oldest.get(item.kind if item else "", now - 3600 * self.limits.keep_hours)
                if made < limit and path.name not in busy:
                    shutil.rmtree(path, ignore_errors=True)
                    removed += item is not None
            if not any(folder.iterdir()):
                folder.rmdir()
        self._sweep_uploads(now)
        with self._lock:
            self._bytes = _size(self._visitors)
        return removed

    def _sweep_uploads(self, now: float) -> None:
        for folder, _, names in os.walk(self.uploads, topdown=False):
            for name in names:
                path = Path(folder, name)
                if path.lstat().st_mtime < now - _TEMPORARY:
                    path.unlink(missing_ok=True)
            if Path(folder) != self.uploads and not any(Path(folder).iterdir()):
                Path(folder).rmdir()


@dataclass
class Upload:
    """An upload that has room: under way, or done a while ago."""

    visitor: str
    address: str
    began: float
    count: int
    is_open: bool = True


def _read(folder: Path) -> Item | None:
    try:
        raw = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Item(folder.name, raw["kind"], raw["name"], raw["created"], folder, raw["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total
