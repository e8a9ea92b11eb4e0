"""Several processes, started by `accelerate launch` or `torchrun`, that share independent work."""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from osasis.errors import OsasisError, UserError

T = TypeVar("T")
# one process may be done long before another: none gives up waiting
_PATIENCE = timedelta(days=30)


class Shares:
    """The processes of a run; one alone needs no accelerate.

    Shares do not depend on each other, so that a process that dies costs only its own unfinished
    work: the same command does the rest, with however many processes.

    Args:
        device: see `choose_device`; of several processes each takes its own of that type.

    Attributes:
        rank: number of this process.
        count: how many there are.
        device: where this process computes; None leaves the choice to `choose_device`.

    Raises:
        UserError: several processes were started and accelerate is not installed.
    """

    def __init__(self, device: str | None = None) -> None:
        self.rank, self.count, self.device = 0, 1, device
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return
        from osasis.device import choose_device

        accelerate = import_accelerate("a run of several processes", "pip install accelerate")
        cpu = choose_device(device).type == "cpu"
        self._state = accelerate.PartialState(cpu=cpu, timeout=_PATIENCE)
        self.rank, self.count = self._state.process_index, self._state.num_processes
        self.device = str(self._state.device)

    @property
    def is_main(self) -> bool:
        """Whether this process says what was done."""
        return self.rank == 0

    def take(self, items: Sequence[T]) -> list[T]:
        """This process's share: every `count`-th item, so that long runs of hard ones spread."""
        return list(items[self.rank :: self.count])

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns in the main process, in all: standard input, lists of files.

        Raises:
            OsasisError: as `make` did; the other processes leave without a word.
        """
        if self.count == 1:
            return make()
        answer: list[Any] = [None, None]
        error = None
        if self.is_main:
            try:
                answer = [make(), None]
            except OsasisError as raised:
                error, answer = raised, [None, raised.exit_code]
        _broadcast(answer)
        if error is not None:
            raise error
        if answer[1] is not None:
            raise SystemExit(answer[1])
        made: T = answer[0]
        return made

    def gather(self, items: Sequence[T]) -> list[T]:
        """Everybody's items, in every process; waits until all processes are here."""
        if self.count == 1:
            return list(items)
        import torch.distributed

        answers: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(answers, list(items))
        return [item for answer in answers for item in answer]


def _broadcast(answer: list[Any]) -> None:
    import torch.distributed

    torch.distributed.broadcast_object_list(answer)


def import_accelerate(what: str, install: str) -> Any:
    """The package accelerate.

    Raises:
        UserError: it is not installed; `what` needs it, and `install` installs it.
    """
    try:
        accelerate = importlib.import_module("accelerate")
    except ImportError as error:
        raise UserError(
            f"{what} needs the package accelerate, which is not installed", hint=install
        ) from error
    atexit.register(_leave)
    return accelerate


def _leave() -> None:
    """End the group's threads while the interpreter still stands.

    A process that ends with them running is now and then aborted by the C++ runtime.
    """
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
