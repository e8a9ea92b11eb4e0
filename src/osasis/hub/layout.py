"""A base or a style on disk: one safetensors file that holds everything, or a folder around it.

The folder is what is published on the hub: the same file under the name `model.safetensors`, beside
`config.json` (the manifest again, for people and for the hub's pages) and `README.md` (the card).
"""

from __future__ import annotations

from pathlib import Path

from osasis.errors import UserError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"


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
