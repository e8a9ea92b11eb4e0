"""`osasis stylize`: redraw photos in a style."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from osasis._version import __version__
from osasis.cli.controls import (
    PREVIEW_NOTE,
    add_controls,
    add_style,
    control_values,
    describe,
    load_styles,
)
from osasis.cli.options import add_device, make_writable
from osasis.cli.photos import add_photos, find, redraw_all, result_folder, settings

if TYPE_CHECKING:
    from osasis.base import Base
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis stylize me.jpg --style memling_maria
      a style that is shipped, see `osasis models list`; writes stylized/me.jpg: your photo with
      every face in it redrawn
  osasis stylize photos/ 'more/**/*.jpg' --style painting.osasis.safetensors -o out/
      sub-folders are kept; run it again, and only what is new or changed is done
  find . -name '*.jpg' | osasis stylize - --style memling_maria
  accelerate launch --num_processes 4 -m osasis stylize photos/ --style memling_maria
      several GPUs: each redraws its share of the photos; on CPUs it is
      `torchrun --nproc_per_node 2 -m osasis ...`; `osasis batch` is for millions
  osasis stylize group.jpg --style memling_maria --largest-face --crops --detail 0.8
  osasis stylize square.png --style memling_maria --no-align
      the central square as it is; the result is as large as the base draws
  osasis stylize me.jpg --style memling_maria --style-strength 0.6
      between the photo (0) and the style as learned (1)
  osasis stylize me.jpg --style memling_maria=0.7 --style cezanne_peasant=0.3
      a mix of two styles
  osasis stylize me.jpg --style memling_maria --variation 0.3 --seed 7
      the same photo, drawn a little differently for every seed
  osasis stylize me.jpg --style-image painting.png
      a preview in seconds, without learning: shows where the picture's code pulls colours and
      textures, far weaker than a style that `osasis learn` made

`osasis explore me.jpg --style memling_maria` draws a sheet of what each control does.
Photos that fail are listed at the end, and the exit status is then 1; all others are done. How
each result was made is in the folder's manifest.jsonl, and in each result.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "stylize",
        help="redraw photos in a style",
        description="Redraw photos, or all photos of folders, in a learned style.",
        epilog=EPILOG,
    )
    add_photos(parser)
    add_style(parser, required=True, preview=True)
    add_controls(parser)
    add_device(parser)
    return parser


def made_by(base: Base, args: argparse.Namespace) -> dict[str, Any]:
    """What determines the results besides the photos."""
    from osasis.config.catalogue import find_style
    from osasis.formats.records import file_hash

    styles = [(name, file_hash(find_style(name)), share) for name, share in args.style or []]
    return {
        "styles": [{"name": n, "sha256": digest, "share": share} for n, digest, share in styles],
        "base": base.name,
        "base_hash": base.hash,
        "version": __version__,
        "settings": settings(args),
    }


def run(args: argparse.Namespace) -> int:
    """Redraw the photos, write them, say where."""
    from osasis.config.catalogue import find_style

    for name, _ in args.style or []:
        find_style(name)  # before anything slow

    from osasis.scale.shares import Shares

    shares = Shares(args.device)
    photos = shares.from_main(lambda: find(args))
    args.device = shares.device
    make_writable(result_folder(args.output))

    from osasis.stylize.stylizer import Stylizer

    base, styles = load_styles(args)
    stylizer = Stylizer(base, styles, control_values(args), batch_size=args.batch_size)
    if args.style_image is not None:
        print(f"{args.style_image}: {PREVIEW_NOTE}", file=sys.stderr)
    metadata = describe(base, styles, args)
    return redraw_all(args, photos, stylizer, made_by(base, args), metadata, shares)
