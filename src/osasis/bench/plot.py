"""The cost curves of a benchmark as an SVG picture."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Any

from osasis.files import atomic_path

WIDTH, HEIGHT, MARGIN = 320, 240, 46
INK, LINE, GRID = "#222", "#1f5fa8", "#ddd"
AXES = {
    "batch": "pictures in a batch",
    "photos": "photos, fast",
    "resolution": "side in pixels",
    "styles": "styles learned, fast (extrapolated)",
}
STYLES = (1, 2, 5, 10)


def curves(numbers: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Seconds over batch, photos, resolution and styles."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in numbers["jobs"]:
        if row["axis"]:
            found.setdefault(row["axis"], []).append((row["value"], row["median"]))
    cost = numbers["per_style"]["fast"]
    found["styles"] = [(n, cost["first_style"] + (n - 1) * cost["further_style"]) for n in STYLES]
    return {axis: sorted(points) for axis, points in found.items()}


def write_plot(path: Path, numbers: dict[str, Any]) -> None:
    """Four small charts with logarithmic axes: a straight diagonal is a cost in proportion."""
    found = curves(numbers)
    panels = [_panel(i, AXES[axis], found[axis]) for i, axis in enumerate(AXES) if axis in found]
    width = WIDTH * len(panels)
    title = f"{numbers['network']} on {numbers['machine']['processor']}, {numbers['date'][:10]}"
    text = "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 24}" '
            f'font-family="sans-serif" font-size="11" fill="{INK}">',
            f'<rect width="{width}" height="{HEIGHT + 24}" fill="white"/>',
            f'<text x="{MARGIN}" y="16" font-size="13">seconds: {html.escape(title)}</text>',
            *panels,
            "</svg>\n",
        ]
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _panel(index: int, label: str, points: list[tuple[float, float]]) -> str:
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    left, right, top, bottom = MARGIN, WIDTH - 16, 40, HEIGHT - 30

    def place(value: float, values: list[float], start: float, end: float) -> float:
        span = max(values) - min(values)
        return start + (end - start) * ((value - min(values)) / span if span else 0.5)

    at = [
        (place(x, xs, left, right), place(y, ys, bottom, top)) for x, y in zip(xs, ys, strict=True)
    ]
    parts = [f'<g transform="translate({index * WIDTH}, 0)">']
    for (x, y), (value, seconds) in zip(at, points, strict=True):
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>')
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{seconds:.3g}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{LINE}"/>' for x, y in at]
    middle = (left + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">{label}</text></g>')
    return "\n".join(parts)
