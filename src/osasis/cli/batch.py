"""`osasis batch`: millions of photos over the workers of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from osasis.cli.controls import controls_of, load_styles, made_by
from osasis.cli.options import Device, DrawingOptions, PhotoOptions, Positive, Styles
from osasis.cli.photos import say_passed
from osasis.progress import Progress, when_stopped
from osasis.terminal import say

if TYPE_CHECKING:
    from osasis.scale.run import Counts

_SHOWN = 10  # photos set aside that are named at the end
_Workers = Parameter(group="workers")


def batch(
    sources: Annotated[list[str], Parameter(name="SOURCE")],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", metavar="DIR")],
    styles: Styles = Styles(),
    kind: Literal["folder", "tar", "parquet"] | None = None,
    id_column: str = "id",
    image_column: str = "image",
    format: Literal["png", "jpeg", "webp"] = "png",
    retry_failed: bool = False,
    workers: Annotated[Positive | None, _Workers] = None,
    address: Annotated[str | None, _Workers] = None,
    batch_size: Annotated[Positive, _Workers] = 16,
    jobs: Annotated[Positive, _Workers] = 2,
    drawing: DrawingOptions = DrawingOptions(),
    photo: PhotoOptions = PhotoOptions(),
    device: Device = None,
) -> int:
    """Redraw millions of photos over the workers of a Ray cluster or of this machine.

    The photos lie in a folder, tar shards, Parquet tables or object storage; results are tables.

    Args:
        sources: folders, files, or addresses such as s3://...
        output: folder or address for the tables
        kind: what the sources are (default: by the suffix of the first)
        id_column: column of a table that names photos, each once
        image_column: column of a table with the bytes of image files
        format: of the results
        retry_failed: try those again that were set aside
        workers: how many (default: one per GPU, else CPU)
        address: of a Ray cluster (default: $RAY_ADDRESS)
        batch_size: photos handed to a worker and written together
        jobs: threads of a worker beside its network

    Examples:
      osasis batch photos/ --style memling_maria -o out/
          every image of a folder; results are tables: out/results/*.parquet (id,
          image, key)
      osasis batch shards/ --kind tar --style memling_maria -o s3://mine/out
          tar shards as WebDataset makes them, in a folder; results go to object
          storage
      osasis batch photos.parquet --id-column url --image-column jpg --style memling_maria -o out/
      RAY_ADDRESS=auto osasis batch s3://mine/photos --style memling_maria -o s3://mine/out
          on the cluster this machine belongs to; one worker per GPU

    Run the same command again and only what is not done is done; a photo is known
    by its id, not by its content. Ctrl-C loses at most the batches in progress.
    Photos that fail, and those that kill their worker twice, are set aside in
    out/failed/*.parquet with the reason, and are not tried again unless
    --retry-failed says so; the exit status is 1 as long as there are any, or
    pictures that cannot be read. Up to some ten thousand photos on one machine,
    `osasis stylize` is simpler, and writes a file for each. Needs Ray:
    pip install 'osasis[ray]'
    """
    from osasis.imaging.find import PassedOver
    from osasis.scale.run import stylize_dataset
    from osasis.scale.source import import_ray_data
    from osasis.scale.tables import Tables
    from osasis.scale.worker import Job

    styles.check("batch")
    import_ray_data()
    controls = controls_of(drawing, photo)
    base, loaded = load_styles(styles, device)
    made = made_by(base, styles, loaded, controls, format=format)
    job = Job(
        str(base.path.resolve()) if base.path else base.name,
        base.hash,
        output,
        made,
        controls,
        format,
        jobs,
        device,
        batch_size,
    )
    passed = PassedOver()
    records = stylize_dataset(
        sources,
        loaded,
        job,
        kind=kind,
        id_column=id_column,
        image_column=image_column,
        workers=workers,
        batch_size=batch_size,
        address=address,
        retry_failed=retry_failed,
        passed=passed,
    )
    with (
        when_stopped(lambda: "stopped; the same command does what is not done yet"),
        closing(records),
    ):
        counts = _follow(records)
    unread = say_passed(passed)
    before = f", {counts.skipped} done or set aside before" if counts.skipped else ""
    print(f"{counts.done} photos redrawn into {output}{before}")
    aside = Tables(output).reasons(_SHOWN)
    if not aside:
        return unread
    where = f"{output}/failed"
    print(
        f"error: {counts.failed} photos were set aside now; {where} has, among others:",
        file=sys.stderr,
    )
    for name, reason in aside:
        say(f"  {name}: {reason}", sys.stderr)
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
