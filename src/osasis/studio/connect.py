"""Which click of the page does what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache

from osasis.studio.api import add_api, plain, told, visitor_of
from osasis.studio.clicks import Clicks
from osasis.studio.page import Page
from osasis.studio.service import Service
from osasis.studio.store import Visitor

ANSWERS = 1000  # pages and calls whose answers wait for being collected


class Answers(LRUCache[str, Any]):
    """What Gradio's queue has to say to pages and calls; the least used goes first.

    Args:
        events: ids of the events of each, which Gradio keeps for ever where nobody collects.
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
