"""A studio on the tiny base in this process, a client without a page, and a real browser."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from osasis.base import Base
from osasis.config.presets import BankConfig, BridgeConfig, LearnConfig, SPNSettings
from osasis.diffusion.route import Route
from osasis.studio.config import Limits, StudioConfig
from osasis.studio.service import Service

from ..conftest import picture

pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'osasis[studio]'")
import httpx

PRESET = LearnConfig(
    preset="tiny",
    iterations=4,
    batch_size=2,
    lr_unet=1e-4,
    lr_spn=1e-3,
    learn_route=Route(4, 4),
    stylize_route=Route(4, 4),
    bridge=BridgeConfig(steps=4),
    bank=BankConfig(size=8, latent_steps=4, decode_steps=4),
    spn=SPNSettings(channels=8, zero_init=True),
    trained_levels=(0,),
)
CHROMIUM = os.environ.get("OSASIS_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(base: Base, data: Path, **changes: Any) -> Iterator[tuple[str, Service]]:
    """A studio that listens; its address and its service."""
    preset = changes.pop("preset", PRESET)
    config = StudioConfig(data=data, port=free_port(), **changes)
    from osasis.studio.app import build_app, import_gradio, server_of

    before = os.environ.get("GRADIO_TEMP_DIR", "")
    import_gradio(data / "uploads")
    service = Service(config, base, preset)
    server = server_of(config, build_app(service))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{config.port}", service
    finally:
        server.should_exit = True
        thread.join(10)
        service.close()
        os.environ["GRADIO_TEMP_DIR"] = before  # Gradio reads it at every request


@pytest.fixture(scope="session")
def studio(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    limits = Limits(upload_bytes=1_000_000, pixels=1_000_000, photos=4, waiting=6)
    with running(tiny_base, tmp_path_factory.mktemp("studio"), limits=limits) as found:
        yield found


@pytest.fixture
def address(studio: tuple[str, Service]) -> str:
    return studio[0]


@pytest.fixture
def service(studio: tuple[str, Service]) -> Service:
    return studio[1]


def png(seed: int, size: int = 96) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "PNG")
    return buffer.getvalue()


class Client:
    """A visitor without a browser, who speaks the documented API."""

    def __init__(self, address: str, **options: Any) -> None:
        self.http = httpx.Client(base_url=address, timeout=60, **options)
        self.http.get("/")  # brings the cookie

    def upload(self, data: bytes, name: str = "me.png") -> dict[str, Any]:
        answer = self.http.post("/gradio_api/upload", files={"files": (name, data)})
        assert answer.status_code == 200, answer.text
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def call(self, endpoint: str, *data: Any) -> dict[str, Any]:
        """What an endpoint answers; {"error": text} where it refuses."""
        started = self.http.post(f"/gradio_api/call/{endpoint}", json={"data": list(data)})
        if started.status_code != 200:
            return {"error": started.text}
        answer = self.http.get(f"/gradio_api/call/{endpoint}/{started.json()['event_id']}").text
        # before the answer there may be heartbeats
        event, _, rest = answer.strip().rpartition("event: ")[2].partition("\n")
        found = json.loads(rest.partition("data: ")[2] or "null")
        if event != "complete":
            return {"error": str(found)}
        return dict(found[0])

    def wait(self, job: str, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            found = self.call("status", job)
            if found["state"] not in ("queued", "running"):
                return found
            assert time.monotonic() < end, found
            time.sleep(0.3)


@pytest.fixture
def client(address: str) -> Client:
    return Client(address)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    missing = None if CHROMIUM else "no Chromium: apt-get install chromium, or set OSASIS_CHROMIUM"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()
