"""Reading pictures: whatever comes in, an upright 8-bit sRGB image comes out, or a clear error."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from osasis.errors import UserError
from osasis.extras import install
from osasis.files import open_regular
from osasis.imaging.costly import why_costly
from osasis.imaging.photo_file import (
    DECODE_ERRORS,
    Kept,
    Photo,
    dpi_of,
    kept_exif,
    left_out,
)
from osasis.imaging.pixels import flattened, split_alpha

HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
    | ({".avif"} if features.check("avif") else set())
    | (HEIC_SUFFIXES if HAS_HEIC else set())
)
MAX_PIXELS = 64_000_000
MIN_SIDE = 16
MAX_ASPECT = 100  # longer side, in shorter sides
MAX_BYTES = 256_000_000  # of a picture's file

# Only these decoders: a file with another suffix is still recognised by its content, but Pillow's
# rarely used readers (some of which start other programs) never see what a stranger uploads.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM") + (
    ("AVIF",) if features.check("avif") else ()
)
_JPEG, _END = b"\xff\xd8\xff", b"\xff\xd9"
_MAX_JPEG = 256_000_000  # pixels of a JPEG that is read smaller
_MAX_MISSING = 0.33  # of a JPEG that was cut short
_MANY = ("GIF", "WEBP", "TIFF", "PNG", "AVIF")  # may hold several pictures of which none is odd
_BITS, _PLANES, _DNG_VERSION = 258, 284, 50706  # tags of TIFF
RAW_SUFFIXES = frozenset(
    (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf")
    + (".raw", ".rwl", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".erf", ".kdc", ".dcr", ".x3f")
)
_CONVERT_HINT = "convert it to PNG, JPEG or WebP and try again"
_ORIENTATION_TAG = 0x0112
_TILE_TAGS = (0x0142, 0x0143)  # TIFF's width and height of a tile
_TILE_PIXELS = 4_000_000  # of a tile that may be larger than the whole picture
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: str | Path | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture as a new upright RGB image, 8 bits per channel, sRGB (engineering choice).

    EXIF rotation is applied, transparency is composited on white, an embedded colour profile is
    converted to sRGB (a broken one is ignored), deep grey and float pixels are scaled to 8 bits,
    and of an animation the first frame is taken. A JPEG that lacks its end is read as far as it
    goes, if that is most of it, and one of more pixels than are accepted is read at a half, a
    quarter or an eighth of its size. The number of pixels is checked before decoding.

    Args:
        source: a file, or an image already opened (which is not changed).
        max_pixels: the most pixels, width times height, that are accepted.

    Raises:
        UserError: no such file, a folder, empty, not an image, damaged, too large or too small.
    """
    return load_photo(source, max_pixels=max_pixels).image


