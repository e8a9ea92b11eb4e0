"""What can be loaded by name: bases, styles, paintings, configurations."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import safe_open

from osasis.errors import UserError
from osasis.hub.artefacts import artefacts, fetched
from osasis.hub.artefacts import path as fetched_path
from osasis.hub.layout import weights_file

SUFFIX = ".safetensors"
BASES_FOLDER = "bases"
STYLES_FOLDER = "styles_learned"


def assets() -> Path:
    """Folder of the files that come with the package."""
    return Path(str(files("osasis"))) / "assets"


def paintings() -> dict[str, Path]:
    """Style pictures that come with the package, by name."""
    return {path.stem: path for path in sorted((assets() / "styles").glob("*.webp"))}


def configs() -> dict[str, Path]:
    """Pretraining configurations that come with the package, by name."""
    folder = assets().parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def experiments() -> dict[str, Path]:
    """Evaluations that come with the package, by name."""
    folder = assets().parent / "experiments"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


@dataclass(frozen=True)
class BaseInfo:
    """One base: its name, what it is, image size in pixels, bytes on disk, file, origin."""

    name: str
    description: str
    image_size: int
    bytes: int
    path: Path
    source: str


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file's metadata, without reading its tensors."""
    with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
        return dict(json.loads((file.metadata() or {})["osasis"]))


def list_bases() -> list[BaseInfo]:
    """The bases that `load_base` knows by name and that are here."""
    known = artefacts()
    here = {name: (path, "comes with the package") for name, path in _shipped(BASES_FOLDER).items()}
    for name, entry in known.items():
        path = fetched(name) if entry.kind == "base" else None
        if path is not None:
            here[name] = (path, "fetched")
    found = []
    for name, (path, source) in here.items():
        manifest = read_manifest(path)
        found.append(
            BaseInfo(
                name=name,
                description=str(manifest["notes"].get("description") or known[name].about),
                image_size=int(manifest["model"]["unet"]["image_size"]),
                bytes=path.stat().st_size,
                path=path,
                source=source,
            )
        )
    return found


def list_styles() -> list[Path]:
    """Files of the learned styles that come with the package."""
    return list(_shipped(STYLES_FOLDER).values())


def find_named(text: str | Path, shipped: dict[str, Path], kind: str, hint: str = "") -> Path:
    """The file `text` names: a path, or else the name of a shipped one.

    Raises:
        UserError: it is neither.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if str(text) in shipped:
        return shipped[str(text)]
    if path.is_dir() or len(path.parts) > 1:
        raise UserError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    close = difflib.get_close_matches(str(text), shipped, n=1)
    parts = [f"did you mean {close[0]}?" if close else "", hint]
    parts.append(f"shipped are: {', '.join(shipped) or 'none'}")
    raise UserError(
        f"{str(text)!r} is neither a file nor a shipped {kind}", hint=" ".join(filter(None, parts))
    )


def find_base(name_or_path: str | Path) -> Path:
    """File of a base given by name or path, a folder's included.

    Raises:
        UserError: there is none.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return weights_file(path)
    if str(name_or_path) in artefacts() and not path.is_file():
        return fetched_path(str(name_or_path))
    known = _shipped(BASES_FOLDER)
    return find_named(name_or_path, known, "base", "others can be fetched: `osasis models list`;")


def find_style(name_or_path: str | Path) -> Path:
    """File of a learned style given by name or path.

    Raises:
        UserError: there is none.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return weights_file(path)
    hint = "learn one with `osasis learn PICTURE`;"
    return find_named(name_or_path, _shipped(STYLES_FOLDER), "style", hint)


def _shipped(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((assets() / folder).glob(f"*{SUFFIX}"))}
