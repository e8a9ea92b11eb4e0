"""Pieces of the page as HTML; every text of a visitor is escaped here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path

from osasis.config.catalogue import assets, paintings
from osasis.files import duration
from osasis.studio.intake import NEW, READY
from osasis.studio.jobs import CANCELLED, DONE, FAILED, OPEN, QUEUED, Job
from osasis.studio.store import Item
from osasis.studio.work import EXAMPLES

NO_STYLE = "none"
_LIVE = 'role="status" aria-live="polite"'


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


def _card(key: str, name: str, picture: str, note: str, chosen: bool) -> str:
    pressed = "true" if chosen else "false"
    return (
        f'<button type="button" class="card" data-pick="{key}" aria-pressed="{pressed}">'
        f'<img src="{picture}" alt="" loading="lazy"><span class="name">{escape(name)}</span>'
        f'<span class="note">{escape(note)}</span></button>'
    )


def style_cards(shipped: Sequence[str], own: Sequence[Item], chosen: str) -> str:
    """Cards of the styles that photos can be redrawn in; with shipped ones also one for none."""
    known = titles()
    cards = [
        _card(i.id, i.name, file_url(i, "thumb.webp"), state_of(i), i.id == chosen) for i in own
    ]
    for name in shipped:
        title, _, artist = known.get(name, name).rpartition(", ")
        cards.append(_card(name, title or artist, f"examples/{name}", artist, name == chosen))
    if shipped:
        plain = f"examples/{EXAMPLES[0]}"
        cards.append(_card(NO_STYLE, "No style", plain, "only edits", chosen == NO_STYLE))
    return f'<div class="cards" role="group" aria-label="Styles">{"".join(cards)}</div>'


def painting_cards() -> str:
    """Cards of the shipped paintings, to try learning with."""
    known = titles()
    cards = [
        _card(name, known[name].rpartition(", ")[0], f"examples/{name}", "try this one", False)
        for name in paintings()
    ]
    return f'<div class="cards small" role="group" aria-label="Paintings">{"".join(cards)}</div>'


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
    if not photos:
        return '<p class="hint">Drop photos above. Faces that are found are marked here.</p>'
    return f'<div class="strip">{"".join(_photo(photo) for photo in photos)}</div>'


def _photo(photo: Item) -> str:
    faces = photo.data["faces"]
    boxes = "".join(_face(photo, i) for i in range(len(faces)))
    found = f"{len(faces)} face{'s' * (len(faces) != 1)}" if faces else "no face found"
    name = escape(photo.name)
    return (
        f'<figure class="photo"><div class="frame"><img src="{file_url(photo, "view.webp")}" '
        f'alt="{name}">{boxes}</div><figcaption><span>{name}</span> <span class="note">{found}'
        f'</span><button type="button" class="remove" data-pick="remove:{photo.id}" '
        f'aria-label="Remove {name}">&times;</button></figcaption></figure>'
    )


def _face(photo: Item, index: int) -> str:
    width, height = photo.data["size"]
    left, top, right, bottom = photo.data["faces"][index][:4]
    left, right = max(0.0, left), min(float(width), right)
    top, bottom = max(0.0, top), min(float(height), bottom)
    chosen = "true" if index in photo.data["chosen"] else "false"
    place = (
        f"left:{left / width:.2%};top:{top / height:.2%};"
        f"width:{(right - left) / width:.2%};height:{(bottom - top) / height:.2%}"
    )
    return (
        f'<button type="button" class="face" data-pick="face:{photo.id}:{index}" '
        f'aria-pressed="{chosen}" aria-label="Face {index + 1} of {escape(photo.name)}" '
        f'style="{place}"></button>'
    )


def compare(before: str, after: str, name: str, links: str = "") -> str:
    """Two pictures, one above the other, with a slider between them."""
    shown = escape(name)
    return (
        f'<figure class="compare" style="--at:50%"><div class="frame">'
        f'<img class="after" src="{after}" alt="{shown}: redrawn">'
        f'<img class="before" src="{before}" alt="{shown}: the photo">'
        '<span class="line" aria-hidden="true"></span>'
        '<input type="range" min="0" max="100" value="50" aria-label="Before and after" '
        "oninput=\"this.closest('figure').style.setProperty('--at', this.value + '%')\"></div>"
        f"<figcaption><span>{shown}</span>{links}</figcaption></figure>"
    )


def result(item: Item | None) -> str:
    """The chosen result beside its photo; an example where there is none."""
    if item is None:
        before, after = EXAMPLES[0], EXAMPLES[1]
        painting = titles()[after.removeprefix(f"{before}-")]
        title = f"An example: NASA astronaut Eileen Collins, in the style of {painting}"
        return compare(f"examples/{before}", f"examples/{after}", title)
    name = escape(item.name)
    links = (
        f'<a class="download" href="files/{item.id}/picture.png" download>Download</a>'
        f'<button type="button" class="remove" data-pick="remove:{item.id}" '
        f'aria-label="Delete {name}">Delete</button>'
    )
    return compare(file_url(item, "before.webp"), file_url(item, "view.webp"), item.name, links)


def result_strip(results: Sequence[Item], chosen: str) -> str:
    """Thumbnails of the results, to choose from."""
    if not results:
        return '<p class="hint">Your results will stand here.</p>'
    thumbs = "".join(
        f'<button type="button" class="thumb" data-pick="{r.id}" aria-pressed="'
        f'{"true" if r.id == chosen else "false"}" aria-label="Show {escape(r.name)}">'
        f'<img src="{file_url(r, "thumb.webp")}" alt=""></button>'
        for r in results
    )
    label = "result" if len(results) == 1 else f"all {len(results)} results"
    link = f'<a class="download" href="results.zip" download>Download {label} (zip)</a>'
    return f'<div class="thumbs" role="group" aria-label="Results">{thumbs}</div>{link}'


def jobs(found: Sequence[Job], positions: dict[str, int]) -> str:
    """The jobs of a visitor: those that wait or run, and how the last one ended."""
    shown = [job for job in found if job.state in OPEN] or list(found[-1:])
    return f"<div {_LIVE}>{''.join(_job(job, positions.get(job.id, 0)) for job in shown)}</div>"


def _job(job: Job, position: int) -> str:
    title = escape(job.title)
    if job.state not in OPEN:
        return f'<div class="job {job.state}"><span>{title}: {_ending(job)}</span></div>'
    step = job.step
    share = 100 * step.done / max(1, step.total) if job.state != QUEUED else 0
    if job.state == QUEUED:
        text = f"waiting, {position} {'job' if position == 1 else 'jobs'} before it"
    else:
        text = f"{step.phase}, {step.done} of {step.total}"
        if job.seconds_left is not None and step.done < step.total:
            text += f", about {duration(job.seconds_left)} left"
    stop = "Stopping" if job.cancel else "Cancel"
    return (
        f'<div class="job {job.state}"><span>{title}: {escape(text)}</span>'
        f'<div class="bar" role="progressbar" aria-label="{title}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}"><div style="width:{share:.1f}%"></div>'
        f'</div><button type="button" class="cancel" data-pick="cancel:{job.id}" '
        f'aria-label="Cancel {title}">{stop}</button></div>'
    )


def _ending(job: Job) -> str:
    problems = "".join(f'<span class="problem">{escape(text)}</span>' for text in job.failures)
    if job.state == FAILED:
        return f'<span class="problem">{escape(job.error)}</span>'
    if job.state == CANCELLED:
        return "cancelled" + (", can go on" if job.kind == "learn" else "") + problems
    took = f"done in {duration(job.finished - job.started)}" if job.state == DONE else job.state
    return f"{took}{problems}" if job.results or not problems else problems


def style_detail(item: Item | None, preview: str) -> str:
    """A style beside the example photo drawn with it."""
    if item is None:
        return '<p class="hint">Drop a picture, or choose one of your styles below.</p>'
    name, state = escape(item.name), escape(state_of(item))
    drawn = f'<img src="{preview}" alt="The example photo in {name}">' if preview else "drawing ..."
    return (
        f'<div class="detail"><figure><img src="{file_url(item, "view.webp")}" alt="{name}">'
        f"<figcaption>{name} ({state})</figcaption></figure><figure>{drawn}"
        "<figcaption>the example photo with it</figcaption></figure></div>"
    )


def sheet(item: Item | None) -> str:
    """A sheet, or the shipped one."""
    if item is None:
        return (
            f'<figure class="sheet"><img src="examples/{EXAMPLES[2]}" alt="A sheet of all controls '
            'at several values"><figcaption>An example: what each control does to one photo'
            "</figcaption></figure>"
        )
    return (
        f'<figure class="sheet"><img src="{file_url(item, "picture.png")}" '
        f'alt="{escape(item.name)}"><figcaption><span>{escape(item.name)}</span>'
        f'<a class="download" href="files/{item.id}/picture.png" download>Download</a>'
        "</figcaption></figure>"
    )
