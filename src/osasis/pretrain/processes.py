"""The processes of a run: one, or those that `accelerate launch` or `torchrun` started."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from osasis.device import choose_device, compile_network
from osasis.extras import install
from osasis.scale.shares import import_accelerate


class Processes:
    """Splits batches over processes and averages what they compute.

    Every process draws the same global batch and takes its own part, so that a run with two
    processes follows the run with one up to rounding.

    Attributes:
        rank: number of this process.
        count: how many there are.
        device: where this process computes.
    """

    def __init__(self, device: str | None = None) -> None:
        """Join the processes that were launched together.

        Args:
            device: see `choose_device`; with several processes each takes its own of that type.

        Raises:
            UserError: accelerate is not installed.
        """
        where = choose_device(device)
        if device is not None and where.index is not None:
            torch.accelerator.set_device_index(where.index)
        accelerate = import_accelerate("pretraining", install("pretrain"))
        self._accelerator = accelerate.Accelerator(cpu=where.type == "cpu")
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes
        self.device: torch.device = self._accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's share of a global batch, along the first dimension."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def wrap(self, module: nn.Module, *, compiled: bool = False) -> Any:
        """The module with gradients averaged over processes, compiled if asked for."""
        wrapped = self._accelerator.prepare(module)
        return compile_network(wrapped) if compiled else wrapped

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, averaged over processes."""
        self._accelerator.backward(loss)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes."""
        return self._accelerator.reduce(values, reduction="mean")


def update_noise(
    seed: int, update: int, device: torch.device, *, stream: int = 0
) -> torch.Generator:
    """The source of everything random in one update: a function of the numbers given alone.

    So there is no generator state to keep, and every process can draw the whole batch's noise.
    Sources of different `stream` are independent.
    """
    words = np.random.SeedSequence((seed, update, stream)).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
