"""What can be loaded by name: bases, styles, paintings, configurations."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path

from osasis.config.artefacts import artefacts
from osasis.config.artefacts import path as fetched_path
from osasis.errors import UserError

SUFFIX = ".safetensors"
BASES_FOLDER = "bases"
STYLES_FOLDER = "styles_learned"
DEMO_PAINTING = "renoir_seashore"
# a folder that is published on the hub: our file, its manifest again, and the card
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def assets() -> Path:
    """Folder of the files that come with the package."""
    return Path(str(files("osasis"))) / "assets"


def paintings() -> dict[str, Path]:
    """Style pictures that come with the package, by name."""
    return {path.stem: path for path in sorted((assets() / "styles").glob("*.webp"))}


def _tables(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((assets().parent / folder).glob("*.toml"))}


def configs() -> dict[str, Path]:
    """Pretraining configurations that come with the package, by name."""
    return _tables("configs")


def autoencoder_configs() -> dict[str, Path]:
    """Configurations of `osasis pretrain autoencoder` that come with the package, by name."""
    return _tables("configs/autoencoder")


def experiments() -> dict[str, Path]:
    """Evaluations that come with the package, by name."""
    return _tables("experiments")


def list_styles() -> list[Path]:
    """Files of the learned styles that come with the package."""
    return list(shipped_files(STYLES_FOLDER).values())


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
    path, known = Path(name_or_path).expanduser(), shipped_files(BASES_FOLDER)
    if _is_published(name_or_path, {**artefacts(), **known}):
        return weights_file(path)
    if str(name_or_path) in artefacts() and not path.is_file():
        return fetched_path(str(name_or_path))
    return find_named(name_or_path, known, "base", "others can be fetched: `osasis models list`;")


def find_style(name_or_path: str | Path) -> Path:
    """File of a learned style given by name or path.

    Raises:
        UserError: there is none.
    """
    known = shipped_files(STYLES_FOLDER)
    if _is_published(name_or_path, known):
        return weights_file(Path(name_or_path).expanduser())
    return find_named(name_or_path, known, "style", "learn one with `osasis learn PICTURE`;")


def _is_published(text: str | Path, known: Collection[str]) -> bool:
    """Whether a folder is meant; one of results that is called as something known here is not."""
    path = Path(text).expanduser()
    return path.is_dir() and (str(text) not in known or (path / WEIGHTS).is_file())


def shipped_files(folder: str) -> dict[str, Path]:
    """Safetensors files of the package's folder of assets, by name."""
    return {path.stem: path for path in sorted((assets() / folder).glob(f"*{SUFFIX}"))}


def weights_file(path: Path) -> Path:
    """The safetensors file of `path`: itself, or the one in the folder.

    Raises:
        UserError: a folder without one, or one whose file is a link that leads out of it.
    """
    if not path.is_dir():
        return path
    inner = path / WEIGHTS
    if not inner.is_file():
        raise UserError(
            f"{path} is a folder without {WEIGHTS}",
            hint="a base or style folder holds model.safetensors, config.json and README.md",
        )
    check_inside(inner, path)
    return inner


def check_inside(file: Path, folder: Path) -> None:
    """Refuse a file that is a link out of its folder.

    The hub's cache links from `snapshots/REVISION` to `blobs` of the same repository: that is in.

    Raises:
        UserError: it leads out.
    """
    allowed = [folder.resolve()]
    for above in (folder.absolute(), *folder.absolute().parents):
        if above.name == "snapshots":
            allowed.append((above.parent / "blobs").resolve())
            break
    target = file.resolve()
    if not any(target.is_relative_to(root) for root in allowed):
        raise UserError(f"{file} is a link that leads out of its folder, to {target}")
