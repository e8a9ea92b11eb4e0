"""Fetching by name: download or take a given file, check it, convert it, put it in place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from osasis.config import artefacts as known
from osasis.config.artefacts import Artefact, Lock, data_folder, plain_name
from osasis.config.catalogue import CARD, CONFIG, WEIGHTS, check_inside
from osasis.errors import OsasisError, UserError
from osasis.files import Report, atomic_path, sha256, silent
from osasis.formats.huggingface import check_room, from_hub, hub_files
from osasis.hub.download import check_proxies
from osasis.hub.sources import Source, by_hand, canonical, check, held_revision, obtain

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def models_folder(name: str) -> Path:
    """Where our own files of an artefact lie."""
    return data_folder() / "models" / plain_name(name)


def fetch(name: str, given: Sequence[str] = (), report: Report = silent) -> Path:
    """Make an artefact usable by its name.

    Args:
        name: an entry of the registry.
        given: files, folders or addresses to take instead of the registry's places.
        report: told about bytes downloaded and checked.

    Returns:
        Its file, or its folder if it has several.

    Raises:
        UserError: no such name, a given file that does not fit, offline mode.
        OsasisError: a download fails, a file is not the one it should be, the disk is full.
    """
    entry, lock = known.artefact(name), Lock()
    here = known.fetched(name, lock)
    if here is not None and not given:
        return here
    if entry.kind == "page":
        raise by_hand(entry, [])
    if not given:
        check_proxies()
    if entry.kind == "base":
        installed = _base(entry, given, lock, report)
    elif entry.kind in ("lpips", "adain"):
        installed = _joined(entry, given, lock, report)
    elif entry.kind == "folder":
        installed = _folder(entry, given, lock, report)
    else:
        installed = _single(entry, given, lock, report)
    lock.installed[name] = installed
    lock.save()
    found = known.fetched(name, lock)
    if found is None:
        raise OsasisError(f"{name} was fetched, and is gone again")
    shutil.rmtree(data_folder() / "downloads" / name, ignore_errors=True)
    return found


def _single(entry: Artefact, given: Sequence[str], lock: Lock, report: Report) -> dict[str, object]:
    source = obtain(entry, given, lock, report, any_name=True)
    if entry.kind == "tensors" and source.path.suffix in PICKLES:
        from osasis.hub.unpickle import unpickle

        with unpickle(source.path) as read:
            return _install(entry.name, [(read.path, WEIGHTS)])
    if source.path.suffix == ".safetensors":
        _check_safetensors(source.path)
    if source.revision:
        place = next(p for p in entry.places if p.at == source.origin)
        files = {place.file: source.sha256}
        return {"hub": place.at, "revision": source.revision, "files": files}
    return _install(entry.name, [(source.path, canonical(entry, source.path.name))])


def _install(name: str, files: Sequence[tuple[Path, str]]) -> dict[str, object]:
    """Copy files into the artefact's own folder; those that a download left are moved."""
    folder, digests = models_folder(name), {}
    downloads = data_folder() / "downloads"
    for path, target in files:
        if path.is_relative_to(downloads):
            folder.mkdir(parents=True, exist_ok=True)
            path.replace(folder / plain_name(target))
        elif path != folder / target:
            check_room(folder, path.stat().st_size)
            with atomic_path(folder / plain_name(target)) as temporary:
                shutil.copyfile(path, temporary)
        digests[target] = sha256(folder / target)
    return {"folder": f"models/{name}", "files": digests}


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
            file.keys()
    except (SafetensorError, OSError) as error:
        raise OsasisError(f"{path.name} is not a safetensors file: {error}") from error


def _base(entry: Artefact, given: Sequence[str], lock: Lock, report: Report) -> dict[str, object]:
    from osasis.base import load_base
    from osasis.formats.card import base_card, describe_folder
    from osasis.hub.released import architecture, base_bytes, build_base

    family = architecture(entry.architecture)
    known_bytes = sum(known.artefact(part).bytes for part in entry.parts)
    check_room(data_folder(), 2 * base_bytes(family) + (0 if given else known_bytes))
    sources = [obtain(known.artefact(part), given, lock, report) for part in entry.parts]
    # nothing of this machine, nor of the registry's wording: styles are bound to the file's hash,
    # and the same checkpoints must give everybody the same base
    notes = {f"sha256 of {part}": s.sha256 for part, s in zip(entry.parts, sources, strict=True)}
    ddpm = sources[1].path if len(sources) > 1 else None
    folder = models_folder(entry.name)
    for old in (CONFIG, CARD):
        (folder / old).unlink(missing_ok=True)
    report("converting", 0, 1)
    build_base(folder / WEIGHTS, entry.name, family, sources[0].path, ddpm, notes)
    load_base(folder / WEIGHTS)  # what cannot be loaded is not recorded as fetched
    describe_folder(folder, base_card(folder / WEIGHTS, entry.about, entry.licence))
    report("converting", 1, 1)
    for part in entry.parts:  # converted: what was downloaded for it is not needed any more
        shutil.rmtree(data_folder() / "downloads" / part, ignore_errors=True)
    return {"folder": f"models/{entry.name}", "files": {WEIGHTS: sha256(folder / WEIGHTS)}}


