"""Frames of films in and out, through PyAV."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from PIL import Image

from osasis.errors import OsasisError, UserError
from osasis.extras import need
from osasis.files import atomic_path
from osasis.imaging.film_colors import Colors, from_rgb, pixel_format, to_rgb, tone_mapped
from osasis.imaging.load import FORMATS, MAX_PIXELS
from osasis.imaging.photo_file import DECODE_ERRORS

CONTAINERS = (".mp4", ".mov", ".mkv")
_ANIMATED = {"PNG": "PNG", "WEBP": "WebP"}  # pictures that move and that FFmpeg may not read
_QUALITY = {"crf": "15", "preset": "medium"}  # of x264: within 1 level on average
# of errors that are the place's fault, not the film's
_PLACES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOENT)
_OF_FILES = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")


def require_av() -> ModuleType:
    """The module `av`.

    Raises:
        UserError: it is not installed.
    """
    av: ModuleType = need("av", "a film", "film")
    return av


@contextmanager
def open_film(path: Path) -> Iterator[Any]:
    """An opened film with at least one video stream.

    Raises:
        UserError: no such file, or no film.
    """
    av = require_av()
    if not path.is_file():
        is_there = "is a folder" if path.is_dir() else "is no regular file"
        raise UserError(
            f"{path} {is_there if path.exists() else 'does not exist'}",
            hint="name one film's file",
        )
    if not path.stat().st_size:
        raise UserError(f"{path} is empty (0 bytes)", hint="copy or download it again")
    try:
        # "file:", since FFmpeg takes what is before a colon for a protocol
        container = av.open(f"file:{path}")
    except (av.error.FFmpegError, OSError) as error:
        said = error.strerror or error
        raise UserError(f"{path} is not a film that can be read: {said}") from error
    with container:
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise _no_film(path)  # FFmpeg takes it for a picture, some by their names alone
        if not container.streams.video:
            raise UserError(f"{path} has no pictures in it, only sound")
        for stream in container.streams.video:
            _check_size(path, stream.codec_context)
        yield container


def _no_film(path: Path) -> UserError:
    """What a file is of which FFmpeg reads one picture at most, and what to do with it."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            kind, moves = picture.format, bool(getattr(picture, "is_animated", False))
    except (Image.DecompressionBombError, *DECODE_ERRORS):
        return UserError(f"{path} is not a film that can be read, whatever its name says")
    if moves and kind in _ANIMATED:
        return UserError(
            f"{path} is an animated {_ANIMATED[kind]} that FFmpeg cannot read",
            hint="convert it to GIF or MP4 first",
        )
    return UserError(f"{path} is a picture, not a film", hint="`osasis stylize` redraws it")


def _check_size(path: Path, video: Any) -> None:
    """Refuse frames of more pixels than photos may have, and pixels that are lines."""
    width, height, shape = video.width, video.height, float(video.sample_aspect_ratio or 1)
    if width * height * max(1.0, shape) > MAX_PIXELS or not 1 / 16 <= shape <= 16:
        raise UserError(
            f"{path} has frames of {width} x {height} pixels of the shape {shape:g} to 1, "
            f"at most {MAX_PIXELS / 1e6:g} megapixels are read",
            hint="make it smaller first",
        )


def video_of(container: Any) -> Any:
    """The stream that players show: no cover picture, else the longest."""
    av = require_av()
    cover = av.stream.Disposition.attached_pic
    shown = [s for s in container.streams.video if not s.disposition & cover]
    streams = shown or list(container.streams.video)
    return max(streams, key=lambda s: (s.frames, -s.index))