def load_photo(source: str | Path | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Like `load_image`, with what of the file a result takes along, and what is to be said."""
    if isinstance(source, Image.Image):
        return _checked_decode(source, "the image", max_pixels)
    path = Path(source).expanduser()
    _check_file(path)
    try:
        return _decode(read_regular(path), str(path), max_pixels)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}", hint="check who may read the file"
        ) from error


def decode_photo(data: bytes) -> Photo:
    """Like `load_photo`, for the bytes of an image file; in errors it is "the image"."""
    return _decode(data, "the image", MAX_PIXELS)


def read_regular(path: Path, offset: int = 0, length: int | None = None) -> bytes:
    """Bytes of a regular file, all or `length` from `offset`: a pipe or device does not hang it.

    Raises:
        OSError: it cannot be read.
        UserError: it is no regular file, or more than `MAX_BYTES` are asked for.
    """
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size if length is None else length
        if not 0 <= length <= MAX_BYTES:
            raise UserError(
                f"{path} is too large: {length / 1e6:.0f} MB for a picture, "
                f"at most {MAX_BYTES / 1e6:.0f} MB are read"
            )
        file.seek(offset)
        return file.read(length)


def _decode(data: bytes, name: str, max_pixels: int) -> Photo:
    if not data:
        raise UserError(f"{name} is empty (0 bytes)", hint="copy or download it again")
    if costly := why_costly(data):
        raise UserError(f"{name} is {costly}, which takes minutes to decode", hint=_CONVERT_HINT)
    with warnings.catch_warnings():
        # Pillow warns above its own limit of pixels, and of broken EXIF; we have our own errors
        warnings.simplefilter("ignore")
        return _decode_quietly(data, name, max_pixels)


def _decode_quietly(data: bytes, name: str, max_pixels: int) -> Photo:
    with _opened(data, name, max_pixels) as image:
        try:
            return _checked_decode(image, name, max_pixels)
        except UserError:
            if not data.startswith(_JPEG) or data.rstrip(b"\0").endswith(_END):
                raise
    with _opened(data + _END, name, max_pixels) as image:
        photo = _checked_decode(image, name, max_pixels)
    missing = _missing(np.asarray(photo.image))
    if missing > _MAX_MISSING:
        raise _damaged(name, EOFError(f"{missing:.0%} of it is missing"))
    note = "is cut short: " + (
        f"at least {missing:.0%} is missing" if missing else "no pixel misses"
    )
    return Photo(photo.image, replace(photo.kept, notes=(*photo.kept.notes, note)))


def _opened(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Open a picture by the decoders that are allowed, its pixels not decoded yet."""
    try:
        if data.startswith(_JPEG):  # not through Image.open, whose limit is lower than ours
            return JpegImageFile(io.BytesIO(data))
        if HAS_HEIC and _is_heic(data):
            plugin = importlib.import_module("pillow_heif.as_plugin")
            return plugin.HeifImageFile(io.BytesIO(data))
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:  # which says how many before anything else can
        count = re.search(r"\d+", str(error))
        said = f"{int(count[0]) / 1e6:,.0f} megapixels" if count else "far more than a photo"
        raise _too_large(name, said, max_pixels) from error
    except UnidentifiedImageError as error:
        raise _unknown(name, data) from error
    except DECODE_ERRORS as error:
        raise _damaged(name, error) from error


def _unknown(name: str, data: bytes) -> UserError:
    said = f"{name} is not an image that can be read, whatever its name says"
    hint = f"if it opens in a picture viewer, {_CONVERT_HINT}"
    if _is_heic(data):
        said, hint = f"{name} is a HEIC photo", f"{install('heic')} reads them"
    elif data.startswith(b"version https://git-lfs"):
        said, hint = f"{name} is a Git LFS pointer, not the picture", "get it with `git lfs pull`"
    elif data.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        said, hint = f"{name} is a web page, not a picture", "download the picture itself"
    return UserError(said, hint=hint)


def _is_heic(data: bytes) -> bool:
    brands = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
    return data[4:8] == b"ftyp" and data[8:12] in brands and b"avif" not in data[8:64]


def _missing(pixels: np.ndarray) -> float:
    """The share of rows at the bottom, of (H, W, 3), that a decoder filled: all are alike."""
    alike = (pixels == pixels[-1:]).all(axis=(1, 2))
    filled = len(pixels) if alike.all() else int(np.argmin(alike[::-1]))
    return filled / len(pixels) if filled >= 8 else 0.0


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a picture", hint="name one file inside it")
    if not path.exists():
        raise UserError(f"{path} does not exist", hint="check the spelling of the path")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes)", hint="copy or download it again")


def _damaged(name: str, error: Exception) -> UserError:
    return UserError(f"{name} is damaged or cut short: {error}", hint="copy or download it again")


def _too_large(name: str, found: str, max_pixels: int) -> UserError:
    return UserError(
        f"{name} has too many pixels: {found}, at most {max_pixels / 1e6:g} megapixels are read",
        hint="make it smaller first; a few megapixels are plenty",
    )


