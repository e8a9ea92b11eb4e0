"""One worker of a cluster: a base, its styles, and the photos it is handed."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from osasis.config.controls import Controls
from osasis.errors import OsasisError
from osasis.formats.records import result_key, told, with_losses
from osasis.imaging.save import encode_image
from osasis.imaging.squares import Redrawn
from osasis.scale.source import DATA, ID, REASON
from osasis.scale.tables import FAILED, RESULTS, Tables, are_in, id_hashes
from osasis.stylize.batch import BatchRunner, Outcome, Task

FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_DEADLY = "the worker died twice while it redrew this photo"
_DEADLY_HINT = "look at the photo; if memory was short, --batch-size 1 and --retry-failed"


@dataclass(frozen=True)
class Job:
    """What becomes of every photo of a batch.

    Attributes:
        base: name or file of the base; it must be found on every machine.
        base_hash: its hash, so that no machine uses another.
        output: folder or address of the tables.
        made: what determines the results besides the photos.
        controls: how photos are redrawn.
        format: of the results, one of `FORMATS`.
        jobs: threads beside the network.
        device: see `choose_device`.
        batch_size: photos at once; None chooses from free memory.
        threads: of the network in one worker.
    """

    base: str
    base_hash: str
    output: str
    made: Mapping[str, Any]
    controls: Controls = field(default_factory=Controls)
    format: str = "png"
    jobs: int = 2
    device: str | None = None
    batch_size: int | None = None
    threads: int = 1


class Worker:
    """Called with batches of rows; writes their tables and returns how many were done.

    Args:
        job: what to do.
        references: of the styles with their shares, and of the sorted hashes of ids done before,
            in Ray's store: every machine holds them once.
    """

    def __init__(self, job: Job, references: Mapping[str, Any]) -> None:
        import torch

        from osasis.base import load_base
        from osasis.stylize.stylizer import Stylizer

        ray = importlib.import_module("ray")
        torch.set_num_threads(job.threads)
        self._job, self._tables = job, Tables(job.output)
        self._done: np.ndarray = ray.get(references["done"])
        base = load_base(job.base, device=job.device)
        if base.hash != job.base_hash:
            raise OsasisError(
                f"{job.base} is another base on this machine: {base.hash}, not {job.base_hash}"
            )
        self._stylizer = Stylizer(
            base, ray.get(references["styles"]), job.controls, batch_size=job.batch_size
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Redraw the photos of a batch that were not done before.

        A batch that comes again because its worker died is done photo by photo, and the photo at
        which a worker then dies is set aside when the batch comes next.

        Args:
            batch: columns `ID`, `DATA` and `REASON`, each (N,).

        Returns:
            One row: counts "done", "failed" and "skipped", "bytes" of the photos, skipped ones
            too, "process", the worker's id, and "error" and "hint" where the batch cannot go on:
            Ray keeps what an exception says to itself.
        """
        stop = {"error": "", "hint": ""}
        try:
            counts = self._redraw(batch)
        except OsasisError as error:
            counts = {"done": 0, "failed": 0, "skipped": 0}
            stop = {"error": str(error), "hint": error.hint}
        more = {"bytes": sum(len(data) for data in batch[DATA]), "process": os.getpid()}
        return {name: np.array([value]) for name, value in {**counts, **more, **stop}.items()}

    def _redraw(self, batch: dict[str, np.ndarray]) -> dict[str, int]:
        ids = [str(name) for name in batch[ID]]
        before = are_in(id_hashes(ids), self._done)
        new = [i for i in {name: i for i, name in enumerate(ids)}.values() if not before[i]]
        failed = [_row(ids[i], reason=str(batch[REASON][i])) for i in new if batch[REASON][i]]
        tasks = [self._task(i, ids[i], batch[DATA][i]) for i in new if not batch[REASON][i]]
        results: list[dict[str, Any]] = []

        def save(task: Task, photo_hash: str, redrawn: Redrawn) -> None:
            key = result_key(photo_hash, task.made)
            redrawn = with_losses(redrawn, self._job.format)
            record = {**self._job.made, "photo_sha256": photo_hash, "key": key, **told(redrawn)}
            image = encode_image(
                redrawn.whole,
                FORMATS[self._job.format],
                metadata={"osasis": json.dumps(record)},
                kept=redrawn.kept,
            )
            results.append({ID: ids[_place(task)], "image": image, "key": key})

        runner = BatchRunner(self._stylizer, save, lambda task, digest: False, self._job.jobs)
        for task, outcome in self._guarded(runner, tasks):
            if isinstance(outcome, OsasisError):
                failed.append(_row(ids[_place(task)], reason=str(outcome), hint=outcome.hint))
        order = {name: i for i, name in enumerate(ids)}
        for table, rows in ((RESULTS, results), (FAILED, failed)):
            self._tables.write(table, sorted(rows, key=lambda row: order[row[ID]]))
        if tasks:
            self._tables.forget([str(task.path) for task in tasks])
        return {"done": len(results), "failed": len(failed), "skipped": len(ids) - len(new)}

    def _guarded(
        self, runner: BatchRunner, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Outcome]]:
        """What becomes of each task, with a note of it while it is redrawn."""
        if not tasks:
            return
        names = [str(task.path) for task in tasks]
        suspects = self._tables.noted(names)
        if suspects is None:
            self._tables.note(names, [])
            yield from runner.run(tasks)
            return
        for task, name in zip(tasks, names, strict=True):
            if name in suspects:
                yield task, OsasisError(_DEADLY, hint=_DEADLY_HINT)
            else:
                self._tables.note(names, [*suspects, name])
                yield from runner.run([task])

    def _task(self, place: int, name: str, data: bytes) -> Task:
        """The photo in row `place`; the seed is of its id, wherever it lies in the source."""
        random = bool(self._job.controls.variation)
        first = self._job.controls.seed
        seed = (first + int(id_hashes([name])[0] >> np.uint64(32))) if random else first
        made = {**self._job.made, "seed": seed if random else None}
        return Task(Path(name), Path(str(place)), seed, made, data)


def _place(task: Task) -> int:
    return int(task.output.name)  # results have no files of their own


def _row(name: str, *, reason: str, hint: str = "") -> dict[str, Any]:
    return {ID: name, REASON: reason, "hint": hint}
