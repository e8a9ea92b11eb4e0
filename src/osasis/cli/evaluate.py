"""`osasis evaluate`: methods side by side, in numbers and pictures."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_device, make_writable, positive
from osasis.cli.progress import Progress

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis evaluate table1 --photos photos/ --styles aahq=a/ --styles metfaces=m/ -o report/
      one of the paper's experiments: table1, table2, fig3, fig5, fig8, fig9
  osasis evaluate methods.toml -o report/ --network sface=face_recognition_sface_2021dec.onnx
      your own comparison, identity included

A TOML file names photos, styles and methods; folders in it are relative to it:
  photos = "photos"
  [styles]
  paintings = "paintings"
  [[methods]]
  name = "ours"
  preset = "fast"                      # learned and redrawn on the spot
  set = { spn = { weight = 0.5 } }     # any setting of the preset
  content = "faces"                    # photos to learn on; without, the base draws them
  [[methods]]
  name = "theirs"
  folder = "theirs"                    # theirs/STYLE/PHOTO.png, of any program
  [[methods]]
  name = "Gatys"
  peer = "nnst"                        # or gatys, adain, colour; photo and style: the two ends

Networks that are not shipped come from `osasis models fetch`, or with --network NAME=FILE, NAME one
of inception, art-inception, lpips, sface, arcface, dino, clip, resnet18, adain.
Ctrl-C keeps everything; the same command goes on.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure methods on photos and styles",
        description="Measure methods on the same photos and styles; write tables and a page.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "methods", metavar="METHODS", help="TOML file, or the name of a shipped experiment"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report"),
        metavar="DIR",
        help="folder of the report (default: %(default)s)",
    )
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos, instead of the file's")
    parser.add_argument(
        "--styles",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a source of style images, instead of the file's; may be given again",
    )
    parser.add_argument(
        "--among",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="style images among which styles are named, beside their own (default: the package's)",
    )
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a network that is not shipped; may be given again",
    )
    parser.add_argument(
        "--size", type=positive, metavar="N", help="side in pixels at which all is measured"
    )
    parser.add_argument(
        "--preset", choices=("fast", "paper", "release"), help="preset of all methods that have one"
    )
    parser.add_argument(
        "--content",
        type=Path,
        metavar="DIR",
        help="photos on which all methods with a preset learn",
    )
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        help="network that compares pictures while presets learn; see `osasis learn --help`",
    )
    parser.add_argument("--base", metavar="NAME_OR_FILE", help="base of the presets")
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate, or go on with it; say where the report is."""
    from osasis.config.catalogue import experiments, find_named

    path = find_named(args.methods, experiments(), "experiment")
    from osasis.evaluate.config import load_evaluation, parse_styles
    from osasis.evaluate.networks import parse_networks

    config = load_evaluation(
        path,
        photos=args.photos,
        styles=parse_styles(args.styles),
        size=args.size,
        base=args.base,
        preset=args.preset,
        content=args.content,
        embedder=args.embedder,
        among=args.among,
    )
    networks = parse_networks(args.network)
    out: Path = args.output
    make_writable(out)

    from osasis.device import choose_device
    from osasis.evaluate.report import write_report
    from osasis.evaluate.run import Evaluation

    evaluation = Evaluation(config, out, networks, choose_device(args.device))
    try:
        with Progress() as progress, closing(evaluation.steps()) as ticks:
            for tick in ticks:
                progress.update(tick.phase, tick.done, tick.total, tick.note)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; everything so far is kept in {out}\n"
            "hint: run the same command again to go on"
        ) from None
    written = write_report(evaluation, shlex.join(["osasis", *sys.argv[1:]]))
    print(f"wrote {', '.join(str(p) for p in written)}")
    if evaluation.skipped:
        print(f"not computed, their networks were not given: {', '.join(evaluation.skipped)}")
    return 0
