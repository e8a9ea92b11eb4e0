"""`osasis pretrain autoencoder`: the autoencoder that bases in latents work in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_device, make_writable
from osasis.cli.pretrain import train
from osasis.config.catalogue import autoencoder_configs, find_named

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
example:
  osasis pretrain autoencoder autoencoder-256 --data 'pictures/*.tar'

A configuration of a base names the file that comes out: autoencoder = "FILE". Several kinds of
pictures and their shares are said in the configuration. Ctrl-C keeps the run; the same command
continues it.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "pretrain-autoencoder",
        prog="osasis pretrain autoencoder",
        help="train an autoencoder (also written `pretrain autoencoder`)",
        description="Train an autoencoder by L1 and LPIPS, for a base that works in its latents.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="TOML file, or the name of a shipped configuration"
    )
    parser.add_argument(
        "--data", metavar="D", help="the pictures, as `osasis pretrain` takes them; one kind"
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
    """Train, or continue to; say where the file is."""
    path = find_named(args.config, autoencoder_configs(), "configuration")
    from osasis.pretrain.autoencoder import train_autoencoder
    from osasis.pretrain.config import load_autoencoder_config
    from osasis.pretrain.processes import Processes

    config = load_autoencoder_config(path, data=args.data)
    out: Path = args.output or Path("runs") / config.name
    make_writable(out)
    processes = Processes(args.device)
    train(train_autoencoder(config, out, processes=processes), processes, out)
    if processes.is_main:
        file = out / f"{config.name}.safetensors"
        print(f"wrote {file}")
        print(f'next: autoencoder = "{file}" in the configuration of a base, and osasis pretrain')
    return 0
