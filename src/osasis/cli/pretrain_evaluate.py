"""`osasis pretrain evaluate`: the numbers of a base."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from osasis._version import __version__
from osasis.cli.options import add_device, make_writable, positive, whole
from osasis.cli.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

    from osasis.base import Base
    from osasis.cli.options import Subparsers
    from osasis.evaluate.base_numbers import Measurement

EPILOG = """\
examples:
  osasis pretrain evaluate faces-256 --data 'faces/val-*.tar' -o report/
      reconstruction, and sheets of photos, reconstructions and samples
  osasis pretrain evaluate runs/mine/mine.safetensors --data held_out/ --train-data photos/ \\
      --attributes labels.tsv --samples 5000 -o report/
      also FID and identity, after `osasis models fetch inception-fid` and `osasis models fetch
      sface`, and how well attributes can be read from z_sem

Photos must not be among those the base was trained on. Fewer samples give a larger FID: compare
only with the same number.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "pretrain-evaluate",
        prog="osasis pretrain evaluate",
        help="measure a base (also written `pretrain evaluate`)",
        description="Measure a base: reconstruction, samples, what its codes say.",
        epilog=EPILOG,
    )
    parser.add_argument("base", metavar="NAME_OR_FILE", help="base, see `osasis models list`")
    parser.add_argument(
        "--data",
        required=True,
        metavar="D",
        help="held-out photos, as `osasis pretrain` takes them",
    )
    parser.add_argument(
        "--count", type=positive, default=64, metavar="N", help="photos (default: 64)"
    )
    parser.add_argument("--train-data", metavar="D", help="the training images, for FID and probes")
    parser.add_argument(
        "--samples", type=whole, default=0, metavar="N", help="samples for FID (default: none)"
    )
    parser.add_argument(
        "--attributes", type=Path, metavar="TSV", help="labels of both, to probe z_sem with"
    )
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="network that judges and was not fetched: inception, sface, arcface, lpips (5 layers)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder for numbers.json and the sheets"
    )
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, write what was asked for."""
    from osasis.evaluate.networks import parse_networks

    networks = parse_networks(args.network)
    if args.output is not None:
        make_writable(args.output)
    from osasis.base import load_base
    from osasis.evaluate.base_numbers import Plan, evaluate_base
    from osasis.pretrain.data import index_images
    from osasis.pretrain.probes import read_attributes

    base = load_base(args.base, device=args.device)
    plan = Plan(
        index_images(args.data),
        args.count,
        index_images(args.train_data) if args.train_data else (),
        args.samples,
        read_attributes(args.attributes) if args.attributes else {},
        networks,
    )
    with Progress() as progress:
        measurements, pictures = evaluate_base(base, plan, progress.update)
    show(base, measurements)
    if args.output is not None:
        write(args.output, base, measurements, pictures)
        print(f"wrote {args.output}")
    return 0


def show(base: Base, measurements: list[Measurement]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{base.name} {base.hash}", title_justify="left")
    for title in ("what", "value", "better", "pictures", "how"):
        table.add_column(title, overflow="fold")
    for m in measurements:
        table.add_row(m.name, f"{m.value:.4g}", m.better, str(m.count), m.how)
    Console().print(table)


def write(
    folder: Path,
    base: Base,
    measurements: list[Measurement],
    pictures: dict[str, list[Image.Image]],
) -> None:
    """Write numbers.json and a sheet of eight pictures a row for each kind of picture."""
    from osasis.files import atomic_path
    from osasis.imaging.save import save_image
    from osasis.imaging.sheet import contact_sheet

    numbers = {
        "base": base.name,
        "hash": base.hash,
        "version": __version__,
        "measurements": [dataclasses.asdict(m) for m in measurements],
    }
    with atomic_path(folder / "numbers.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2) + "\n")
    for title, shown in pictures.items():
        rows = [shown[i : i + 8] for i in range(0, len(shown), 8)]
        name = "".join(c if c.isalnum() else "_" for c in title)
        save_image(contact_sheet(rows, cell=base.image_size), folder / f"{name}.png")
