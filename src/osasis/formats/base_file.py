"""The bases that are here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from osasis.config.artefacts import artefacts, fetched
from osasis.config.catalogue import BASES_FOLDER, shipped_files
from osasis.formats.safetensors_file import read_manifest
from osasis.models.autoencoder import FACTOR


@dataclass(frozen=True)
class BaseInfo:
    """One base: its name, what it is, image size in pixels, bytes on disk, file, origin."""

    name: str
    description: str
    image_size: int
    bytes: int
    path: Path
    source: str


def list_bases() -> list[BaseInfo]:
    """The bases that `load_base` knows by name and that are here."""
    known = artefacts()
    here = {
        name: (path, "comes with the package") for name, path in shipped_files(BASES_FOLDER).items()
    }
    for name, entry in known.items():
        path = fetched(name) if entry.kind == "base" else None
        if path is not None:
            here[name] = (path, "fetched")
    found = []
    for name, (path, source) in here.items():
        manifest = read_manifest(path)
        factor = FACTOR if manifest.get("autoencoder") else 1  # pixels of a place of x0
        found.append(
            BaseInfo(
                name=name,
                description=str(manifest["notes"].get("description") or known[name].about),
                image_size=factor * int(manifest["model"]["unet"]["image_size"]),
                bytes=path.stat().st_size,
                path=path,
                source=source,
            )
        )
    return found
