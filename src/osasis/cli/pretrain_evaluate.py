"""`osasis pretrain evaluate`: the numbers of a base."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis._version import __version__
from osasis.cli.options import Device, Output, Positive, Whole, make_writable
from osasis.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

    from osasis.base import Base
    from osasis.evaluate.base_numbers import Measurement


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
          --attributes labels.tsv --samples 5000 -o report/ also FID and identity,
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
    from rich.table import Table

    table = Table(title=f"{base.name} {base.hash}", title_justify="left")
    for title in ("what", "value", "better", "pictures", "how"):
        table.add_column(title, overflow="fold")
    for m in measurements:
        table.add_row(m.name, f"{m.value:.4g}", m.better, str(m.count), m.how)
    Console().print(table)


def _write(
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
