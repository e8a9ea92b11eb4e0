"""Neural style transfer by optimising the picture (Gatys et al. 2016, CVPR)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from osasis.perception.vgg import VggTrunk


@dataclass(frozen=True)
class GatysConfig:
    """How Gatys' method is run.

    Attributes:
        steps: L-BFGS iterations.
        style_weight: weight of the Gram matrices against the content's.
        history: L-BFGS memory.
    """

    steps: int = 500
    style_weight: float = 1e6
    history: int = 10


class Gatys:
    """Redraws photos by L-BFGS over their pixels (Eqs. 1 to 7).

    Content: squared difference of relu4_3, style: of the Gram matrices of relu1_2, relu2_2, relu3_3
    and relu4_3, each divided by its number of entries. Starts from the photo and draws nothing at
    random. Layers are those of VGG16 that the package has; the paper uses VGG19.
    """

    def __init__(self, trunk: VggTrunk, style: Tensor, config: GatysConfig) -> None:
        self._trunk, self._config = trunk, config
        with torch.no_grad():
            self._grams = [_gram(a) for a in trunk(style)]

    def __call__(self, photo: Tensor) -> Tensor:
        """Redraw one photo, (1, 3, H, W) in [-1, 1]."""
        with torch.no_grad():
            content = self._trunk(photo)[3]
        x = photo.clone().requires_grad_(True)
        c = self._config
        optimiser = torch.optim.LBFGS(
            [x],
            max_iter=c.steps,
            history_size=c.history,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            activations = self._trunk(x)
            total = (activations[3] - content).square().mean()
            for activation, gram in zip(activations, self._grams, strict=True):
                total = total + c.style_weight * (_gram(activation) - gram).square().mean()
            total.backward()
            return total

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        return x.detach().clamp(-1, 1)


def _gram(activation: Tensor) -> Tensor:
    """Gram matrix (C, C) of (1, C, H, W), divided by the number of entries."""
    flat = activation[0].flatten(1)
    return flat @ flat.T / flat.numel()
