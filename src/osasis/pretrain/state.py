"""The state of a training run: weights, their average, optimiser, position."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from osasis.errors import OsasisError, UserError
from osasis.formats.safetensors_file import write_tensors
from osasis.models.muon import Muon, muon_groups
from osasis.models.state import optimizer_tensors, restore_optimizer
from osasis.pretrain.config import TrainConfig

STATE = "state.safetensors"
# first and last layers, which Muon leaves to Adam
_OUTER = {
    "diffae.unet": ("input_blocks.0.", "conv_final"),
    "diffae.encoder": ("input_blocks.0.", "conv_final"),
    "autoencoder.encoder": ("inp", "out"),
    "autoencoder.decoder": ("inp", "out"),
}


class TrainState:
    """Everything an update changes; saved and restored bit for bit."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model = model
        self.config = config
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizers = _optimizers(model, config)
        self.images = 0  # training images seen
        self.updates = 0
        self.skipped = 0  # updates left out because the gradient was not finite

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear anneal to zero at the end of the run."""
        return self.config.learning_rate * self._share_of_rate()

    def _share_of_rate(self) -> float:
        c = self.config
        warm = min(1.0, (self.images + c.batch_size) / max(1, c.warmup_images))
        left = max(0.0, 1.0 - self.images / c.total_images)
        return warm * min(1.0, left / max(c.anneal, 1e-9))

    def apply(self) -> bool:
        """One update from the gradients; False, with weights untouched, if they are not finite.

        Raises:
            OsasisError: that happened too often.
        """
        share = self._share_of_rate()
        self.images += self.config.batch_size
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        if not torch.isfinite(norm):
            self.skipped += 1
            if self.skipped > 20 and self.skipped > self.updates // 10:
                raise OsasisError(
                    f"{self.skipped} updates had a loss or gradient that is not finite",
                    hint="lower learning_rate in the configuration and start in a new folder",
                )
            return False
        for peak, optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = share * peak
            optimizer.step()
        self.updates += 1
        decay = min(self.config.ema_decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for average, value in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
        return True

    @property
    def batches(self) -> int:
        """Batches drawn so far: the position in the data and in the noise."""
        return self.updates + self.skipped

    def save(self, folder: Path) -> None:
        """Write the whole state at once or not at all."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for name, (_, optimizer) in self.optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"{name}.")
        counts = {"images": self.images, "updates": self.updates, "skipped": self.skipped}
        metadata = {name: str(count) for name, count in counts.items()}
        write_tensors(folder / STATE, tensors, metadata, what="the training's state")

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises:
            UserError: the state belongs to another architecture.
            OsasisError: it is damaged.
        """
        counts, tensors = _read(folder)
        try:
            for prefix, module in (("model.", self.model), ("ema.", self.ema)):
                part = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                module.load_state_dict(part)
        except RuntimeError as error:
            raise UserError(
                f"{folder} was written for another network: {error}",
                hint="continue with the configuration it was started with, or a new folder",
            ) from error
        for name, (_, optimizer) in self.optimizers.items():
            restore_optimizer(optimizer, tensors, f"{name}.")
        self.images, self.updates = counts["images"], counts["updates"]
        self.skipped = counts["skipped"]


def _optimizers(model: nn.Module, config: TrainConfig) -> dict[str, tuple[float, Optimizer]]:
    """Peak rates and optimisers by the names of their tensors in a checkpoint."""
    rate, rest_rate = config.learning_rate, config.rest_rate
    if config.optimizer == "adam":
        return {"adam": (rate, torch.optim.Adam(model.parameters(), lr=rate))}
    outer = [f"{part}.{layer}" for part, layers in _OUTER.items() for layer in layers]
    hidden, rest = muon_groups(model, outer)
    return {
        "muon": (rate, Muon(hidden, lr=rate)),
        "adam": (rest_rate, torch.optim.Adam(rest, lr=rest_rate, betas=(0.9, 0.99))),
    }


def has_state(folder: Path) -> bool:
    """Whether `TrainState.save` finished there once."""
    return (folder / STATE).is_file()


def _read(folder: Path) -> tuple[dict[str, int], dict[str, Tensor]]:
    try:
        with safe_open(folder / STATE, framework="pt") as file:  # type: ignore[no-untyped-call]
            metadata = file.metadata() or {}
            counts = {name: int(metadata[name]) for name in ("images", "updates", "skipped")}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise OsasisError(
            f"the training state in {folder} is damaged: {error}",
            hint="delete that folder to start again, or use another with -o",
        ) from error
    return counts, tensors
