"""Pieces of the page as HTML, from `views.html`, which escapes every text of a visitor."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from osasis.config.catalogue import assets, paintings
from osasis.files import duration
from osasis.studio.intake import NEW, READY
from osasis.studio.jobs import CANCELLED, DONE, OPEN, QUEUED, Job
from osasis.studio.store import Item
from osasis.studio.work import EXAMPLES

NO_STYLE = "none"
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def titles() -> dict[str, str]:
    """The shipped paintings' titles with their artists."""
    with (assets() / "styles" / "CREDITS.tsv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return {
        Path(row["file"]).stem: f"{row['title'].split(' (detail')[0]}, {row['artist']}"
        for row in rows
    }


def file_url(item: Item, name: str) -> str:
    """Where the page finds a file of an item; its age makes a changed file another address."""
    try:
        age = int(item.file(name).stat().st_mtime * 1000)
    except OSError:
        age = 0
    return f"files/{item.id}/{name}?{age}"


def _place(photo: Item, face: Sequence[float]) -> str:
    """CSS of a face's box, in shares of its photo."""
    width, height = photo.data["size"]
    left, top = max(0.0, face[0]), max(0.0, face[1])
    right, bottom = min(float(width), face[2]), min(float(height), face[3])
    return (
        f"left:{left / width:.2%};top:{top / height:.2%};"
        f"width:{(right - left) / width:.2%};height:{(bottom - top) / height:.2%}"
    )


def _pressed(chosen: bool) -> str:
    return "true" if chosen else "false"


_PAGES.globals.update(file_url=file_url, place=_place, pressed=_pressed)


def _html(piece: str, *values: Any) -> str:
    """A macro of `views.html`, without the template's own line breaks."""
    macros: Any = _PAGES.get_template("views.html").module
    return re.sub(r"(?<=>)\n\s*|\n\s*(?=<)", "", str(getattr(macros, piece)(*values)))


def style_cards(shipped: Sequence[str], own: Sequence[Item], chosen: str) -> str:
    """Cards of the styles that photos can be redrawn in; with shipped ones also one for none."""
    known = titles()
    cards = [(i.id, i.name, file_url(i, "thumb.webp"), state_of(i)) for i in own]
    for name in shipped:
        title, _, artist = known.get(name, name).rpartition(", ")
        cards.append((name, title or artist, f"examples/{name}", artist))
    if shipped:
        cards.append((NO_STYLE, "No style", f"examples/{EXAMPLES[0]}", "only edits"))
    return _html("cards", cards, chosen, "Styles")


def painting_cards() -> str:
    """Cards of the shipped paintings, to try learning with."""
    known = titles()
    cards = [
        (name, known[name].rpartition(", ")[0], f"examples/{name}", "try this one")
        for name in paintings()
    ]
    return _html("cards", cards, None, "Paintings", "small")


def state_of(style: Item) -> str:
    """A style's state in a few words."""
    state, updates = style.data["state"], style.data["updates"]
    if state == READY:
        if not style.data.get("uploaded"):
            return "learned here"
        return ", ".join(filter(None, ("uploaded", style.data.get("learned_as", ""))))
    if state == NEW:
        return "stopped, can go on" if updates else "preview, not learned yet"
    return "being learned"


def photo_strip(photos: Sequence[Item]) -> str:
    """The photos with the faces in them, to choose from."""
    return _html("photos", photos)


def result(item: Item | None) -> str:
    """The chosen result over its photo, a slider between them; an example where there is none."""
    if item is not None:
        before, after = file_url(item, "before.webp"), file_url(item, "view.webp")
        return _html("compare", before, after, item.name, item)
    before, after = EXAMPLES[0], EXAMPLES[1]
    painting = titles()[after.removeprefix(f"{before}-")]
    title = f"An example: NASA astronaut Eileen Collins, in the style of {painting}"
    return _html("compare", f"examples/{before}", f"examples/{after}", title, None)


def result_strip(results: Sequence[Item], chosen: str) -> str:
    """Thumbnails of the results, to choose from."""
    return _html("results", results, chosen)


def jobs(found: Sequence[Job], positions: dict[str, int]) -> str:
    """The jobs of a visitor: those that wait or run, and how the last one ended."""
    shown = [job for job in found if job.state in OPEN] or list(found[-1:])
    return _html("jobs", [(job, *_said(job, positions.get(job.id, 0))) for job in shown])


def _said(job: Job, position: int) -> tuple[str, float | None]:
    """Where a job is, in words and in percent; None where it has ended."""
    step = job.step
    if job.state == QUEUED:
        return f"waiting, {position} {'job' if position == 1 else 'jobs'} before it", 0.0
    if job.state in OPEN:
        text = f"{step.phase}, {step.done} of {step.total}"
        if job.seconds_left is not None and step.done < step.total:
            text += f", about {duration(job.seconds_left)} left"
        return text, 100 * step.done / max(1, step.total)
    if job.state == CANCELLED:
        return "cancelled" + (", can go on" if job.kind == "learn" else ""), None
    took = f"done in {duration(job.finished - job.started)}" if job.state == DONE else job.state
    return took if job.results or not job.failures else "", None


def style_detail(item: Item | None, preview: str) -> str:
    """A style beside the example photo drawn with it."""
    return _html("style", item, state_of(item) if item else "", preview)


def sheet(item: Item | None) -> str:
    """A sheet, or the shipped one."""
    return _html("sheet", item, EXAMPLES[2])
