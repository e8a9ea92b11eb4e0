"""`osasis explore`: a sheet of what each control does to a photo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis.cli.controls import load_styles
from osasis.cli.options import Device, OutputFile, StylesOrPreview, make_writable, one
from osasis.errors import UserError
from osasis.progress import Progress
from osasis.terminal import say

if TYPE_CHECKING:
    from PIL import Image

# as in osasis.stylize.explore, which is not imported before it is needed; a test compares them
CONTROLS = ("strength", "levels", "codes", "lambda_spn", "t0", "variation", "seed", "mix")


def _rows(text: str) -> tuple[str, ...]:
    """Names of rows, 'strength,t0'."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [name for name in names if name not in CONTROLS]
    if unknown:
        raise ValueError(
            f"no row is called {', '.join(map(repr, unknown))}; there are {', '.join(CONTROLS)}"
        )
    return names


def explore(
    photo: Annotated[Path, Parameter(name="PHOTO")],
    /,
    *,
    styles: StylesOrPreview = StylesOrPreview(),
    output: OutputFile | None = None,
    rows: Annotated[
        tuple[str, ...], Parameter(converter=one(_rows), n_tokens=1, metavar="NAMES")
    ] = CONTROLS,
    regions: bool = False,
    device: Device = None,
) -> int:
    """Redraw one photo with every control at several values, on one labelled sheet.

    Args:
        photo: its central square, or its face, is used
        output: the sheet (default: sheet.png, or sheet-2.png where that exists)
        rows: which rows, of strength,levels,codes,lambda_spn,t0,variation,seed,mix (default:
            all)
        regions: draw what is seen as skin, hair, hat and so on in photo and style instead: where
            that is wrong, a style goes wrong

    Examples:
      osasis explore me.jpg --style memling_maria -o sheet.png
          about 35 small pictures, one row per control, the values below them
      osasis explore me.jpg --style memling_maria --rows strength,t0
      osasis explore me.jpg --style memling_maria --style cezanne_peasant --rows mix

    The rows are options of `osasis stylize`: --style-strength, --style-levels,
    --swap-codes, --lambda-spn, --t0, --variation, --seed (at variation 0.3), and
    --style NAME=SHARE for mixes. In a row one control changes, the others are as
    the style says. Ctrl-C keeps what is drawn so far.
    """
    from osasis.imaging.load import load_image
    from osasis.imaging.save import format_of, free_path, is_taken, save_image
    from osasis.imaging.style_crop import cropped

    styles.check("explore")
    written = output or free_path(Path("sheet.png"))
    format_of(written)  # before the work and not after it
    if is_taken(written):
        raise UserError(f"{written} exists", hint="choose another file with -o")
    picture_of = load_image(photo)
    make_writable(written.absolute().parent)

    from osasis.stylize.explore import explore as draw
    from osasis.stylize.explore import plan, regions_sheet, sheet

    base, loaded = load_styles(styles, device)
    picture_of, said = cropped(picture_of, None, faces=base.canvas.faces)
    if said:
        say(f"{photo}: {said.partition(' (')[0]}", sys.stderr)
    if regions:
        page = regions_sheet(base, picture_of, loaded)
        save_image(page, written, metadata={"osasis": '{"kind": "sheet"}'}, replace=False)
        say(f"regions of {1 + len(loaded)} pictures on {written}")
        return 0
    wanted = plan(base, loaded, rows)
    if not wanted:
        raise UserError("the row 'mix' needs two styles", hint="repeat --style")
    pictures: list[list[Image.Image]] = [[] for _ in wanted]
    total = sum(len(row.trials) for row in wanted)
    stopped = False
    with Progress() as progress:
        progress.update("explore", 0, total)
        try:
            for done, (row, picture) in enumerate(draw(base, picture_of, wanted), start=1):
                pictures[row].append(picture)
                progress.update("explore", done, total)
        except KeyboardInterrupt:
            stopped = True
    drawn = sum(map(len, pictures))
    if stopped and not drawn:
        raise KeyboardInterrupt
    page = sheet(picture_of, loaded, wanted, pictures, size=base.image_size)
    save_image(page, written, metadata={"osasis": '{"kind": "sheet"}'}, replace=False)
    if stopped:
        raise KeyboardInterrupt(f"stopped; {drawn} of {total} pictures are on {written}")
    say(f"{total} pictures on {written}")
    return 0
