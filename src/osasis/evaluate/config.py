"""What is evaluated: methods, photos and styles, read from a TOML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from osasis.config.tables import Checked, Range, from_table, read_toml
from osasis.errors import UserError

# key that says what a method is -> the other keys it may have
METHOD_KINDS = {
    "folder": set(),
    "preset": {"set", "stylize", "seed", "embedder", "content"},
    "learned": {"stylize"},
    "peer": {"set"},
    "reconstruct": {"set", "seed"},
}
DEFAULT_SIZE = 256
SHIPPED = Path("shipped")  # in place of a folder: the pictures of the learned styles in the package


@dataclass(frozen=True)
class _File(Checked):
    """A TOML file as it is written."""

    title: str = ""
    photos: str = ""
    styles: dict[str, str] = field(default_factory=dict)
    size: Annotated[int, Range(16, 4096)] = DEFAULT_SIZE
    metrics: tuple[str, ...] | None = None
    methods: tuple[dict[str, Any], ...] = ()
    base: str = "faces-256"
    bootstrap: Annotated[int, Range(0, 1_000_000)] = 1000
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class _MethodTable(Checked):
    """A method of a TOML file: its name, one of `METHOD_KINDS`, and options."""

    name: str
    folder: str | None = None
    preset: str | None = None
    learned: str | None = None
    peer: str | None = None
    reconstruct: str | None = None
    set: dict[str, Any] | None = None
    stylize: dict[str, Any] | None = None
    seed: Annotated[int | None, Range(0, 2**63 - 1)] = None
    embedder: str | None = None
    content: str | None = None


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: what it is called; also the name of its folder.
        kind: "folder" (outputs of any program), "preset" (learned and redrawn on the spot),
            "learned" (style files), "peer" (a stylizer that is not ours) or "reconstruct".
        value: the folder, the preset, the folder of style files or "shipped", the peer, or "full"
            or "stochastic".
        options: what else the file says about it.
    """

    name: str
    kind: str
    value: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def uses_style(self) -> bool:
        """Whether its outputs depend on a style image."""
        return self.kind != "reconstruct"

    def slug(self, *more: str) -> str:
        """Name of its folder of outputs; it changes with anything that changes the outputs."""
        plain = "".join(c if c.isalnum() else "-" for c in self.name.lower()).strip("-")
        return f"{plain or 'method'}-{_digest(self.kind, self.value, self.options, *more)}"

    def learning(self, *more: str) -> str:
        """Name of the folder of its learned styles.

        Methods that differ in name or in how they redraw share it: they are learned once.
        """
        learned = {k: v for k, v in self.options.items() if k != "stylize"}
        return f"{self.value}-{_digest(self.kind, self.value, learned, *more)}"


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class EvaluationConfig:
    """One evaluation.

    Attributes:
        title: heading of the report.
        methods: the rows.
        photos: folder of photos, or one photo.
        styles: folders of style images, or `SHIPPED`, by the name of their source; empty for
            reconstructions.
        size: side in pixels at which everything is measured.
        metrics: names of metrics; None takes all whose networks are there.
        base: base of the presets, by name or path.
        bootstrap: resamples of photos and styles.
        among: folders of style images among which `style-named` names the evaluation's own; empty
            takes the package's.
    """

    title: str
    methods: tuple[Method, ...]
    photos: Path
    styles: dict[str, Path]
    size: int = DEFAULT_SIZE
    metrics: tuple[str, ...] | None = None
    base: str = "faces-256"
    bootstrap: int = 1000
    among: tuple[Path, ...] = ()


def load_evaluation(
    path: Path,
    *,
    photos: Path | None = None,
    styles: Mapping[str, Path] | None = None,
    size: int | None = None,
    base: str | None = None,
    preset: str | None = None,
    content: Path | None = None,
    embedder: str | None = None,
    among: Sequence[Path] = (),
) -> EvaluationConfig:
    """Read a TOML file; folders in it are relative to it, arguments replace what it says.

    Raises:
        UserError: it cannot be read, lacks something, or says something unknown.
    """
    raw = from_table(_File, read_toml(path), where=str(path))
    here = path.parent
    places = dict(styles or {}) or {
        name: SHIPPED if place == str(SHIPPED) else here / place
        for name, place in raw.styles.items()
    }
    where = photos or (here / raw.photos if raw.photos else None)
    if where is None:
        raise UserError(f"{path} does not say where the photos are", hint="add --photos FOLDER")
    learned = {"embedder": embedder} if embedder is not None else {}
    learned |= {"content": str(content)} if content is not None else {}
    methods = tuple(
        replace(m, value=preset or m.value, options=m.options | learned)
        if m.kind == "preset"
        else m
        for m in (_method(entry, here, path) for entry in raw.methods)
    )
    if not methods:
        raise UserError(f"{path} names no method", hint="add a [[methods]] table")
    names = [m.name for m in methods]
    if len(set(names)) < len(names):
        raise UserError(f"two methods of {path} have the same name: {', '.join(names)}")
    if not places and any(m.uses_style for m in methods):
        raise UserError(
            f"{path} does not say where the style images are", hint="add --styles NAME=FOLDER"
        )
    return EvaluationConfig(
        title=raw.title or path.stem,
        methods=methods,
        photos=where,
        styles=places,
        size=size or raw.size,
        metrics=raw.metrics,
        base=base or _place(raw.base, here),
        bootstrap=raw.bootstrap,
        among=tuple(among) or tuple(here / place for place in raw.among),
    )


def _method(entry: Mapping[str, Any], here: Path, path: Path) -> Method:
    table = from_table(_MethodTable, entry, where=f"a method of {path}")
    name, kinds = table.name, [kind for kind in METHOD_KINDS if getattr(table, kind) is not None]
    if not name or len(kinds) != 1:
        raise UserError(
            f"a method of {path} needs a name and one of {', '.join(METHOD_KINDS)}",
            hint=f"it has {', '.join(entry)}",
        )
    [kind] = kinds
    options = {k: v for k, v in entry.items() if k not in ("name", kind)}
    if unknown := sorted(set(options) - METHOD_KINDS[kind]):
        raise UserError(
            f"method {name!r} of {path} has unknown settings {unknown}",
            hint=f"known are {', '.join(sorted(METHOD_KINDS[kind]))}",
        )
    value = str(getattr(table, kind))
    if kind == "folder" or (kind == "learned" and value != "shipped"):
        value = str(here / value)
    if table.content is not None:
        options["content"] = str(here / table.content)
    return Method(name, kind, value, options)


def _place(base: str, here: Path) -> str:
    return str(here / base) if (here / base).is_file() else base


def parse_styles(texts: Sequence[str]) -> dict[str, Path]:
    """Folders of style images from texts such as 'paintings=styles/' or just 'styles/'.

    Raises:
        UserError: one is not there, or two have the same name.
    """
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, place = text.partition("=")
        path = Path(place if separator else text).expanduser()
        label = name if separator else path.stem
        if not path.exists():
            raise UserError(f"there are no style images at {path}", hint="give NAME=FOLDER")
        if label in found:
            raise UserError(f"two sources of styles are called {label!r}", hint="give NAME=FOLDER")
        found[label] = path
    return found
