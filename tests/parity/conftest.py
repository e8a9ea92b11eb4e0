"""Goldens of the released networks; OSASIS_GOLDENS points at others of the same format."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDENS = Path(os.environ.get("OSASIS_GOLDENS", Path(__file__).parents[1] / "goldens"))
TOLERANCE = 1e-5  # relative error, float32


class Golden:
    """One pair of JSON (salt, configuration, names) and NPZ (inputs and outputs)."""

    def __init__(self, name: str) -> None:
        described = json.loads((GOLDENS / f"{name}.json").read_text())
        self.salt: str = described["salt"]
        self.config: dict[str, Any] = described["config"]
        self.keys: dict[str, list[int]] = described["keys"]
        with np.load(GOLDENS / f"{name}.npz") as arrays:
            self.arrays = {k: arrays[k] for k in arrays.files}

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """Parameters drawn from their released names, those behind `prefix`."""
        return {
            k[len(prefix) :]: self._draw(k, tuple(shape))
            for k, shape in self.keys.items()
            if k.startswith(prefix)
        }

    def _draw(self, key: str, shape: tuple[int, ...]) -> Tensor:
        rng = np.random.default_rng(zlib.crc32((self.salt + key).encode()))
        n = rng.standard_normal(shape).astype(np.float32)
        if key.endswith("bias"):
            return torch.from_numpy(np.float32(0.1) * n)
        if len(shape) == 1:
            return torch.from_numpy(1 + np.float32(0.1) * n)
        return torch.from_numpy((n / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


_worst: dict[str, float] = {}


def compare(group: str, ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    """Relative error |ours - theirs| / |theirs| under `tolerance`; remembered for the summary."""
    assert ours.shape == theirs.shape
    difference = (ours.detach().double() - theirs.double()).norm()
    error = float(difference / theirs.double().norm())
    _worst[group] = max(error, _worst.get(group, 0.0))
    assert error < tolerance, f"{group}: relative error {error:.2e}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _worst:
        terminalreporter.section("largest relative error per group of goldens")
        for group, error in sorted(_worst.items()):
            terminalreporter.write_line(f"{group:34s} {error:.2e}")


@pytest.fixture(scope="session")
def osasis_golden() -> Golden:
    return Golden("osasis_tiny")


@pytest.fixture(scope="session")
def p2_golden() -> Golden:
    return Golden("p2_tiny")