def notes_on(container: Any, suffix: str) -> list[str]:
    """What a copy of a film will not have as the film has it, in a line each."""
    video = video_of(container)
    said, colors = [], Colors.of(video)
    if colors.is_hdr:
        said.append("the film is HDR: the result is SDR (BT.709), tone-mapped")
    elif "10" in (kind := str(video.codec_context.pix_fmt)) or "12" in kind:
        said.append("the film has more than 8 bits a colour: the result has 8")
    if video.metadata.get("alpha_mode") == "1" or "yuva" in str(video.codec_context.pix_fmt):
        said.append("the film's transparency is left out")
    if is_interlaced(video):
        said.append("the film is interlaced: the result is not (deinterlaced)")
    left = [s for s in container.streams if s.index != video.index and not is_copied(s, suffix)]
    if left:
        kinds = ", ".join(sorted("another picture" if s.type == "video" else s.type for s in left))
        said.append(f"left out of the result: {kinds}")
    return said


def is_interlaced(video: Any) -> bool:
    """Whether a stream's pictures are two fields each."""
    return int(video.codec_context.field_order) > 1  # 0: unknown, 1: progressive


class Pictures:
    """A film's frames as pictures: in the film's colours, upright.

    Args:
        video: the stream they come from.

    Attributes:
        damaged: whether something could not be decoded.
    """

    def __init__(self, video: Any) -> None:
        self._colors, self._rotation = Colors.of(video), 0
        self._filter = to_rgb(self._colors, interlaced=is_interlaced(video))
        self.damaged = False

    def of(self, packet: Any) -> Iterator[tuple[Any, np.ndarray]]:
        """What a packet completes: frames with their time, each with its (H, W, 3) uint8 RGB.

        What is damaged is passed over, as players do.
        """
        frames = _decoded(packet)
        self.damaged |= frames is None
        for frame in frames or []:
            self._rotation = getattr(frame, "rotation", 0)
            yield from self._drawn(self._filter(frame))
        if packet.size == 0:  # the end
            yield from self._drawn(self._filter(None))

    def _drawn(self, frames: list[Any]) -> Iterator[tuple[Any, np.ndarray]]:
        for frame in frames:
            pixels: np.ndarray = frame.to_ndarray()
            if self._colors.is_hdr:
                pixels = tone_mapped(pixels, self._colors)
            quarters = round(self._rotation / 90)  # anticlockwise
            yield frame, np.ascontiguousarray(np.rot90(pixels, quarters))


def _decoded(packet: Any) -> list[Any] | None:
    """The frames that a packet completes; None where it is damaged."""
    try:
        return list(packet.decode())
    except require_av().error.FFmpegError:
        return None


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Packets in order, up to where a film is cut short."""
    av = require_av()
    try:
        yield from container.demux(streams)
    except (av.error.FFmpegError, OSError):
        return


def read_frames(path: Path, notes: list[str] | None = None) -> Iterator[np.ndarray]:
    """All frames of a film that can be read, (H, W, 3) uint8 RGB.

    Args:
        notes: gets a line where some of it cannot be read.

    Raises:
        UserError: no such file, or no film.
        OsasisError: no frame can be read.
    """
    count = 0
    with open_film(path) as container:
        video = video_of(container)
        pictures = Pictures(video)
        for packet in _packets(container, [video]):
            for _, pixels in pictures.of(packet):
                count += 1
                yield pixels
    if not count:
        raise OsasisError(f"{path} is damaged: not one of its frames can be read")
    if pictures.damaged and notes is not None:
        notes.append(f"{path} is damaged or cut short: {count} frames of it can be read")


def pixel_shape(path: Path) -> float:
    """Width of a film's pixels in heights, as they are shown upright."""
    with open_film(path) as container:
        video = video_of(container)
        shape = float(video.codec_context.sample_aspect_ratio or 1)
        for packet in _packets(container, [video]):
            for frame in _decoded(packet) or []:
                return 1 / shape if round(getattr(frame, "rotation", 0) / 90) % 2 else shape
    return shape


