"""Many visitors at once."""

from __future__ import annotations

import io
import json
import os
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from osasis.base import Base
from osasis.studio.service import Service

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
