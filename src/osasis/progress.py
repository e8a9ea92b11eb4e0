"""Progress on stderr: a bar in a terminal, otherwise a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

from osasis.files import duration
from osasis.terminal import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

AGAIN = "hint: run the same command again to continue from there"


class Record(Protocol):
    """Where a job is."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


R = TypeVar("R", bound=Record)


@contextmanager
def when_stopped(say: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C say what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(say()) from None


class Progress:
    """Shows how far a job of one or more phases is; a context manager.

    Args:
        stream: where to write; standard error by default.
        interval: seconds between plain lines.
        clock: source of time in seconds.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._clock = clock
        self._phase = ""
        # time and count at which the phase was first seen, and after its first step, which is
        # slower than the others: memory is found, kernels are compiled
        self._begun, self._warm = (0.0, 0), (0.0, 0)
        self._printed = clock()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            self._bar = _bar(self._stream)
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps of `phase` are done."""
        note = printable(note)
        if phase != self._phase:
            self._phase = phase
            self._begun = self._warm = (self._clock(), done)
            if self._bar is not None:
                self._task = self._bar.add_task(phase, total=total, note=note, left="")
        elif self._warm == self._begun and done > self._begun[1]:
            self._warm = (self._clock(), done)
        if self._bar is not None and self._task is not None:
            left = self._left(done, total)
            self._bar.update(self._task, total=total, completed=done, note=note, left=left)
        elif self._bar is None and self._clock() - self._printed >= self._interval:
            self._printed = self._clock()
            print(self._line(done, total, note), file=self._stream, flush=True)

    def follow(self, records: Generator[R, None, object]) -> R | None:
        """Show records to their end, and close what makes them; returns the last one.

        A record's loss or note is shown where it has one.
        """
        record = None
        with closing(records):
            for record in records:
                losses = getattr(record, "losses", {})
                said = f"loss {losses['total']:.3g}" if "total" in losses else ""
                said = said or getattr(record, "note", "")
                self.update(record.phase, record.done, record.total, said)
        return record

    def _line(self, done: int, total: int, note: str) -> str:
        parts = [f"{self._phase}: {done} of {total} ({done / max(1, total):.0%})"]
        return ", ".join(filter(None, [*parts, self._left(done, total), note]))

    def _left(self, done: int, total: int) -> str:
        """The time that is left; empty until three steps have said how long they take."""
        since, first = self._warm if done >= self._warm[1] + 2 else self._begun
        if done < self._begun[1] + 3 or done >= total:
            return ""
        return f"{duration((self._clock() - since) / (done - first) * (total - done))} left"


def _bar(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[note]}"),
        # the bar steers the terminal on purpose
        console=Console(file=getattr(stream, "terminal", stream)),
    )
