"""The state of a training run: weights, their average, optimiser, noise, position."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from osasis.errors import UserError
from osasis.files import atomic_path
from osasis.optimizer_state import optimizer_tensors, restore_optimizer
from osasis.pretrain.config import TrainConfig


class TrainState:
    """Everything an update changes; saved as one safetensors file, restored bit for bit."""

    def __init__(self, model: nn.Module, config: TrainConfig, seed: int) -> None:
        self.model = model
        self.config = config
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        device = next(model.parameters()).device
        self.noise = torch.Generator(device).manual_seed(seed)
        self.images = 0  # training images seen
        self.updates = 0
        self.skipped = 0  # updates left out because the loss or gradient was not finite

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear anneal to zero at the end of the run."""
        c = self.config
        warm = min(1.0, (self.images + c.batch_size) / max(1, c.warmup_images))
        left = max(0.0, 1.0 - self.images / c.total_images)
        return c.learning_rate * warm * min(1.0, left / max(c.anneal, 1e-9))

    def apply(self, loss: Tensor) -> bool:
        """One update from `loss`; False, with weights untouched, if it is not finite."""
        self.images += self.config.batch_size
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        if not torch.isfinite(norm) or not torch.isfinite(loss):
            self.skipped += 1
            if self.skipped > 20 and self.skipped > self.updates // 10:
                raise UserError(
                    f"{self.skipped} updates had a loss or gradient that is not finite",
                    hint="lower learning_rate, or train in float32",
                )
            return False
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        self.updates += 1
        decay = min(self.config.ema_decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for average, value in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
        return True

    @property
    def batches(self) -> int:
        """Batches drawn so far: the data stream's position."""
        return self.updates + self.skipped

    def save(self, path: Path) -> None:
        """Write the whole state at once or not at all."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer, "adam.")
        tensors["noise"] = self.noise.get_state()
        counts = {
            "images": self.images,
            "updates": self.updates,
            "skipped": self.skipped,
        }
        with atomic_path(path) as temporary:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()},
                temporary,
                metadata={"state": json.dumps(counts)},
            )

    def load(self, path: Path) -> None:
        """Restore what `save` wrote.

        Raises:
            UserError: the file belongs to another architecture.
        """
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            counts = json.loads(file.metadata()["state"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        try:
            for prefix, module in (("model.", self.model), ("ema.", self.ema)):
                part = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                module.load_state_dict(part)
        except RuntimeError as error:
            raise UserError(
                f"{path} was written for another network: {error}",
                hint="continue with the configuration it was started with, or a new folder",
            ) from error
        restore_optimizer(self.optimizer, tensors, "adam.")
        self.noise.set_state(tensors["noise"])
        self.images, self.updates = counts["images"], counts["updates"]
        self.skipped = counts["skipped"]