def _checked_decode(image: Image.Image, name: str, max_pixels: int) -> Photo:
    full = image.size
    _shrink_jpeg(image, max_pixels)
    notes = _several(image)
    width, height = image.size
    larger = image.format == "HEIF" and max_pixels < width * height <= MAX_PIXELS
    if width * height > max_pixels and not larger:
        raise _too_large(name, f"{width} x {height}", max_pixels)
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{name} is too small: {width} x {height} pixels",
            hint=f"each side needs at least {MIN_SIDE} pixels, and 256 or more look good",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"{name} is too long: {width} x {height} pixels, at most {MAX_ASPECT} to 1",
            hint="cut out the part that matters",
        )
    _check_tiff(image, name)
    try:
        image.load()
    except DECODE_ERRORS as error:
        raise _damaged(name, error) from error
    shown = image
    if larger:  # there is no decoding it smaller
        scale = (max_pixels / (width * height)) ** 0.5
        shown = image.resize((int(width * scale), int(height * scale)), reducing_gap=2)
    try:
        colour, alpha = split_alpha(shown)
        rgb, space = flattened(colour, alpha, image.info.get("icc_profile"))
    except ValueError as error:
        raise UserError(
            f"{name} has colours of a kind that cannot be read ({image.mode}): {error}",
            hint=_CONVERT_HINT,
        ) from error
    if space:
        notes.append(f"colours were converted from {space} to sRGB")
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        rgb, alpha = rgb.transpose(turn), alpha and alpha.transpose(turn)
    if full != shown.size:
        notes.append(f"was read smaller, at {rgb.width} x {rgb.height} pixels")
    exif, lost = kept_exif(image)
    notes += ([lost] if lost else []) + left_out(image)
    return Photo(rgb, Kept(image.format or "", alpha, exif, dpi_of(image), tuple(notes)))


def _shrink_jpeg(image: Image.Image, max_pixels: int) -> None:
    """Have a JPEG of too many pixels decoded at a half, a quarter or an eighth of its size."""
    if not isinstance(image, JpegImageFile):
        return
    pixels = image.width * image.height
    # a progressive one is held whole while it is decoded
    most = 2 * MAX_PIXELS if image.info.get("progressive") else _MAX_JPEG
    if max_pixels < pixels <= most:
        parts = next(n for n in (2, 4, 8) if pixels <= n * n * max_pixels or n == 8)
        image.draft(image.mode, (image.width // parts, image.height // parts))


def _several(image: Image.Image) -> list[str]:
    """What is to be said of a file with several pictures."""
    if image.format not in _MANY:
        return []
    try:
        if not getattr(image, "is_animated", False):
            return []
        # a GIF would have to be read to count them
        count = "several" if image.format == "GIF" else getattr(image, "n_frames", 2)
        image.seek(0)
    except DECODE_ERRORS:  # of those behind the first
        return ["what follows the first picture of the file is damaged"]
    what = "pages" if image.format == "TIFF" else "pictures"
    more = "" if image.format == "TIFF" else "; `osasis film` redraws an animated GIF"
    return [f"the first of {count} {what} was taken{more}"]


def _check_tiff(image: Image.Image, name: str) -> None:
    """Refuse tiles much larger than the picture, for a whole one of which a decoder makes room;
    raw files, of which only a preview could be read; and planes that Pillow mixes up."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    sides = [tags.get(tag, 1) for tag in _TILE_TAGS]
    if not all(isinstance(side, int) for side in sides):
        raise _damaged(name, ValueError(f"tiles of {sides}"))
    if sides[0] * sides[1] > max(_TILE_PIXELS, 2 * image.width * image.height):
        raise _damaged(name, ValueError(f"tiles of {sides[0]} x {sides[1]} pixels"))
    if _DNG_VERSION in tags or Path(name).suffix.lower() in RAW_SUFFIXES:
        raise UserError(
            f"{name} is a camera's raw file, of which only a small preview could be read",
            hint="develop it first: export a JPEG or TIFF from a photo program",
        )
    if tags.get(_PLANES) == 2 and max(tags.get(_BITS, (8,))) > 8:
        raise UserError(
            f"{name} has its colours of 16 bits in separate planes, which cannot be read",
            hint="save it with interleaved pixels (not 'per channel'), or as PNG",
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 (upright) where it is absent or the EXIF block is broken."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


Picture = str | Path | Image.Image
