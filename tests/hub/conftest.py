"""A user with an empty machine, a registry of small artefacts, and a hub that is a local server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from osasis.config.presets import RELEASE, BankConfig, BridgeConfig
from osasis.diffusion.route import Route
from osasis.hub.released import Architecture, architecture

from ..standin import SMALL, StandIn, lightning_checkpoint, p2_checkpoint, serving

COMMIT = "a" * 40
NEWER = "b" * 40
BLOB = bytes(range(256)) * 4096  # 1 MiB
QUICK = replace(  # two updates, and few steps of everything
    RELEASE.judged_by("vgg16-stats"),
    iterations=1,
    batch_size=1,
    learn_route=Route(4, 4, shared_grid=False),
    stylize_route=Route(4, 4, shared_grid=False),
    bridge=BridgeConfig(steps=4),
    bank=BankConfig(size=1, latent_steps=4, decode_steps=2),
)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Architecture]:
    """The small architecture in the released layout."""
    path = tmp_path_factory.mktemp("registry") / "registry.toml"
    path.write_text(SMALL)
    old = os.environ.get("OSASIS_REGISTRY")
    os.environ["OSASIS_REGISTRY"] = str(path)
    yield architecture("small")
    if old is None:
        del os.environ["OSASIS_REGISTRY"]
    else:
        os.environ["OSASIS_REGISTRY"] = old


@pytest.fixture(scope="session")
def checkpoints(small: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `last.ckpt` and `ffhq_p2.pt` of the small architecture."""
    folder = tmp_path_factory.mktemp("checkpoints")
    lightning_checkpoint(small, folder / "last.ckpt", extra=1000)
    p2_checkpoint(small, folder / "ffhq_p2.pt")
    return folder


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with serving() as stand_in:
        yield stand_in


def registry(address: str) -> str:
    """Artefacts at the stand-in."""
    return f"""{SMALL}
[artefacts.small]
kind = "base"
about = "a small base"
architecture = "small"
parts = ["small-latent", "small-p2"]
licence = "none"
commercial = "yes"

[artefacts.small-latent]
kind = "checkpoint"
about = "DiffAE"
licence = "none"
needed_by = "small"
files = {{ "last.ckpt" = {{}} }}
from_names = ["latent/last.ckpt", "last.ckpt"]
places = [{{ hub = "me/diffae", file = "latent/last.ckpt" }}]

[artefacts.small-p2]
kind = "checkpoint"
about = "DDPM"
licence = "none"
needed_by = "small"
files = {{ "ffhq_p2.pt" = {{}} }}
places = [{{ url = "{address}/files/ffhq_p2.pt", file = "ffhq_p2.pt" }}]

[artefacts.blob]
kind = "file"
about = "some bytes"
licence = "none"
files = {{ "blob.onnx" = {{}} }}
places = [{{ hub = "me/blob", file = "deep/blob.onnx" }}]

[artefacts.plain]
kind = "file"
about = "some bytes elsewhere"
licence = "none"
files = {{ "plain.onnx" = {{}} }}
places = [{{ url = "{address}/files/plain.onnx", file = "plain.onnx" }}]

[artefacts.pair]
kind = "folder"
about = "two files"
licence = "none"
files = {{ "config.json" = {{}}, "model.safetensors" = {{}} }}
places = [{{ hub = "me/pair" }}]
"""


@dataclass
class User:
    """Runs osasis on a machine of its own."""

    home: Path
    environment: dict[str, str]

    def command(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "osasis", *map(str, args)]

    def run(self, *args: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args),
            cwd=self.home,
            env=self.environment | more,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def data(self) -> Path:
        return self.home / "data"


@pytest.fixture
def user(hub: StandIn, tmp_path: Path) -> User:
    (tmp_path / "registry.toml").write_text(registry(hub.address))
    own = {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.address,
        "OSASIS_DATA": str(tmp_path / "data"),
        "OSASIS_CACHE": str(tmp_path / "cache"),
        "OSASIS_REGISTRY": str(tmp_path / "registry.toml"),
    }
    return User(tmp_path, os.environ | own)
