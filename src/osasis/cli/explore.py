"""`osasis explore`: a sheet of what each control does to a photo."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.controls import add_style, load_styles
from osasis.cli.options import add_device, make_writable
from osasis.cli.progress import Progress
from osasis.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from osasis.cli.options import Subparsers

# as in osasis.stylize.explore, which is not imported before it is needed; a test compares them
CONTROLS = ("strength", "levels", "codes", "lambda_spn", "t0", "variation", "seed", "mix")

EPILOG = """\
examples:
  osasis explore me.jpg --style memling_maria -o sheet.png
      about 35 small pictures, one row per control, the values below them
  osasis explore me.jpg --style memling_maria --rows strength,t0
  osasis explore me.jpg --style memling_maria --style cezanne_peasant --rows mix

The rows are options of `osasis stylize`: --style-strength, --style-levels, --swap-codes,
--lambda-spn, --t0, --variation, --seed (at variation 0.3), and --style NAME=SHARE for mixes. In a
row one control changes, the others are as the style says. Ctrl-C keeps what is drawn so far.
"""


def rows(text: str) -> tuple[str, ...]:
    """Names of rows, 'strength,t0'."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [name for name in names if name not in CONTROLS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no row is called {', '.join(map(repr, unknown))}; there are {', '.join(CONTROLS)}"
        )
    return names


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "explore",
        help="draw a sheet of what each control does",
        description="Redraw one photo with every control at several values, on one labelled sheet.",
        epilog=EPILOG,
    )
    parser.add_argument("photo", type=Path, metavar="PHOTO", help="its central square, or its face")
    add_style(parser, required=True, preview=True)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the sheet (default: sheet.png, or sheet-2.png where that exists)",
    )
    parser.add_argument(
        "--rows",
        type=rows,
        default=CONTROLS,
        metavar="NAMES",
        help=f"which rows, of {','.join(CONTROLS)} (default: all)",
    )
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the sheet, write it, say where."""
    from osasis.imaging.load import load_image
    from osasis.imaging.save import check_suffix, free_path, is_taken, save_image
    from osasis.imaging.style_crop import cropped

    args.output = args.output or free_path(Path("sheet.png"))
    check_suffix(args.output)
    if is_taken(args.output):
        raise UserError(f"{args.output} exists", hint="choose another file with -o")
    photo = load_image(args.photo)
    make_writable(args.output.absolute().parent)

    from osasis.stylize.explore import explore, plan, sheet

    base, styles = load_styles(args)
    photo, said = cropped(photo, None, faces=base.canvas.faces)
    if said:
        print(f"{args.photo}: {said.partition(' (')[0]}", file=sys.stderr)
    wanted = plan(base, styles, args.rows)
    if not wanted:
        raise UserError("the row 'mix' needs two styles", hint="repeat --style")
    pictures: list[list[Image.Image]] = [[] for _ in wanted]
    total = sum(len(row.trials) for row in wanted)
    stopped = False
    with Progress() as progress:
        progress.update("explore", 0, total)
        try:
            for done, (row, picture) in enumerate(explore(base, photo, wanted), start=1):
                pictures[row].append(picture)
                progress.update("explore", done, total)
        except KeyboardInterrupt:
            stopped = True
    drawn = sum(map(len, pictures))
    if stopped and not drawn:
        raise KeyboardInterrupt
    page = sheet(photo, styles, wanted, pictures, size=base.image_size)
    save_image(page, args.output, metadata={"osasis": '{"kind": "sheet"}'}, replace=False)
    if stopped:
        raise KeyboardInterrupt(f"stopped; {drawn} of {total} pictures are on {args.output}")
    print(f"{total} pictures on {args.output}")
    return 0
