"""Many photos: reading and saving beside the network, and a record of what made each result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from osasis.errors import OsasisError
from osasis.formats.records import file_hash
from osasis.imaging.load import decode_photo, load_photo
from osasis.imaging.squares import Prepared, Redrawn
from osasis.stylize.stylizer import Stylizer


@dataclass(frozen=True)
class Task:
    """One photo of a batch.

    Attributes:
        path: the photo.
        output: file of its result.
        seed: of its noise, to which its content adds; see `photo_seed`.
        made: what determines the result besides the photo's bytes; see `result_key`.
        data: the photo's bytes, where they are not to be read from `path`.
    """

    path: Path
    output: Path
    seed: int
    made: Mapping[str, Any]
    data: bytes | None = None


def photo_seed(seed: int, photo_hash: str) -> int:
    """The seed of a photo's noise: it depends on no other photo."""
    return seed + int(photo_hash[:8], 16)


Save = Callable[[Task, str, Redrawn], None]
"""Keeps a result; the second argument is the photo's hash."""
Outcome = OsasisError | bool
"""Why a photo failed; otherwise whether it was redrawn (False: it was there already)."""


@dataclass(frozen=True)
class _Read:
    task: Task
    photo_hash: str
    prepared: Prepared

    @property
    def seed(self) -> int:
        return photo_seed(self.task.seed, self.photo_hash)


def _known(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future


class BatchRunner:
    """Redraws photos while others are read, searched for faces, put together and saved.

    Args:
        stylizer: what redraws.
        save: keeps a result; called in other threads.
        is_done: whether a task's result is there already, by the photo's hash.
        begin: called for each photo just before it is drawn, alone or with others of its batch, in
            order, in the caller's thread.
        jobs: threads beside the network.
    """

    def __init__(
        self,
        stylizer: Stylizer,
        save: Save,
        is_done: Callable[[Task, str], bool],
        jobs: int = 2,
        *,
        begin: Callable[[Task, str], None] = lambda task, photo_hash: None,
    ) -> None:
        self._begin = begin
        self._stylizer, self._save, self._is_done, self._jobs = stylizer, save, is_done, jobs

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Yield what became of each task, in whatever order they end; no photo stops others."""
        batch_size = self._stylizer.batch_size
        saving: deque[tuple[Task, Future[Outcome]]] = deque()
        pool = ThreadPoolExecutor(self._jobs)
        try:
            waiting: list[_Read] = []
            for task, read in self._read_ahead(pool, tasks):
                if not isinstance(read, _Read):
                    yield task, read
                    continue
                if not self._stylizer.has_room([r.prepared for r in waiting], read.prepared):
                    saving.extend(self._draw(pool, waiting))
                    waiting = []
                waiting.append(read)
                while saving and (saving[0][1].done() or len(saving) > 2 * batch_size):
                    task, future = saving.popleft()
                    yield task, future.result()
            saving.extend(self._draw(pool, waiting))
            while saving:
                task, future = saving.popleft()
                yield task, future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_ahead(
        self, pool: ThreadPoolExecutor, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, _Read | Outcome]]:
        reading: deque[tuple[Task, Future[_Read | Outcome]]] = deque()
        for task in tasks:
            reading.append((task, pool.submit(self._read, task)))
            if len(reading) > self._jobs:
                done, future = reading.popleft()
                yield done, future.result()
        for done, future in reading:
            yield done, future.result()

    def _read(self, task: Task) -> _Read | Outcome:
        try:
            if task.data is None and not task.path.is_file():
                load_photo(task.path)  # says best what is wrong
            data = task.data
            photo_hash = file_hash(task.path) if data is None else sha256(data).hexdigest()
            if self._is_done(task, photo_hash):
                return False
            photo = load_photo(task.path) if data is None else decode_photo(data)
            return _Read(task, photo_hash, self._stylizer.prepare(photo))
        except OsasisError as error:
            return error

    def _draw(
        self, pool: ThreadPoolExecutor, photos: Sequence[_Read]
    ) -> Iterator[tuple[Task, Future[Outcome]]]:
        """Begin photos, and redraw those that could be."""
        begun = []
        for photo in photos:
            try:
                self._begin(photo.task, photo.photo_hash)
            except OsasisError as error:
                yield photo.task, _known(error)
            else:
                begun.append(photo)
        yield from self._redraw(pool, begun)

    def _redraw(
        self, pool: ThreadPoolExecutor, photos: Sequence[_Read]
    ) -> Iterator[tuple[Task, Future[Outcome]]]:
        try:
            results = self._stylizer.redraw_photos([(p.prepared, p.seed) for p in photos])
        except OsasisError as error:
            if len(photos) == 1:
                yield photos[0].task, _known(error)
                return
            for photo in photos:  # one of them is bad: each by itself
                yield from self._redraw(pool, [photo])
            return
        for photo, squares in zip(photos, results, strict=True):
            yield photo.task, pool.submit(self._finish, photo, squares)

    def _finish(self, photo: _Read, results: Sequence[np.ndarray]) -> Outcome:
        try:
            redrawn = self._stylizer.finish(photo.prepared, results)
            self._save(photo.task, photo.photo_hash, redrawn)
            return True
        except OsasisError as error:
            return error
