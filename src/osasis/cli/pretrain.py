"""`osasis pretrain`: train a base from a folder of images."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_device, make_writable
from osasis.cli.progress import Progress
from osasis.hub.registry import configs, find_named

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis pretrain faces-128 --data faces/
      the configuration of the shipped base, on the images of a folder
  osasis pretrain my.toml --data 'faces/train-*.tar' -o runs/mine

Ctrl-C keeps the run; the same command continues it.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "pretrain",
        help="train a base on your own images",
        description="Train a base: the networks that every style of a kind of picture starts from.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="TOML file, or the name of a shipped configuration"
    )
    parser.add_argument(
        "--data", metavar="D", help="folder of images, or tar files as a quoted glob"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="RUN_DIR",
        help="folder of the run (default: runs/ and the configuration's name)",
    )
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train, or continue to; say where the run is."""
    path = find_named(args.config, configs(), "configuration")
    from osasis.pretrain.config import load_config
    from osasis.pretrain.run import pretrain

    config = load_config(path, data=args.data)
    out: Path = args.output or Path("runs") / config.name
    make_writable(out)
    bad = 0
    try:
        with Progress() as progress, closing(pretrain(config, out, device=args.device)) as records:
            for record in records:
                note = f"loss {record.loss:.4f}, {record.images_per_second:.1f} images/s"
                bad = max(bad, record.bad_images)
                progress.update(record.stage, record.images, record.total_images, note)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; the run is kept in {out}\nhint: run the same command again to continue it"
        ) from None
    if bad:
        print(f"{bad} training images could not be read and were left out", file=sys.stderr)
    print(f"wrote {out / config.name}.safetensors")
    print(f"next: osasis learn PICTURE --base {out / config.name}.safetensors")
    return 0
