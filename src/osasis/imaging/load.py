"""Reading pictures: whatever comes in, an upright 8-bit sRGB image comes out, or a clear error."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from osasis.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
    | ({".avif"} if features.check("avif") else set())
)
MAX_PIXELS = 64_000_000
MIN_SIDE = 16
MAX_ASPECT = 100  # longer side, in shorter sides
MAX_BYTES = 256_000_000  # of a picture's file
MAX_SCANS = 64  # passes over a progressive JPEG, about ten in a real one

# Only these decoders: a file with another suffix is still recognised by its content, but Pillow's
# rarely used readers (some of which start other programs) never see what a stranger uploads.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM") + (
    ("AVIF",) if features.check("avif") else ()
)
_PHOTOMETRIC, _BITS, _PLANES, _DNG_VERSION = 262, 258, 284, 50706  # tags of TIFF
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, struct.error)
RAW_SUFFIXES = frozenset(
    (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf")
    + (".raw", ".rwl", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".erf", ".kdc", ".dcr", ".x3f")
)
_CONVERT_HINT = "convert it to PNG, JPEG or WebP and try again"
_ORIENTATION_TAG = 0x0112
_TILE_TAGS = (0x0142, 0x0143)  # TIFF's width and height of a tile
_TILE_PIXELS = 4_000_000  # of a tile that may be larger than the whole picture
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # after a scan's data
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
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
    and of an animation the first frame is taken. The number of pixels is checked before decoding.

    Args:
        source: a file, or an image already opened (which is not changed).
        max_pixels: the most pixels, width times height, that are accepted.

    Raises:
        UserError: no such file, a folder, empty, not an image, damaged, too large or too small.
    """
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


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Like `load_image`, for the bytes of an image file; in errors it is "the image".

    Raises:
        UserError: empty, not an image, damaged, too large or too small.
    """
    return _decode(data, "the image", max_pixels)


def read_regular(path: Path, offset: int = 0, length: int | None = None) -> bytes:
    """Bytes of a regular file, all or `length` from `offset`: a pipe or device does not hang it.

    Raises:
        OSError: it cannot be read.
        UserError: it is no regular file, or more than `MAX_BYTES` are asked for.
    """
    # a pipe without a writer would be waited for
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is not a regular file", hint="name a picture's file")
        length = found.st_size if length is None else length
        if not 0 <= length <= MAX_BYTES:
            raise UserError(
                f"{path} is too large: {length / 1e6:.0f} MB for a picture, "
                f"at most {MAX_BYTES / 1e6:.0f} MB are read"
            )
        file.seek(offset)
        return file.read(length)


def _decode(data: bytes, name: str, max_pixels: int) -> Image.Image:
    if not data:
        raise UserError(f"{name} is empty (0 bytes)", hint="copy or download it again")
    if _scans(data) > MAX_SCANS:
        raise UserError(
            f"{name} is a JPEG of more than {MAX_SCANS} scans, which takes minutes to decode",
            hint=_CONVERT_HINT,
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns above its own limit; ours is lower and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error), max_pixels) from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{name} is not an image that can be read, whatever its name says",
            hint=f"if it opens in a picture viewer, {_CONVERT_HINT}",
        ) from error
    except DECODE_ERRORS as error:
        raise _damaged(name, error) from error
    with opened:
        return _checked_decode(opened, name, max_pixels)


def _scans(data: bytes) -> int:
    """Scans of a JPEG, counted up to one more than are allowed; 0 for other files."""
    if not data.startswith(b"\xff\xd8"):
        return 0
    place, count = 2, 0
    while count <= MAX_SCANS and (found := _MARKER.search(data, place)):
        marker, place = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        place += int.from_bytes(data[place : place + 2], "big")
        count += marker == _START_OF_SCAN
    return count


def to_rgb8(image: Image.Image) -> Image.Image:
    """Convert any Pillow image to a new 8-bit sRGB one, transparency on white, metadata dropped.

    Raises:
        ValueError: Pillow cannot convert from this mode.
    """
    colour, alpha = _split_alpha(image)
    rgb = _to_srgb(colour, image.info.get("icc_profile"))
    canvas = Image.new("RGB", image.size, "white")  # new, so that no stale profile is saved later
    canvas.paste(rgb, mask=alpha)
    return canvas


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


def _checked_decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
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
    _check_tile(image, name)
    _check_tiff(image, name)
    try:
        image.load()
    except DECODE_ERRORS as error:
        raise _damaged(name, error) from error
    try:
        rgb = to_rgb8(image)
    except ValueError as error:
        raise UserError(
            f"{name} has colours of a kind that cannot be read ({image.mode}): {error}",
            hint=_CONVERT_HINT,
        ) from error
    turn = _TURNS.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _check_tile(image: Image.Image, name: str) -> None:
    """Refuse a TIFF whose tiles are much larger than itself: a decoder makes room for a whole one.

    Raises:
        UserError: they are.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    sides = [tags.get(tag, 1) for tag in _TILE_TAGS]
    if not all(isinstance(side, int) for side in sides):
        raise _damaged(name, ValueError(f"tiles of {sides}"))
    if sides[0] * sides[1] > max(_TILE_PIXELS, 2 * image.width * image.height):
        raise _damaged(name, ValueError(f"tiles of {sides[0]} x {sides[1]} pixels"))


def _check_tiff(image: Image.Image, name: str) -> None:
    """Refuse raw files, of which only a preview could be read, and planes that Pillow mixes up.

    Raises:
        UserError: it is one.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
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


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour as 8-bit L, RGB or CMYK, and the alpha channel (L) where there is one."""
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        tags = getattr(image, "tag_v2", {})
        return _grey(65535 - pixels if tags.get(_PHOTOMETRIC) == 0 else pixels, (65535,)), None
    if image.mode == "I":  # 32 bits that nearly always hold 8 or 16
        return _grey(np.asarray(image), (255, 65535, 2**31 - 1)), None
    if image.mode == "F":
        return _float_grey(np.asarray(image)), None
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("RGB"), None


def _grey(pixels: np.ndarray, tops: tuple[int, ...]) -> Image.Image:
    """Scale integers to 8 bits by the smallest of `tops` that holds them all."""
    largest = int(pixels.max())
    top = next(t for t in tops if largest <= t)
    scaled = np.rint(pixels.astype(np.float64).clip(0, top) * (255 / top))
    return Image.fromarray(scaled.astype(np.uint8))


def _float_grey(pixels: np.ndarray) -> Image.Image:
    """Scale floats to 8 bits: [0, 1], [0, 255] or [0, 65535] by their range, else stretched.

    A largest value up to 2 still counts as [0, 1], a little overexposed.
    """
    values = np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values = (values - low) / max(high - low, 1e-12)
    else:
        values = values / (1 if high <= 2 else 255 if high <= 255 else 65535)
    return Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile_bytes: bytes | None) -> Image.Image:
    """RGB pixels in sRGB; a profile that is broken or of another colour space is ignored."""
    if profile_bytes:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
            described = ImageCms.getProfileDescription(profile)
            space = profile.profile.xcolor_space.strip()
            mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
            if mode == "L" and image.mode == "RGB":  # grey that had an alpha channel
                image = image.convert("L")
            if mode == image.mode and not described.startswith("sRGB"):
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError):
            pass
    return image.convert("RGB")


Picture = str | Path | Image.Image
