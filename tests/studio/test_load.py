"""Many visitors at once."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

from osasis.base import Base
from osasis.studio.intake import PICTURE
from osasis.studio.service import Service
from osasis.studio.store import RESULT, new_token

from .conftest import Client, png, running

VISITORS = 50


def memory() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def visit(address: str, number: int) -> tuple[float, float, int]:
    """One visitor: seconds until the job was taken and until it was done, and its place."""
    client = Client(address)
    start = time.monotonic()
    photo = client.upload(png(number, 512), f"visitor-{number}.png")
    job = client.call("stylize", photo, "", {"attributes": {"smiling": 1.0}})
    taken = time.monotonic() - start
    while True:
        found = client.call("status", job["job"])
        if found["state"] not in ("queued", "running"):
            break
        time.sleep(2.0)
    assert found["state"] == "done" and len(found["results"]) == 1, found
    result = client.http.get(found["results"][0])
    assert result.status_code == 200 and f"visitor-{number}" in str(result.headers)
    archive = zipfile.ZipFile(io.BytesIO(client.http.get("/results.zip").content))
    assert [f"visitor-{number} " in name for name in archive.namelist()] == [True]
    return taken, time.monotonic() - start, job["before_it"]


@pytest.mark.slow
def test_fifty_visitors_lose_nothing(tiny_base: Base, tmp_path: Path) -> None:
    with running(tiny_base, tmp_path) as (address, service):
        _check(address, service)


def _check(address: str, service: Service) -> None:
    visit(address, 1000)  # what is loaded at the first job is not counted
    before, peak, over = memory(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            peak[0] = max(peak[0], memory())

    threading.Thread(target=watch, daemon=True).start()
    with ThreadPoolExecutor(VISITORS) as pool:
        found = list(pool.map(lambda number: visit(address, number), range(VISITORS)))
    over.set()
    taken, done, places = (sorted(column) for column in zip(*found, strict=True))
    report = {
        "taken_median_s": round(taken[VISITORS // 2], 2),
        "taken_slowest_s": round(taken[-1], 2),
        "done_median_s": round(done[VISITORS // 2], 2),
        "done_slowest_s": round(done[-1], 2),
        "longest_line": places[-1],
        "memory_grew_mb": round((peak[0] - before) / 1e6),
    }
    print(json.dumps(report))
    assert len({path.name for path in (service.config.data / "visitors").iterdir()}) > VISITORS
    assert peak[0] - before < 1_500_000_000


@pytest.mark.slow
def test_fifty_visitors_are_served_while_one_address_attacks(
    tiny_base: Base, tmp_path: Path
) -> None:
    """Silent connections, slow downloads, a full line, uploads at once and a thin photo."""
    with running(tiny_base, tmp_path) as (address, service):
        quiet = _times(address)
        with _attack(address, service) as held:
            busy = _times(address)
    print(json.dumps({"p95_s": {"quiet": quiet, "attacked": busy}, "connections": len(held)}))
    assert len(held) > 1005  # tried; the door closes them
    assert max(busy.values()) < max(2.0, 3 * max(quiet.values()))  # the machine may be busy itself


def _times(address: str) -> dict[str, float]:
    """Seconds in which 95 of 100 pages and answers about a job come to 50 visitors."""
    found: dict[str, list[float]] = {"page": [], "status": []}

    def ask(number: int) -> None:
        transport = httpx.HTTPTransport(local_address=f"127.0.1.{1 + number}")
        client = Client(address, transport=transport)
        photo = client.upload(png(number), "a.png")
        job = client.call("stylize", photo, "", {"attributes": {"smiling": 1.0}})
        for _ in range(5):
            time.sleep(1.0)
            for what, do in (
                ("page", lambda: client.http.get("/").raise_for_status()),
                ("status", lambda: client.call("status", job["job"])["state"]),
            ):
                began = time.monotonic()
                do()
                found[what].append(time.monotonic() - began)

    with ThreadPoolExecutor(VISITORS) as pool:
        list(pool.map(ask, range(VISITORS)))
    return {what: round(sorted(all_)[int(0.95 * len(all_))], 2) for what, all_ in found.items()}


@contextmanager
def _attack(address: str, service: Service) -> Iterator[list[socket.socket]]:
    """One address, 127.0.0.2, does all it can until it is told to stop; its connections."""
    url, over = httpx.URL(address), threading.Event()
    held: list[socket.socket] = []

    def connect(data: bytes = b"") -> None:
        one = socket.create_connection(
            (url.host, url.port), timeout=20, source_address=("127.0.0.2", 0)
        )
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(data)
        held.append(one)

    def attacker() -> Client:
        return Client(address, transport=httpx.HTTPTransport(local_address="127.0.0.2"))

    def silent() -> None:
        while not over.wait(0.02):
            with suppress(OSError):
                connect(b"GET / HT" if len(held) % 2 else b"")

    def downloads() -> None:
        token = new_token()
        visitor = service.store.visitor(token)
        noise = os.urandom(5_000_000)
        visitor.add(RESULT, "r", lambda folder: (folder / PICTURE).write_bytes(noise) and None)
        ask = f"GET /results.zip HTTP/1.1\r\nHost: {url.host}\r\nx-osasis-visitor: {token}\r\n\r\n"
        while not over.wait(1.0):
            with suppress(OSError):
                connect(ask.encode())

    def jobs() -> None:
        thin = io.BytesIO()
        Image.new("RGB", (64, 64 * 90)).save(thin, "PNG")
        while not over.is_set():
            with suppress(httpx.HTTPError, AssertionError, KeyError, ValueError):
                one = attacker()
                photo = one.upload(thin.getvalue())
                for _ in range(6):
                    one.call("stylize", photo, "", {"attributes": {"smiling": 1}, "fit": "tiles"})

    def uploads() -> None:
        data = os.urandom(19_000_000)
        while not over.is_set():
            with suppress(httpx.HTTPError, AssertionError):
                attacker().upload(data)

    threads = [threading.Thread(target=do) for do in (silent, downloads, jobs, *[uploads] * 4)]
    for thread in threads:
        thread.start()
    try:
        while len(held) < 1005:
            time.sleep(0.1)
        yield held
    finally:
        over.set()
        for one in held:
            one.close()
        for thread in threads:
            thread.join(60)
