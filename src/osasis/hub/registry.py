"""What comes with the package and goes by name: bases, styles, paintings, configurations."""

from __future__ import annotations

import difflib
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


def paintings() -> dict[str, Path]:
    """Style pictures that come with the package, by name."""
    return {path.stem: path for path in sorted((assets() / "styles").glob("*.webp"))}


def configs() -> dict[str, Path]:
    """Pretraining configurations that come with the package, by name."""
    folder = assets().parent / "configs"
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
    """The bases that `load_base` knows by name."""
    found = []
    for name, path in _shipped(BASES_FOLDER).items():
        manifest = read_manifest(path)
        found.append(
            BaseInfo(
                name=name,
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
    """File of a base given by name or path.

    Raises:
        UserError: there is none.
    """
    return find_named(name_or_path, _shipped(BASES_FOLDER), "base")


def find_style(name_or_path: str | Path) -> Path:
    """File of a learned style given by name or path.

    Raises:
        UserError: there is none.
    """
    hint = "learn one with `osasis learn PICTURE`;"
    return find_named(name_or_path, _shipped(STYLES_FOLDER), "style", hint)


def _shipped(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((assets() / folder).glob(f"*{SUFFIX}"))}
