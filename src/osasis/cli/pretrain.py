"""`osasis pretrain`: train a base, or an autoencoder for one, and measure a base."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis._version import __version__
from osasis.cli.options import Device, Output, Positive, Whole, command_line, make_writable
from osasis.config.catalogue import autoencoder_configs, configs, find_named
from osasis.progress import AGAIN, Progress, when_stopped
from osasis.terminal import table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from PIL import Image

    from osasis.base import Base
    from osasis.evaluate.base_numbers import Measurement
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


def pretrain_evaluate(
    base: Annotated[str, Parameter(name="NAME_OR_FILE")],
    /,
    *,
    data: str,
    count: Positive = 64,
    train_data: str | None = None,
    samples: Whole = 0,
    attributes: Annotated[Path | None, Parameter(metavar="TSV")] = None,
    network: Annotated[list[str] | None, Parameter(metavar="NAME=FILE")] = None,
    output: Output | None = None,
    device: Device = None,
) -> int:
    """Measure a base: reconstruction, samples, what its codes say.

    Args:
        base: base, see `osasis models list`
        data: held-out photos, as `osasis pretrain` takes them
        count: photos
        train_data: the training images, for FID and probes
        samples: samples for FID; 0 for none
        attributes: labels of both, to probe z_sem with
        network: network that judges and was not fetched: inception, sface, arcface, lpips (5
            layers)
        output: folder for numbers.json and the sheets

    Examples:
      osasis pretrain evaluate faces-256 --data 'faces/val-*.tar' -o report/
          reconstruction, and sheets of photos, reconstructions and samples
      osasis pretrain evaluate runs/mine/mine.safetensors --data held_out/ --train-data photos/ \\
          --attribute labels.tsv --samples 5000 -o report/ also FID and identity,
          after `osasis models fetch inception-fid` and `osasis models fetch sface`,
          and how well attributes can be read from z_sem

    Photos must not be among those the base was trained on. Fewer samples give a
    larger FID: compare only with the same number.
    """
    from osasis.evaluate.networks import parse_networks

    networks = parse_networks(network or [])
    if output is not None:
        make_writable(output)
    from osasis.base import load_base
    from osasis.evaluate.base_numbers import Plan, evaluate_base
    from osasis.pretrain.data import index_images
    from osasis.pretrain.probes import read_attributes

    loaded = load_base(base, device=device)
    plan = Plan(
        index_images(data),
        count,
        index_images(train_data) if train_data else (),
        samples,
        read_attributes(attributes) if attributes else {},
        networks,
    )
    with Progress() as progress:
        measurements, pictures = evaluate_base(loaded, plan, progress.update)
    _show(loaded, measurements)
    if output is not None:
        _write(output, loaded, measurements, pictures)
        print(f"wrote {output}")
    return 0


def _show(base: Base, measurements: list[Measurement]) -> None:
    """Print a table."""
    from rich.console import Console

    columns = ("what", "value", "better", "pictures", "how")
    shown = table(f"{base.name} {base.hash}", columns)
    for m in measurements:
        shown.add_row(m.name, f"{m.value:.4g}", m.better, str(m.count), m.how)
    Console().print(shown)


def _write(
    folder: Path,
    base: Base,
    measurements: list[Measurement],
    pictures: dict[str, list[Image.Image]],
) -> None:
    """Write numbers.json and a sheet of eight pictures a row for each kind of picture."""
    from osasis.files import write_text
    from osasis.imaging.save import save_image
    from osasis.imaging.sheet import contact_sheet

    numbers = {
        "base": base.name,
        "hash": base.hash,
        "version": __version__,
        "measurements": [dataclasses.asdict(m) for m in measurements],
    }
    write_text(folder / "numbers.json", json.dumps(numbers, indent=2) + "\n")
    for title, shown in pictures.items():
        rows = [shown[i : i + 8] for i in range(0, len(shown), 8)]
        name = "".join(c if c.isalnum() else "_" for c in title)
        save_image(contact_sheet(rows, cell=base.image_size), folder / f"{name}.png")
