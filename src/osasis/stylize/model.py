"""What redraws a photo: the base moved towards one learned style, or a mix of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from osasis.base import Base
from osasis.config.presets import SPNSettings
from osasis.diffusion.route import Route
from osasis.diffusion.sample import SpnTerm
from osasis.diffusion.schedule import Step
from osasis.errors import UserError
from osasis.formats.style_file import Style
from osasis.imaging.colors import luma, tint_of
from osasis.learn.regions import PhotoRegions, Wardrobe, at_size
from osasis.learn.update import Student
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE, copy_unet
from osasis.models.spn import SPN, spn_term
from osasis.models.state import differences, shapes_of, with_prefix

Styles = Style | Sequence[tuple[Style, float]]
"""One style, or several with their shares of the mix; an empty list is the base itself."""


@dataclass(frozen=True)
class StylePart:
    """One style's part of a styled model.

    Attributes:
        share: of the mix; the shares of a model add up to 1.
        z_style: (1, z_dim).
        levels: U-Net levels that see `z_style`.
        spn, settings: its structure-preserving network, lambda_spn as `settings.lambda_spn`.
        wardrobe: statistics of the style's regions; None where it was not learned by region.
        dress: whether photos are dressed in it before they are inverted.
        tint: of its picture, a drawing in one, see `tint_of`; None where it has colours.
    """

    share: float
    z_style: Tensor
    levels: tuple[int, ...]
    spn: SPN
    settings: SPNSettings
    wardrobe: Wardrobe | None = None
    dress: bool = False
    tint: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class StyledModel:
    """Everything of the styles that decoding needs.

    The strength s moves all that was learned together: the weights are `base + s * change`, the
    SPN's term is `s * lambda_spn * SPN`, and a code on a style level is
    `z_sem + s * (z_style - z_sem)`. At 0 that is the base's own reconstruction, at 1 the style as
    learned, beyond 1 an extrapolation of all but the dressing. (Engineering choice.)

    Attributes:
        diffae: eps_B.
        parts: the styles in it.
        strength: s, 0 or more.
        swap_codes: give the style's code to the levels that otherwise see the photo's, the middle
            block included, and the photo's to the others (the paper's Fig. 8).
    """

    diffae: DiffAE
    parts: tuple[StylePart, ...]
    strength: float
    swap_codes: bool

    def conditioning(self, z_content: Tensor) -> Conditioning:
        """The code of every level for photos with codes `z_content`, (B, z_dim)."""

        def code(sees_style: Callable[[StylePart], bool]) -> Tensor:
            # a part that leaves this level to the photo keeps its share for the photo's code
            if not any(sees_style(part) for part in self.parts):
                return z_content
            codes = [part.z_style if sees_style(part) else z_content for part in self.parts]
            shares = [part.share for part in self.parts]
            terms = [share * z for share, z in zip(shares, codes, strict=True)]
            mixed = sum(terms[1:], start=terms[0]).expand_as(z_content)
            # exact at both ends, down to the last bit
            return mixed if self.strength == 1 else torch.lerp(z_content, mixed, self.strength)

        swap = self.swap_codes
        levels = tuple(
            code(lambda part, level=level: (level in part.levels) != swap)  # type: ignore[misc]
            for level in range(self.diffae.num_levels)
        )
        return Conditioning(levels, code(lambda part: swap))

    @property
    def sees_regions(self) -> bool:
        """Whether it asks where a photo's regions are."""
        return any(part.wardrobe is not None for part in self.parts)

    def dressed(
        self, x0: Tensor, regions: PhotoRegions | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Photos as they are inverted, and what each part's SPN sees of them.

        Args:
            x0: (B, C, h, w).
            regions: of the photos; None where no part asks for them.
        """
        moved, inputs = torch.zeros_like(x0), []
        for part in self.parts:
            clothes = part.wardrobe
            if clothes is None or regions is None:
                inputs.append(x0)
                continue
            seen, dressed = clothes.maps(regions.maps), None
            if part.dress:
                dressed = clothes.dress(x0, seen, clothes.maps(regions.measured))
                moved = moved + part.share * (dressed - x0)
            inputs.append(clothes.spn_input(x0, dressed, seen))
        return x0 + min(1.0, self.strength) * moved, tuple(inputs)

    @property
    def dressing(self) -> float:
        """How far photos are dressed, 0 (as they are) to 1."""
        return min(1.0, self.strength * sum(part.share for part in self.parts if part.dress))

    @property
    def monochrome(self) -> float:
        """How far colours of photos go, 0 to 1: all in a drawing that photos are dressed in."""
        return min(1.0, self.strength * sum(share for share, _ in self._tints))

    def in_one_tint(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], as far as the styles are drawings in their tint."""
        if not self.monochrome:
            return pictures
        shares, tints = zip(*self._tints, strict=True)
        tint = pictures.new_tensor(shares) @ pictures.new_tensor(tints) / sum(shares)
        drawn = luma(pictures) + 2 * tint[:, None, None]
        return torch.lerp(pictures, drawn.clamp(-1, 1), self.monochrome)

    @property
    def _tints(self) -> list[tuple[float, tuple[float, float, float]]]:
        """Shares of the mix and tints of drawings that photos are dressed in."""
        return [(p.share, p.tint) for p in self.parts if p.dress and p.tint is not None]

    def held_to_photo(self, decoded: Tensor, dressed: Tensor, maps: Tensor) -> Tensor:
        """Results with eyes, brows, noses and mouths near the dressed photo's, see `Wardrobe`.

        Args:
            decoded, dressed: (B, C, h, w) results, and photos as they were inverted.
            maps: (B, R, H, W) of their regions.
        """
        held = [(p.share, p.wardrobe.unsaid(maps)) for p in self.parts if p.wardrobe is not None]
        amount = torch.stack([share * places for share, places in held]).sum(0)
        return torch.lerp(decoded, dressed.to(decoded), at_size(amount, decoded))

    def spn_term(self, inputs: Sequence[Tensor]) -> SpnTerm | None:
        """The SPNs' term (Eqs. 12, 13), from what each part's SPN sees; None where it is 0."""
        pairs = zip(self.parts, inputs, strict=True)
        parts = [p for p in pairs if self.strength * p[0].share * p[0].settings.lambda_spn]
        if not parts:
            return None

        def term(step: Step) -> Tensor:
            terms = [
                self.strength
                * part.share
                * part.settings.lambda_spn
                * spn_term(part.spn, seen, step, index_time=part.settings.index_time)
                for part, seen in parts
            ]
            return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]

        return term


