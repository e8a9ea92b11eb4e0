"""What `osasis models list` and `info` show, and the plan of `fetch`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from osasis.errors import UserError
from osasis.terminal import table as new_table

if TYPE_CHECKING:
    from rich.table import Table


def base_table() -> Table:
    """The bases."""
    from osasis.config.artefacts import describe_bytes
    from osasis.formats.base_file import list_bases

    table = new_table("Bases", ("name", "pixels", "size", "from", "what it draws"))
    for base in list_bases():
        table.add_row(
            base.name,
            str(base.image_size),
            describe_bytes(base.bytes),
            str(base.source),
            base.description,
        )
    return table


def style_table() -> Table:
    """The shipped styles."""
    from osasis.config.artefacts import describe_bytes
    from osasis.config.catalogue import list_styles
    from osasis.formats.safetensors_file import read_manifest

    table = new_table("Styles", ("name", "base", "preset", "size"))
    for path in list_styles():
        manifest = read_manifest(path)
        table.add_row(
            path.stem,
            str(manifest.get("base_name", "")),
            str(manifest.get("preset", "")),
            describe_bytes(path.stat().st_size),
        )
    return table


# of a manifest: pictures, shapes of networks, how tensors are packed
_INSIDE = frozenset(
    ("thumbnail", "packed", "config", "model", "autoencoder", "latent_net", "regions")
)


def artefact_table() -> Table:
    """What can be fetched."""
    from osasis.config.artefacts import Lock, artefacts, describe_bytes, fetched

    table = new_table("To fetch", ("name", "here", "size", "commercial", "what"))
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    lock = Lock()
    for name, entry in artefacts().items():
        here = "yes" if fetched(name, lock) else "by hand" if entry.kind == "page" else "no"
        known = describe_bytes(entry.bytes) if entry.bytes else "unknown"
        if entry.kind == "base":
            known = describe_bytes(_converted(name))
        table.add_row(name, here, known, entry.commercial, entry.about)
    return table


def _converted(name: str) -> int:
    from osasis.config.artefacts import artefact
    from osasis.hub.released import architecture, base_bytes

    return base_bytes(architecture(artefact(name).architecture))


def print_tables() -> None:
    """All tables."""
    from rich.console import Console

    console = Console()
    for table in (base_table(), style_table(), artefact_table()):
        console.print(table if table.row_count else f"{table.title}: none is shipped")
    print("osasis models info NAME tells all about one, osasis models fetch NAME gets it")


def plan(name: str, *, given: bool = False) -> list[str]:
    """What fetching `name` will do: parts, sizes, places, licences, and the disk it takes."""
    from osasis.config.artefacts import artefact, data_folder, describe_bytes

    entry = artefact(name)
    parts = [artefact(part) for part in entry.parts] or [entry]
    lines = [f"{name}: {entry.about}", f"  licence: {entry.licence}"]
    lines[1] += f"; commercial use: {entry.commercial}"
    for part in parts:
        places = "what you gave" if given else ", then ".join(p.link for p in part.places[:2])
        lines.append(f"  {part.name}: {describe_bytes(part.bytes)}, from {places}")
    folder = data_folder()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    free = describe_bytes(shutil.disk_usage(nearest).free)
    if entry.kind == "base":
        result = describe_bytes(_converted(name))
        lines.append(f"  disk: {result} for the base in {folder}, as much again while converting")
    lines.append(f"  free there: {free}; the server says the sizes that are unknown here")
    return lines


def _of_manifest(manifest: Mapping[str, Any]) -> list[str]:
    """What a base or style file says of itself, without what only networks need."""
    said = {key: value for key, value in manifest.items() if key not in _INSIDE}
    said |= said.pop("notes", {})
    lines = [f"  {key.replace('_', ' ')}: {_value(value)}" for key, value in said.items()]
    parts = [key for key in ("model", "autoencoder", "latent_net", "regions") if manifest.get(key)]
    return [*lines, *([f"  networks: {', '.join(parts)}"] if parts else [])]


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)[:300]


def describe(name: str) -> list[str]:
    """All that is known of an entry of the registry, or of a shipped base or style."""
    from osasis.config.artefacts import Lock, artefacts, describe_bytes, fetched
    from osasis.config.catalogue import find_base, find_style, weights_file
    from osasis.formats.safetensors_file import read_manifest

    if name not in artefacts():
        try:
            path = find_base(name)
        except UserError:
            path = find_style(name)
        size = describe_bytes(weights_file(path).stat().st_size)
        return [f"{name}: {path}, {size}", *_of_manifest(read_manifest(path))]
    entry, lock = artefacts()[name], Lock()
    lines = [f"{name} ({entry.kind}): {entry.about}", f"  licence: {entry.licence}"]
    lines += [f"  commercial use: {entry.commercial}", f"  needed by: {entry.needed_by}"]
    lines += [f"  made of: {', '.join(entry.parts)}"] if entry.parts else []
    for file, known in entry.files.items():
        held = lock.pin(name, file)
        digest = known.sha256 or held.get("sha256")
        source = "" if known.sha256 or not digest else " (of the first fetch)"
        count = describe_bytes(known.bytes or int(held.get("bytes", 0)))
        recorded = f"{digest}{source}" if digest else "unknown until the first fetch"
        lines.append(f"  file: {file}, {count}, sha256 {recorded}")
    for place in entry.places:
        revision = f" at {place.revision}" if place.revision else ""
        lines.append(f"  place: {place.kind} {place.link} {place.file}{revision}")
    lines.append(f"  here: {fetched(name, lock) or 'no'}")
    return lines
