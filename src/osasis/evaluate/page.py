"""The HTML report: one file, nothing fetched, sortable, pictures side by side."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from osasis.evaluate.run import Evaluation

THUMBNAIL = 128  # pixels
MAX_PICTURES = 4000  # about 16 MB; what is beyond is listed without its picture


class Thumbnails:
    """Pictures as data URIs, each in the page once."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._known: dict[Path, int | None] = {}

    def add(self, path: Path | None, evaluation: Evaluation) -> int | None:
        """Number of a picture; None where there is none or the page is full."""
        if path is None:
            return None
        if path not in self._known:
            self._known[path] = None
            if len(self.uris) < MAX_PICTURES:
                self._known[path] = len(self.uris)
                self.uris.append(_data_uri(evaluation.picture(path)))
        return self._known[path]


def _data_uri(picture: Image.Image) -> str:
    small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    if picture.width == THUMBNAIL:
        small = picture
    stream = io.BytesIO()
    small.save(stream, format="WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def html_page(evaluation: Evaluation, facts: dict[str, Any]) -> str:
    """The whole report; `facts` as in report.json."""
    thumbnails = Thumbnails()
    pictures = [
        {
            "photo": thumbnails.add(score.photo, evaluation),
            "style": thumbnails.add(score.group.style, evaluation),
            "output": thumbnails.add(score.output, evaluation),
        }
        for score in evaluation.result.scores
    ]
    data = {"facts": facts, "pictures": pictures, "thumbnails": thumbnails.uris}
    # "</" would end the script, whatever a file is called
    text = json.dumps(data).replace("</", "<\\/")
    template = (files("osasis") / "evaluate" / "report.html").read_text(encoding="utf-8")
    return template.replace("{{title}}", escape(facts["title"])).replace("{{data}}", text)
