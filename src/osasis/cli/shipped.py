"""What is shipped beside bases and styles: paintings, a photo, configurations."""

from __future__ import annotations

import difflib
from pathlib import Path

from osasis.errors import UserError

PACKAGE = Path(__file__).resolve().parent.parent
ASSETS = PACKAGE / "assets"


def paintings() -> dict[str, Path]:
    """Shipped style pictures by name."""
    return {path.stem: path for path in sorted((ASSETS / "styles").glob("*.webp"))}


def configs() -> dict[str, Path]:
    """Shipped pretraining configurations by name."""
    return {path.stem: path for path in sorted((PACKAGE / "configs").glob("*.toml"))}


def find(text: str, shipped: dict[str, Path], kind: str) -> Path:
    """The file `text` names: a path, or else the name of a shipped one.

    Raises:
        UserError: it is neither.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if text in shipped:
        return shipped[text]
    if path.suffix or len(path.parts) > 1 or path.is_dir():
        raise UserError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    close = difflib.get_close_matches(text, shipped, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"{text!r} is neither a file nor a shipped {kind}",
        hint=f"{guess}shipped are: {', '.join(shipped) or 'none'}",
    )
