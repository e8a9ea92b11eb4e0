"""What each click of the page asks of the service, and what the page shows afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from osasis.errors import OsasisError, UserError
from osasis.studio.controls import Components
from osasis.studio.service import Service
from osasis.studio.store import PHOTO, RESULT, STYLE, Item, Visitor
from osasis.studio.views import NO_STYLE

Chosen = dict[str, Any]
"""What a page has chosen: the keys of `osasis.studio.page.START`."""


class Clicks:
    """The actions; each returns what the page chooses from then on."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def photos(self, visitor: Visitor, files: Sequence[str]) -> tuple[Chosen, list[str]]:
        """Photos were dropped: those that can be read are kept, the others told of."""
        problems = []
        most = self._service.limits.photos
        for file in files[:most]:
            try:
                self._service.intake.photo(visitor, file)
            except OsasisError as error:
                problems.append(f"{error}. {error.hint}")
        if len(files) > most:
            problems.append(f"only the first {most} photos were taken")
        return {}, problems

    def style_picture(self, visitor: Visitor, files: Sequence[str]) -> tuple[Chosen, list[str]]:
        """A picture to learn was dropped: it is previewed at once."""
        if not files:
            return {}, []
        item = self._service.intake.style_picture(visitor, files[0])
        return self._shown(visitor, item), []

    def painting(self, visitor: Visitor, name: str) -> Chosen:
        """A shipped painting was chosen to be learned."""
        return self._shown(visitor, self._service.example_painting(visitor, name))

    def _shown(self, visitor: Visitor, item: Item) -> Chosen:
        self._service.preview(visitor, item.id)
        return {"mine": item.id, "style": item.id}

    def style_file(self, visitor: Visitor, files: Sequence[str]) -> tuple[Chosen, list[str]]:
        """A style file was dropped."""
        if not files:
            return {}, []
        item = self._service.intake.style_file(visitor, files[0])
        return self._shown(visitor, item), []

    def example(self, visitor: Visitor) -> Chosen:
        """The example photo is wanted."""
        self._service.example_photo(visitor)
        return {}

    def redraw(
        self, controls: Components, visitor: Visitor, chosen: Chosen, *values: Any
    ) -> Chosen:
        """Redraw is pressed: all photos of the page."""
        settings = controls.chosen(_style(chosen), values)
        photos = [photo.id for photo in reversed(visitor.items(PHOTO))]
        self._service.stylize(visitor, photos[-self._service.limits.photos :], settings)
        return {}

    def learn(self, visitor: Visitor, chosen: Chosen, seed: float | None) -> Chosen:
        """Learn, or go on."""
        item = self._mine(visitor, chosen)
        if item.data["updates"]:  # what was learned so far is of that seed
            seed = item.data["seed"]
        self._service.learn(visitor, item.id, int(seed or 0))
        return {"mine": item.id, "style": item.id}  # ready to redraw photos with

    def rename(self, visitor: Visitor, chosen: Chosen, name: str) -> Chosen:
        """The style gets another name."""
        item = self._mine(visitor, chosen)
        self._service.rename(visitor, item.id, name)
        return {"mine": item.id}

    def delete(self, visitor: Visitor, chosen: Chosen) -> Chosen:
        """The style is no longer wanted."""
        self._service.delete(visitor, self._mine(visitor, chosen))
        return {"mine": ""}

    def explore(
        self,
        controls: Components,
        visitor: Visitor,
        chosen: Chosen,
        photo: str | None,
        rows: Sequence[str],
        *values: Any,
    ) -> Chosen:
        """A sheet is wanted."""
        if not photo:
            raise UserError("there is no photo yet", hint="drop one under Photos first")
        settings = controls.chosen(_style(chosen), values)
        self._service.explore(visitor, photo, settings, rows)
        return {}

    def on_photo(self, visitor: Visitor, key: str) -> Chosen:
        """A face was clicked, or a photo's cross."""
        what, _, rest = key.partition(":")
        photo, _, index = rest.partition(":")
        if what == "face" and index.isdigit():
            self._service.toggle_face(visitor, photo, int(index))
        elif what == "remove":
            self._service.delete(visitor, visitor.item(photo, PHOTO))
        return {}

    def on_result(self, visitor: Visitor, key: str) -> Chosen:
        """A result's Delete was clicked."""
        self._service.delete(visitor, visitor.item(key.partition(":")[2], RESULT))
        return {"result": ""}

    def cancel(self, visitor: Visitor, key: str) -> Chosen:
        """A job's Cancel was clicked."""
        self._service.queue.cancel(visitor.id, key.partition(":")[2])
        return {}

    @staticmethod
    def _mine(visitor: Visitor, chosen: Chosen) -> Item:
        styles = visitor.items(STYLE)
        item = next((s for s in styles if s.id == chosen["mine"]), styles[0] if styles else None)
        if item is None:
            raise UserError("there is no style yet", hint="drop a picture first")
        return item


def _style(chosen: Chosen) -> str:
    return "" if chosen["style"] == NO_STYLE else str(chosen["style"])
