"""Frames of films in and out, through PyAV."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path

CONTAINERS = (".mp4", ".mov", ".mkv")
_QUALITY = {"crf": "17", "preset": "medium"}  # of x264: 17 is about lossless to the eye


def require_av() -> ModuleType:
    """The module `av`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"films need PyAV: {error}", hint="install it with: pip install 'osasis[film]'"
        ) from error
    return av


@contextmanager
def open_film(path: Path) -> Iterator[Any]:
    """An opened film with at least one video stream.

    Raises:
        UserError: no such file, or no film.
    """
    av = require_av()
    if not path.is_file():
        raise UserError(f"{path} {'is a folder' if path.exists() else 'does not exist'}")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a film that can be read: {error}") from error
    with container:
        if not container.streams.video:
            raise UserError(f"{path} has no pictures in it, only sound")
        yield container


def upright(frame: Any) -> np.ndarray:
    """A frame as (H, W, 3) uint8 RGB, turned as the film says it is to be shown."""
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    quarters = round(getattr(frame, "rotation", 0) / 90)  # anticlockwise
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """All frames of a film, (H, W, 3) uint8 RGB.

    Raises:
        UserError: no such file, or no film.
        OsasisError: it is damaged.
    """
    av = require_av()
    with open_film(path) as container:
        try:
            for frame in container.decode(video=0):
                yield upright(frame)
        except (av.error.FFmpegError, OSError) as error:
            raise OsasisError(f"{path} is damaged: {error}") from error


class FilmCopy:
    """Writes a film with new pictures; times and sound are those of the film it is made from.

    A context manager: the file appears when all went well, and otherwise nothing is left.

    Args:
        source: the opened film, see `open_film`.
        path: file to write; its suffix is one of `CONTAINERS`.
    """

    def __init__(self, source: Any, path: Path) -> None:
        self._source, self._path = source, path
        self._atomic = atomic_path(path)
        self._stream: Any = None
        self._sound: Any = None
        self._waiting: list[Any] = []  # sound

    def __enter__(self) -> FilmCopy:
        av = require_av()
        self._out = av.open(str(self._atomic.__enter__()), "w")
        try:
            if self._source.streams.audio:
                self._sound = self._out.add_stream_from_template(self._source.streams.audio[0])
        except (av.error.FFmpegError, ValueError) as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise self._refused(error) from error
        return self

    def _refused(self, error: Exception) -> OsasisError:
        return OsasisError(
            f"{self._path} cannot be written: {error}",
            hint="write an .mkv, which takes every kind of sound",
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and self._stream is not None:
                self._out.mux(self._stream.encode())  # what the encoder still holds
            self._out.close()
        except BaseException:  # the film is not whole: no file either
            self._out.close()
            self._atomic.__exit__(*sys.exc_info())
            raise
        self._atomic.__exit__(kind, error, trace)
        if isinstance(error, require_av().error.FFmpegError):
            raise self._refused(error) from error

    def frames(self) -> Iterator[Any]:
        """The source's frames in order; its sound is copied on the way."""
        video = self._source.streams.video[0]
        streams = [video] if self._sound is None else [video, self._source.streams.audio[0]]
        for packet in self._source.demux(streams):
            if packet.stream is video or packet.stream.index == video.index:
                yield from packet.decode()
            elif packet.dts is not None:
                packet.stream = self._sound
                self._waiting.append(packet)
                self._add_sound()

    def _add_sound(self) -> None:
        """Write the sound that waits, once all streams are known: the file's head names them."""
        if self._stream is not None:
            for packet in self._waiting:
                self._out.mux(packet)
            self._waiting.clear()

    def write(self, pixels: np.ndarray, like: Any) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, at the time of `like`."""
        av = require_av()
        # the usual colour subsampling needs even sides
        pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
        if self._stream is None:
            self._stream = self._add_video(pixels.shape[1], pixels.shape[0])
            self._add_sound()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = like.pts, like.time_base
        self._out.mux(self._stream.encode(frame))

    def _add_video(self, width: int, height: int) -> Any:
        video = self._source.streams.video[0]
        stream = self._out.add_stream("libx264", rate=video.average_rate or 25, options=_QUALITY)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = video.time_base
        return stream