def styled_model(
    base: Base,
    styles: Styles,
    *,
    strength: float = 1.0,
    style_levels: tuple[int, ...] | None = None,
    lambda_spn: float | None = None,
    swap_codes: bool = False,
) -> StyledModel:
    """The model of one style, or of several mixed by their shares.

    Learned changes of the U-Net, SPN terms and codes are averaged with the shares as weights,
    which are scaled to add up to 1 (engineering choice, after weight averaging).

    Args:
        base: the base all styles were learned on.
        strength: see `StyledModel`.
        style_levels: levels that see the styles' codes; None takes each style's own.
        lambda_spn: weight of the SPNs; None takes each style's own.
        swap_codes: see `StyledModel`.

    Raises:
        UserError: a style of another base, or levels it does not have.
    """
    shares = normalised(styles)
    outside = [level for level in style_levels or () if level not in range(base.num_levels)]
    if outside:
        raise UserError(
            f"style levels {outside} do not exist on base {base.name!r}",
            hint=f"choose from 0 to {base.num_levels - 1}; 0 is the highest resolution",
        )
    # refuses another base, and changes that do not fit
    changes = [changes_of(style, base) for style, _ in shares]
    diffae = copy_unet(base.diffae, {name for part in changes for name in part})
    weights = diffae.unet.state_dict()
    parts = []
    for (style, share), change_of in zip(shares, changes, strict=True):
        manifest = style.manifest
        for name, change in change_of.items():
            weights[name].add_(change.to(weights[name]), alpha=strength * share)
        weight = manifest.lambda_spn if lambda_spn is None else lambda_spn
        parts.append(
            StylePart(
                share,
                style.tensors["z_style"].to(base.device),
                manifest.style_levels if style_levels is None else style_levels,
                style.spn(base.device),
                replace(manifest.config.spn, lambda_spn=weight),
                _wardrobe(style, base),
                manifest.config.dress,
                tint_of(style.thumbnail),
            )
        )
    diffae.eval().requires_grad_(False)
    return StyledModel(diffae, tuple(parts), strength, swap_codes)


