"""`osasis pretrain` and `osasis pretrain autoencoder`: train a base, or an autoencoder for one."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis.cli.options import Device, Output, command_line, make_writable
from osasis.config.catalogue import autoencoder_configs, configs, find_named
from osasis.progress import AGAIN, Progress, when_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from osasis.pretrain.config import AutoencoderRun, PretrainConfig
    from osasis.pretrain.train import TrainRecord

Config = Annotated[
    str,
    Parameter(name="CONFIG", help="TOML file, or the name of a shipped configuration"),
]
Data = Annotated[
    str | None,
    Parameter(
        help="folder of images, tar files as a quoted glob, or a data set as hf:OWNER/NAME "
        "(default: the configuration's)"
    ),
]
RunFolder = Annotated[
    Output | None, Parameter(help="folder of the run (default: runs/ and the configuration's name)")
]


def pretrain(
    config: Config,
    /,
    *,
    data: Data = None,
    attributes: Annotated[Path | None, Parameter(metavar="TSV")] = None,
    output: RunFolder = None,
    device: Device = None,
) -> int:
    """Train a base: the networks that every style of a kind of picture starts from.

    Args:
        attributes: labels of training images; the base learns a direction for each, for
            `osasis edit`

    Examples:
      osasis pretrain faces-256 --data faces/
          the configuration of the shipped base, on the images of a folder
      osasis pretrain my.toml --data 'faces/train-*.tar' -o runs/mine
      osasis pretrain autoencoder autoencoder-256 --data 'pictures/*.tar'
          the autoencoder that a base in latents works in; its configuration names
          it
      osasis pretrain afhq-dog-256 --data 'hf:huggan/AFHQv2?split=train' -o runs/dogs
          a data set of the Hugging Face hub
      accelerate launch --num_processes 4 -m osasis pretrain ffhq-256 --data ffhq/
          several GPUs; batch_size is that of all together. On CPUs, where
          `accelerate launch` starts one process, it is `torchrun --nproc_per_node 2
          -m osasis pretrain ...`

    The run's folder holds checkpoints, log.jsonl, curves for TensorBoard, sheets of
    reconstructions and samples, and at the end the base. Ctrl-C keeps the run; the
    same command continues it. Afterwards `osasis pretrain evaluate` measures the
    base.
    """
    path = find_named(config, configs(), "configuration")
    from osasis.pretrain.config import load_config
    from osasis.pretrain.run import pretrain as run

    base = _train(run, load_config(path, data=data, attributes=attributes), output, device)
    if base is not None:
        print(f"next: {command_line(['learn', 'PICTURE', '--base', base])}")
        words: list[object] = ["pretrain", "evaluate", base, "--data", "PHOTOS"]
        print(f"      {command_line(words)}")
    return 0


def pretrain_autoencoder(
    config: Config, /, *, data: Data = None, output: RunFolder = None, device: Device = None
) -> int:
    """Train an autoencoder by L1 and LPIPS, for a base that works in its latents.

    Examples:
      osasis pretrain autoencoder autoencoder-256 --data 'pictures/*.tar'

    A configuration of a base names the file that comes out: autoencoder = "FILE".
    Several kinds of pictures and their shares are said in the configuration. Ctrl-C
    keeps the run; the same command continues it.
    """
    path = find_named(config, autoencoder_configs(), "configuration")
    from osasis.pretrain.autoencoder import train_autoencoder
    from osasis.pretrain.config import load_autoencoder_config

    file = _train(train_autoencoder, load_autoencoder_config(path, data=data), output, device)
    if file is not None:
        print(f'next: autoencoder = "{file}" in the configuration of a base, and osasis pretrain')
    return 0


def _train(
    train: Callable[..., Generator[TrainRecord, None, None]],
    config: AutoencoderRun | PretrainConfig,
    output: Path | None,
    device: str | None,
) -> Path | None:
    """Follow a run to its end, with progress and what could not be read.

    Returns:
        The file it wrote; None in all processes but the main one.

    Raises:
        KeyboardInterrupt: it was stopped, and is kept in its folder.
    """
    from osasis.pretrain.processes import Processes

    out = output or Path("runs") / config.name
    make_writable(out)
    processes = Processes(device)
    run = train(config, out, processes=processes)
    if processes.is_main and processes.count > 1:
        print(f"{processes.count} processes train together", file=sys.stderr)
    bad = 0
    kept = f"stopped; the run is kept in {out}\n{AGAIN}"
    with when_stopped(lambda: kept), Progress() as progress, closing(run) as records:
        for record in records:
            bad = max(bad, record.bad_images)
            if processes.is_main:
                progress.update(record.stage, record.images, record.total_images, _describe(record))
    if not processes.is_main:
        return None
    if bad:
        print(f"{bad} training images could not be read and were left out", file=sys.stderr)
    file = out / f"{config.name}.safetensors"
    print(f"wrote {file}")
    return file


def _describe(record: TrainRecord) -> str:
    """The loss and the speed of an update in a few words."""
    parts = [] if record.loss is None else [f"loss {record.loss:.4f}"]
    if record.images_per_second:
        parts.append(f"{record.images_per_second:.1f} images/s")
    if record.skipped:
        parts.append(f"{record.skipped} updates skipped")
    return ", ".join(parts)
