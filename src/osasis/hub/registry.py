"""What can be loaded by name: bases and learned styles that come with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import safe_open

from osasis.errors import UserError

SUFFIX = ".safetensors"
BASES_FOLDER = "bases"
STYLES_FOLDER = "styles_learned"


def assets() -> Path:
    """Folder of the files that come with the package."""
    return Path(str(files("osasis"))) / "assets"


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
    """The bases that `load_base` knows by name."""
    found = []
    for path in sorted((assets() / BASES_FOLDER).glob(f"*{SUFFIX}")):
        manifest = read_manifest(path)
        found.append(
            BaseInfo(
                name=path.stem,
                description=str(manifest["notes"].get("description", "")),
                image_size=int(manifest["model"]["unet"]["image_size"]),
                bytes=path.stat().st_size,
                path=path,
                source="comes with the package",
            )
        )
    return found


def list_styles() -> list[Path]:
    """Files of the learned styles that come with the package."""
    return sorted((assets() / STYLES_FOLDER).glob(f"*{SUFFIX}"))


def _find(given: str | Path, folder: str, what: str, listing: str) -> Path:
    path = Path(given).expanduser()
    if path.is_file():
        return path
    shipped = assets() / folder / f"{given}{SUFFIX}"
    if path.name == str(given) and shipped.is_file():
        return shipped
    names = [p.stem for p in sorted((assets() / folder).glob(f"*{SUFFIX}"))]
    raise UserError(
        f"no {what} {str(given)!r}: it is neither a file nor one of {names}", hint=listing
    )


def find_base(name_or_path: str | Path) -> Path:
    """File of a base given by name or path.

    Raises:
        UserError: there is none.
    """
    return _find(name_or_path, BASES_FOLDER, "base", "`osasis models list` shows the names")


def find_style(name_or_path: str | Path) -> Path:
    """File of a learned style given by name or path.

    Raises:
        UserError: there is none.
    """
    return _find(
        name_or_path,
        STYLES_FOLDER,
        "style",
        "learn one with: osasis learn PICTURE -o my.safetensors",
    )
