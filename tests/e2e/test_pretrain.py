"""Pretraining as a user runs it: several processes, a kill in the middle, a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ..conftest import picture

TINY = """
name = "tiny"
seed = 3

[model]
prediction = "v"
null_code = true

[unet]
image_size = 32
channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [4]
time_dim = 64
z_dim = 16
patch_size = 4
draft_size = 8

[encoder]
image_size = 32
thumbnail_size = 8
z_dim = 16

[latent_net]
z_dim = 16
hidden = 32
num_layers = 3

[train]
total_images = 160
batch_size = 4
learning_rate = 1e-3
warmup_images = 8
checkpoint_seconds = 0.0

[latent]
total_images = 64
batch_size = 16
learning_rate = 1e-3
"""
COMMAND = (sys.executable, "-m", "osasis")
# `accelerate launch` starts several processes on GPUs only
TWO = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "photos").mkdir()
    for i in range(12):
        picture(i, size=40).save(folder / "photos" / f"{i}.png")
    (folder / "photos" / "12.png").write_text("no picture")
    (folder / "tiny.toml").write_text(TINY)
    return folder


def start(place: Path, out: str, *before: str, **more: object) -> subprocess.Popen[str]:
    command = [*(before or COMMAND), "pretrain", "tiny.toml", "--data", "photos", "-o", out]
    return subprocess.Popen(
        [*command, "--device", "cpu"],
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )


def finish(place: Path, out: str, *before: str) -> str:
    process = start(place, out, *before)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return said + errors


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "state.safetensors")
    return {k: v for k, v in found.items() if k.startswith(("model.", "ema."))}


def assert_same(left: Path, right: Path, *, tolerance: float) -> None:
    ours, theirs = weights(left), weights(right)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=0, atol=tolerance), name


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    said = finish(place, "whole")
    assert "wrote whole/tiny.safetensors" in said
    assert "1 training images could not be read" in said
    return place / "whole"


def test_a_killed_run_ends_at_the_same_weights(place: Path, undisturbed: Path) -> None:
    process = start(place, "killed")
    state = place / "killed" / "diffae" / "state.safetensors"

    def images() -> int:
        with safe_open(state, framework="pt") as file:
            return int(file.metadata()["images"])

    deadline = time.monotonic() + 120
    while not state.exists() or images() < 40:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert images() < 160
    finish(place, "killed")
    assert_same(place / "killed" / "diffae", undisturbed / "diffae", tolerance=0)
    assert_same(place / "killed" / "latent", undisturbed / "latent", tolerance=0)


def test_two_processes_follow_one(place: Path, undisturbed: Path) -> None:
    said = finish(place, "two", sys.executable, *TWO, "-m", "osasis")
    assert said.count("2 processes train together") == 1
    # the order of a few sums differs, and Adam divides small gradients by their size
    assert_same(place / "two" / "diffae", undisturbed / "diffae", tolerance=2e-3)
    lines = (place / "two" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["stage"] == "latent"


def _limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_is_said_and_nothing_partial_is_left(place: Path) -> None:
    process = start(place, "full", preexec_fn=lambda: _limit_files(20_000))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "File too large" in errors and "Traceback" not in errors
    left = list((place / "full" / "diffae").iterdir())
    assert all(p.stat().st_size <= 20_000 and not p.name.startswith(".") for p in left)
    assert not (place / "full" / "diffae" / "state.safetensors").exists()
