"""The report of an evaluation: CSV, JSON, Markdown, and one HTML file that fetches nothing."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from osasis._version import __version__
from osasis.evaluate.run import Evaluation, Score
from osasis.evaluate.tables import Estimate
from osasis.files import write_text

Cells = dict[str, dict[str, dict[str, Estimate]]]


def write_report(evaluation: Evaluation, command: str) -> list[Path]:
    """Write scores.csv, report.json, table.md and report.html, each at once or not at all.

    Args:
        evaluation: whose steps are done.
        command: what was run, to be said in the report.
    """
    facts = facts_of(evaluation, command)
    contents = {
        "scores.csv": scores_csv(evaluation.result.scores),
        "report.json": json.dumps(facts, indent=1),
        "table.md": markdown(evaluation, facts),
        "report.html": html_page(evaluation, facts),
    }
    written = []
    for name, text in contents.items():
        path = evaluation.out / name
        write_text(path, text)
        written.append(path)
    return written


def facts_of(evaluation: Evaluation, command: str) -> dict[str, Any]:
    """Everything of a report but the scores of single pictures, ready for JSON."""
    config, result = evaluation.config, evaluation.result
    return {
        "title": config.title,
        "osasis": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "size": config.size,
        "base": config.base,
        "photos": len(evaluation.photos),
        "styles": {name: [p.stem for p in paths] for name, paths in evaluation.styles.items()},
        "methods": {
            m.name: {m.kind: m.value if m.kind != "folder" else Path(m.value).name} | m.options
            for m in config.methods
        },
        "learned_as": learned_as(evaluation),
        "metrics": result.infos,
        "not_computed": evaluation.skipped,
        "notes": result.notes,
        "bootstrap": config.bootstrap,
        "table": _plain(result.table),
        "differences_to_the_first_method": _plain(result.differences),
        "scores": [row_of(score) for score in result.scores],
    }


def learned_as(evaluation: Evaluation) -> dict[str, str]:
    """Preset and judges of every method that learned; of style files, all that occur."""
    found: dict[str, list[str]] = {}
    for group in evaluation.groups:
        if group.learned_as:
            found.setdefault(group.method.name, []).append(group.learned_as)
    return {name: "; ".join(dict.fromkeys(titles)) for name, titles in found.items()}


def _plain(cells: Cells) -> dict[str, Any]:
    return {
        method: {
            source: {key: asdict(estimate) for key, estimate in row.items()}
            for source, row in rows.items()
        }
        for method, rows in cells.items()
    }


def row_of(score: Score) -> dict[str, Any]:
    """One output's row: method, how it was learned, source, style, photo, then its scores."""
    return {
        "method": score.group.method.name,
        "learned_as": score.group.learned_as,
        "source": score.group.source,
        "style": score.group.style_name,
        "photo": score.photo.stem,
    } | score.values


def scores_csv(scores: list[Score]) -> str:
    """Every output's scores as CSV."""
    keys = list(dict.fromkeys(key for score in scores for key in row_of(score)))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row_of(score) for score in scores)
    return text.getvalue()


def markdown(evaluation: Evaluation, facts: dict[str, Any]) -> str:
    """Tables as in the paper: methods down, metrics and sources of styles across."""
    result = evaluation.result
    lines = [
        f"# {facts['title']}",
        "",
        f"{facts['photos']} photos, "
        + "; ".join(f"{k}: {', '.join(v)}" for k, v in facts["styles"].items())
        + f"; measured at {facts['size']} x {facts['size']}; osasis {facts['osasis']}, "
        f"{facts['date']}",
        "",
        f"    {facts['command']}",
        "",
        "Brackets: 95% bootstrap interval over photos and styles. *: measured with a network that "
        "presets or peers learn with, which flatters them.",
        "",
        *table_lines(result.table, facts["metrics"]),
    ]
    if result.differences:
        first = evaluation.config.methods[0].name
        lines += ["", f"Differences to {first}, on the same photos and styles:", ""]
        lines += table_lines(result.differences, facts["metrics"])
    lines += [
        "",
        "| metric | better | network | version | resize | samples |",
        "|---|---|---|---|---|---|",
    ]
    shown = ("better", "network", "version", "resize", "samples")
    lines += [
        f"| {key} | " + " | ".join(str(info[s]) for s in shown) + " |"
        for key, info in facts["metrics"].items()
    ]
    learned = [f"- {name}: learned as {title}" for name, title in facts["learned_as"].items()]
    lines += ["", *learned, *(f"- {note}" for note in facts["notes"])]
    if facts["not_computed"]:
        lines += [
            f"- Not computed, their networks were not given: {', '.join(facts['not_computed'])}."
        ]
    return "\n".join(lines).rstrip() + "\n"


def table_lines(table: Cells, infos: dict[str, Any]) -> list[str]:
    """One Markdown table: a row per method, a column per metric and source."""
    columns = columns_of(table, infos)
    heads = [
        f"{key}{MARK * bool(infos[key].get('learned'))} {ARROWS[infos[key]['better']]} {source}"
        for key, source in columns
    ]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method, rows in table.items():
        cells = [str(rows[s][k]) if k in rows.get(s, {}) else "" for k, s in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


MARK = "*"
ARROWS = {"higher": "↑", "lower": "↓"}


def columns_of(table: Cells, infos: dict[str, Any]) -> list[tuple[str, str]]:
    """(metric, source) of every column, metrics together."""
    sources = list(dict.fromkeys(source for rows in table.values() for source in rows))
    there = {(k, s) for rows in table.values() for s, row in rows.items() for k in row}
    return [(key, source) for key in infos for source in sources if (key, source) in there]


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
