"""A stand-in of the hub and of a drive on this machine, and of the released checkpoints."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from osasis.hub.released import Architecture

QUOTA_PAGE = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head>
<body><p>Too many users have viewed or downloaded this file recently.</p></body></html>"""

# the released layout at a size that tests can afford
SMALL = """
[architectures.small]
latent = { z_dim = 64, hidden = 48, num_layers = 3 }

[architectures.small.diffae.unet]
image_size = 32
channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [16]
time_dim = 64
z_dim = 64

[architectures.small.diffae.encoder]
image_size = 32
channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [16]
z_dim = 64

[architectures.small.ddpm]
image_size = 32
channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [16]
time_dim = 128
out_channels = 6
head_channels = 32
"""


class StandIn:
    """Serves repositories in the hub's layout, and plain files below `/files/`.

    Attributes:
        repositories: repository -> revision -> file name -> content (bytes, or a path).
        files: plain files by name.
        cut: how many bytes of a body pass before the connection is cut, one entry per cut.
        served: (method, path, first byte) of every request.
        slow: wait for this before the second half of a body.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes | Path]]] = {}
        self.files: dict[str, bytes | Path] = {}
        self.cut: list[int] = []
        self.served: list[tuple[str, str, int]] = []
        self.stall: threading.Event | None = None
        self.halfway = threading.Event()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                stand_in.answer(self, body=False)

            def do_GET(self) -> None:
                stand_in.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = request.path.split("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._about(request, match.group(1), match.group(2) or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository, revision, name = match.groups()
            commit = self._commit(repository, revision)
            content = self.repositories.get(repository, {}).get(commit, {}).get(name)
            self._send(request, content, commit, body=body)
        else:
            self._send(request, self.files.get(path.removeprefix("/files/")), "", body=body)

    def _commit(self, repository: str, revision: str) -> str:
        known = list(self.repositories.get(repository, {}))
        return known[-1] if revision == "main" and known else revision

    def _about(self, request: BaseHTTPRequestHandler, repository: str, revision: str) -> None:
        commit = self._commit(repository, revision)
        files = self.repositories.get(repository, {}).get(commit)
        self.served.append(("ABOUT", request.path, 0))
        if files is None:
            self._send(request, None, "", body=True, missing="RepoNotFound")
            return
        siblings = [{"rfilename": name} for name in files]
        about = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings}
        content = json.dumps(about).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        content: bytes | Path | None,
        commit: str,
        *,
        body: bool,
        missing: str = "EntryNotFound",
    ) -> None:
        if content is None:
            request.send_response(404)
            request.send_header("X-Error-Code", missing)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        etag = f'"{size}-{id(content)}"' if isinstance(content, Path) else (
            f'"{hashlib.sha256(content).hexdigest()}"'
        )  # fmt: skip
        first = 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        if wanted and request.headers.get("If-Range", etag) == etag:
            first = int(wanted.group(1))
        self.served.append((request.command, request.path, first))
        request.send_response(206 if first else 200)
        request.send_header("ETag", etag)
        if commit:
            request.send_header("X-Repo-Commit", commit)
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Length", str(size - first))
        if first:
            request.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        request.end_headers()
        if body:
            self._body(request, content, first, size)

    def _body(
        self, request: BaseHTTPRequestHandler, content: bytes | Path, at: int, size: int
    ) -> None:
        limit = self.cut.pop(0) if self.cut else size
        step, sent = 1 << 20 if size > 1 << 22 else 1 << 14, 0
        with contextopen(content) as read:
            while at < size:
                piece = read(at, min(step, size - at, limit - sent))
                if not piece:
                    request.close_connection = True
                    return
                try:
                    request.wfile.write(piece)
                except OSError:  # the client has left
                    return
                at, sent = at + len(piece), sent + len(piece)
                if self.stall is not None and at >= size // 2:
                    request.wfile.flush()
                    self.halfway.set()
                    self.stall.wait(60)


@contextmanager
def contextopen(content: bytes | Path) -> Iterator[Any]:
    """`read(position, count)` of bytes or of a file."""
    if isinstance(content, bytes):
        yield lambda at, count: content[at : at + count]
        return
    with content.open("rb") as file:

        def read(at: int, count: int) -> bytes:
            file.seek(at)
            return file.read(count)

        yield read


@contextmanager
def serving() -> Iterator[StandIn]:
    """A stand-in that serves until the end of the block."""
    stand_in = StandIn()
    thread = threading.Thread(target=stand_in.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.server.shutdown()
        stand_in.server.server_close()
        thread.join()


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Random weights of a size that keeps a network's output finite; doubled names are shared."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        twin = name.replace(".linear_emb.", ".cond_layers.1.")
        if twin in state:
            state[name] = state[twin]
            continue
        if twin != name:
            name, shape = twin, shapes[twin]
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            state[name] = 0.1 * noise + (0 if name.endswith("bias") else 1)
        else:
            state[name] = noise / max(1, noise[0].numel()) ** 0.5
        if ".cond_layers.1." in name:
            state[name.replace(".cond_layers.1.", ".linear_emb.")] = state[name]
    return {name: state[name] for name in shapes}


def lightning_checkpoint(family: Architecture, path: Path, seed: int = 0, extra: int = 0) -> Path:
    """What a DiffAE's trainer saves: both copies, buffers, optimiser, objects of Lightning.

    Args:
        extra: numbers in the optimiser's state.
    """
    state = draw(family.diffae_shapes(), seed)
    z_dim, image_size = family.latent.z_dim, family.diffae.unet.image_size
    both = {f"model.{k}": v + 0.001 for k, v in state.items() if ".linear_emb." not in k}
    both |= {
        k.replace(".cond_layers.1.", ".linear_emb."): v
        for k, v in both.items()
        if ".cond_layers.1." in k
    }
    both |= {f"ema_model.{k}": v for k, v in state.items()}
    both["x_T"] = torch.zeros(2, 3, image_size, image_size)
    both["conds_mean"] = torch.full((1, z_dim), 0.05)
    both["conds_std"] = torch.full((1, z_dim), 0.9)
    module = types.ModuleType("pytorch_lightning")
    for name, parent in (("ModelCheckpoint", object), ("AttributeDict", dict)):
        made = type(name, (parent,), {"__module__": "pytorch_lightning"})
        setattr(module, name, made)
    sys.modules["pytorch_lightning"] = module
    try:
        torch.save(
            {
                "epoch": 3,
                "global_step": 100,
                "pytorch-lightning_version": "1.4.5",
                "state_dict": both,
                "optimizer_states": [
                    {"state": {0: {"step": 1, "exp_avg": torch.zeros(extra)}}, "param_groups": []}
                ],
                "callbacks": {module.ModelCheckpoint: {"best_model_score": torch.tensor(0.5)}},
                "hyper_parameters": module.AttributeDict(name="ffhq"),
            },
            path,
        )
    finally:
        del sys.modules["pytorch_lightning"]
    return path


def p2_checkpoint(family: Architecture, path: Path, seed: int = 1) -> Path:
    """A P2 DDPM: the names alone."""
    torch.save(draw(family.ddpm_shapes(), seed), path)
    return path
