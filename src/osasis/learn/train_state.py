"""What changes while a style is learned: eps_B, SPN and optimisers; and its snapshot on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from osasis.base import Base
from osasis.config.presets import LearnConfig
from osasis.device import compile_in_place
from osasis.formats.safetensors_file import write_tensors
from osasis.learn.update import Student
from osasis.models.diffae import copy_unet
from osasis.models.muon import Muon, muon_groups
from osasis.models.spn import SPN, new_spn
from osasis.models.state import optimizer_tensors, restore_optimizer
from osasis.models.unet import UNet

WARM_UP = 5  # updates
LAST_RATE = 0.05  # of the peak, at the end of a cosine


class TrainState:
    """A student at its start, and its optimisers.

    Args:
        base: what eps_B begins as.
        config: what of eps_B learns, and at which rates.
        seed: seed of the SPN's weights.
        spn_inputs: channels that the SPN sees.
        compiled: whether to compile eps_B.

    Attributes:
        student: eps_B and the SPN.
        optimizers: of eps_B, Muon before Adam, and of the SPN.
    """

    def __init__(
        self, base: Base, config: LearnConfig, seed: int, spn_inputs: int, *, compiled: bool
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            spn = new_spn(config.spn, spn_inputs, base.x0_shape[0]).to(base.device)
        diffae = copy_unet(base.diffae)
        self._unet = diffae.unet.parameters_of_levels(config.trained_levels)
        for parameter in self._unet.values():
            parameter.requires_grad_(True)
        diffae.unet.train(config.train_mode)
        if compiled:
            compile_in_place(diffae.unet)
        self.student = Student(diffae, spn, config.mixed_precision)
        self._config = config
        self.optimizers = _optimizers(diffae.unet, list(self._unet.values()), spn, config)
        self._peaks = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    def set_rates(self, update: int) -> None:
        """Set the rates of the update with this number."""
        if self._config.rates == "constant":
            return
        share = update / self._config.updates
        falling = LAST_RATE + (1 - LAST_RATE) / 2 * (1 + math.cos(math.pi * share))
        factor = min(1.0, (update + 1) / WARM_UP) * falling
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = factor * peak

    def weights(self) -> dict[str, Tensor]:
        """What learns of eps_B, as "unet.*", and the whole SPN, as "spn.*"."""
        weights = {f"unet.{name}": p.detach() for name, p in self._unet.items()}
        return weights | {f"spn.{k}": v for k, v in self.student.spn.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """The weights, and Adam's tensors as "adam0.*" and "adam1.*"."""
        state = self.weights()
        for number, optimizer in enumerate(self.optimizers):
            state |= optimizer_tensors(optimizer, f"adam{number}.")
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a `state`."""
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(state[name])  # shares its memory with the network
        for number, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, state, f"adam{number}.")


def _optimizers(
    unet: UNet, trained: Sequence[nn.Parameter], spn: SPN, config: LearnConfig
) -> tuple[Optimizer, ...]:
    of_spn = torch.optim.Adam(spn.parameters(), lr=config.lr_spn)
    if config.optimizer == "adam":
        return torch.optim.Adam(trained, lr=config.lr_unet), of_spn
    groups, _ = muon_groups(unet, ("input_blocks.0.", "conv_final"))
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    groups = [group for group in groups if group["params"]]
    hidden = {id(p) for group in groups for p in group["params"]}
    rest = [p for p in trained if id(p) not in hidden]
    adam = torch.optim.Adam(rest, lr=config.lr_rest, betas=(0.9, 0.99))
    return Muon(groups, lr=config.lr_unet, momentum=0.9), adam, of_spn


class Snapshot:
    """Weights, optimisers and the number of updates, bound to what is being learned.

    Args:
        path: where to write; None keeps nothing.
        identity: everything that must be the same for learning to continue.
    """

    def __init__(self, path: Path | None, identity: tuple[object, ...]) -> None:
        self._path = path
        self._identity = hashlib.sha256(repr(identity).encode()).hexdigest()
        self._kept: tuple[dict[str, Tensor], int] | None = None

    def keep(self, state: dict[str, Tensor], updates: int) -> None:
        """Remember a consistent state in memory; `write` puts the last one on disk."""
        if self._path is not None:
            self._kept = ({k: v.detach().clone() for k, v in state.items()}, updates)

    def write(self) -> None:
        """Write the kept state at once or not at all.

        Raises:
            OsasisError: the disk is full, or the folder cannot be written.
        """
        if self._path is None or self._kept is None:
            return
        state, updates = self._kept
        metadata = {"identity": self._identity, "updates": str(updates)}
        hint = "make room there, or choose another folder with -o"
        write_tensors(self._path, state, metadata, what="progress", hint=hint)

    def read(self) -> tuple[dict[str, Tensor], int] | None:
        """The state and its number of updates; None if there is none that fits."""
        if self._path is None or not self._path.exists():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:  # type: ignore[no-untyped-call]
                metadata = file.metadata() or {}
                if metadata.get("identity") != self._identity:
                    return None
                state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except SafetensorError:
            return None
        return state, int(metadata["updates"])

    def remove(self) -> None:
        """Delete the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
