"""What of a photo's file a result takes along: transparency, EXIF, format."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

# description, camera, resolution, software, date, artist, rating, copyright, Windows' texts
_TOP = (
    0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x4746, 0x8298,
    0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
)  # fmt: skip
_INSIDE = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_MAKER_NOTE, _COLOR_SPACE, _WIDTH, _HEIGHT = 0x927C, 0xA001, 0xA002, 0xA003
# what Pillow's decoders raise on damaged files
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, RuntimeError),
    struct.error,
)
_MAX_EXIF = 60_000  # bytes, of 64 KB in a JPEG
_MAX_DPI = 65_535
# what XMP tells of, by the words that tell it
_IN_XMP = {
    "texts and ratings of photo programs (XMP) are left out": (
        *(b"dc:subject", b"dc:title", b"dc:description", b"dc:creator", b"dc:rights"),
        *(b"xmp:Rating", b"photoshop:"),
    ),
    "its HDR gain map is left out: the result is SDR": (b"hdrgm", b"GainMap", b"gainmap"),
    "its film (a motion photo) is left out": (b'MotionPhoto="1"', b'MicroVideo="1"'),
}
_IPTC = 0x0404  # of Photoshop's blocks


@dataclass(frozen=True)
class Kept:
    """What a result takes along of its photo's file.

    Attributes:
        kind: Pillow's name of the format, such as "JPEG"; empty where it is not known.
        alpha: transparency, upright, (H, W) in mode L; None where there is none.
        exif: the EXIF block as it may stand in a result: upright, sRGB, without a thumbnail.
        dpi: dots per inch, across and down, where the file says so.
        notes: what is to be said: what was not read, or was converted.
    """

    kind: str = ""
    alpha: Image.Image | None = None
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Photo:
    """A picture that was read: RGB and upright, and what belongs to it."""

    image: Image.Image
    kept: Kept


def kept_exif(image: Image.Image) -> tuple[bytes, str]:
    """EXIF of an opened picture as `Kept` has it, and what is to be said of it."""
    try:
        old = image.getexif()
        top = {tag: old[tag] for tag in _TOP if tag in old}
        inside = {place: dict(old.get_ifd(place)) for place in _INSIDE}
        details = inside[ExifTags.IFD.Exif]
        for tag in (_WIDTH, _HEIGHT):  # of another picture where it was turned or cut
            details.pop(tag, None)
        if _COLOR_SPACE in details:
            details[_COLOR_SPACE] = 1  # sRGB
        if not top and not any(inside.values()):
            return b"", ""
        data = _exif(top, inside)
        if len(data) > _MAX_EXIF:
            details.pop(_MAKER_NOTE, None)
            data = _exif(top, inside)
    except DECODE_ERRORS:
        return b"", "the EXIF block is damaged and is left out"
    return (data, "") if len(data) <= _MAX_EXIF else (b"", "the EXIF block is too long to be kept")


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, as an opened picture's file says; None where it does not."""
    try:
        across, down = map(float, image.info.get("dpi", (0, 0)))
    except (*DECODE_ERRORS, ArithmeticError):
        return None
    usable = 1 < across <= _MAX_DPI and 1 < down <= _MAX_DPI  # 1: of TIFFs that say nothing
    return (across, down) if usable else None


def left_out(image: Image.Image) -> list[str]:
    """What is to be said of a file's texts and further pictures that no result takes along."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    told = xmp.encode(errors="replace") if isinstance(xmp, str) else bytes(xmp)
    told += repr(sorted(map(str, image.info.get("aux") or {}))).encode()  # HEIC's further pictures
    said = [what for what, words in _IN_XMP.items() if any(word in told for word in words)]
    blocks = image.info.get("photoshop")
    if isinstance(blocks, Mapping) and _IPTC in blocks:
        said.append("texts of photo programs (IPTC) are left out")
    return said


def _exif(top: Mapping[int, Any], inside: Mapping[Any, Mapping[int, Any]]) -> bytes:
    block = Image.Exif()
    for tag, value in (*top.items(), *inside.items()):
        if value not in ({}, None):
            block[tag] = value
    return block.tobytes()
