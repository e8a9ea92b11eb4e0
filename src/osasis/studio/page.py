"""The page: what stands where, and what a click does. All work is done by `Service`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from osasis.perception.clip import CLIP_MODEL
from osasis.studio import views
from osasis.studio.api import told, visitor_of
from osasis.studio.controls import Components, add_controls
from osasis.studio.intake import NEW, READY
from osasis.studio.jobs import OPEN
from osasis.studio.service import Service
from osasis.studio.store import PHOTO, RESULT, SHEET, STYLE, Visitor
from osasis.studio.work import PREVIEW_FILE
from osasis.stylize.explore import CONTROLS

_HERE = Path(__file__).parent
_PICK = (_HERE / "studio.js").read_text(encoding="utf-8")
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_ROWS = {
    "levels": "style levels",
    "codes": "swapped codes",
    "lambda_spn": "lines (SPN)",
    "t0": "freedom (t0)",
}
POLL_SECONDS = 1.0
# what a page has chosen; what it has made belongs to its visitor and not to the page
START: dict[str, Any] = {"style": "", "mine": "", "result": "", "seen": -1}


def look() -> dict[str, Any]:
    """Colours and fonts, all of them from here: nothing is fetched from elsewhere."""
    theme = gr.themes.Soft(
        primary_hue="orange",
        neutral_hue="stone",
        font=_FONTS,
        font_mono=["ui-monospace", "monospace"],
    )
    return {"theme": theme, "css_paths": [_HERE / "studio.css"]}


def _clickable(label: str, value: str = "", name: str | None = None) -> gr.HTML:
    """HTML whose elements with `data-pick` tell what was clicked."""
    return gr.HTML(value, label=label, js_on_load=_PICK, elem_id=name)


class Page:
    """The components of one page, and the handlers of their events."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.chosen = gr.State(START)
        limits = service.limits
        gr.HTML(
            "<header><h1>OSASIS studio</h1><p>One picture becomes a style. "
            "Your photos are redrawn in it.</p></header>"
        )
        with gr.Tabs():
            with gr.Tab("Photos", id="photos"):
                self._photos()
            with gr.Tab("Styles", id="styles"):
                self._styles()
            with gr.Tab("Explore", id="explore"):
                self._explore()
        gr.HTML(
            f"<footer>Only this browser sees your files. Photos and results are removed after "
            f"{limits.keep_hours:g} hours, styles {limits.keep_style_days:g} days after they were "
            f"last used. Pictures: up to {limits.upload_bytes // 10**6} MB and "
            f"{limits.pixels // 10**6} megapixels, {limits.photos} at once.</footer>"
        )
        self.timer = gr.Timer(POLL_SECONDS, active=False)

    def _photos(self) -> None:
        # in this order on a phone; beside each other where there is room, see studio.css
        with gr.Row(equal_height=False, elem_id="photos-form"):
            with gr.Column(min_width=320, elem_id="photos-choice"):
                self.photo_upload = gr.File(
                    label="Drop photos, or click to choose",
                    file_count="multiple",
                    file_types=["image"],
                    height=150,
                    elem_id="photo-upload",
                )
                self.photos = _clickable("Photos")
                self.example = gr.Button("Use the example photo", size="sm", elem_id="example")
                gr.HTML("<h2>Style</h2>")
                shipped = list(self.service.studio.shipped)
                self.style_cards = _clickable("Styles", views.style_cards(shipped, [], ""))
                self.redraw = gr.Button("Redraw", variant="primary", elem_id="redraw")
            with gr.Column(min_width=320, elem_id="photos-results"):
                self.photo_jobs = _clickable("Progress", name="photo-jobs")
                self.result = _clickable("Result", views.result(None))
                self.results = _clickable("Results")
            with gr.Column(min_width=320, elem_id="photos-controls"):
                self.controls: Components = add_controls(self.service.studio.base, clip_hint())

    def _styles(self) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.style_upload = gr.File(
                    label="Drop one picture, or click to choose",
                    file_types=["image"],
                    height=150,
                    elem_id="style-upload",
                )
                gr.HTML('<p class="hint">A preview is drawn at once; learning makes it real.</p>')
                self.paintings = _clickable("Paintings", views.painting_cards())
                self.style_file = gr.File(
                    label="Or add a style file that somebody made (.safetensors)",
                    file_types=[".safetensors"],
                    height=150,
                    elem_id="style-file",
                )
            with gr.Column(scale=6, min_width=320):
                self.style_jobs = _clickable("Progress", name="style-jobs")
                self.detail = gr.HTML()
                with gr.Row():
                    self.learn = gr.Button("Learn", variant="primary", elem_id="learn")
                    self.learn_seed = gr.Number(
                        0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, min_width=90
                    )
                with gr.Row(visible=False) as self.edit_row:
                    self.name = gr.Textbox(label="Name", max_length=60, min_width=140)
                    self.rename = gr.Button("Rename", min_width=90)
                    self.delete = gr.Button("Delete", variant="stop", min_width=90)
                self.download = gr.HTML()
                gr.HTML("<h2>Your styles</h2>")
                self.mine = _clickable("Your styles")

    def _explore(self) -> None:
        gr.HTML(
            '<p class="hint">One photo under all controls, in about a minute. The style is the '
            "one chosen under Photos.</p>"
        )
        with gr.Row():
            self.sheet_photo = gr.Dropdown([], label="Photo", elem_id="sheet-photo")
            self.rows = gr.CheckboxGroup(
                [(_ROWS.get(name, name), name) for name in CONTROLS],
                value=["strength", "t0"],
                label="Rows",
                elem_id="rows",
            )
            self.draw = gr.Button("Draw the sheet", variant="primary", elem_id="draw")
        self.sheet_jobs = _clickable("Progress", name="sheet-jobs")
        self.sheet = gr.HTML(views.sheet(None))

    @property
    def outputs(self) -> list[Any]:
        """Everything that `render` may change."""
        return [
            self.chosen, self.timer, self.photos, self.style_cards, self.result, self.results,
            self.photo_jobs, self.style_jobs, self.sheet_jobs, self.detail, self.mine,
            self.learn, self.edit_row, self.name, self.download, self.sheet_photo, self.sheet,
            self.controls.second,
        ]  # fmt: skip

    def render(self, visitor: Visitor, chosen: dict[str, Any]) -> dict[Any, Any]:
        """The whole page for a visitor."""
        chosen = dict(chosen)
        chosen["seen"] = self.service.queue.version(visitor.id)
        photos, results = visitor.items(PHOTO), visitor.items(RESULT)
        styles, sheets = visitor.items(STYLE), visitor.items(SHEET)
        known = {i.id for i in styles} | {views.NO_STYLE, *self.service.studio.shipped}
        if chosen["style"] not in known:
            chosen["style"] = next(iter(self.service.studio.shipped), "")
        shown = next((r for r in results if r.id == chosen["result"]), None)
        shown = shown or (results[0] if results else None)
        names = views.titles()
        choices = [("none", "")]
        choices += [(names.get(n, n), n) for n in self.service.studio.shipped]
        choices += [(item.name, item.id) for item in styles]
        sheet_photos = [(photo.name, photo.id) for photo in photos]
        shipped = list(self.service.studio.shipped)
        return {
            self.chosen: chosen,
            self.photos: views.photo_strip(photos),
            self.style_cards: views.style_cards(shipped, styles, chosen["style"]),
            self.result: views.result(shown),
            self.results: views.result_strip(results, shown.id if shown else ""),
            self.sheet: views.sheet(sheets[0] if sheets else None),
            self.sheet_photo: gr.Dropdown(sheet_photos, value=sheet_photos[0][1])
            if sheet_photos
            else gr.Dropdown([], value=None),
            self.controls.second: gr.Dropdown(choices),
            **self._render_style(visitor, chosen),
            **self.progress(visitor),
        }

    def _render_style(self, visitor: Visitor, chosen: dict[str, Any]) -> dict[Any, Any]:
        styles = visitor.items(STYLE)
        item = next((s for s in styles if s.id == chosen["mine"]), None)
        item = item or (styles[0] if styles else None)
        ready = item is not None and item.data["state"] == READY
        learning = item is not None and self.service.learning(visitor, item.id) is not None
        label = "Learn"
        if item is not None and item.data["state"] == NEW and item.data["updates"]:
            label = f"Go on ({item.data['updates']} of {item.data['total']} done)"
        elif ready:
            label = "Learned"
        preview = ""
        if item is not None and item.file(PREVIEW_FILE).is_file():
            preview = views.file_url(item, PREVIEW_FILE)
        link = ""
        if ready and item is not None:
            link = (
                f'<a class="download" href="files/{item.id}/style.safetensors" download>'
                "Download the style file</a>"
            )
        return {
            self.detail: views.style_detail(item, preview),
            self.mine: views.style_cards([], styles, item.id if item else ""),
            self.learn: gr.Button(label, interactive=item is not None and not (ready or learning)),
            self.edit_row: gr.Row(visible=item is not None),
            self.name: item.name if item else "",
            self.download: link,
        }

    def progress(self, visitor: Visitor) -> dict[Any, Any]:
        """How far the visitor's jobs are."""
        queue = self.service.queue
        found = queue.jobs(visitor.id)
        places = {job.id: queue.position(job) for job in found}
        kinds = {
            self.photo_jobs: ("stylize",),
            self.style_jobs: ("learn", "preview"),
            self.sheet_jobs: ("explore",),
        }
        shown: dict[Any, Any] = {
            area: views.jobs([job for job in found if job.kind in wanted], places)
            for area, wanted in kinds.items()
        }
        shown[self.timer] = gr.Timer(active=any(job.state in OPEN for job in found))
        return shown

    def opened(self, chosen: dict[str, Any], request: gr.Request) -> dict[Any, Any]:
        """The page was opened, or loaded again: all of a visitor's things and jobs are there."""
        return self.render(visitor_of(self.service, request), chosen)

    def tick(self, chosen: dict[str, Any], request: gr.Request) -> dict[Any, Any]:
        """Progress; the rest only where something is new."""
        visitor = visitor_of(self.service, request)
        if self.service.queue.version(visitor.id) == chosen["seen"]:
            return self.progress(visitor)
        newest = visitor.items(RESULT)
        if newest and newest[0].created > chosen.get("newest", 0.0):
            chosen = chosen | {"result": newest[0].id, "newest": newest[0].created}
        rendered = self.render(visitor, chosen)
        # what the visitor may be typing or choosing stays as it is
        for untouched in (self.name, self.sheet_photo, self.controls.second):
            del rendered[untouched]
        return rendered

    def act(
        self,
        request: gr.Request,
        change: Callable[..., dict[str, Any]],
        chosen: dict[str, Any],
        *values: Any,
    ) -> dict[Any, Any]:
        """Do what a click asks for, then show the page as it is afterwards."""
        with told():
            visitor = visitor_of(self.service, request)
            return self.render(visitor, chosen | change(visitor, *values))


def clip_hint() -> str:
    """Why text is not there and how to get it; empty where it is there."""
    from importlib.util import find_spec

    from huggingface_hub import try_to_load_from_cache

    from osasis.config.artefacts import fetched_repository

    if find_spec("transformers") is None:
        return "pip install 'osasis[clip]', then osasis models fetch clip-vit-b32 (about 605 MB)"
    here = fetched_repository(CLIP_MODEL) is not None
    if not here and not isinstance(try_to_load_from_cache(CLIP_MODEL, "config.json"), str):
        return "osasis models fetch clip-vit-b32 (about 605 MB)"
    return ""
