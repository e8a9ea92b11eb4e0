"""Contact sheets: many pictures on one labelled page."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_INK = (40, 40, 40)
_ELLIPSIS = "..."


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    cell: int = 192,
) -> Image.Image:
    """Lay pictures out in a labelled grid on white, RGB 8 bit (engineering choice).

    Each picture is shrunk or enlarged to fit a square of `cell` pixels and centred in it, its
    shape kept; None leaves the place empty. Rows may differ in length. A title too long for its
    place is cut short with an ellipsis. Missing titles are blank. With `captions`, one per
    picture, there is a line below each of them. Accents are dropped and letters
    outside ASCII become '?', since the font inside Pillow has no others.

    Raises:
        ValueError: there is nothing to show, a title has no row, or `cell` is under 16.
    """
    columns = max((len(row) for row in rows), default=0)
    columns = max(columns, len(column_titles)) if rows else 0
    if columns == 0 or len(row_titles) > len(rows) or cell < 16:
        raise ValueError(
            f"cannot lay out {len(rows)} rows, {columns} columns, {len(row_titles)} row titles "
            f"and cells of {cell} pixels"
        )
    font = ImageFont.load_default(size=max(11, cell // 12))
    gap = max(4, cell // 24)
    tops = [_shorten(title, font, cell) for title in column_titles]
    sides = [_shorten(title, font, max(cell, 96)) for title in row_titles]
    widest = max((int(font.getlength(title) + 1) for title in sides), default=0)
    left = gap + (widest + gap if any(sides) else 0)
    top = gap + (_line_height(font) + gap if any(tops) else 0)
    step = cell + gap
    down = step + (_line_height(font) if captions else 0)
    page = Image.new("RGB", (left + columns * step, top + len(rows) * down), "white")
    draw = ImageDraw.Draw(page)
    for i, title in enumerate(tops):
        draw.text((left + i * step + cell / 2, top - gap), title, _INK, font, anchor="md")
    for i, title in enumerate(sides):
        draw.text((left - gap, top + i * down + cell / 2), title, _INK, font, anchor="rm")
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            if picture is not None:
                _place(page, picture, (left + j * step, top + i * down), cell)
    for i, line in enumerate(captions):
        for j, caption in enumerate(line):
            place = (left + j * step + cell / 2, top + i * down + cell + gap / 2)
            draw.text(place, _shorten(caption, font, cell), _INK, font, anchor="ma")
    return page


def _place(page: Image.Image, picture: Image.Image, corner: tuple[int, int], cell: int) -> None:
    fitted = ImageOps.contain(picture.convert("RGB"), (cell, cell), Image.Resampling.LANCZOS)
    x = corner[0] + (cell - fitted.width) // 2
    y = corner[1] + (cell - fitted.height) // 2
    page.paste(fitted, (x, y))


def _shorten(title: str, font: _Font, width: int) -> str:
    """One line of text no wider than `width` pixels, in letters that Pillow's own font has."""
    bare = (c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    line = " ".join("".join(bare).encode("ascii", "replace").decode("ascii").split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + _ELLIPSIS) > width:
        line = line[:-1].rstrip()
    return line + _ELLIPSIS


def _line_height(font: _Font) -> int:
    return round(font.getbbox("Ag")[3] * 1.25)
