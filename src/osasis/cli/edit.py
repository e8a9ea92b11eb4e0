"""`osasis edit`: change what photos show."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.controls import add_controls, add_style, control_values, describe, load_styles
from osasis.cli.options import add_device, amount, make_writable, positive, share
from osasis.cli.photos import (
    Told,
    add_photo_list,
    add_photo_options,
    find,
    report,
    say_told,
)
from osasis.cli.progress import Progress
from osasis.errors import OsasisError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from osasis.base import Base
    from osasis.cli.options import Subparsers
    from osasis.stylize.edit import Edit
    from osasis.stylize.text import Identity, TextStep

CLIP_MODEL = "openai/clip-vit-base-patch32"

EPILOG = """\
examples:
  osasis edit me.jpg --attribute smiling=1.5
      along a direction that comes with the base; 1 is the way from faces that do not smile to
      faces that do; writes edited/me.jpg
  osasis edit photos/ --attribute eyeglasses --attribute male=-1 -o out/
  osasis edit me.jpg --attribute smiling=1.5 --guidance 3
      the same, more visibly; more of the rest changes with it
  osasis edit me.jpg --attribute smiling=1.5 --style memling_maria
      the edited face in a style
  osasis edit me.jpg --text "a smiling face" --from "a face"
      any description; minutes a photo without a GPU. Needs CLIP (about 605 MB): where it is
      missing, the error says how to get it

An attribute that the base does not know is answered with those it knows. Scores printed at the end
tell how far the edit got: they are measured on the results, in the same units as the amounts. An
edit has more effect at --t0 1000 (the default without --style) than below.
"""


def attribute(text: str) -> tuple[str, float]:
    """An attribute and its amount: 'smiling=1.5'; without an amount it is 1."""
    name, _, number = text.partition("=")
    try:
        value = float(number) if "=" in text else 1.0
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no attribute such as smiling=1.5")
    return name, value


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "edit",
        help="change what photos show: attributes, or a description",
        description="Change what photos show, along attributes of the base or by a description; "
        "with --style the edited photos are redrawn in it.",
        epilog=EPILOG,
    )
    add_photo_list(parser, output="edited")
    _add_edits(parser)
    add_style(parser, required=False)
    add_photo_options(parser)
    add_controls(parser)
    parser.set_defaults(style_image=None)
    add_device(parser)
    return parser


def _add_edits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("edits")
    group.add_argument(
        "--attribute",
        action="append",
        type=attribute,
        default=[],
        metavar="NAME[=AMOUNT]",
        help="move along a direction of the base; several add up, negative amounts go back",
    )
    group.add_argument("--text", metavar="TEXT", help="what the photo should show")
    group.add_argument(
        "--from",
        dest="source",
        default="a face",
        metavar="TEXT",
        help="what it shows, for --text (default: '%(default)s')",
    )
    group.add_argument(
        "--guidance",
        type=amount,
        metavar="G",
        help="how much of the edit's effect on every step is taken; 1 is plain decoding with the "
        "edited code (default: 2 for attributes; 1 with --text or --style)",
    )
    group.add_argument(
        "--clip",
        default=CLIP_MODEL,
        metavar="FOLDER_OR_ID",
        help="CLIP in the hub's layout, for --text (default: %(default)s)",
    )
    group.add_argument(
        "--iterations",
        type=positive,
        default=60,
        metavar="N",
        help="updates of --text at most (default: %(default)s)",
    )
    group.add_argument(
        "--max-change",
        type=amount,
        default=0.25,
        metavar="D",
        help="--text stops where the picture differs by more than this from the unedited one, as "
        "LPIPS measures it (default: %(default)s)",
    )
    group.add_argument(
        "--min-identity",
        type=share,
        metavar="S",
        help="--text stops also where the person is less like the unedited one than this, 0 to 1, "
        "as SFace measures it; needs `osasis models fetch sface` (default: not measured)",
    )


def guidance_of(args: argparse.Namespace) -> float:
    """The guidance asked for, or what was measured to suit the edit."""
    from osasis.stylize.edit import ATTRIBUTE_GUIDANCE

    if args.guidance is not None:
        return float(args.guidance)
    return 1.0 if args.text or args.style else ATTRIBUTE_GUIDANCE


def make_edits(
    base: Base, args: argparse.Namespace, t0: int, report: Callable[[TextStep], None]
) -> list[Edit]:
    """The edits that the options ask for.

    Raises:
        UserError: an attribute the base does not have, or CLIP is missing.
    """
    from osasis.stylize.edit import AttributeEdit

    edits: list[Edit] = []
    if args.attribute:
        amounts: dict[str, float] = {}
        for name, value in args.attribute:
            amounts[name] = amounts.get(name, 0.0) + value
        edits.append(AttributeEdit(base, amounts))
    if args.text is not None:
        from osasis.perception.clip import ClipEmbedder
        from osasis.stylize.text import TextEdit, TextSettings

        settings = TextSettings(
            iterations=args.iterations,
            max_lpips=args.max_change,
            min_identity=args.min_identity or 0.0,
            route=TextSettings().route.until(t0),
            guidance=guidance_of(args),
        )
        embedder = ClipEmbedder(args.clip, device=base.device)
        edits.append(
            TextEdit(
                base,
                embedder,
                args.text,
                args.source,
                settings=settings,
                identity=measure_of_identity(args),
                report=report,
            )
        )
    return edits


def measure_of_identity(args: argparse.Namespace) -> Identity | None:
    """The measure behind `--min-identity`.

    Raises:
        UserError: its network is not here.
    """
    if args.min_identity is None:
        return None
    from osasis.evaluate.identity import FaceEmbedder, IdentitySimilarity
    from osasis.evaluate.networks import network_path

    return IdentitySimilarity(FaceEmbedder("sface", network_path("sface", {})))


def describe_edits(args: argparse.Namespace) -> dict[str, str]:
    """What a result's metadata says about its edits."""
    said = [f"{name}={value:g}" for name, value in args.attribute]
    if args.text is not None:
        said.append(f"{args.source!r} to {args.text!r}")
    return {"edit": ", ".join(said), "guidance": f"{guidance_of(args):g}"}


