"""`osasis learn`: one picture becomes a style file."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_base, add_device, make_writable, positive, whole
from osasis.cli.progress import Progress, describe_losses
from osasis.errors import UserError

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

PRESETS = ("fast", "paper", "release")
SUFFIX = ".osasis.safetensors"

EPILOG = """\
examples:
  osasis learn painting.jpg
      writes painting.osasis.safetensors into the current folder
  osasis learn painting.jpg -o styles/painting.osasis.safetensors --preset paper --seed 3

Ctrl-C keeps what is learned so far; the same command continues from there.
Then: osasis stylize photo.jpg --style painting.osasis.safetensors
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "learn",
        help="learn a style from one picture",
        description="Learn a style from one picture and write it to a style file.",
        epilog=EPILOG,
    )
    parser.add_argument("style_image", type=Path, metavar="STYLE_IMAGE", help="picture to learn")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"style file to write (default: the picture's name with {SUFFIX}, here)",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="fast",
        help="fast: minutes on a CPU; paper: the paper's text; release: the authors' program, "
        "number for number (default: %(default)s)",
    )
    add_base(parser)
    parser.add_argument(
        "--embedder", metavar="NAME", help="network that compares pictures (default: the preset's)"
    )
    parser.add_argument(
        "--iterations",
        type=positive,
        metavar="N",
        help="walks down from t0, each of several updates (default: the preset's)",
    )
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="N", help="seed of all randomness (default: 0)"
    )
    parser.add_argument("--name", help="name of the style (default: the picture's)")
    parser.add_argument("--force", action="store_true", help="replace an existing style file")
    add_device(parser)
    return parser


def output_file(picture: Path, output: Path | None, *, force: bool) -> Path:
    """Where the style file goes.

    Raises:
        UserError: it exists already and `force` is not set, or has the wrong suffix.
    """
    default = f"{picture.stem}{SUFFIX}"
    if output is None:
        output = Path(default)
    elif output.is_dir():
        output = output / default
    if output.suffix != ".safetensors":
        raise UserError(
            f"a style file ends in .safetensors, not as in {output}",
            hint=f"-o {output.stem}{SUFFIX}",
        )
    if output.exists() and not force:
        raise UserError(f"{output} exists", hint="add --force to replace it, or choose another -o")
    return output


def snapshot_file(output: Path) -> Path:
    """Where an unfinished run is kept: a hidden file beside its output."""
    return output.with_name(f".{output.stem}.partial.safetensors")


def run(args: argparse.Namespace) -> int:
    """Learn the style, write it, say where."""
    picture: Path = args.style_image
    output = output_file(picture, args.output, force=args.force)
    make_writable(output.parent)

    from osasis.base import load_base
    from osasis.imaging.load import load_image
    from osasis.style.config import PRESETS as CONFIGS
    from osasis.style.learn import StyleLearner

    image = load_image(picture)
    config = CONFIGS[args.preset]
    if args.iterations is not None:
        config = replace(config, iterations=args.iterations)
    snapshot = snapshot_file(output)
    learner = StyleLearner(
        load_base(args.base, device=args.device),
        image,
        config,
        seed=args.seed,
        name=args.name or picture.stem,
        embedder=args.embedder,
        snapshot=snapshot,
    )
    try:
        with Progress() as progress, closing(learner.steps()) as steps:
            for record in steps:
                note = describe_losses(record.losses)
                progress.update(record.phase, record.done, record.total, note)
    except KeyboardInterrupt:
        if not snapshot.exists():
            raise
        raise KeyboardInterrupt(
            f"stopped; what is learned so far is kept in {snapshot}\n"
            "hint: run the same command again to continue from there"
        ) from None
    learner.style().save(output)
    learner.finish()
    print(f"wrote {output}")
    print(f"next: osasis stylize PHOTO --style {output}")
    return 0
