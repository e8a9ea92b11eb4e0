"""What the styles of one base and configuration share: judges and the content bank."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from osasis.base import Base
from osasis.config.presets import LearnConfig
from osasis.device import compiling_pays
from osasis.learn.content import PART, Bank, DrawnBank, PhotoBank
from osasis.learn.critic import DirectionCritic, load_critic
from osasis.learn.micro_batches import MicroBatches, micro_batches_for
from osasis.learn.region_critic import RegionCritic
from osasis.perception.judges import VggJudges, check_judges, judges_of


class LearningContext:
    """Judges are loaded once, and each photo of the bank is looked at once, for all styles.

    Args:
        base: the photo domain.
        config: how the styles are learned.
        photos: (N, 3, H, W) in [-1, 1], what to learn on (`squares_of`); None draws photos from the
            base, as in the paper.
        compiled: whether U-Net and VGG are compiled while learning; None compiles where it pays.

    Raises:
        UserError: judges that are not on this machine; the message says what fetches them.
    """

    def __init__(
        self,
        base: Base,
        config: LearnConfig,
        photos: Tensor | None = None,
        *,
        compiled: bool | None = None,
    ) -> None:
        check_judges(config.embedder, config.lpips_layers, whose=config.title)
        self.base, self.config = base, config
        if compiled is None:
            # dropout that is active draws other random numbers when it is compiled
            compiled = compiling_pays(base.device, config.updates) and not config.train_mode
        self.compiled = compiled
        # by region, photos are inverted as each style dresses them
        route = config.learn_route if config.critic == "directions" else None
        self.bank: Bank = (
            DrawnBank(base, config.bank, route)
            if photos is None
            else PhotoBank(base, photos, route)
        )
        self._embeddings: dict[int, Tensor] = {}

    @cached_property
    def judges(self) -> VggJudges:
        """VGG and LPIPS, for bridge and critic."""
        return judges_of(self.config.lpips_layers, self.base.device)

    @cached_property
    def critic(self) -> DirectionCritic:
        """The judges of pictures.

        Raises:
            UserError: an embedder that is not there.
        """
        return load_critic(self.config, self.judges, self.base.device, compiled=self.compiled)

    @cached_property
    def region_critic(self) -> RegionCritic:
        """The judge of regions."""
        c, base = self.config, self.base
        return RegionCritic(
            self.judges.trunk,
            base.to_picture,
            base.factor,
            c.region_weights,
            mixed=c.mixed_precision,
        )

    @cached_property
    def micro_batches(self) -> MicroBatches:
        """How many pictures of an update are in memory at once."""
        return micro_batches_for(self.base, self.config)

    def embeddings(self, indices: Sequence[int]) -> Tensor:
        """The critic's embeddings (B, D) of photos of the bank, each computed once."""
        missing = [i for i in dict.fromkeys(indices) if i not in self._embeddings]
        for first in range(0, len(missing), PART):
            part = missing[first : first + PART]
            self._embeddings.update(zip(part, self._embed(part).split(1), strict=True))
        return torch.cat([self._embeddings[i] for i in indices])

    def _embed(self, indices: Sequence[int]) -> Tensor:
        with torch.no_grad():
            photos = self.base.to_picture(self.bank.x0(indices))

        def embed(at_once: int) -> Tensor:
            with torch.no_grad():
                return torch.cat([self.critic.embed(x0) for x0 in photos.split(at_once)])

        return self.micro_batches.attempt(embed, len(indices))
