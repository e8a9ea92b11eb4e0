"""Interleaved measurements of work: seconds, processor seconds, memory, operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode

from osasis.device import peak_memory, reset_peak_memory


@dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        name: what it is; unique.
        work: does it once.
        prepare: done before the first time, uncounted.
        evaluations: network evaluations in it, counted from the configuration; 0 where it makes no
            sense.
    """

    name: str
    work: Callable[[], object]
    evaluations: int = 0
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True)
class Measured:
    """What a job cost, round by round.

    Attributes:
        name, evaluations: the job's.
        seconds: of the wall clock.
        cpu_seconds: of all threads of this process; what other programs do leaves them alone.
        on_cpu: whether the processor did the work, so that its seconds are the work's.
        flops: floating-point operations of one run, a multiplication and an addition being two.
        peak_memory: bytes at most while it ran: of the accelerator, else of the whole process; None
            where the system does not tell.
    """

    name: str
    evaluations: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    flops: int = 0
    peak_memory: int | None = None
    on_cpu: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def flops_per_second(self) -> float:
        """Per processor second; where an accelerator worked, per second of the clock."""
        seconds = self.cpu_seconds if self.on_cpu else self.seconds
        return self.flops / statistics.median(seconds)


@dataclass(frozen=True)
class Skipped:
    """A job that was left out, and why."""

    name: str
    reason: str


def measure(
    jobs: Sequence[Job], rounds: int, device: torch.device, tell: Callable[[int], None]
) -> list[Measured]:
    """Measure all jobs in turn, round by round, so that a slow moment does not fall on one alone.

    A round before the first warms up; memory and operations are taken there.

    Args:
        tell: called after every measurement with how many are done.
    """
    found = []
    on_cpu = device == torch.empty(0).device
    for done, job in enumerate(jobs, 1):
        if job.prepare is not None:
            job.prepare()
        reset_peak_memory(device)
        with FlopCounterMode(display=False) as counter:
            job.work()
        synchronize()
        memory = peak_memory(device)
        flops = counter.get_total_flops()
        found.append(
            Measured(job.name, job.evaluations, flops=flops, peak_memory=memory, on_cpu=on_cpu)
        )
        tell(done)
    for index in range(rounds):
        for number, (job, measured) in enumerate(zip(jobs, found, strict=True), 1):
            started, cpu_started = time.perf_counter(), time.process_time()
            job.work()
            synchronize()
            measured.seconds.append(time.perf_counter() - started)
            measured.cpu_seconds.append(time.process_time() - cpu_started)
            tell((index + 1) * len(jobs) + number)
    return found


def synchronize() -> None:
    """Wait for the accelerator, where there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of doing `work` once, to decide what can be measured at all."""
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started
