"""Files that are small and cheap to make, and take minutes to decode."""

from __future__ import annotations

import re

MAX_SCANS = 64  # passes over a progressive JPEG, about ten in a real one
MAX_COMMENT_BLOCKS = 5_000  # of a GIF: 1.3 MB of text

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # after a scan's data
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_TRAILER, _PICTURE, _EXTENSION, _COMMENT = 0x3B, 0x2C, 0x21, 0xFE  # bytes of a GIF


def why_costly(data: bytes) -> str:
    """What makes a picture's file costly to decode; empty where nothing does."""
    if _scans(data) > MAX_SCANS:
        return f"a JPEG of more than {MAX_SCANS} scans"
    if _comment_blocks(data) > MAX_COMMENT_BLOCKS:
        return f"a GIF of more than {MAX_COMMENT_BLOCKS} blocks of comments"
    return ""


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


def _comment_blocks(data: bytes) -> int:
    """Blocks of a GIF's comments up to its second picture, counted up to one more than allowed.

    Pillow adds each to those before, which takes time by the square of their number.
    """
    if not data.startswith(b"GIF8"):
        return 0

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    count = pictures = 0
    place = 13 + table(data[10]) if len(data) > 13 else len(data)
    while place + 10 < len(data) and pictures < 2 and count <= MAX_COMMENT_BLOCKS:
        kind, label = data[place], data[place + 1]
        if kind == _TRAILER:
            break
        if kind == _PICTURE:
            pictures += 1
            place += 11 + table(data[place + 9])
        elif kind == _EXTENSION:
            place += 2
        else:  # passed over, as Pillow does
            place += 1
            continue
        is_comment = kind == _EXTENSION and label == _COMMENT
        while place < len(data) and data[place] and count <= MAX_COMMENT_BLOCKS:
            place += 1 + data[place]
            count += is_comment
        place += 1
    return count
