"""The studio over HTTP: four endpoints of Gradio, and the files of a visitor."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from osasis.config.catalogue import assets, paintings
from osasis.errors import OsasisError, UserError
from osasis.studio.config import settings_from
from osasis.studio.failures import for_visitor
from osasis.studio.intake import BEFORE, PICTURE, STYLE_FILE, THUMBNAIL, VIEW
from osasis.studio.jobs import Job
from osasis.studio.service import Service
from osasis.studio.store import RESULT, Visitor
from osasis.studio.work import EXAMPLES, PREVIEW_FILE

_PIECE = 1 << 18  # bytes
_INLINE = (VIEW, THUMBNAIL, BEFORE, PREVIEW_FILE, PICTURE)


def visitor_of(service: Service, request: gr.Request | Request) -> Visitor:
    """Who asks; the gate has put the visitor's secret into the request's state.

    Raises:
        UserError: the visitor is unknown.
    """
    inner = request.request if isinstance(request, gr.Request) else request
    state = inner.state if inner is not None else None
    token, address = (getattr(state, key, "") for key in ("visitor", "address"))
    return service.store.visitor(token, address)


def described(service: Service, visitor: Visitor, job: Job) -> dict[str, Any]:
    """A job as the API tells of it."""
    return {
        "job": job.id,
        "state": job.state,
        "before_it": service.queue.position(job),
        "phase": job.step.phase,
        "done": job.step.done,
        "total": job.step.total,
        "seconds_left": job.seconds_left,
        "error": job.error,
        "failures": list(job.failures),
        "results": [
            f"files/{key}/{STYLE_FILE if job.kind == 'learn' else PICTURE}" for key in job.results
        ],
        "items": list(job.results),
    }


def add_api(service: Service) -> None:
    """Add the endpoints to the Blocks that is being built."""

    def stylize(photo: str, style: str, settings: dict[str, Any], request: gr.Request) -> Any:
        """Redraw a photo in a style; answers with the job."""
        with told():
            chosen = settings_from({**(settings or {}), "style": style})
            visitor = visitor_of(service, request)
            item = service.intake.photo(visitor, _given(photo))
            return described(service, visitor, service.stylize(visitor, [item.id], chosen))

    def learn(picture: str, name: str, seed: float, request: gr.Request) -> Any:
        """Learn a style from a picture; the answer's "style" is its id."""
        with told():
            if not 0 <= seed < 2**31 or seed != int(seed):
                raise UserError("the seed is a whole number of 0 or more")
            visitor = visitor_of(service, request)
            item = service.intake.style_picture(visitor, _given(picture), name)
            job = service.learn(visitor, item.id, int(seed))
            return described(service, visitor, job) | {"style": item.id}

    def status(job: str, request: gr.Request) -> Any:
        """Where a job is, and its results."""
        with told():
            visitor = visitor_of(service, request)
            return described(service, visitor, service.queue.job(visitor.id, job))

    def cancel(job: str, request: gr.Request) -> Any:
        """Cancel a job."""
        with told():
            visitor = visitor_of(service, request)
            return described(service, visitor, service.queue.cancel(visitor.id, job))

    with gr.Column(visible=False):
        file, text, more = gr.File(label="photo"), gr.Textbox(label="style"), gr.JSON()
        seed, answer = gr.Number(0, label="seed"), gr.JSON(label="job")
        go = gr.Button("run")
    go.click(stylize, [file, text, more], answer, api_name="stylize", concurrency_limit=2)
    go.click(learn, [file, text, seed], answer, api_name="learn", concurrency_limit=2)
    go.click(status, [text], answer, api_name="status", concurrency_limit=None)
    go.click(cancel, [text], answer, api_name="cancel", concurrency_limit=None)


def _given(path: str | None) -> str:
    if not path:
        raise UserError("no picture was given", hint="upload one first")
    return path


@contextmanager
def told() -> Iterator[None]:
    """Turns our errors into ones that the page shows; others stay what they are."""
    try:
        yield
    except OsasisError as error:
        raise gr.Error(plain(for_visitor(error).line), print_exception=False) from None


def plain(text: str) -> str:
    """A message as text: the page would take it for HTML."""
    return escape(text, quote=False)


class _Sink(io.RawIOBase):
    """What a zip archive is written to: gives its bytes away as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


def zipped(files: Sequence[tuple[Path, str]]) -> Iterator[bytes]:
    """A zip archive of files under new names, piece by piece: neither disk nor memory holds it."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path, name in files:
            try:
                source = path.open("rb")
            except OSError:
                continue  # expired or deleted meanwhile
            with source, archive.open(zipfile.ZipInfo(name), "w") as target:
                while piece := source.read(_PIECE):
                    target.write(piece)
                    yield sink.take()
    yield sink.take()


def add_files(app: FastAPI, service: Service) -> None:
    """Add the visitor's files, the examples and our own style sheet."""
    examples = {name: assets() / "studio" / f"{name}.webp" for name in EXAMPLES} | paintings()

    @app.get("/files/{key}/{name}")
    def file(key: str, name: str, request: Request) -> Response:
        try:
            item = visitor_of(service, request).item(key)
        except UserError:
            return PlainTextResponse("not found", 404)
        if name not in (*_INLINE, STYLE_FILE) or not item.file(name).is_file():
            return PlainTextResponse("not found", 404)
        private = {"Cache-Control": "private, max-age=86400"}
        if name not in (STYLE_FILE, PICTURE):
            return FileResponse(item.file(name), headers=private)
        suffix = ".osasis.safetensors" if name == STYLE_FILE else ".png"
        return FileResponse(item.file(name), filename=f"{item.name}{suffix}", headers=private)

    @app.get("/results.zip")
    def results(request: Request) -> Response:
        try:
            items = visitor_of(service, request).items(RESULT)
        except UserError:
            items = []
        if not items:
            return PlainTextResponse("there are no results yet", 404)
        numbered = enumerate(reversed(items), start=1)
        files = [(item.file(PICTURE), f"{n:02d} {item.name}.png") for n, item in numbered]
        return StreamingResponse(
            zipped(files),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="osasis-results.zip"'},
        )

    @app.get("/examples/{name}")
    def example(name: str) -> Response:
        if name not in examples:
            return PlainTextResponse("not found", 404)
        return FileResponse(examples[name], headers={"Cache-Control": "max-age=86400"})
