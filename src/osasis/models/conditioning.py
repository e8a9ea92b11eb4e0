"""Which semantic code each level of the U-Net sees (the paper's Fig. 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """One code per U-Net level, highest resolution first, and one for the middle block.

    The up path uses the code of the level it mirrors. Plain conditioning gives every level the
    same code; mixing gives some levels another: the network does not know the difference.

    Attributes:
        levels: one (B, z_dim) code per level.
        middle: (B, z_dim) code of the middle block.
    """

    levels: tuple[Tensor, ...]
    middle: Tensor

    @staticmethod
    def plain(z_sem: Tensor, num_levels: int) -> Conditioning:
        """The same code everywhere (Eqs. 7, 8)."""
        return Conditioning((z_sem,) * num_levels, z_sem)

    @staticmethod
    def mixed(
        z_style: Tensor, z_content: Tensor, style_levels: Iterable[int], num_levels: int
    ) -> Conditioning:
        """`z_style` on `style_levels` (0 is the highest resolution), `z_content` elsewhere.

        Args:
            z_style: (1, z_dim) or (B, z_dim).
            z_content: (B, z_dim).
            style_levels: levels that see the style; the middle block always sees the content.

        Raises:
            ValueError: a level outside 0 .. num_levels - 1.
        """
        wanted = set(style_levels)
        outside = sorted(level for level in wanted if not 0 <= level < num_levels)
        if outside:
            raise ValueError(
                f"style levels {outside} do not exist: this network has 0 to {num_levels - 1}"
            )
        z_style = z_style.expand(z_content.shape[0], -1)
        levels = tuple(z_style if i in wanted else z_content for i in range(num_levels))
        return Conditioning(levels, z_content)
