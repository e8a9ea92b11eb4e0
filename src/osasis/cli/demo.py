"""`osasis demo`: a painting learned, six faces redrawn."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_device, make_writable
from osasis.cli.progress import Progress, describe_losses

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis demo
      a few minutes on a laptop; look at demo/contact-sheet.png
  osasis demo --style my_painting.jpg -o my-demo/
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "demo",
        help="see what it does, in a few minutes",
        description="Learn a shipped painting, then redraw a photo and five portraits in it.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--style",
        metavar="NAME",
        help="a shipped painting, or a picture of yours (default: goya_josefa)",
    )
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the demo; say where its pictures are."""
    out: Path = args.output
    make_writable(out)
    from osasis.stylize.demo import CONTACT_SHEET, run_demo

    with Progress() as progress, closing(run_demo(out, args.style, args.device)) as steps:
        for record in steps:
            note = describe_losses(record.losses)
            progress.update(record.phase, record.done, record.total, note)
    print(f"look at {out / CONTACT_SHEET}")
    print(f"each picture and the style file are in {out}")
    return 0
