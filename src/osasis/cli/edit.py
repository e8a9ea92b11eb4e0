"""`osasis edit`: change what photos show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis.cli.controls import controls_of, describe, load_styles, made_by, say_strained
from osasis.cli.options import (
    Amount,
    Device,
    DrawingOptions,
    Output,
    PhotoOptions,
    Positive,
    Share,
    Styles,
    attribute_amount,
    each,
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
    from osasis.stylize.text import Identity, TextStep


_JOBS = 2  # threads beside the network


@Parameter(name="*", group="edits")
@dataclass(frozen=True)
class EditOptions:
    """What is edited."""

    attribute: Annotated[
        tuple[tuple[str, float], ...],
        Parameter(converter=each(attribute_amount), n_tokens=1, metavar="NAME[=AMOUNT]"),
    ] = ()
    """Move along a direction of the base; several add up, negative amounts go back."""
    text: str | None = None
    """What the photo should show."""
    source: Annotated[str, Parameter(name="--from", metavar="TEXT")] = "a face"
    """What it shows, for --text."""
    guidance: Amount | None = None
    """How much of the edit's effect on every step is taken; 1 is plain decoding with the edited
    code (default: 2 for attributes; 1 with --text or --style)."""
    clip: Annotated[str, Parameter(metavar="FOLDER_OR_ID")] = "openai/clip-vit-base-patch32"
    """CLIP in the hub's layout, for --text."""
    iterations: Positive = 60
    """Updates of --text at most."""
    max_change: Amount = 0.25
    """--text stops where the picture differs by more than this from the unedited one, as LPIPS
    measures it."""
    min_identity: Share | None = None
    """--text stops also where the person is less like the unedited one than this, 0 to 1, as SFace
    measures it; needs `osasis models fetch sface` (default: not measured)."""


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
    device: Device = None,
) -> int:
    """Change what photos show, along attributes of the base or by a description.

    With --style the edited photos are redrawn in it.

    Args:
        output: folder for the results, or for one photo a picture's file

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
    if not edits.attribute and edits.text is None:
        raise UserError(
            "there is nothing to edit", hint="--attribute smiling=1.5, or --text 'a smiling face'"
        )
    from osasis.scale.shares import Shares

    shares = Shares(device)
    found = shares.from_main(lambda: find(photos, output))

    from osasis.stylize.edit import EDIT_ROUTE
    from osasis.stylize.model import common_route
    from osasis.stylize.stylizer import Stylizer
    from osasis.stylize.text import TextSettings, edits_of

    base, loaded = load_styles(styles, shares.device)
    guidance = guidance_of(edits, styled=bool(styles.style))
    controls = controls_of(drawing, photo, guidance=guidance)
    route = common_route(loaded, EDIT_ROUTE)
    t0 = route.t0 if controls.t0 is None else controls.t0
    settings = TextSettings(
        iterations=edits.iterations,
        max_lpips=edits.max_change,
        min_identity=edits.min_identity or 0.0,
        route=TextSettings().route.until(t0),
        guidance=guidance,
    )
    stops: list[str] = []
    drawing_now: list[Path] = []
    progress = Progress()

    def show(step: TextStep) -> None:
        note, name = f"loss {step.loss:.3f}, changed {step.lpips:.2f}", drawing_now[-1].name
        progress.update(f"{name}: text", step.done, step.total, note)
        if step.stopped:
            stops.append(f"{name}: {step.done} updates, {note}: {step.stopped}")

    stylizer = Stylizer(
        base,
        loaded,
        controls,
        edits=edits_of(
            base,
            edits.attribute,
            edits.text,
            edits.source,
            settings,
            clip=edits.clip,
            identity=measure_of_identity(edits.min_identity),
            report=show,
        ),
        batch_size=None if edits.text is None else 1,  # a text is followed photo by photo
    )
    make_writable(result_folder(output))
    say_strained(controls, edits.attribute)
    scores = Scores(base, [name for name, _ in edits.attribute])
    return redraw_all(
        found,
        output,
        stylizer,
        made_by(base, styles, controls, format=format, edits=asdict(edits)),
        describe(base, loaded, controls) | describe_edits(edits, guidance),
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


def guidance_of(asked: EditOptions, *, styled: bool) -> float:
    """The guidance asked for, or what was measured to suit the edit."""
    from osasis.stylize.edit import usual_guidance

    return usual_guidance(asked.text, styled=styled) if asked.guidance is None else asked.guidance


def measure_of_identity(least: float | None) -> Identity | None:
    """The measure behind `--min-identity`.

    Raises:
        UserError: its network is not here.
    """
    if least is None:
        return None
    from osasis.evaluate.identity import FaceEmbedder, IdentitySimilarity
    from osasis.evaluate.networks import network_path

    return IdentitySimilarity(FaceEmbedder("sface", network_path("sface", {})))


def describe_edits(asked: EditOptions, guidance: float) -> dict[str, str]:
    """What a result's metadata says about its edits."""
    said = [f"{name}={value:g}" for name, value in asked.attribute]
    if asked.text is not None:
        said.append(f"{asked.source!r} to {asked.text!r}")
    return {"edit": ", ".join(said), "guidance": f"{guidance:g}"}


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
