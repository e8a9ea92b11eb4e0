"""`osasis pretrain`: train a base from a folder of images."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_device, make_writable
from osasis.cli.progress import Progress
from osasis.config.catalogue import configs, find_named

if TYPE_CHECKING:
    from collections.abc import Generator

    from osasis.cli.options import Subparsers
    from osasis.pretrain.processes import Processes
    from osasis.pretrain.train import TrainRecord

EPILOG = """\
examples:
  osasis pretrain faces-256 --data faces/
      the configuration of the shipped base, on the images of a folder
  osasis pretrain my.toml --data 'faces/train-*.tar' -o runs/mine
  osasis pretrain autoencoder autoencoder-256 --data 'pictures/*.tar'
      the autoencoder that a base in latents works in; its configuration names it
  osasis pretrain afhq-dog-256 --data 'hf:huggan/AFHQv2?split=train' -o runs/dogs
      a data set of the Hugging Face hub
  accelerate launch --num_processes 4 -m osasis pretrain ffhq-256 --data ffhq/
      several GPUs; batch_size is that of all together. On CPUs, where `accelerate launch` starts
      one process, it is `torchrun --nproc_per_node 2 -m osasis pretrain ...`

The run's folder holds checkpoints, log.jsonl, curves for TensorBoard, sheets of reconstructions
and samples, and at the end the base. Ctrl-C keeps the run; the same command continues it.
Afterwards `osasis pretrain evaluate` measures the base.
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
        "--data",
        metavar="D",
        help="folder of images, tar files as a quoted glob, or a data set as hf:OWNER/NAME",
    )
    parser.add_argument(
        "--attributes",
        type=Path,
        metavar="TSV",
        help="labels of training images; the base learns a direction for each, for `osasis edit`",
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
    from osasis.pretrain.processes import Processes
    from osasis.pretrain.run import pretrain

    config = load_config(path, data=args.data, attributes=args.attributes)
    out: Path = args.output or Path("runs") / config.name
    make_writable(out)
    processes = Processes(args.device)
    train(pretrain(config, out, processes=processes), processes, out)
    if processes.is_main:
        base = out / f"{config.name}.safetensors"
        print(f"wrote {base}")
        print(f"next: osasis learn PICTURE --base {base}")
        print(f"      osasis pretrain evaluate {base} --data PHOTOS")
    return 0


def train(run: Generator[TrainRecord, None, None], processes: Processes, out: Path) -> None:
    """Follow a run to its end, with progress and what could not be read.

    Raises:
        KeyboardInterrupt: it was stopped, and is kept in `out`.
    """
    if processes.is_main and processes.count > 1:
        print(f"{processes.count} processes train together", file=sys.stderr)
    bad = 0
    try:
        with Progress() as progress, closing(run) as records:
            for record in records:
                bad = max(bad, record.bad_images)
                if processes.is_main:
                    progress.update(
                        record.stage, record.images, record.total_images, describe(record)
                    )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; the run is kept in {out}\nhint: run the same command again to continue it"
        ) from None
    if processes.is_main and bad:
        print(f"{bad} training images could not be read and were left out", file=sys.stderr)


def describe(record: TrainRecord) -> str:
    """The loss and the speed of an update in a few words."""
    parts = [] if record.loss is None else [f"loss {record.loss:.4f}"]
    if record.images_per_second:
        parts.append(f"{record.images_per_second:.1f} images/s")
    if record.skipped:
        parts.append(f"{record.skipped} updates skipped")
    return ", ".join(parts)
