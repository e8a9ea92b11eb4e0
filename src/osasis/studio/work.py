"""What jobs do: build the configuration, call what the command line calls, keep what comes out."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from osasis._version import __version__
from osasis.base import Base
from osasis.config.catalogue import assets, list_styles
from osasis.config.presets import PRESETS, LearnConfig
from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path, duration
from osasis.formats.style_file import Style, load_style
from osasis.imaging.load import load_image
from osasis.imaging.save import save_image
from osasis.imaging.tensors import fit_square
from osasis.learn.learner import StyleLearner
from osasis.learn.save import learn_into
from osasis.studio.config import Settings
from osasis.studio.intake import (
    BEFORE,
    LEARNING,
    NEW,
    PICTURE,
    READY,
    STYLE_FILE,
    faces_of,
    write_picture,
    write_view,
    write_views,
)
from osasis.studio.jobs import Step
from osasis.studio.store import PHOTO, RESULT, SHEET, STYLE, Item, Visitor
from osasis.stylize.demo import PHOTO as EXAMPLE_PHOTO
from osasis.stylize.demo import face_crop
from osasis.stylize.explore import explore, plan, sheet
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

Steps = Generator[Step, None, None]
PREVIEW_FILE, SNAPSHOT = "preview.webp", "snapshot.safetensors"
# shipped, so that an empty page never greets anyone; scripts/studio_examples.py makes them
EXAMPLES = ("astronaut", "astronaut-renoir_seashore", "astronaut-sheet")
_PREVIEW_SHARE = 0.12  # of learning's time, at most, goes into previews
_AT_ONCE = 4  # squares between two looks at whether the visitor has cancelled; on a CPU 1
_PHASES = {
    "bridge": "1 of 3: looking at the picture",
    "bank": "2 of 3: drawing photos to learn on (once on this machine)",
    "learn": "3 of 3: learning",
}


class Studio:
    """The work itself; every method returns the steps of one job.

    Args:
        base: what draws.
        preset: how styles are learned.
        photo_seconds: how long one photo may take.
    """

    def __init__(
        self, base: Base, preset: LearnConfig | None = None, photo_seconds: float = 600.0
    ) -> None:
        self.base, self.preset = base, preset or PRESETS["fast"]
        self._photo_seconds = photo_seconds
        self.shipped = shipped_styles(base)
        self.example = face_crop(load_image(assets() / "photos" / EXAMPLE_PHOTO))

    def stylize(self, visitor: Visitor, photos: Sequence[str], settings: Settings) -> Steps:
        """Redraw photos; a photo that fails is reported, the others are done."""
        yield Step("redrawing", 0, len(photos))
        styles = self._styles(visitor, settings)
        stylizer = self._stylizer(styles, settings)
        made = self._made(styles, settings)
        for done, key in enumerate(photos, start=1):
            result = failure = ""
            try:
                photo, seed = visitor.item(key, PHOTO), settings.seed + done - 1
                item = yield from self._redraw(
                    visitor, photo, stylizer, seed, made, Step("redrawing", done - 1, len(photos))
                )
                result = item.id
            except OsasisError as error:
                failure = _for_page(error).line
            yield Step("redrawing", done, len(photos), result=result, failure=failure)

    def learn(self, visitor: Visitor, key: str, seed: int) -> Steps:
        """Learn a style from a visitor's picture; where it was stopped before, go on from there."""
        item = visitor.item(key, STYLE)
        item = visitor.update(item, state=LEARNING, seed=seed)
        picture = load_image(item.file(PICTURE))
        learner = StyleLearner(
            self.base,
            picture,
            self.preset,
            seed=seed,
            name=item.name,
            snapshot=item.file(SNAPSHOT),
        )
        shown = _PreviewClock()

        def learned(file: Path) -> None:
            self._draw_example(item, load_style(file))
            visitor.update(visitor.item(key, STYLE), state=READY, updates=learner.updates)

        try:
            yield Step("looking at the picture", 0, 1, preview=self._preview(item, picture))
            with closing(learn_into(learner, item.file(STYLE_FILE), learned)) as steps:
                for record in steps:
                    phase, preview = _PHASES[record.phase], ""
                    if record.phase == "learn" and shown.is_due():
                        with shown:
                            preview = self._draw_example(item, learner.style())
                    yield Step(phase, record.done, record.total, preview=preview)
            yield Step("done", 1, 1, result=key, preview=item.id)
        finally:
            self._note_stop(visitor, key, learner)

    def explore(
        self, visitor: Visitor, photo: str, settings: Settings, rows: Sequence[str]
    ) -> Steps:
        """Draw the sheet of one photo; what is drawn so far can be looked at meanwhile."""
        styles = self._styles(visitor, settings)
        if not styles:
            raise UserError("choose a style first")
        square = self.square(visitor.item(photo, PHOTO), settings)
        wanted = plan(self.base, styles, rows)
        if not wanted:
            raise UserError("the row 'mix' needs a second style")
        total = sum(len(row.trials) for row in wanted)
        pictures: list[list[Image.Image]] = [[] for _ in wanted]
        item: Item | None = None
        yield Step("drawing the sheet", 0, total)
        for done, (row, picture) in enumerate(explore(self.base, square, wanted), start=1):
            pictures[row].append(picture)
            preview = ""
            if len(pictures[row]) == len(wanted[row].trials):
                page = sheet(square, styles, wanted, pictures, size=self.base.image_size)
                item = self._keep_sheet(visitor, item, page, visitor.item(photo).name)
                preview = item.id
            result = item.id if item and done == total else ""
            yield Step("drawing the sheet", done, total, preview=preview, result=result)

    def square(self, photo: Item, settings: Settings) -> Image.Image:
        """The part of a photo that a sheet shows: its largest chosen face, else its middle."""
        faces = faces_of(photo)
        stylizer = Stylizer(self.base, fit="auto" if faces else "crop")
        prepared = stylizer.prepare(load_image(photo.file(PICTURE)), faces or None)
        return Image.fromarray(prepared.squares[0])

    def _redraw(
        self,
        visitor: Visitor,
        photo: Item,
        stylizer: Stylizer,
        seed: int,
        made: dict[str, Any],
        step: Step,
    ) -> Generator[Step, None, Item]:
        """Redraw one photo; `step` comes again after each batch of squares."""
        faces = faces_of(photo) if stylizer.fit == "faces" else None
        if faces == [] and photo.data["faces"]:
            raise UserError(f"{photo.name}: no face is chosen", hint="choose one in the photo")
        image = load_image(photo.file(PICTURE))
        try:
            prepared = stylizer.prepare(image, faces)
        except OsasisError as error:
            raise OsasisError(f"{photo.name}: {error}", hint=error.hint) from error
        squares, results = prepared.squares, list[Any]()
        ends = time.monotonic() + self._photo_seconds
        yield replace(step, note=f"square 0 of {len(squares)}")
        for batch in stylizer.batches(squares, [seed] * len(squares)):
            results += batch
            yield replace(step, note=f"square {len(results)} of {len(squares)}")
            if time.monotonic() > ends and len(results) < len(squares):
                raise OsasisError(
                    f"{photo.name}: takes longer than {duration(self._photo_seconds)}",
                    hint="redraw a smaller part of it, or a smaller copy",
                )
        picture = stylizer.finish(prepared, results).picture
        record = {**made, "photo": photo.name, "seed": seed}

        def write(folder: Path) -> None:
            save_image(picture, folder / PICTURE, metadata={"osasis": json.dumps(record)})
            write_views(picture, folder)
            before = image if image.size == picture.size else fit_square(image, picture.width)
            write_view(before, folder / BEFORE)

        data = {"photo": photo.id, "style": made["style"], "made": record}
        return visitor.add(RESULT, f"{photo.name} - {made['style']}", write, data)

    def _styles(self, visitor: Visitor, settings: Settings) -> list[tuple[Style, float]]:
        shares = [(settings.style, 1 - settings.share), (settings.second, settings.share)]
        if not settings.second or settings.second == settings.style:
            shares = [(settings.style, 1.0)]
        return [(self.style(visitor, key), share) for key, share in shares if key and share]

    def style(self, visitor: Visitor, key: str) -> Style:
        """A shipped style by name, or a visitor's by id; its preview while it is not learned.

        Raises:
            UserError: there is none.
        """
        if key in self.shipped:
            return load_style(self.shipped[key])
        item = visitor.item(key, STYLE)
        visitor.touch(item)
        if item.file(STYLE_FILE).is_file():
            return load_style(item.file(STYLE_FILE))
        return preview_style(self.base, load_image(item.file(PICTURE)), name=item.name)

    def _stylizer(self, styles: list[tuple[Style, float]], s: Settings) -> Stylizer:
        if not styles and not s.attributes and not s.text:
            raise UserError("choose a style, or something to edit")
        return Stylizer(
            self.base,
            [(_with_factor(style, s.spn_factor), share) for style, share in styles],
            s.controls(),
            batch_size=1 if self.base.device.type == "cpu" else _AT_ONCE,
        )

    def _made(self, styles: list[tuple[Style, float]], settings: Settings) -> dict[str, Any]:
        names = " + ".join(style.manifest.name for style, _ in styles) or "edited"
        changed = {k: v for k, v in vars(settings).items() if v != getattr(Settings(), k)}
        said = {k: v for k, v in changed.items() if k not in ("style", "second")}
        return {"style": names, "base": self.base.name, "version": __version__, "settings": said}

    def _preview(self, item: Item, picture: Image.Image) -> str:
        """What can be seen without learning."""
        return self._draw_example(item, preview_style(self.base, picture, name=item.name))

    def _draw_example(self, item: Item, style: Style) -> str:
        drawn = Stylizer(self.base, style, fit="crop")(self.example)
        with atomic_path(item.file(PREVIEW_FILE)) as temporary:
            drawn.save(temporary, "WEBP", quality=92)
        return item.id

    def preview(self, visitor: Visitor, key: str) -> Steps:
        """Draw the example photo with a picture that is not learned yet."""
        item = visitor.item(key, STYLE)
        yield Step("previewing", 0, 1)
        self._preview(item, load_image(item.file(PICTURE)))
        yield Step("previewing", 1, 1, preview=key)

    @staticmethod
    def _note_stop(visitor: Visitor, key: str, learner: StyleLearner) -> None:
        """Leave a style that was stopped as one that can be resumed."""
        try:
            item = visitor.item(key, STYLE)
        except UserError:
            return  # deleted meanwhile
        if item.data["state"] == LEARNING:
            visitor.update(item, state=NEW, updates=learner.updates, total=learner.total_updates)

    @staticmethod
    def _keep_sheet(visitor: Visitor, item: Item | None, page: Image.Image, name: str) -> Item:
        if item is None:
            return visitor.add(SHEET, f"{name} - sheet", lambda f: write_picture(page, f))
        write_picture(page, item.folder)
        return item


class _PreviewClock:
    """Says when a preview is due, so that previews take a small share of the time."""

    def __init__(self) -> None:
        self._ended, self._took, self._began = time.monotonic(), 0.0, 0.0

    def is_due(self) -> bool:
        return time.monotonic() - self._ended >= self._took * (1 / _PREVIEW_SHARE - 1)

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._ended = time.monotonic()
        self._took = self._ended - self._began


def _with_factor(style: Style, factor: float) -> Style:
    """The style with its own lambda_spn times `factor`."""
    weight = style.manifest.lambda_spn * factor
    return replace(style, manifest=replace(style.manifest, lambda_spn=weight))


def shipped_styles(base: Base) -> dict[str, Path]:
    """The shipped styles that fit a base, by name."""
    found = {}
    for path in list_styles():
        if load_style(path).manifest.base_hash == base.hash:
            found[path.stem] = path
    return found


def _for_page(error: OsasisError) -> OsasisError:
    """The same, with a hint of the command line in the page's words."""
    if "--no-align" not in error.hint:
        return error
    return OsasisError(str(error), hint='set "What is redrawn" to the middle square')