class FilmCopy:
    """Writes a film with new pictures; all else is that of the film it is made from.

    Times, sound, titles (where the container takes them), their order and languages, chapters and
    metadata stay. A context manager: the file appears when all went well, and otherwise nothing is
    left.

    Args:
        source: the opened film, see `open_film`.
        path: file to write; its suffix is one of `CONTAINERS`.
    """

    def __init__(self, source: Any, path: Path) -> None:
        self._source, self._path = source, path
        self._writing = self._written()
        self._video = video_of(source)
        self._colors = Colors.of(self._video)
        self._to_encoder = from_rgb(self._colors.written)
        self._stream: Any = None
        self._copied: dict[int, Any] = {}  # by the source's index
        self._waiting: list[Any] = []

    def __enter__(self) -> FilmCopy:
        return self._writing.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writing.__exit__(kind, error, trace)

    @contextmanager
    def _written(self) -> Iterator[FilmCopy]:
        av = require_av()
        try:
            with atomic_path(self._path) as temporary, av.open(f"file:{temporary}", "w") as out:
                self._out = out
                yield self
                if self._stream is not None:
                    out.mux(self._stream.encode())  # what the encoder still holds
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> OsasisError:
        hint = "write an .mkv, which takes every kind of sound"
        if isinstance(error, OSError) and error.errno in _PLACES:
            hint = "make room there, or choose another place with -o"
        said = getattr(error, "strerror", None) or error
        return OsasisError(f"{self._path} cannot be written: {said}", hint=hint)

    def frames(self) -> Iterator[tuple[Any, np.ndarray]]:
        """The source's frames in order with their pictures; the rest is copied on the way."""
        pictures = Pictures(self._video)
        copied = [s for s in self._source.streams if is_copied(s, self._path.suffix.lower())]
        for packet in _packets(self._source, [self._video, *copied]):
            if packet.stream.index == self._video.index:
                yield from pictures.of(packet)
            elif packet.dts is not None:
                self._waiting.append(packet)
                self._copy_waiting()

    def _copy_waiting(self) -> None:
        """Write what waits, once all streams are known: the file's head names them."""
        if self._stream is not None:
            for packet in self._waiting:
                packet.stream = self._copied[packet.stream.index]
                self._out.mux(packet)
            self._waiting.clear()

    def write(self, pixels: np.ndarray, like: Any) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, at the time of `like`."""
        av = require_av()
        if self._stream is None:
            self._add_streams(pixels.shape[1], pixels.shape[0])
            self._copy_waiting()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = like.pts, like.time_base
        for ready in self._to_encoder(frame):
            ready.pict_type = 0  # the encoder decides
            self._out.mux(self._stream.encode(ready))

    def _add_streams(self, width: int, height: int) -> None:
        """All streams in the source's order, and what is said of the film."""
        for name, text in self._source.metadata.items():
            if name.lower() not in _OF_FILES:
                self._out.metadata[name] = text
        chapters = self._source.chapters()
        if chapters:
            self._out.set_chapters(chapters)
        for source in self._source.streams:
            if source.index == self._video.index:
                made = self._stream = self._add_video(width, height)
            elif is_copied(source, self._path.suffix.lower()):
                made = self._copied[source.index] = self._out.add_stream_from_template(source)
                made.disposition = source.disposition
            else:
                continue
            for name in ("language", "title", "creation_time"):
                if name in source.metadata:
                    made.metadata[name] = source.metadata[name]

    def _add_video(self, width: int, height: int) -> Any:
        video = self._video
        stream = self._out.add_stream("libx264", rate=video.average_rate or 25, options=_QUALITY)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format(width, height)
        shape = video.codec_context.sample_aspect_ratio
        if shape:
            turned = (width, height) != (video.codec_context.width, video.codec_context.height)
            stream.codec_context.sample_aspect_ratio = 1 / shape if turned else shape
        self._colors.written.tag(stream.codec_context)
        stream.codec_context.time_base = video.time_base
        return stream


def is_copied(stream: Any, suffix: str) -> bool:
    """Whether a stream goes into the copy as it is."""
    if stream.type == "subtitle":
        is_text = stream.codec_context is not None and stream.codec_context.name == "mov_text"
        return bool(is_text == (suffix != ".mkv"))
    return bool(stream.type == "audio")
