"""What redraws a photo: controls, styles and base, and what is written down of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from osasis._version import __version__
from osasis.cli.options import DEFAULT_BASE, Styles
from osasis.config.controls import Controls, strained
from osasis.errors import UserError

if TYPE_CHECKING:
    from osasis.base import Base
    from osasis.formats.style_file import Style

PREVIEW_NOTE = "a preview, nothing was learned: the picture's colours, without its strokes"


def controls_of(*groups: object, **more: Any) -> Controls:
    """The controls of groups of options such as `DrawingOptions`, and others by name."""
    given = {name: value for group in groups for name, value in vars(group).items()} | more
    if given.pop("no_align", False):
        given["fit"] = "crop"
    return Controls(**given)


def say_strained(controls: Controls) -> None:
    """Warn of what is asked for beyond what holds together."""
    for warning in strained(controls):
        print(f"warning: {warning}", file=sys.stderr)


def load_styles(
    styles: Styles, device: str | None, *, lambda_spn: float | None = None
) -> tuple[Base, list[tuple[Style, float]]]:
    """The base, and the styles with their shares; no styles where none were asked for.

    Args:
        lambda_spn: as it was asked for; a preview has none.

    Raises:
        UserError: a style, picture or base cannot be found or read, or they do not fit together.
    """
    from osasis.config.catalogue import find_style

    paths = [(find_style(name), share) for name, share in styles.style]
    if styles.picture is not None and lambda_spn:
        raise UserError(
            "--lambda-spn has no effect on a preview: no SPN was learned",
            hint="leave it out, or learn the picture with `osasis learn` first",
        )

    from osasis.base import load_base
    from osasis.formats.style_file import load_style
    from osasis.stylize.model import check_base
    from osasis.stylize.preview import preview_style

    loaded = [(load_style(path), share) for path, share in paths]
    own = loaded[0][0].manifest.base_name if loaded else DEFAULT_BASE
    base = load_base(styles.base or own, device=device)
    if styles.picture is not None:
        loaded = [(preview_style(base, styles.picture), 1.0)]
    for style, _ in loaded:
        check_base(style, base)
    return base, loaded


def made_by(
    base: Base,
    styles: Styles,
    loaded: list[tuple[Style, float]],
    controls: Controls,
    **more: Any,
) -> dict[str, Any]:
    """What determines the results besides the photos.

    Files count by their content and by the names they give themselves, not by where they lie.

    Args:
        loaded: what `load_styles` made of `styles`.
        more: what else changes the results, as JSON holds it.
    """
    from osasis.config.catalogue import find_style
    from osasis.formats.records import file_hash

    settings = asdict(controls) | more
    if not controls.variation:  # nothing is random
        settings.pop("seed")
    if styles.picture is not None:
        settings["style_image"] = file_hash(styles.picture)
    given = zip(styles.style, loaded, strict=True) if styles.style else ()
    mixed = [
        {"name": style.manifest.name, "sha256": file_hash(find_style(name)), "share": share}
        for (name, share), (style, _) in given
    ]
    return {
        "styles": mixed,
        "base": base.name,
        "base_hash": base.hash,
        "version": __version__,
        "settings": settings,
    }


def describe(
    base: Base, styles: list[tuple[Style, float]], controls: Controls, *, preview: bool = False
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
        said["style strength"] = f"{controls.strength:g}"
    if preview:
        said["note"] = PREVIEW_NOTE
    edits = [f"{name}={value:g}" for name, value in controls.attributes]
    edits += [f"{controls.text_from!r} to {controls.text!r}"] if controls.text else []
    if edits:
        from osasis.stylize.edit import guidance_of

        said["edit"] = ", ".join(edits)
        said["guidance"] = f"{guidance_of(controls, styled=bool(styles)):g}"
    for name in ("seed", "variation", "style_levels", "lambda_spn", "t0"):
        if getattr(controls, name) is not None:
            said[name.replace("_", " ")] = str(getattr(controls, name))
    if controls.swap_codes:
        said["codes"] = "swapped"
    if controls.keep_colors:
        said["colors"] = "the photo's"
    if controls.mixed_precision:
        said["precision"] = "mixed"
    return said
