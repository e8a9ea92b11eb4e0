"""Scores and features of pictures on disk, so that no hour of an evaluation is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from osasis.files import atomic_path, write_text

T = TypeVar("T")


def picture_id(picture: Image.Image) -> str:
    """What stands for the pixels of a picture."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()


def remembered(measure: Callable[[Image.Image], T], kept: int) -> Callable[[Image.Image], T]:
    """`measure`, asked once about a picture that comes again; answers on the last `kept` stay."""
    known: dict[str, T] = {}

    def ask(picture: Image.Image) -> T:
        name = picture_id(picture)
        answer = known.pop(name) if name in known else measure(picture)
        known[name] = answer  # the one used last is the last to go
        if len(known) > kept:
            del known[next(iter(known))]
        return answer

    return ask


class ScoreCache:
    """One small file per output, one per picture and network; written at once or not at all.

    Files are named after pixels, so that a changed picture is measured anew.

    Args:
        folder: where to keep them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, pictures: tuple[Image.Image | None, ...]) -> dict[str, float]:
        """Scores of these pictures, by the identity of their metric; empty if there are none."""
        try:
            found: dict[str, float] = json.loads(self._file(pictures).read_text(encoding="utf-8"))
            return {str(k): float(v) for k, v in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # not there, or damaged: measured again

    def write(self, pictures: tuple[Image.Image | None, ...], scores: dict[str, float]) -> None:
        """Keep the scores of these pictures."""
        write_text(self._file(pictures), json.dumps(scores, sort_keys=True))

    def features(
        self, picture: Image.Image, network: str, measure: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Features (d,) of a picture, measured unless they are there."""
        file = self._folder / "features" / network / f"{_digest((picture,))}.npy"
        try:
            found: np.ndarray = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            found = measure()
            with atomic_path(file) as temporary, temporary.open("wb") as stream:
                np.save(stream, found)
        return found

    def _file(self, pictures: tuple[Image.Image | None, ...]) -> Path:
        return self._folder / "scores" / f"{_digest(pictures)}.json"


def _digest(pictures: tuple[Image.Image | None, ...]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        size = picture.size if picture else (0, 0)
        digest.update(f"{size}".encode() + (picture.tobytes() if picture else b""))
    return digest.hexdigest()[:32]
