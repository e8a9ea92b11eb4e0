"""Writing pictures, and choosing names for them."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from osasis.errors import OsasisError, UserError
from osasis.files import STYLE_SUFFIX, atomic_path
from osasis.imaging.load import HEIC_SUFFIXES
from osasis.imaging.photo_file import DECODE_ERRORS, Kept
from osasis.imaging.pixels import flattened, split_alpha

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SUFFIXES = tuple(_FORMATS)
FORMATS = ("same", "png", "jpg", "webp")
_SAME = {**dict.fromkeys((".jpg", ".jpeg", ".jfif", ".mpo", *HEIC_SUFFIXES), ".jpg")}
_SAME[".webp"] = ".webp"
_QUALITY = 95
_MARK_TAG = 0x000B  # EXIF ProcessingSoftware


def save_image(
    image: Image.Image,
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    kept: Kept = Kept(),
    replace: bool = True,
) -> None:
    """Write a picture in the format its suffix names, whole or not at all.

    Args:
        image, metadata, kept: see `encode_image`.
        path: what is there is replaced.
        replace: otherwise an error, if something is there.

    Raises:
        UserError: the suffix is none of .png, .jpg, .jpeg and .webp.
        FileExistsError: something is there and `replace` is false.
        OsasisError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path).expanduser()
    data = encode_image(image, format_of(path), metadata=metadata, kept=kept)
    try:
        with atomic_path(path, replace=replace) as temporary:
            temporary.write_bytes(data)
    except FileExistsError as error:
        if replace:  # a file where a folder should be
            raise write_error(path, error) from error
        raise
    except OSError as error:
        raise write_error(path, error) from error


def encode_image(
    image: Image.Image,
    kind: str,
    *,
    metadata: Mapping[str, str] | None = None,
    kept: Kept = Kept(),
) -> bytes:
    """A picture as the bytes of a file.

    `metadata` becomes PNG text chunks, and in JPEG and WebP one JSON text in EXIF's
    ProcessingSoftware. JPEG and WebP are written at quality 95; JPEG has no transparency, and
    gets white in its place. Source: engineering choice.

    Args:
        image: RGB, RGBA, or any mode that Pillow can write.
        kind: "PNG", "JPEG" or "WEBP".
        metadata: texts by name.
        kept: of the photo's file: its EXIF, to which that is added, and its resolution.

    Raises:
        OsasisError: the format holds no picture of this size.
    """
    exif = _with_mark(kept.exif, {} if kind == "PNG" else metadata)
    options: dict[str, Any] = {"exif": exif} | ({"dpi": kept.dpi} if kept.dpi else {})
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        for key, text in (metadata or {}).items():
            options["pnginfo"].add_text(key, text)
    else:
        options["quality"] = _QUALITY
    if kind == "JPEG":
        options["subsampling"] = 0  # full colour resolution: style lives in colour
        if image.mode not in ("RGB", "L"):
            image, _ = flattened(*split_alpha(image), image.info.get("icc_profile"))
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise OsasisError(
            f"{image.width} x {image.height} pixels cannot be written as {kind}: {error}",
            hint="choose another format: PNG takes any size",
        ) from error
    return buffer.getvalue()


def _with_mark(exif: bytes, metadata: Mapping[str, str] | None) -> bytes:
    """EXIF with `metadata` as one JSON text; empty without either."""
    if not metadata:
        return exif
    block = Image.Exif()
    block.load(exif)
    block[_MARK_TAG] = json.dumps(dict(metadata))
    return block.tobytes()


def suffix_for(photo: Path, kind: str) -> str:
    """The suffix of a photo's result by `FORMATS`: "same" is JPEG for JPEG and HEIC, else WebP for
    WebP, else PNG."""
    return _SAME.get(photo.suffix.lower(), ".png") if kind == "same" else f".{kind}"


def mark_of(path: Path) -> dict[str, Any]:
    """What osasis wrote into a result about how it was made; empty for every other file."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return {}
    try:
        with Image.open(path, formats=tuple(set(_FORMATS.values()))) as image:
            said: Any = image.info
            if image.format != "PNG":
                said = json.loads(image.getexif().get(_MARK_TAG, "{}"))
            if not isinstance(said, Mapping) or "osasis" not in said:
                return {}
            mark = json.loads(said["osasis"])
    except (*DECODE_ERRORS, RecursionError, Image.DecompressionBombError):
        return {}
    return mark if isinstance(mark, dict) else {}


def is_taken(path: Path) -> bool:
    """Whether anything is there, a link to nothing included."""
    return os.path.lexists(path)


def numbered(path: Path) -> Iterator[Path]:
    """A path, then NAME-2, NAME-3 and so on."""
    yield path
    suffix = STYLE_SUFFIX if path.name.endswith(STYLE_SUFFIX) else path.suffix
    for number in itertools.count(2):
        yield path.with_name(f"{path.name.removesuffix(suffix)}-{number}{suffix}")


def free_path(path: Path) -> Path:
    """`path`, or with a number where something is there already."""
    return next(free for free in numbered(path) if not is_taken(free))


def unique_paths(
    sources: Sequence[str | Path],
    folder: str | Path,
    suffix: str,
    *,
    subfolders: Sequence[str | Path] | None = None,
) -> list[Path]:
    """Name one output in `folder` per source: the source's own name with the suffix `suffix`.

    A name already given to an earlier source, in whatever case, or that would be one of the sources
    themselves, gets '-2', '-3' and so on. The same list gives the same names (engineering choice).
    `subfolders` says in which folder below `folder` each output lies; None puts all into `folder`.
    """
    folder = Path(folder).expanduser()
    taken = {_identity(Path(source).expanduser()) for source in sources}
    chosen = []
    for source, below in zip(sources, subfolders or [""] * len(sources), strict=True):
        names = numbered(folder / below / f"{Path(source).stem}{suffix}")
        path = next(path for path in names if _identity(path) not in taken)
        taken.add(_identity(path))
        chosen.append(path)
    return chosen


def format_of(path: Path) -> str:
    """What `save_image` writes at a path: "PNG", "JPEG" or "WEBP".

    Raises:
        UserError: the suffix is none of .png, .jpg, .jpeg and .webp.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"pictures cannot be written as {path}",
            hint=f"use one of these suffixes: {' '.join(_FORMATS)}",
        )
    return kind


def _identity(path: Path) -> str:
    # Two names that differ in case alone are one file on macOS and Windows.
    return str(path.resolve()).casefold()


def write_error(path: Path, error: OSError) -> OsasisError:
    """Why a file could not be written, with how much room there is, and what to do."""
    folder = next((p for p in path.absolute().parents if p.is_dir()), None)
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB free" if folder else "no such disk"
    except OSError:
        free = "free space unknown"
    reason = error.strerror or str(error)
    return OsasisError(
        f"cannot write {path}: {reason} ({free} there)",
        hint="free some space, or choose a folder you may write to",
    )
