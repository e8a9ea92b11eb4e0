"""`osasis film`: redraw the face of a film."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.controls import add_controls, add_style, control_values, load_styles
from osasis.cli.options import add_device, amount, make_writable, positive, share
from osasis.cli.photos import add_blend
from osasis.cli.progress import Progress
from osasis.errors import UserError

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis film clip.mp4 --style memling_maria
      writes clip-stylized.mp4; sound and times stay
  osasis film clip.mov --style painting.osasis.safetensors -o out.mp4 --steady 0.9
  osasis film clip.mp4 --style memling_maria --steady 0 --smooth 0
      every frame by itself: this flickers

The largest face is followed through the film; frames without one stay as they are.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "film",
        help="redraw the face of a short film in a style",
        description="Redraw the face of a short film in a learned style, without flicker.",
        epilog=EPILOG,
    )
    parser.add_argument("film", type=Path, metavar="FILM", help="a film that FFmpeg can read")
    add_style(parser, required=True, preview=True)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".mp4, .mov or .mkv (default: FILM-stylized.mp4 in this folder)",
    )
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    parser.add_argument(
        "--steady",
        type=share,
        default=0.8,
        metavar="S",
        help="how much of each result comes from the frames before, below 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--smooth",
        type=amount,
        default=0.08,
        metavar="SECONDS",
        help="over which the face's place is smoothed (default: %(default)s)",
    )
    add_controls(parser)
    parser.add_argument("--batch-size", type=positive, metavar="N", help="frames drawn at once")
    add_blend(parser)
    add_device(parser)
    return parser


def output_file(args: argparse.Namespace) -> Path:
    """Where the result goes.

    Raises:
        UserError: it exists, or is the film itself.
    """
    output: Path = args.output or Path(f"{args.film.stem}-stylized.mp4")
    if output.exists() and args.film.exists() and output.samefile(args.film):
        raise UserError("the output would replace the film", hint="choose another with -o")
    if output.exists() and not args.force:
        raise UserError(f"{output} exists", hint="choose another with -o, or add --force")
    return output


def run(args: argparse.Namespace) -> int:
    """Redraw the film; say where it is."""
    from osasis.imaging.video import notes_on, open_film

    output = output_file(args)
    with open_film(args.film) as opened:  # before anything slow
        make_writable(output.parent)
        for note in notes_on(opened, output.suffix.lower()):
            print(f"note: {note}", file=sys.stderr)

    from osasis.stylize.film import FilmConfig, redraw_film
    from osasis.stylize.stylizer import Stylizer

    base, styles = load_styles(args)
    stylizer = Stylizer(base, styles, control_values(args), batch_size=args.batch_size)
    config = FilmConfig(smooth=args.smooth, steady=args.steady)
    try:
        with (
            Progress() as progress,
            closing(redraw_film(stylizer, args.film, output, config)) as steps,
        ):
            for step in steps:
                progress.update(step.phase, step.done, step.total)
        for note in step.notes:
            print(f"note: {note}", file=sys.stderr)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; nothing was written") from None
    print(f"look at {output}")
    return 0
