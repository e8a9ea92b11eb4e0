"""Cores are shared: threads by the cores there are, and threads that wait sleep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from osasis import threads
from osasis.scale.run import _threads

QUIET = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "OPENCV_"))}


def test_a_container_has_no_more_cores_than_its_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = threads.cores()
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "_QUOTA", quota)
    for text, count in (("150000 100000", 1), ("50000 100000", 1), ("max 100000", there)):
        quota.write_text(text)
        assert threads.cores() == count
    quota.write_text(f"{100_000 * (there + 5)} 100000")
    assert threads.cores() == there


@pytest.mark.parametrize(
    ("given", "environment", "count"),
    [
        ("", {}, threads.cores()),
        ("1", {"OMP_NUM_THREADS": "2"}, 1),
        ("", {"OMP_NUM_THREADS": "1"}, 1),
    ],
)
def test_threads_of_a_command(given: str, environment: dict[str, str], count: int) -> None:
    """Read by torch itself, in a process of its own."""
    code = (
        f"from osasis.threads import share_cores; share_cores({given}); import os, torch, cv2; "
        "print(torch.get_num_threads(), cv2.getNumThreads(), os.environ['OMP_WAIT_POLICY'])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=QUIET | environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(count), str(count), "PASSIVE"], done.stderr


def test_every_command_takes_threads() -> None:
    command = [sys.executable, "-m", "osasis", "doctor", "--threads", "1"]
    done = subprocess.run(command, env=QUIET, capture_output=True, text=True)
    assert "torch uses 1 threads" in done.stdout, done.stderr


@pytest.mark.parametrize(("workers", "each"), [(1, 6), (2, 3), (4, 1), (9, 1)])
def test_workers_share_the_cores(workers: int, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True}], cluster_resources=lambda: {"CPU": 64.0})
    assert _threads(ray, workers) == each
    ray.nodes = lambda: [{"Alive": True}] * 2
    assert _threads(ray, 2 * workers) == max(1, 32 // workers)
