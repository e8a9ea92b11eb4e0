"""Films: one face followed, redrawn, and put back into every frame."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from osasis.errors import OsasisError, UserError
from osasis.imaging.align import Similarity, align, cut
from osasis.imaging.blend import Patch, put_back
from osasis.imaging.faces import Face, FaceDetector
from osasis.imaging.squares import FACES
from osasis.imaging.video import CONTAINERS, FilmCopy, open_film, pixel_shape, read_frames, video_of
from osasis.stylize.steady import Steady, follow, smooth
from osasis.stylize.stylizer import WAITING_PIXELS, Stylizer


@dataclass(frozen=True)
class FilmConfig:
    """How a film is redrawn.

    Attributes:
        smooth: seconds over which the face's place is smoothed.
        steady: share of the past in each result, in [0, 1); see `Steady`.
        longest_gap: seconds without a face that are bridged; longer ones stay as they are.
    """

    smooth: float = 0.08
    steady: float = 0.8
    longest_gap: float = 0.5


@dataclass(frozen=True)
class FilmProgress:
    """What has been done: `phase` is "find faces" or "redraw"; total is 0 where it is unknown.

    `notes` says what of the film cannot be read.
    """

    phase: str
    done: int
    total: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Frame:
    """One frame that waits: its time, its pixels, its square if it has a face."""

    source: Any
    stored: np.ndarray  # its pixels need not be square
    pixels: np.ndarray
    square: np.ndarray | None
    place: Similarity | None
    begins: bool  # a shot


def redraw_film(
    stylizer: Stylizer, film: Path, output: Path, config: FilmConfig | None = None
) -> Generator[FilmProgress, None, None]:
    """Redraw the largest face of a film in every frame; sound and times stay.

    The film is read twice: first to find the face everywhere, so that its place can be smoothed
    with the future as well as the past. Nothing is left at `output` until all is done; closing
    the generator leaves nothing.

    Raises:
        UserError: no film, a base that is not of faces, a suffix that cannot be written.
        OsasisError: no frame has a face; the film is damaged.
    """
    config = config or FilmConfig()
    steady = Steady(config.steady)
    if stylizer.base.domain != FACES:
        raise UserError(f"films need a base of faces, and {stylizer.base.name!r} is none")
    if output.suffix.lower() not in CONTAINERS:
        raise UserError(
            f"films cannot be written as {output.suffix or output.name!r}",
            hint=f"use one of these suffixes: {' '.join(CONTAINERS)}",
        )
    detector = FaceDetector(any_turn=False)
    faces: list[list[Face]] = []
    with open_film(film) as opened:
        video = video_of(opened)
        rate, expected = float(video.average_rate or 25), int(video.frames)
    shape = pixel_shape(film)
    notes: list[str] = []
    for pixels in read_frames(film, notes):
        faces.append(detector(_square_pixels(pixels, shape)))
        yield FilmProgress("find faces", len(faces), max(expected, len(faces)))
    places, begins = _places(faces, rate, config, stylizer.base.image_size)
    if not places:
        raise OsasisError(
            f"no face was found in the {len(faces)} frames of {film}",
            hint="faces need to be upright and at least about 20 pixels wide",
        )
    done = 0
    with open_film(film) as opened, FilmCopy(opened, output) as copy:
        for batch in _batches(copy, places, begins, stylizer, shape):
            for frame, pixels in _redraw(stylizer, batch, steady):
                copy.write(_as_stored(frame, pixels), frame.source)
            done += len(batch)
            yield FilmProgress("redraw", done, len(faces), tuple(notes))


def _places(
    faces: list[list[Face]], rate: float, config: FilmConfig, size: int
) -> tuple[dict[int, Similarity], set[int]]:
    """Where the face lies in each frame that shows it, and the frames with which shots begin."""
    places, begins = {}, set()
    for shot in follow(faces, longest_gap=round(config.longest_gap * rate)):
        begins.add(shot.first)
        for i, points in enumerate(smooth(shot.landmarks, config.smooth * rate)):
            landmarks = tuple((float(x), float(y)) for x, y in points)
            places[shot.first + i] = align(Face((0, 0, 0, 0), landmarks, 1.0), size)
    return places, begins


def _batches(
    copy: FilmCopy,
    places: dict[int, Similarity],
    begins: set[int],
    stylizer: Stylizer,
    shape: float,
) -> Iterator[list[_Frame]]:
    size, batch = stylizer.base.image_size, []
    for number, (source, stored) in enumerate(copy.frames()):
        pixels, place = _square_pixels(stored, shape), places.get(number)
        square = None if place is None else cut(pixels, place, (size, size))
        batch.append(_Frame(source, stored, pixels, square, place, number in begins))
        held = len(batch) * (stored.size + pixels.size) // 3
        if len(batch) == stylizer.batch_size or held >= WAITING_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def _square_pixels(pixels: np.ndarray, shape: float) -> np.ndarray:
    """A frame as it is shown, by the width of its pixels in heights."""
    if abs(shape - 1) < 0.01:
        return pixels
    return cv2.resize(pixels, (round(pixels.shape[1] * shape), pixels.shape[0]))


def _as_stored(frame: _Frame, redrawn: np.ndarray) -> np.ndarray:
    """A result in the film's own pixels; where nothing was redrawn they are the film's."""
    if frame.stored.shape == redrawn.shape:
        return redrawn
    change = redrawn.astype(np.float32) - frame.pixels
    change = cv2.resize(change, frame.stored.shape[1::-1], interpolation=cv2.INTER_AREA)
    return np.rint(frame.stored + change).clip(0, 255).astype(np.uint8)


def _redraw(
    stylizer: Stylizer, batch: list[_Frame], steady: Steady
) -> Iterator[tuple[_Frame, np.ndarray]]:
    controls = stylizer.controls
    squares = [frame.square for frame in batch if frame.square is not None]
    # the same seed everywhere: what --variation draws stays the same from frame to frame
    results = iter(stylizer.redraw(squares, [stylizer.seed] * len(squares)))
    for frame in batch:
        if frame.square is None or frame.place is None:
            yield frame, frame.pixels
            continue
        if frame.begins:
            steady.reset()
        after = steady(frame.square, next(results))
        yield frame, put_back(frame.pixels, [Patch(frame.place, frame.square, after)], controls)
