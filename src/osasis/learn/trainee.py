"""What changes while a style is learned: eps_B, the SPN and Adam's means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from osasis.base import Base
from osasis.compiled import compile_in_place
from osasis.config.presets import LearnConfig
from osasis.learn.update import Student
from osasis.models.diffae import copy_unet
from osasis.models.spn import new_spn
from osasis.optimizer_state import optimizer_tensors, restore_optimizer


class Trainee:
    """A student at its start, and its optimisers.

    Args:
        base: what eps_B begins as.
        config: what of eps_B learns, and at which rates.
        seed: seed of the SPN's weights.
        compiled: whether to compile eps_B.

    Attributes:
        student: eps_B and the SPN.
        optimizers: Adam of eps_B and of the SPN.
    """

    def __init__(self, base: Base, config: LearnConfig, seed: int, *, compiled: bool) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            spn = new_spn(config.spn).to(base.device)
        diffae = copy_unet(base.diffae)
        self._unet = diffae.unet.parameters_of_levels(
            config.trained_levels, head=config.trained_head
        )
        for parameter in self._unet.values():
            parameter.requires_grad_(True)
        diffae.unet.train(config.train_mode)
        if compiled:
            compile_in_place(diffae.unet)
        self.student = Student(diffae, spn, config.mixed_precision)
        self.optimizers = (
            torch.optim.Adam(self._unet.values(), lr=config.lr_unet),
            torch.optim.Adam(spn.parameters(), lr=config.lr_spn),
        )

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
