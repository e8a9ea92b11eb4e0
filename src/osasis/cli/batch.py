"""`osasis batch`: millions of photos over the workers of a Ray cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from osasis.cli.controls import (
    add_controls,
    add_style,
    control_values,
    load_styles,
)
from osasis.cli.options import add_device, positive
from osasis.cli.photos import add_photo_options
from osasis.cli.progress import Progress
from osasis.cli.stylize import made_by
from osasis.config.catalogue import find_style

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers
    from osasis.scale.run import Counts

EPILOG = """\
examples:
  osasis batch photos/ --style memling_maria -o out/
      every image of a folder; results are tables: out/results/*.parquet (id, image, key)
  osasis batch shards/ --kind tar --style memling_maria -o s3://mine/out
      tar shards as WebDataset makes them, in a folder; results go to object storage
  osasis batch photos.parquet --id-column url --image-column jpg --style memling_maria -o out/
  RAY_ADDRESS=auto osasis batch s3://mine/photos --style memling_maria -o s3://mine/out
      on the cluster this machine belongs to; one worker per GPU

Run the same command again and only what is not done is done; a photo is known by its id, not by its
content. Ctrl-C loses at most the batches under work. Photos that fail, and those that kill their
worker twice, are set aside in out/failed/*.parquet with the reason, and are not tried again unless
--retry-failed says so; the exit status is 1 as long as there are any. Up to some ten thousand
photos on one machine, `osasis stylize` is simpler, and writes a file for each.
Needs Ray: pip install 'osasis[ray]'
"""
_SHOWN = 10  # photos set aside that are named at the end
# options that do not change a result
_WITHOUT_EFFECT = (
    "sources", "kind", "id_column", "image_column", "workers", "address", "retry_failed",
)  # fmt: skip


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "batch",
        help="redraw millions of photos over many machines (Ray)",
        description="Redraw the photos of a folder, of tar shards, of Parquet tables or of object "
        "storage into tables, over the workers of a Ray cluster or of this machine.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="folders, files, or addresses such as s3://..."
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder or address for the tables"
    )
    parser.add_argument(
        "--kind",
        choices=("folder", "tar", "parquet"),
        help="what the sources are (default: by the suffix of the first)",
    )
    parser.add_argument(
        "--id-column",
        default="id",
        metavar="C",
        help="column of a table that names photos, each once (default: %(default)s)",
    )
    parser.add_argument(
        "--image-column",
        default="image",
        metavar="C",
        help="column of a table with the bytes of image files (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("png", "jpeg", "webp"),
        default="png",
        help="of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try those again that were set aside"
    )
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--workers", type=positive, metavar="N", help="how many (default: one per GPU, else CPU)"
    )
    group.add_argument("--address", metavar="A", help="of a Ray cluster (default: $RAY_ADDRESS)")
    group.add_argument(
        "--batch-size",
        type=positive,
        default=16,
        metavar="N",
        help="photos handed to a worker and written together (default: %(default)s)",
    )
    group.add_argument(
        "--jobs",
        type=positive,
        default=2,
        metavar="N",
        help="threads of a worker beside its network (default: %(default)s)",
    )
    add_photo_options(parser)
    add_style(parser, required=True)
    add_controls(parser)
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Redraw what is not done yet; say how many, and which were set aside."""
    from osasis.scale.engine import import_ray_data
    from osasis.scale.run import stylize_dataset
    from osasis.scale.tables import Tables
    from osasis.scale.worker import Job

    for name, _ in args.style:
        find_style(name)  # before anything slow
    import_ray_data()
    base, styles = load_styles(args)
    made = made_by(base, args)
    for name in _WITHOUT_EFFECT:
        made["settings"].pop(name)
    job = Job(
        str(base.path.resolve()) if base.path else base.name,
        base.hash,
        args.output,
        made,
        control_values(args),
        args.format,
        args.jobs,
        args.device,
        args.batch_size,
    )
    records = stylize_dataset(
        args.sources,
        styles,
        job,
        kind=args.kind,
        id_column=args.id_column,
        image_column=args.image_column,
        workers=args.workers,
        batch_size=args.batch_size,
        address=args.address,
        retry_failed=args.retry_failed,
    )
    try:
        with closing(records):
            counts = _follow(records)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command does what is not done yet") from None
    before = f", {counts.skipped} done or set aside before" if counts.skipped else ""
    print(f"{counts.done} photos redrawn into {args.output}{before}")
    aside = Tables(args.output).reasons(_SHOWN)
    if not aside:
        return 0
    where = f"{args.output}/failed"
    print(
        f"error: {counts.failed} photos were set aside now; {where} has, among others:",
        file=sys.stderr,
    )
    for name, reason in aside:
        print(f"  {name}: {reason}", file=sys.stderr)
    return 1


def _follow(records: Iterator[Counts]) -> Counts:
    """The last counts; progress on the way."""
    from osasis.scale.run import Counts

    counts = Counts()
    print("starting Ray and its workers", file=sys.stderr, flush=True)
    with Progress() as progress:
        for counts in records:
            note = f"{counts.failed} set aside" if counts.failed else ""
            progress.update("photos", counts.done + counts.failed, counts.total, note)
    return counts