def _joined(entry: Artefact, given: Sequence[str], lock: Lock, report: Report) -> dict[str, object]:
    """One file of ours, made of two published ones."""
    from osasis.hub.joined import build_adain, build_lpips

    build = build_lpips if entry.kind == "lpips" else build_adain
    first, second = (obtain(known.artefact(part), given, lock, report) for part in entry.parts)
    target = models_folder(entry.name) / WEIGHTS
    build(first.path, second.path, target)
    for part in entry.parts:
        shutil.rmtree(data_folder() / "downloads" / part, ignore_errors=True)
    return {"folder": f"models/{entry.name}", "files": {WEIGHTS: sha256(target)}}


def _folder(entry: Artefact, given: Sequence[str], lock: Lock, report: Report) -> dict[str, object]:
    if given:
        folder = Path(given[0]).expanduser()
        if len(given) > 1 or not folder.is_dir():
            raise UserError(f"{entry.name} has several files: give one folder with --from")
        names = [name for name in entry.files if (folder / name).is_file()]
        origin, revision = str(folder), ""
        paths = {name: folder / name for name in names}
        for path in paths.values():
            check_inside(path, folder)
    else:
        place = next(p for p in entry.places if p.kind == "hub")
        origin = place.at
        revision, there = hub_files(place.at, held_revision(entry, place, lock))
        names = [name for name in entry.files if name in there]
        paths = {name: from_hub(origin, name, revision, report) for name in names}
    pickled = WEIGHTS not in names and WEIGHTS in entry.files
    if pickled:
        raw = "pytorch_model.bin"
        if given:
            paths[raw] = Path(given[0]).expanduser() / raw
        elif raw in there:
            paths[raw] = from_hub(origin, raw, revision, report)
        if raw not in paths or not paths[raw].is_file():
            raise OsasisError(f"{origin} has neither {WEIGHTS} nor {raw}")
    if "config.json" not in names:
        raise OsasisError(f"{origin} has no config.json", hint="it may have moved")
    sources = {
        n: check(entry, n, Source(p, origin, revision), lock, report) for n, p in paths.items()
    }
    if not pickled and revision:
        files = {name: source.sha256 for name, source in sources.items()}
        return {"hub": origin, "revision": revision, "files": files}
    if not pickled:
        return _install(entry.name, [(p, n) for n, p in paths.items()])
    from osasis.hub.unpickle import unpickle

    with unpickle(paths.pop(raw)) as read:
        plain = [(p, n) for n, p in paths.items()]
        return _install(entry.name, [*plain, (read.path, WEIGHTS)])


def verify(name: str, report: Report = silent) -> list[str]:
    """What is wrong with a fetched artefact, in words; empty when all is as it was.

    Raises:
        UserError: it was never fetched.
    """
    lock = Lock()
    if name not in lock.installed:
        raise UserError(f"{name} was not fetched", hint=f"osasis models fetch {name}")
    found, wrong = lock.files(name), []
    for file in lock.installed[name]["files"]:
        if file not in found:
            wrong.append(f"{file} is missing")
        elif sha256(found[file][0], report) != found[file][1]:
            wrong.append(f"{found[file][0]} has changed since it was fetched")
    return wrong


def remove(name: str, *, forget: bool = False) -> list[Path]:
    """Delete what was fetched; the lock still holds later fetches to it unless `forget`.

    The hub's files go out of its cache too: this revision, and only it.

    Returns:
        What was deleted.

    Raises:
        UserError: there is nothing of that name.
    """
    lock = Lock()
    if name not in lock.installed and not (forget and name in lock.pins):
        raise UserError(f"{name} was not fetched: there is nothing to remove")
    entry = lock.installed.pop(name, {})
    gone = []
    if "hub" in entry:
        from huggingface_hub import scan_cache_dir

        gone = [Path(entry["hub"]) / str(entry["revision"])]
        scan_cache_dir().delete_revisions(str(entry["revision"])).execute()
    for folder in (models_folder(name), data_folder() / "downloads" / name):
        if folder.is_dir():
            shutil.rmtree(folder)
            gone.append(folder)
    if forget:
        parts = known.artefacts()[name].parts if name in known.artefacts() else ()
        for pinned in (name, *parts):
            lock.pins.pop(pinned, None)
    lock.save()
    return gone
