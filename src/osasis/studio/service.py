"""What the page and the API do for a visitor; neither of them knows more than this."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from osasis.base import Base
from osasis.config.catalogue import assets, paintings
from osasis.config.presets import LearnConfig
from osasis.errors import UserError
from osasis.formats.style_file import load_style
from osasis.imaging.load import load_image
from osasis.studio.config import Settings, StudioConfig
from osasis.studio.intake import LEARNING, NEW, STYLE_FILE, Intake
from osasis.studio.jobs import OPEN, Job, JobQueue
from osasis.studio.store import PHOTO, STYLE, Item, Store, Visitor, plain_name
from osasis.studio.work import Studio
from osasis.stylize.demo import PHOTO as EXAMPLE_PHOTO
from osasis.stylize.edit import check_attributes
from osasis.stylize.explore import CONTROLS

SWEEP_SECONDS = 60.0


class Service:
    """A running studio without its page.

    Args:
        config: where things are kept, and limits.
        base: what draws.
        preset: how styles are learned; None is "fast".
    """

    def __init__(self, config: StudioConfig, base: Base, preset: LearnConfig | None = None) -> None:
        self.config, self.limits = config, config.limits
        self.store = Store(config.data, config.limits)
        self.queue = JobQueue(config.limits)
        self.studio = Studio(base, preset, config.limits.photo_seconds)
        self.intake = Intake(self.store, base)
        self._stop = threading.Event()
        self._end_learning()
        self.sweep()
        self._sweeper = threading.Thread(target=self._sweep_forever, daemon=True)
        self._sweeper.start()

    def _end_learning(self) -> None:
        """Leave styles that a studio before was killed over as ones that can be resumed."""
        for visitor in self.store.everybody():
            for item in visitor.items(STYLE):
                if item.data.get("state") == LEARNING:
                    visitor.update(item, state=NEW)

    def sweep(self) -> int:
        """Remove what has expired; return how many items."""
        self.queue.expire(3600 * self.limits.keep_hours)
        return self.store.sweep(self.queue.busy())

    def _sweep_forever(self) -> None:
        while not self._stop.wait(SWEEP_SECONDS):
            self.sweep()

    def close(self) -> None:
        """Stop; a style that is being learned keeps what it has."""
        self._stop.set()
        self.queue.close()

    def stylize(self, visitor: Visitor, photos: Sequence[str], settings: Settings) -> Job:
        """Redraw photos.

        Raises:
            UserError: no photo, too many, or something chosen that is not there.
        """
        found = [visitor.item(key, PHOTO) for key in photos]
        if not found:
            raise UserError("there is no photo yet", hint="drop one first")
        if len(found) > self.limits.photos:
            raise UserError(f"at most {self.limits.photos} photos are redrawn at once")
        self._check(visitor, settings)
        count = len(found)
        title = found[0].name if count == 1 else f"{count} photos"
        work = partial(self.studio.stylize, visitor, list(photos), settings)
        return self._submit(visitor, "stylize", title, work, [*photos, *_styles(settings)])

    def learn(self, visitor: Visitor, key: str, seed: int = 0) -> Job:
        """Learn a style from one of a visitor's pictures, or go on with it.

        Raises:
            UserError: it is being learned already, or is not there.
        """
        item = visitor.item(key, STYLE)
        if self.learning(visitor, key) is not None:
            raise UserError(f"{item.name} is waiting or being learned already")
        if item.data.get("uploaded"):
            raise UserError(f"{item.name} was uploaded as a style and needs no learning")
        work = partial(self.studio.learn, visitor, key, seed)
        return self._submit(visitor, "learn", item.name, work, [key])

    def preview(self, visitor: Visitor, key: str) -> Job:
        """Draw the example photo with a style that is not learned yet."""
        item = visitor.item(key, STYLE)
        work = partial(self.studio.preview, visitor, key)
        return self._submit(visitor, "preview", item.name, work, [key])

    def explore(self, visitor: Visitor, photo: str, settings: Settings, rows: Sequence[str]) -> Job:
        """Draw the sheet of a photo.

        Raises:
            UserError: no photo or style, or unknown rows.
        """
        found = visitor.item(photo, PHOTO)
        unknown = [row for row in rows if row not in CONTROLS]
        if unknown or not rows:
            raise UserError(f"choose rows of {', '.join(CONTROLS)}")
        self._check(visitor, settings)
        work = partial(self.studio.explore, visitor, photo, settings, list(rows))
        return self._submit(visitor, "explore", found.name, work, [photo, *_styles(settings)])

    def learning(self, visitor: Visitor, key: str) -> Job | None:
        """The job that learns a style, if it waits or runs."""
        open_jobs = [j for j in self.queue.jobs(visitor.id) if j.state in OPEN]
        return next((j for j in open_jobs if j.kind == "learn" and key in j.items), None)

    def delete(self, visitor: Visitor, item: Item) -> None:
        """Delete an item, and end the jobs that need it."""
        for job in self.queue.jobs(visitor.id):
            if job.state in OPEN and item.id in job.items:
                self.queue.cancel(visitor.id, job.id)
        visitor.remove(item)

    def rename(self, visitor: Visitor, key: str, name: str) -> Item:
        """Give a style another name.

        Raises:
            UserError: there is no such style.
        """
        item = visitor.item(key, STYLE)
        renamed = visitor.update(item, name=plain_name(name, item.name))
        if item.file(STYLE_FILE).is_file():
            style = load_style(item.file(STYLE_FILE))
            manifest = replace(style.manifest, name=renamed.name)
            replace(style, manifest=manifest).save(item.file(STYLE_FILE))
        return renamed

    def toggle_face(self, visitor: Visitor, key: str, index: int) -> Item:
        """Choose a face of a photo, or leave it out."""
        photo = visitor.item(key, PHOTO)
        if not 0 <= index < len(photo.data["faces"]):
            raise UserError("there is no such face")
        chosen = sorted({*photo.data["chosen"]} ^ {index})
        return visitor.update(photo, chosen=chosen)

    def example_photo(self, visitor: Visitor) -> Item:
        """Add the shipped photo to a visitor's."""
        image = load_image(assets() / "photos" / EXAMPLE_PHOTO)
        return self.intake.add_photo(visitor, image, "astronaut")

    def example_painting(self, visitor: Visitor, name: str) -> Item:
        """Add a shipped painting to what a visitor may learn.

        Raises:
            UserError: there is none of that name.
        """
        if name not in paintings():
            raise UserError("there is no such painting")
        picture = load_image(paintings()[name])
        return self.intake.add_style_picture(visitor, picture, name.replace("_", " "))

    def _check(self, visitor: Visitor, settings: Settings) -> None:
        for key in _styles(settings):
            if key not in self.studio.shipped:
                visitor.item(key, STYLE)
        if settings.attributes:
            check_attributes(self.studio.base, dict(settings.attributes))

    def _submit(
        self, visitor: Visitor, kind: str, title: str, work: partial, items: Sequence[str]
    ) -> Job:
        return self.queue.submit(visitor.id, kind, title, work, frozenset(items), visitor.address)


def _styles(settings: Settings) -> list[str]:
    return [key for key in (settings.style, settings.second) if key]
