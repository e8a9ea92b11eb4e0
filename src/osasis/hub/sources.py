"""A file at hand: given or downloaded, held to the registry and the lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from osasis.config import artefacts as known
from osasis.config.artefacts import Artefact, Lock, Place, data_folder, plain_name
from osasis.config.catalogue import check_inside
from osasis.errors import OsasisError, UserError
from osasis.files import Report, sha256, silent
from osasis.formats.huggingface import from_hub, hub_files, offline
from osasis.hub.download import from_url, refuse_web_page

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


@dataclass(frozen=True)
class Source:
    """A file at hand: where it lies, where it came from, its commit on the hub, its SHA-256."""

    path: Path
    origin: str
    revision: str = ""
    sha256: str = ""


def canonical(entry: Artefact, name: str) -> str:
    """The name a file has in the registry: its own, else the one with the same suffix."""
    if name in entry.files:
        return name
    alike = [file for file in entry.files if Path(file).suffix == Path(name).suffix]
    return (alike or list(entry.files) or [name])[0]


def obtain(
    entry: Artefact,
    given: Sequence[str],
    lock: Lock,
    report: Report = silent,
    *,
    any_name: bool = False,
) -> Source:
    """The one file of an artefact: the given one, else from the first place that has it.

    It is checked against the registry and the lock, and recorded in the lock.

    Raises:
        UserError: nothing given fits; only a person can download it; offline mode.
        OsasisError: no place works, or the file is not the one it should be.
    """
    for text in given:
        source = _given(entry, text, report, any_name=any_name)
        if source is not None:
            return check(entry, canonical(entry, source.path.name), source, lock, report)
    if given:
        raise UserError(
            f"none of what was given is {entry.name}: {', '.join(given)}",
            hint=f"expected a file called {' or '.join(entry.given_names)}",
        )
    here = known.fetched(entry.name, lock)
    if here is not None:
        source = Source(here, str(here))
        return check(entry, canonical(entry, here.name), source, lock, report)
    failures: list[OsasisError] = []
    for place in entry.places:
        try:
            if place.kind != "page":
                source = _download(entry, place, lock, report)
                return check(entry, PurePosixPath(place.file).name, source, lock, report)
        except _Changed:
            raise
        except OsasisError as error:
            failures.append(error)
    raise by_hand(entry, failures)


def _given(entry: Artefact, text: str, report: Report, *, any_name: bool) -> Source | None:
    """What the user gave, if it can be this artefact; `any_name` trusts that it is."""
    names = {PurePosixPath(name).name for name in (*entry.given_names, *entry.files)}
    if text.startswith(("http://", "https://")):
        name = PurePosixPath(text.split("?")[0]).name
        if name not in names and not any_name:
            return None
        target = data_folder() / "downloads" / entry.name / plain_name(canonical(entry, name))
        return Source(from_url(text, target, _titled(entry, report)), text)
    path = Path(text).expanduser()
    if path.is_dir():
        for name in (n for n in entry.given_names if (path / n).is_file()):
            check_inside(path / name, path)
            return Source(path / name, str(path / name))
        return None
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return Source(path, str(path)) if any_name or path.name in names else None


def _titled(entry: Artefact, report: Report) -> Report:
    return lambda phase, done, total: report(f"{phase} {entry.name}", done, total)


def held_revision(entry: Artefact, place: Place, lock: Lock) -> str:
    """Commit to take: the registry's, else the one of the first fetch, else the newest."""
    pins = lock.pins.get(entry.name, {}).values()
    held = [str(pin["revision"]) for pin in pins if pin.get("from") == place.at]
    return place.revision or (held[0] if held else "")


def _download(entry: Artefact, place: Place, lock: Lock, report: Report) -> Source:
    titled = _titled(entry, report)
    if place.kind == "hub":
        revision = held_revision(entry, place, lock)
        if not (revision and offline()):
            revision, _ = hub_files(place.at, revision)
        return Source(from_hub(place.at, place.file, revision, titled), place.at, revision)
    address = DRIVE + place.at if place.kind == "drive" else place.at
    target = data_folder() / "downloads" / entry.name / plain_name(PurePosixPath(place.file).name)
    if not target.is_file():
        from_url(address, target, titled)
    return Source(target, address)


class _Changed(OsasisError):
    """A file that is not the one that is expected under its name."""


def check(entry: Artefact, name: str, source: Source, lock: Lock, report: Report) -> Source:
    """Hold a file to what is known of it, and record it if nothing was.

    Raises:
        OsasisError: it is a web page, or not the file it should be.
    """
    try:
        refuse_web_page(source.path, source.origin)
    except OsasisError:
        _discard(source)
        raise
    size, digest = source.path.stat().st_size, sha256(source.path, report)
    expected, pin = entry.files.get(name, known.Known()), lock.pin(entry.name, name)
    wanted, whose = (expected.sha256, "the registry") if expected.sha256 else (
        str(pin.get("sha256", "")), "the first fetch"
    )  # fmt: skip
    if wanted and digest != wanted:
        _discard(source)
        raise _Changed(
            f"{name} of {entry.name} is not the file that {whose} knows: sha256 {wanted[:16]}... "
            f"expected, {digest[:16]}... came ({size} bytes from {source.origin})",
            hint="it is damaged or was replaced; nothing of it was used. If you are certain of the "
            f"new one: osasis models remove {entry.name} --forget"
            if not expected.sha256
            else "it is damaged or was replaced; nothing of it was used",
        )
    if not pin:
        lock.pins.setdefault(entry.name, {})[name] = {
            "sha256": digest,
            "bytes": size,
            "from": source.origin,
            "revision": source.revision,
        }
        lock.save()
    return Source(source.path, source.origin, source.revision, digest)


def _discard(source: Source) -> None:
    """Remove what we downloaded; what the user gave, and the hub's cache, stay."""
    if source.path.is_relative_to(data_folder() / "downloads"):
        source.path.unlink(missing_ok=True)


def by_hand(entry: Artefact, failures: Sequence[OsasisError]) -> OsasisError:
    links = "\n".join(f"  {place.link}" for place in entry.places)
    tried = "; ".join(str(error) for error in failures)
    kind = UserError if not failures or isinstance(failures[-1], UserError) else OsasisError
    files = " or ".join(entry.files) or "the file"
    use = (
        "osasis models convert iter_200.pt --as style --base ffhq-256 --picture STYLE_IMAGE"
        if entry.kind == "page"
        else f"osasis models fetch {entry.needed_by if entry.kind == 'checkpoint' else entry.name} "
        "--from FILE_OR_FOLDER"
    )
    return kind(
        f"{entry.name} could not be downloaded{': ' + tried if tried else ''}",
        hint=f"download {files} in a browser from\n{links}\nthen: {use}",
    )
