"""What each control does to one photo, as a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.config.controls import Controls
from osasis.diffusion.schedule import TRAIN_STEPS
from osasis.errors import UserError
from osasis.formats.style_file import Style
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.stylize.model import normalised
from osasis.stylize.stylizer import Stylizer

CONTROLS = ("strength", "levels", "codes", "lambda_spn", "t0", "variation", "seed", "mix")
_COLORS = {
    "ground": (70, 70, 70), "skin": (230, 190, 160), "neck": (180, 140, 110),
    "brow": (120, 60, 0), "eye": (0, 120, 255), "mouth": (220, 0, 80), "nose": (255, 160, 0),
    "cloth": (0, 170, 80), "hair": (150, 90, 200), "hat": (240, 220, 0), "glasses": (0, 220, 220),
    "teeth": (255, 255, 255),
}  # fmt: skip
_STRENGTHS = (0.0, 0.5, 1.0, 1.25, 1.5)
_LAMBDAS = (0.0, 0.5, 1.0, 3.0, 10.0)  # times the style's own, or times 0.1 where that is 0
_T0 = (2, 4, 6, 7, 8)  # sixths of the style's own, beyond which nothing was learned
_VARIATIONS = (0.0, 0.15, 0.3, 0.45, 0.6)
_SEED_VARIATION = 0.3
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Trial:
    """One picture of the sheet: its caption, the styles it is drawn with, its controls."""

    caption: str
    styles: tuple[tuple[Style, float], ...]
    controls: Controls


@dataclass(frozen=True)
class Row:
    """One control and its values."""

    control: str
    trials: tuple[Trial, ...]


def plan(
    base: Base, styles: Sequence[tuple[Style, float]], controls: Sequence[str] = CONTROLS
) -> list[Row]:
    """The rows of a sheet: one per control, all else as the styles say.

    Args:
        styles: one or more with their shares; the row "mix" needs two, and goes from the first to
            the second.
        controls: which rows, of `CONTROLS`.
    """
    mixed = tuple(normalised(list(styles)))
    own = mixed[0][0].manifest.lambda_spn or 0.1
    own_t0 = mixed[0][0].manifest.config.stylize_route.t0
    levels = [(), *(tuple(range(n + 1)) for n in range(base.num_levels))]
    values: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "strength": [(f"{s:g}", {"strength": s}) for s in _STRENGTHS],
        "levels": [(",".join(map(str, v)) or "none", {"style_levels": v}) for v in levels],
        "codes": [("as learned", {}), ("swapped", {"swap_codes": True})],
        "lambda_spn": [(f"{own * k:.3g}", {"lambda_spn": own * k}) for k in _LAMBDAS],
        "t0": [(f"{t}", {"t0": t}) for t in (min(TRAIN_STEPS, -(-own_t0 * n // 6)) for n in _T0)],
        "variation": [(f"{v:g}", {"variation": v}) for v in _VARIATIONS],
        "seed": [(f"{s}", {"variation": _SEED_VARIATION, "seed": s}) for s in range(5)],
    }
    rows = [
        Row(name, tuple(Trial(caption, mixed, Controls(**c)) for caption, c in values[name]))
        for name in CONTROLS
        if name in controls and name in values
    ]
    if "mix" in controls and len(mixed) > 1:
        (first, _), (second, _) = mixed[:2]
        pairs = [(s, ((first, s), (second, 1 - s))) for s in _SHARES]
        rows.append(Row("mix", tuple(Trial(f"{s:g} : {1 - s:g}", p, Controls()) for s, p in pairs)))
    return rows


def explore(
    base: Base, photo: Image.Image, rows: Sequence[Row]
) -> Iterator[tuple[int, Image.Image]]:
    """Draw every trial of `rows`, in order: its row's number, its picture."""
    for number, row in enumerate(rows):
        for trial in row.trials:
            yield number, Stylizer(base, trial.styles, trial.controls, fit="crop")(photo)


def regions_sheet(
    base: Base, photo: Image.Image, styles: Sequence[tuple[Style, float]]
) -> Image.Image:
    """The photo and each style image above the regions that the base sees in them.

    Raises:
        UserError: the base sees no regions.
    """
    if base.regions is None:
        raise UserError(f"the base {base.name} sees no regions", hint="use faces-256")
    pictures = [fit_square(photo, base.image_size)]
    pictures += [fit_square(style.thumbnail, base.image_size) for style, _ in styles]
    maps = base.region_maps(base.to_x0(torch.cat([to_tensor(picture) for picture in pictures])))
    palette = np.array(list(_COLORS.values()), np.uint8)
    drawn = [
        Image.fromarray(palette[numbers]).resize(pictures[0].size, Image.Resampling.NEAREST)
        for numbers in maps.argmax(1).cpu().numpy()
    ]
    seen = [", ".join(_seen(numbers)) for numbers in maps]
    names = ["photo", *(style.manifest.name for style, _ in styles)]
    return contact_sheet([pictures, drawn], row_titles=["", "regions"], captions=[names, seen])


def _seen(maps: Tensor) -> list[str]:
    """The largest regions of one picture's maps (R, h, w) and their shares."""
    shares = maps.mean((1, 2)).tolist()
    ordered = sorted(zip(shares, _COLORS, strict=True), reverse=True)
    return [f"{name} {share:.0%}" for share, name in ordered[:2]]


def sheet(
    photo: Image.Image,
    styles: Sequence[tuple[Style, float]],
    rows: Sequence[Row],
    pictures: Sequence[Sequence[Image.Image]],
    *,
    size: int,
) -> Image.Image:
    """Lay out what `explore` drew, pictures by row, below the photo and the styles."""
    top = [fit_square(photo, size), *(style.thumbnail for style, _ in styles)]
    names = ["photo", *(style.manifest.name for style, _ in styles)]
    return contact_sheet(
        [top, *pictures],
        row_titles=["", *(row.control for row in rows)],
        captions=[names, *([trial.caption for trial in row.trials] for row in rows)],
    )
