"""Options that say what redraws a photo: styles, and the controls of `Stylizer`."""

from __future__ import annotations

import argparse
import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from osasis._version import __version__
from osasis.cli.options import amount, levels, positive, share, whole
from osasis.config.controls import Controls
from osasis.errors import UserError

if TYPE_CHECKING:
    from osasis.base import Base
    from osasis.formats.style_file import Style

DEFAULT_BASE = "faces-256"
PREVIEW_NOTE = (
    "a preview, nothing was learned: the base with the picture's z_sem on its style levels"
)


def style_share(text: str) -> tuple[str, float]:
    """A style and its share of a mix: 'goya=0.7' is ('goya', 0.7), 'goya' is ('goya', 1.0)."""
    name, sign, number = text.rpartition("=")
    if not sign or Path(text).expanduser().is_file():
        return text, 1.0
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no style with a share above 0, such as memling_maria=0.7"
        )
    return name, value


def add_style(parser: argparse.ArgumentParser, *, required: bool, preview: bool = False) -> None:
    """Add `--style`, which may be repeated, `--base`, and with `preview` `--style-image`."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument(
        "--style",
        action="append",
        type=style_share,
        default=None,
        metavar="FILE_OR_NAME[=SHARE]",
        help="style file, or a shipped style; several are mixed by their shares",
    )
    if preview:
        group.add_argument(
            "--style-image",
            type=Path,
            metavar="PICTURE",
            help="preview a picture as a style without learning it: seconds, and far weaker than "
            "`osasis learn`",
        )
    parser.add_argument(
        "--base",
        metavar="NAME_OR_FILE",
        help=f"pretrained base (default: the style's own, else {DEFAULT_BASE})",
    )


def add_controls(parser: argparse.ArgumentParser) -> None:
    """Add the controls of `Stylizer`."""
    group = parser.add_argument_group("controls")
    group.add_argument(
        "--style-strength",
        type=amount,
        default=1.0,
        metavar="S",
        help="0 gives the photo as the base reconstructs it, 1 the style as learned, more "
        "exaggerates it (default: 1)",
    )
    group.add_argument(
        "--style-levels",
        type=levels,
        metavar="0,1",
        help="levels of the U-Net that see the style's code, 0 the finest (default: the style's)",
    )
    group.add_argument(
        "--swap-codes",
        action="store_true",
        help="give the style's code to the levels that see the photo's, and the photo's to the "
        "others",
    )
    group.add_argument(
        "--lambda-spn",
        type=amount,
        metavar="X",
        help="weight of the structure-preserving network (default: the style's)",
    )
    group.add_argument(
        "--t0",
        type=positive,
        metavar="T",
        help="how far up the schedule photos go before they are drawn again, 1 to 1000: less "
        "keeps more of the photo's structure (default: the style's, usually 500; without one 1000)",
    )
    group.add_argument(
        "--variation",
        type=share,
        default=0.0,
        metavar="V",
        help="how much of each photo's structure is drawn anew, 0 to 1 (default: 0, not random)",
    )
    group.add_argument(
        "--seed",
        type=whole,
        default=0,
        metavar="N",
        help="seed of what --variation draws, for each photo with its content (default: 0)",
    )
    group.add_argument(
        "--mixed-precision",
        action="store_true",
        help="multiply in bfloat16 where the device does so itself: faster, pixels differ a little",
    )


def control_values(args: argparse.Namespace) -> Controls:
    """The controls that were asked for."""
    given = vars(args) | {"strength": args.style_strength, "guidance": 1.0}
    return Controls(**{f.name: given[f.name] for f in fields(Controls) if f.name in given})


def load_styles(args: argparse.Namespace) -> tuple[Base, list[tuple[Style, float]]]:
    """The base, and the styles with their shares; no styles where none were asked for.

    Raises:
        UserError: a style, picture or base cannot be found or read, or they do not fit together.
    """
    from osasis.config.catalogue import find_style

    paths = [(find_style(name), share) for name, share in args.style or []]

    from osasis.base import load_base
    from osasis.formats.style_file import load_style
    from osasis.stylize.model import check_base
    from osasis.stylize.preview import preview_style

    styles = [(load_style(path), share) for path, share in paths]
    own = styles[0][0].manifest.base_name if styles else DEFAULT_BASE
    base = load_base(args.base or own, device=args.device)
    picture = getattr(args, "style_image", None)
    if picture is not None:
        if getattr(args, "lambda_spn", None):
            raise UserError(
                "--lambda-spn has no effect on a preview: no SPN was learned",
                hint="leave it out, or learn the picture with `osasis learn` first",
            )
        styles = [(preview_style(base, picture), 1.0)]
    for style, _ in styles:
        check_base(style, base)
    return base, styles


def describe(
    base: Base, styles: list[tuple[Style, float]], args: argparse.Namespace
) -> dict[str, str]:
    """What a result's metadata says about how it was made."""
    from osasis.stylize.model import normalised

    said = {"base": base.name, "version": f"osasis {__version__}"}
    if styles:
        names = [
            style.manifest.name if part == 1 else f"{style.manifest.name}={part:.3g}"
            for style, part in normalised(styles)
        ]
        said["style"] = " + ".join(names)
        said["style seed"] = ", ".join(str(style.manifest.seed) for style, _ in styles)
        said["style strength"] = f"{args.style_strength:g}"
    if getattr(args, "style_image", None) is not None:
        said["note"] = PREVIEW_NOTE
    values = control_values(args)
    for name in ("seed", "variation"):
        said[name] = str(getattr(values, name))
    for name in ("style_levels", "lambda_spn", "t0"):
        if getattr(values, name) is not None:
            said[name.replace("_", " ")] = str(getattr(values, name))
    if args.swap_codes:
        said["codes"] = "swapped"
    if args.mixed_precision:
        said["precision"] = "mixed"
    return said