class Scores:
    """Mean scores of the edited attributes, before and after."""

    def __init__(self, base: Base, names: list[str]) -> None:
        self._base, self._names = base, names
        self._pairs: list[tuple[dict[str, float], dict[str, float]]] = []

    def add(self, before: Tensor, after: Tensor) -> None:
        """Measure a photo and its result, (1, 3, H, W) in [-1, 1]."""
        if self._names:
            self._pairs.append((self._of(before), self._of(after)))

    def _of(self, x: Tensor) -> dict[str, float]:
        from osasis.stylize.edit import attribute_scores

        scores = attribute_scores(self._base, self._base.encode(x))
        return {name: float(scores[name]) for name in self._names}

    def lines(self) -> list[str]:
        """One line per attribute."""
        count = len(self._pairs)
        return [
            f"{name}: {sum(b[name] for b, _ in self._pairs) / count:+.2f} before, "
            f"{sum(a[name] for _, a in self._pairs) / count:+.2f} after"
            for name in self._names
            if count
        ]


def run(args: argparse.Namespace) -> int:
    """Edit the photos, write them, say where and how far it got."""
    if not args.attribute and args.text is None:
        raise UserError(
            "there is nothing to edit", hint="--attribute smiling=1.5, or --text 'a smiling face'"
        )
    from PIL import Image

    from osasis.formats.records import file_hash, result_key
    from osasis.formats.results import Results
    from osasis.imaging.load import load_photo
    from osasis.imaging.tensors import to_tensor

    found, passed = find(args)
    photos = [photo.path for photo in found]
    results = Results(args.output, args.format)

    from osasis.cli.stylize import made_by
    from osasis.stylize.batch import photo_seed
    from osasis.stylize.edit import EDIT_ROUTE
    from osasis.stylize.model import common_route
    from osasis.stylize.photo import PhotoStylizer
    from osasis.stylize.stylizer import Stylizer

    base, styles = load_styles(args)
    controls = replace(control_values(args), guidance=guidance_of(args))
    route = common_route(styles, EDIT_ROUTE)
    t0 = route.t0 if args.t0 is None else args.t0
    failed: list[tuple[Path, OsasisError]] = []
    stops: list[str] = []
    told: list[tuple[Path, Told]] = []
    skipped = 0
    with Progress() as progress:

        def show(step: TextStep) -> None:
            note = f"loss {step.loss:.3f}, changed {step.lpips:.2f}"
            progress.update(f"{photo.name}: text", step.done, step.total, note)
            if step.stopped:
                stops.append(f"{photo.name}: {step.done} updates, {note}: {step.stopped}")

        edits = make_edits(base, args, t0, show)
        stylizer = Stylizer(base, styles, controls, edits=edits)
        painter = PhotoStylizer(stylizer)
        make_writable(results.folder)
        made = made_by(base, args)
        metadata = describe(base, styles, args) | describe_edits(args)
        scores = Scores(base, [name for name, _ in args.attribute])
        size = (base.image_size, base.image_size)
        for index, photo in enumerate(photos):
            progress.update("edit", index, len(photos))
            try:
                prepared = painter.prepare(load_photo(photo))
                photo_hash = file_hash(photo)
                key, wanted = (
                    result_key(photo_hash, made),
                    results.wanted(photo, found[index].folder),
                )
                if results.has(wanted, key):
                    skipped += 1
                    continue
                output = results.reserve(wanted, key)
                seeds = [photo_seed(args.seed, photo_hash)] * len(prepared.squares)
                edited = painter.redraw(prepared.squares, seeds)
                redrawn = painter.finish(prepared, edited)
                record = {
                    "photo": found[index].name,
                    "photo_sha256": photo_hash,
                    **made,
                    "key": key,
                }
                path = results.save(output, redrawn, record, metadata)
                told.append((photo, Told(path, path != wanted, redrawn.faces, redrawn.kept.notes)))
            except OsasisError as error:
                failed.append((photo, error))
                continue
            for before, after in zip(prepared.squares, edited, strict=True):
                seen = [Image.fromarray(square).resize(size) for square in (before, after)]
                scores.add(*map(to_tensor, seen))
            progress.update("edit", index + 1, len(photos))
    for line in [*stops, *scores.lines()]:
        print(line)
    say_told(told)
    done = len(photos) - len(failed) - skipped
    return report(done, args.output, failed, skipped=skipped, verb="edited", passed=passed)
