"""One line of jobs for one device: first come, first served; a job belongs to a visitor."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field

from osasis.errors import OsasisError, UserError
from osasis.studio.config import Limits
from osasis.studio.failures import for_visitor

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
OPEN = (QUEUED, RUNNING)
_LOG = logging.getLogger(__name__)
_REMEMBERED = 20  # finished jobs of a visitor


@dataclass(frozen=True)
class Step:
    """Where a job is.

    Attributes:
        phase: what is being done, for people.
        done, total: steps of the phase.
        note: more about it.
        result: id of an item that is ready.
        preview: id of an item to look at meanwhile.
        failure: something that went wrong while the rest goes on.
    """

    phase: str
    done: int
    total: int
    note: str = ""
    result: str = ""
    preview: str = ""
    failure: str = ""


Work = Callable[[], Generator[Step, None, None]]


@dataclass
class Job:
    """A job; only its queue changes it.

    Attributes:
        owner: id of the visitor.
        kind, title: what it is, for the page and for people.
        items: ids of the items it needs, which must not expire meanwhile.
    """

    id: str
    owner: str
    kind: str
    title: str
    items: frozenset[str]
    work: Work
    created: float
    address: str = ""
    state: str = QUEUED
    step: Step = field(default_factory=lambda: Step("waiting", 0, 1))
    seconds_left: float | None = None
    results: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    preview: str = ""
    error: str = ""
    started: float = 0.0
    finished: float = 0.0
    cancel: bool = False


class JobQueue:
    """Runs jobs one after the other in a thread of its own.

    Args:
        limits: how many may wait.
        clock: source of time in seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: dict[str, Job] = {}
        self._versions: dict[str, int] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="studio-jobs", daemon=True)
        self._thread.start()

    def submit(
        self,
        owner: str,
        kind: str,
        title: str,
        work: Work,
        items: frozenset[str] = frozenset(),
        address: str = "",
    ) -> Job:
        """Put a job at the end of the line.

        Args:
            address: where the visitor asks from.

        Raises:
            UserError: the visitor, its address, or everybody together, has too many waiting.
        """
        with self._changed:
            waiting = [job for job in self._jobs.values() if job.state in OPEN]
            if sum(job.owner == owner for job in waiting) >= self._limits.waiting:
                raise UserError(
                    f"{self._limits.waiting} of your jobs are waiting already",
                    hint="wait for one to finish, or cancel one",
                )
            if sum(job.address == address for job in waiting) >= self._limits.address_waiting:
                raise UserError(
                    "too many jobs of your network are waiting", hint="try again in a while"
                )
            if len(waiting) >= self._limits.all_waiting:
                raise UserError("the line is too long at the moment", hint="try again in a while")
            key = secrets.token_hex(16)
            job = Job(key, owner, kind, title, items, work, self._clock(), address)
            self._jobs[key] = job
            self._waiting.append(job)
            self._touch(job)
            self._forget(owner)
            self._changed.notify_all()
        return job

    def job(self, owner: str, key: str) -> Job:
        """One of a visitor's jobs.

        Raises:
            UserError: the visitor has none of that id. Whether another has is not told.
        """
        job = self._jobs.get(key)
        if job is None or job.owner != owner:
            raise UserError("there is no job of that id", hint="it may have expired")
        return job

    def jobs(self, owner: str) -> list[Job]:
        """A visitor's jobs, the oldest first."""
        with self._changed:
            return [job for job in self._jobs.values() if job.owner == owner]

    def position(self, job: Job) -> int:
        """How many jobs are before this one; 0 where it runs or has ended."""
        with self._changed:
            if job.state != QUEUED:
                return 0
            running = any(other.state == RUNNING for other in self._jobs.values())
            return self._waiting.index(job) + running

    def version(self, owner: str) -> int:
        """A number that grows with every job of a visitor that comes, starts, shows or ends."""
        return self._versions.get(owner, 0)

    def cancel(self, owner: str, key: str) -> Job:
        """Take a job out of the line, or stop it at its next step.

        Raises:
            UserError: see `job`.
        """
        job = self.job(owner, key)
        with self._changed:
            job.cancel = True
            if job.state == QUEUED:
                self._waiting.remove(job)
                self._end(job, CANCELLED)
        return job

    def busy(self) -> frozenset[str]:
        """Ids of the items that waiting and running jobs need."""
        with self._changed:
            open_jobs = [job for job in self._jobs.values() if job.state in OPEN]
            return frozenset().union(*(job.items for job in open_jobs))

    def expire(self, seconds: float) -> None:
        """Forget jobs that ended longer ago than this, and visitors who have no others."""
        oldest = self._clock() - seconds
        with self._changed:
            for job in list(self._jobs.values()):
                if job.state not in OPEN and job.finished < oldest:
                    del self._jobs[job.id]
            owners = {job.owner for job in self._jobs.values()}
            self._versions = {k: v for k, v in self._versions.items() if k in owners}

    def close(self, seconds: float = 30.0) -> None:
        """Stop the running job, so that it keeps what it can, and the thread."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.cancel = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.state, job.started = RUNNING, self._clock()
                self._touch(job)
            self._do(job)

    def _do(self, job: Job) -> None:
        state, error = DONE, ""
        began = self._clock(), 0  # when this phase was first seen, and how far it was
        try:
            with closing(job.work()) as steps:
                for step in steps:
                    if step.phase != job.step.phase:
                        began = self._clock(), step.done
                    self._show(job, step, began)
                    if job.cancel:
                        state = CANCELLED
                        break
        except OsasisError as failure:
            state, error = FAILED, for_visitor(failure).line
        except Exception as failure:  # noqa: BLE001 - one visitor's job must not end the line
            state, error = FAILED, f"internal error: {type(failure).__name__}"
            _LOG.error("job %s (%s) failed", job.id, job.kind, exc_info=failure)
        with self._changed:
            job.error = error
            self._end(job, state)

    def _show(self, job: Job, step: Step, began: tuple[float, int]) -> None:
        since, first = began
        with self._changed:
            job.step = step
            job.seconds_left = (
                (self._clock() - since) / (step.done - first) * (step.total - step.done)
                if step.done > first
                else None
            )
            if step.failure:
                job.failures.append(step.failure)
            if step.result:
                job.results.append(step.result)
            if step.preview:
                job.preview = step.preview
            if step.failure or step.result or step.preview:
                self._touch(job)

    def _end(self, job: Job, state: str) -> None:
        job.state, job.finished, job.seconds_left = state, self._clock(), None
        job.work = _nothing  # what it holds is no longer needed
        self._touch(job)
        self._changed.notify_all()

    def _touch(self, job: Job) -> None:
        self._versions[job.owner] = self._versions.get(job.owner, 0) + 1

    def _forget(self, owner: str) -> None:
        ended = [j for j in self._jobs.values() if j.owner == owner and j.state not in OPEN]
        for job in ended[:-_REMEMBERED]:
            del self._jobs[job.id]


def _nothing() -> Generator[Step, None, None]:
    yield from ()
