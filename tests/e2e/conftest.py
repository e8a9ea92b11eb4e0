"""The real command line, in a process of its own, on the embedded base."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Osasis = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="session")
def osasis(workplace: Path) -> Osasis:
    """Run `osasis ARGS` in the user's folder."""
    own = {"OSASIS_CACHE": str(workplace / "cache"), "OSASIS_DATA": str(workplace / "data")}
    environment = os.environ | own

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "osasis", *map(str, args)]
        return subprocess.run(
            command, cwd=workplace, env=environment, capture_output=True, text=True, check=False
        )

    return run
