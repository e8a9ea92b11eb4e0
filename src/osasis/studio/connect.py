"""What each click of the page asks of the service, and which component asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache

from osasis.errors import OsasisError, UserError
from osasis.studio.api import add_api, plain, told, visitor_of
from osasis.studio.controls import Components
from osasis.studio.page import Page
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
        """Photos were dropped: those that can be read are kept, the others reported."""
        problems = []
        most = self._service.limits.photos
        for file in files[:most]:
            try:
                self._service.intake.photo(visitor, file)
            except OsasisError as error:
                problems.append(error.line)
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


ANSWERS = 1000  # pages and calls whose answers wait for being collected


class Answers(LRUCache[str, Any]):
    """What Gradio's queue has to say to pages and calls; the least used goes first.

    Args:
        events: ids of the events of each, which Gradio keeps for ever where they are not collected.
    """

    def __init__(self, events: dict[str, set[str]]) -> None:
        super().__init__(ANSWERS)
        self._events = events

    def __getitem__(self, key: str) -> Any:
        self.move_to_end(key)
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self and len(self) >= self.max_size:
            del self[next(iter(self))]
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._events.pop(key, None)


class Sessions(StateHolder):
    """What Gradio remembers of each page and call.

    It would describe the whole page to itself for each of them, for links that are shut here:
    two thirds of a call's time, and .1 MB.
    """

    def __getitem__(self, key: str) -> SessionState:
        if key not in self.session_data:
            described: Any = SimpleNamespace(default_config=self.blocks.default_config, blocks=())
            self.session_data[key] = SessionState(described)
        return super().__getitem__(key)


def build_page(service: Service) -> gr.Blocks:
    """The page of a service, with its API."""
    with gr.Blocks(title="OSASIS studio", analytics_enabled=False) as blocks:
        page = Page(service)
        add_api(service)
        connect(blocks, page)
    blocks.queue(default_concurrency_limit=4, max_size=2000, api_open=True)
    queue = blocks._queue
    queue.pending_messages_per_session = Answers(queue.pending_event_ids_session)
    return blocks


def connect(blocks: gr.Blocks, page: Page) -> None:
    """Connect the events of a page with what they do."""
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    clicks = Clicks(page.service)
    state = page.chosen

    def on(event: Any, change: Callable[..., Any], inputs: list[Any] | None = None) -> None:
        def handler(request: gr.Request, chosen: dict[str, Any], *values: Any) -> Any:
            return page.act(request, change, chosen, *values)

        event(handler, [state, *(inputs or [])], page.outputs, **private)

    def on_pick(area: gr.HTML, change: Callable[[Visitor, str], Any]) -> None:
        def handler(chosen: dict[str, Any], event: gr.EventData, request: gr.Request) -> Any:
            return page.act(request, change, chosen, str(event.pick))

        area.click(handler, [state], page.outputs, **private)

    def on_upload(area: gr.File, change: Callable[..., Any]) -> None:
        def handler(chosen: dict[str, Any], files: Any, request: gr.Request) -> Any:
            given = files if isinstance(files, list) else [files] if files else []
            with told():
                visitor = visitor_of(page.service, request)
                more, problems = change(visitor, given)
                for problem in problems:
                    gr.Warning(plain(problem), duration=20)
                return page.render(visitor, chosen | more) | {area: None}

        area.upload(handler, [state, area], [*page.outputs, area], concurrency_limit=2,
                    concurrency_id="intake", api_visibility="private")  # fmt: skip

    blocks.load(page.opened, [state], page.outputs, **private)
    page.timer.tick(page.tick, [state], page.outputs, concurrency_limit=None, **private)
    on_upload(page.photo_upload, clicks.photos)
    on_upload(page.style_upload, clicks.style_picture)
    on_upload(page.style_file, clicks.style_file)
    on(page.example.click, clicks.example)
    on(page.redraw.click, partial(clicks.redraw, page.controls), [state, *page.controls.inputs])
    on(page.learn.click, clicks.learn, [state, page.learn_seed])
    on(page.rename.click, clicks.rename, [state, page.name])
    on(page.name.submit, clicks.rename, [state, page.name])
    on(page.delete.click, clicks.delete, [state])
    explore_inputs = [state, page.sheet_photo, page.rows, *page.controls.inputs]
    on(page.draw.click, partial(clicks.explore, page.controls), explore_inputs)
    on_pick(page.photos, clicks.on_photo)
    on_pick(page.style_cards, lambda visitor, key: {"style": key})
    on_pick(page.result, clicks.on_result)
    on_pick(page.results, lambda visitor, key: {"result": key})
    on_pick(page.mine, lambda visitor, key: {"mine": key})
    on_pick(page.paintings, clicks.painting)
    # on a phone progress lies below what was pressed
    for event, where in (
        (page.redraw.click, "photo-jobs"),
        (page.learn.click, "style-jobs"),
        (page.paintings.click, "style-jobs"),
        (page.style_upload.upload, "style-jobs"),
        (page.draw.click, "sheet-jobs"),
    ):
        scroll = f"document.getElementById('{where}').scrollIntoView({{block: 'nearest'}})"
        event(None, js=f"() => {{ setTimeout(() => {scroll}, 600); }}", **private)
    for area in (page.photo_jobs, page.style_jobs, page.sheet_jobs):
        on_pick(area, clicks.cancel)
