"""What a studio is told when it starts, and what a visitor may choose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from osasis.config.controls import HOLDS, HOLDS_AMOUNT, Controls
from osasis.config.tables import Range, from_table, ranges, typed
from osasis.errors import UserError

MEGABYTE = 1_000_000
_HOST = r"\*|(\*\.)?[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\]"


@dataclass(frozen=True)
class Limits:
    """What visitors may use.

    Attributes:
        upload_bytes: of one picture.
        style_bytes: of one style file.
        pixels: of one picture, width times height.
        photo_seconds: of drawing one photo, on the clock; others wait meanwhile.
        photos: of one job, and of one upload.
        styles: of one visitor.
        waiting: jobs of one visitor that wait or run.
        address_waiting: jobs of all visitors of one address that wait or run.
        all_waiting: jobs of everybody that wait or run.
        visitor_bytes: what one visitor's files may take.
        all_bytes: what everybody's files may take.
        keep_hours: after so long photos and results are removed.
        keep_style_days: after so long without use a visitor's styles are removed.
    """

    upload_bytes: int = 20 * MEGABYTE
    style_bytes: int = 64 * MEGABYTE
    pixels: int = 24_000_000
    photo_seconds: float = 600.0
    photos: int = 20
    styles: int = 24
    waiting: int = 6
    address_waiting: int = 60
    all_waiting: int = 300
    visitor_bytes: int = 600 * MEGABYTE
    all_bytes: int = 20_000 * MEGABYTE
    keep_hours: float = 24.0
    keep_style_days: float = 30.0

    @property
    def request_bytes(self) -> int:
        """Of one request: an upload of as many photos as a job may have."""
        return max(self.upload_bytes * self.photos, self.style_bytes) + MEGABYTE


@dataclass(frozen=True)
class StudioConfig:
    """A studio.

    Attributes:
        data: folder of everything that visitors bring and make.
        base: name or file of the base.
        device: where to compute; None for the best there is.
        host, port: what is listened on.
        password: asked for with any user name; None lets everybody in.
        domains: host names that requests may be addressed to; empty accepts all, and a studio that
            listens on this machine alone always answers to its own names.
        root_path: path below which a reverse proxy offers the page, such as "/studio".
        limits: what visitors may use.

    Raises:
        UserError: a domain is no host name, or the root path does not begin with a slash.
    """

    data: Path
    base: str = "faces-256"
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 7860
    password: str | None = None
    domains: tuple[str, ...] = ()
    root_path: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for domain in self.domains:
            if not re.fullmatch(_HOST, domain):
                raise UserError(
                    f"a domain is a host name, got {domain!r}",
                    hint="such as --domain studio.example.org, without http:// and port",
                )
        if self.root_path and not self.root_path.startswith("/"):
            raise UserError(
                f"the root path begins with a slash, got {self.root_path!r}",
                hint=f"--root-path /{self.root_path}",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("127.0.0.1", "localhost", "::1")


MAX_TEXT = 200
AMOUNTS = Range(-HOLDS_AMOUNT, HOLDS_AMOUNT)  # of an attribute


@dataclass(frozen=True)
class Settings(Controls):
    """How photos are redrawn: all of `Controls`, some within narrower ranges, and what it needs.

    Attributes:
        guidance: of edits; 0 takes what was measured to suit them.
        iterations: of a text, no more than it takes: others wait meanwhile.
        style: id of a visitor's style, or name of a shipped one; empty for none.
        second: another one that is mixed in; empty for none.
        share: of the second style in the mix, 0 to 1.
        spn_factor: factor of each style's own lambda_spn.
    """

    strength: Annotated[float, Range(0, HOLDS["strength"])] = 1.0
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    guidance: Annotated[float, Range(0, HOLDS["guidance"])] = 0.0
    iterations: Annotated[int, Range(1, Controls.iterations)] = Controls.iterations
    style: str = ""
    second: str = ""
    share: Annotated[float, Range(0, 1)] = 0.5
    spn_factor: Annotated[float, Range(0, 10)] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, amount in self.attributes:
            if problem := AMOUNTS.problem(amount):
                raise UserError(f"{name} {problem}")
        if max(len(self.text), len(self.text_from)) > MAX_TEXT:
            raise UserError(f"descriptions have at most {MAX_TEXT} characters")

    def controls(self) -> Controls:
        """What `Stylizer` takes."""
        values = {field.name: getattr(self, field.name) for field in fields(Controls)}
        return Controls(**values | {"guidance": self.guidance or None})


LIMITS = ranges(Settings)


def settings_from(raw: Mapping[str, Any]) -> Settings:
    """Settings from what came over HTTP.

    Raises:
        UserError: an unknown name, or a value of the wrong kind or out of range.
    """
    table = dict(raw)
    amounts = table.pop("attributes", {})
    if not isinstance(amounts, Mapping):
        raise UserError("attributes must be an object of numbers by name")
    chosen = {str(name): typed(amount, float, str(name)) for name, amount in amounts.items()}
    kept = tuple((name, amount) for name, amount in chosen.items() if amount)
    return from_table(Settings, table, attributes=kept)
