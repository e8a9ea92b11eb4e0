"""`osasis edit`: change what photos show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis.cli.controls import controls_of, describe, load_styles, made_by, say_strained
from osasis.cli.options import (
    Device,
    DrawingOptions,
    EditOptions,
    Output,
    PhotoOptions,
    Styles,
    make_writable,
)
from osasis.cli.photos import Format, Photos, find, redraw_all, result_folder
from osasis.errors import UserError
from osasis.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from osasis.base import Base
    from osasis.imaging.squares import Redrawn
    from osasis.scale.shares import Shares
    from osasis.stylize.text import TextStep

_JOBS = 2  # threads beside the network


def edit(
    photos: Photos,
    /,
    *,
    output: Output = Path("edited"),
    format: Format = "same",
    edits: EditOptions = EditOptions(),
    styles: Styles = Styles(),
    drawing: DrawingOptions = DrawingOptions(),
    photo: PhotoOptions = PhotoOptions(),
    clip: Annotated[
        str, Parameter(group="edits", metavar="FOLDER_OR_ID")
    ] = "openai/clip-vit-base-patch32",
    device: Device = None,
) -> int:
    """Change what photos show, along attributes of the base or by a description.

    With --style the edited photos are redrawn in it.

    Args:
        output: folder for the results, or for one photo a picture's file
        clip: CLIP in the hub's layout, for --text

    Examples:
      osasis edit me.jpg --attribute smiling=1.5
          along a direction that comes with the base; 1 is the way from faces that
          do not smile to faces that do; writes edited/me.jpg
      osasis edit photos/ --attribute eyeglasses --attribute male=-1 -o out/
      osasis edit me.jpg --attribute smiling=1.5 --guidance 3
          the same, more visibly; more of the rest changes with it
      osasis edit me.jpg --attribute smiling=1.5 --style memling_maria
          the edited face in a style
      osasis edit me.jpg --text "a smiling face" --from "a face"
          any description; minutes a photo without a GPU. Needs CLIP (about 605 MB):
          where it is missing, the error says how to get it

    An attribute that the base does not know is answered with those it knows. Scores
    printed at the end tell how far the edit got: they are measured on the results,
    in the same units as the amounts. An edit has more effect at --t0 1000 (the
    default without --style) than below.
    """
    if not edits.attributes and not edits.text:
        raise UserError(
            "there is nothing to edit", hint="--attribute smiling=1.5, or --text 'a smiling face'"
        )
    from osasis.scale.shares import Shares

    shares = Shares(device)
    found = shares.from_main(lambda: find(photos, output))

    from osasis.perception.clip import content_hash
    from osasis.stylize.stylizer import Stylizer
    from osasis.stylize.text import edits_of

    controls = controls_of(drawing, photo, edits)
    base, loaded = load_styles(styles, shares.device)
    stops: list[str] = []
    drawing_now: list[Path] = []
    progress = Progress()

    def show(step: TextStep) -> None:
        note, name = f"loss {step.loss:.3f}, changed {step.lpips:.2f}", drawing_now[-1].name
        progress.update(f"{name}: text", step.done, step.total, note)
        if step.stopped:
            stops.append(f"{name}: {step.done} updates, {note}: {step.stopped}")

    changes = edits_of(base, loaded, controls, clip=clip, report=show)
    seen_by = {"clip": content_hash(clip)} if edits.text else {}
    at_once = 1 if edits.text else None  # a text is followed photo by photo
    stylizer = Stylizer(base, loaded, controls, edits=changes, batch_size=at_once)
    make_writable(result_folder(output))
    say_strained(controls)
    scores = Scores(base, [name for name, _ in edits.attributes])
    return redraw_all(
        found,
        output,
        stylizer,
        made_by(base, styles, loaded, controls, format=format, **seen_by),
        describe(base, loaded, controls),
        shares,
        format=format,
        jobs=_JOBS,
        verb="edited",
        phase="edit",
        progress=progress,
        begun=drawing_now.append,
        measure=scores.add,
        lines=lambda: [*shares.gather(stops), *scores.lines(shares)],
    )


class Scores:
    """Mean scores of the edited attributes, before and after."""

    def __init__(self, base: Base, names: list[str]) -> None:
        self._base, self._names = base, names
        self._pairs: list[tuple[dict[str, float], dict[str, float]]] = []

    def add(self, redrawn: Redrawn) -> None:
        """Measure the squares of a photo before and after."""
        from osasis.imaging.tensors import to_tensor

        size = (self._base.image_size, self._base.image_size)
        for pair in zip(redrawn.before, redrawn.squares, strict=True) if self._names else ():
            before, after = (self._of(to_tensor(square.resize(size))) for square in pair)
            self._pairs.append((before, after))

    def _of(self, x: Tensor) -> dict[str, float]:
        from osasis.stylize.edit import attribute_scores

        scores = attribute_scores(self._base, self._base.encode(x))
        return {name: float(scores[name]) for name in self._names}

    def lines(self, shares: Shares) -> list[str]:
        """One line per attribute, of the photos of all processes."""
        pairs = shares.gather(self._pairs)
        count = len(pairs)
        return [
            f"{name}: {sum(b[name] for b, _ in pairs) / count:+.2f} before, "
            f"{sum(a[name] for _, a in pairs) / count:+.2f} after"
            for name in self._names
            if count
        ]
