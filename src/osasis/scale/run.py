"""Millions of photos: read, redrawn and kept in tables by the workers of a Ray cluster."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from osasis.device import choose_device
from osasis.errors import OsasisError, UserError
from osasis.imaging.find import PassedOver
from osasis.scale.source import estimate_total, kind_of, read, running_ray
from osasis.scale.tables import Tables
from osasis.scale.worker import FORMATS, Job, Worker
from osasis.stylize.model import Styles

# of one batch, before the job ends: a photo that kills its worker must not do so for ever
_ATTEMPTS = 5
# of a processor, held by a worker: readers need room beside it
_CPU_SHARE = 0.5


@dataclass(frozen=True)
class Counts:
    """How far a batch is.

    Attributes:
        done: photos redrawn in this run.
        failed: photos set aside in this run.
        skipped: photos done or set aside by runs before.
        process: process id of the worker that reported last.
        total: photos that this run has to redraw, of tar shards an estimate.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    process: int = 0
    total: int = 0


def stylize_dataset(
    sources: list[str],
    styles: Styles,
    job: Job,
    *,
    kind: str | None = None,
    id_column: str = "id",
    image_column: str = "image",
    workers: int | None = None,
    batch_size: int = 16,
    address: str | None = None,
    retry_failed: bool = False,
    passed: PassedOver | None = None,
) -> Generator[Counts, None, None]:
    """Redraw every photo of a source once; what an earlier run did is not done again.

    A photo is known by its id alone. Ray reads only as far ahead as workers and its store have
    room. A worker that dies is started anew and its batch is done again.

    Args:
        sources: see `osasis.scale.source.read`, as are `id_column`, `image_column` and `passed`.
        styles: see `Stylizer`; put into Ray's store once.
        job: what becomes of every photo; `job.output` gets the tables.
        kind: "folder", "tar" or "parquet"; None goes by the suffix of the first source.
        workers: how many, each with its own base; None takes one per GPU, else one per CPU.
        batch_size: photos that are handed to a worker and written together.
        address: of a Ray cluster; see `running_ray`.
        retry_failed: try those again that were set aside.

    Yields:
        The counts so far, after each batch.

    Raises:
        UserError: ray is not installed, the source cannot be read, another job's output.
        OsasisError: workers fail for another reason than a photo.
    """
    if job.format not in FORMATS:
        raise UserError(f"format must be one of {', '.join(FORMATS)}, got {job.format!r}")
    if batch_size < 1:
        raise UserError(f"batch size must be at least 1, got {batch_size}")
    sources, job = [_absolute(s) for s in sources], replace(job, output=_absolute(job.output))
    tables = Tables(job.output)
    with ExitStack() as after_ray, running_ray(address) as ray:
        kind = kind or kind_of(sources[0])
        rows = read(sources, kind, id_column=id_column, image_column=image_column, passed=passed)
        estimate = estimate_total(rows, sources, kind)
        tables.open_job(job.made, retry_failed=retry_failed)
        after_ray.callback(tables.close_job)  # when no worker writes any more
        done = tables.done()
        references = {"styles": ray.put(styles), "done": ray.put(done)}
        count, gpus = _workers(ray, workers, job.device)
        job = replace(job, threads=_threads(ray, count))
        # one batch a task: what a dead worker takes with it, and when counts come back
        rows = rows.repartition(target_num_rows_per_block=batch_size)
        with warnings.catch_warnings():
            # how retries are asked for is to change in Ray 2.64, which the extra leaves out
            warnings.simplefilter("ignore", DeprecationWarning)
            reports = rows.map_batches(
                Worker,
                fn_constructor_args=(job, references),
                batch_size=batch_size,
                compute=ray.data.ActorPoolStrategy(size=count),
                num_cpus=_CPU_SHARE,
                num_gpus=gpus,
                max_task_retries=_ATTEMPTS,
            )
        for counts, data in _count(ray, reports):
            seen = counts.done + counts.failed
            total = estimate(seen + counts.skipped, data) - len(done)
            yield replace(counts, total=max(total, seen))


def _absolute(place: str) -> str:
    """Workers have a folder of their own: a path must mean the same there."""
    return place if "://" in place else str(Path(place).expanduser().resolve())


def _count(ray: Any, reports: Any) -> Iterator[tuple[Counts, int]]:
    """The counts so far and the bytes of the photos seen, after each batch."""
    total, data = Counts(), 0
    try:
        for row in reports.iter_rows():
            if row["error"]:
                raise OsasisError(row["error"], hint=row["hint"])
            total = Counts(
                total.done + int(row["done"]),
                total.failed + int(row["failed"]),
                total.skipped + int(row["skipped"]),
                int(row["process"]),
            )
            data += int(row["bytes"])
            yield total, data
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, OsasisError):
            raise cause from error
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise OsasisError(
            f"the workers failed: {lines[-1] if lines else type(error).__name__}",
            hint="--debug shows the whole error; the same command goes on where it stopped",
        ) from error


def _workers(ray: Any, asked: int | None, device: str | None) -> tuple[int, int]:
    """How many workers, and how many GPUs each has."""
    there = ray.cluster_resources()
    wants_cpu = device is not None and choose_device(device).type == "cpu"
    gpus = 0 if wants_cpu else int(there.get("GPU", 0))
    return asked or gpus or max(1, int(there.get("CPU", 1))), 1 if gpus else 0


def _threads(ray: Any, workers: int) -> int:
    """Of each worker, so that all of them together have no more than there are cores."""
    import torch

    machines = sum(bool(node["Alive"]) for node in ray.nodes())
    there = torch.get_num_threads() if machines == 1 else int(ray.cluster_resources()["CPU"])
    return max(1, there // workers)
