"""Muon, the optimiser of hidden kernels: momentum whose step is made orthogonal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from osasis.models.layers import AttentionBlock

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Newton-Schulz coefficients of the published Muon
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov) whose step is made orthogonal by five Newton-Schulz rounds.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    `torch.optim.Muon` takes matrices only; here a kernel is the matrix (out, in * k * k). The
    rounds are done in the Gram matrix of the shorter side, which is small beside the kernel.

    Args:
        params: parameters, or groups of them. A group's `parts` says into how many matrices of
            equal height each of its parameters is cut.
        lr: of the orthogonal step, times sqrt(max(1, rows / columns)).
        momentum: share of the earlier gradients' mean that stays.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "parts": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(mean, group["momentum"])
                matrices = ahead.reshape(group["parts"], p.shape[0] // group["parts"], -1)
                rows, columns = matrices.shape[1:]
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                p.add_(orthogonal(matrices).reshape(p.shape), alpha=-rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices with all singular values 1, (N, rows, columns) each."""
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    # x -> (A + B g + C g^2) x with g = x x^T, round after round: only g has to be followed
    gram = x @ x.mT
    eye = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    total = eye
    for _ in range(_ROUNDS):
        factor = _A * eye + _B * gram + _C * gram @ gram
        total = factor @ total
        gram = factor @ gram @ factor
    x = total @ x
    return x.mT if tall else x


def muon_groups(
    network: nn.Module, outer: Iterable[str] = ()
) -> tuple[list[dict[str, Any]], list[nn.Parameter]]:
    """What Muon trains of a network, as its groups, and the rest, which Adam trains.

    Hidden kernels and the maps of attention are Muon's, queries, keys and values of each head
    apart. Biases, norms, linear layers, and the first and last convolutions are Adam's.

    Args:
        outer: beginnings of the names of the first and last layers.
    """
    first_and_last = tuple(outer)
    groups: dict[int, list[Tensor]] = {1: []}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith(first_and_last):
            groups[1].append(module.weight)
        elif isinstance(module, AttentionBlock):
            groups[1].append(module.proj_out.weight)
            groups.setdefault(3 * module.heads, []).append(module.qkv.weight)
    taken = {id(p) for params in groups.values() for p in params}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in taken]
    found = [{"params": p, "parts": parts} for parts, p in groups.items() if p]
    return found, rest