def _wardrobe(style: Style, base: Base) -> Wardrobe | None:
    """The style's wardrobe on the base's device; None where it has none."""
    if style.manifest.config.critic != "regions":
        return None
    tensors = {k: v.to(base.device) for k, v in style.tensors.items()}
    try:
        return Wardrobe.from_tensors(tensors, base.usual_regions())
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the style {style.manifest.name!r} lacks the statistics of its regions: {error}",
            hint="learn it again",
        ) from error


def normalised(styles: Styles) -> list[tuple[Style, float]]:
    """Styles with shares that add up to 1; empty for the base itself.

    Raises:
        UserError: a share is negative or not finite, or all are 0.
    """
    if isinstance(styles, Style):
        return [(styles, 1.0)]
    total = sum(share for _, share in styles)
    if any(not 0 <= share < float("inf") for _, share in styles) or (styles and total <= 0):
        shares = ", ".join(f"{share:g}" for _, share in styles)
        raise UserError(f"the shares of mixed styles must be 0 or more, and one more: {shares}")
    return [(style, share / total) for style, share in styles if share > 0]


def common_route(styles: Styles, otherwise: Route) -> Route:
    """The route of the style with the greatest share; `otherwise` where there is none.

    Raises:
        UserError: an SPN that counts steps (the release's) would meet the steps of another route.
    """
    shares = normalised(styles)
    if not shares:
        return otherwise
    heaviest = max(shares, key=lambda pair: pair[1])[0].manifest
    route = heaviest.config.stylize_route
    for style, _ in shares:
        config = style.manifest.config
        if config.spn.index_time and config.stylize_route != route:
            raise UserError(
                f"styles {heaviest.name!r} ({heaviest.preset}) and {style.manifest.name!r} "
                f"({config.preset}) use different steps and cannot be mixed",
                hint="mix styles of one preset",
            )
    return route


def student(style: Style, base: Base) -> Student:
    """eps_B and SPN: the base's networks with the style's changes.

    Raises:
        UserError: `base` is not the one the style was learned on.
    """
    model = styled_model(base, style)
    return Student(model.diffae, model.parts[0].spn)


def changes_of(style: Style, base: Base) -> dict[str, Tensor]:
    """What is added to parameters of the base's U-Net, by their names.

    Raises:
        UserError: `base` is not the one the style was learned on, or they do not fit it.
    """
    check_base(style, base)
    changes = with_prefix(style.tensors, "unet.")
    own = shapes_of(base.diffae.unet.state_dict())
    found = differences({k: v for k, v in own.items() if k in changes}, shapes_of(changes))
    if found:
        raise UserError(f"the style {style.manifest.name!r} does not fit its base: {found}")
    return changes


def check_base(style: Style, base: Base) -> None:
    """Refuse a base other than the style's own.

    Raises:
        UserError: the hashes differ.
    """
    m = style.manifest
    if m.base_hash != base.hash:
        raise UserError(
            f"style {m.name!r} was learned on base {m.base_name!r} ({m.base_hash}), "
            f"and this is {base.name!r} ({base.hash})",
            hint="load that base, or learn the style again on this one",
        )
