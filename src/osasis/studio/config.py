"""What a studio is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 1_000_000


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

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("127.0.0.1", "localhost", "::1")
