"""The compressed style file: its bound, its size, files of before, files that lie."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from osasis.base import Base
from osasis.errors import UserError
from osasis.style.compress import compress, decompress
from osasis.style.file import Style, load_style
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture


@pytest.fixture(scope="module")
def style(tiny_base: Base) -> Style:
    """A style of random changes, with rows of very different sizes and one that is zero."""
    generator = torch.Generator().manual_seed(3)
    tensors = dict(preview_style(tiny_base, picture(1), name="random").tensors)
    for name, parameter in tiny_base.diffae.unet.parameters_of_levels((0, 1)).items():
        change = 0.01 * torch.randn(parameter.shape, generator=generator)
        if change.ndim > 1:
            change[0], change[1] = 0, 50 * change[1]
        tensors[f"unet.{name}"] = change
    manifest = preview_style(tiny_base, picture(1), name="random").manifest
    return Style(manifest, picture(1), tensors)


@pytest.mark.parametrize("bound", [0.3, 0.05, 0.01])
def test_every_tensor_keeps_its_bound(style: Style, bound: float) -> None:
    stored, table = compress(style.tensors, bound)
    back = decompress(stored, table)
    assert set(back) == set(style.tensors) and table
    for name, tensor in style.tensors.items():
        allowed = bound if name in table else 1e-3
        assert float((back[name] - tensor).norm()) <= allowed * float(tensor.norm()) + 1e-6
        if name in table and name.startswith("unet."):
            assert float(back[name][0].abs().max()) == 0
    bits = {entry["bits"] for entry in table.values()}
    assert max(bits) <= {0.3: 4, 0.05: 7, 0.01: 8}[bound]


def test_a_smaller_bound_costs_bytes(style: Style, tmp_path: Path) -> None:
    sizes = []
    for bound in (0.2, 0.05, 0.01, 0):
        style.save(tmp_path / "s.safetensors", bound)
        sizes.append((tmp_path / "s.safetensors").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[1] < 0.5 * sizes[-1]


def test_bits_of_every_number_come_back() -> None:
    for bits in range(2, 9):
        steps = 2 ** (bits - 1) - 1
        row = torch.arange(-steps, steps + 1).float()
        tensor = torch.stack([row, row.flip(0) * 0.25]).repeat(600, 1)
        stored, table = compress({"x": tensor}, 1e-6)
        assert table["x"]["bits"] == bits
        torch.testing.assert_close(decompress(stored, table)["x"], tensor)
        assert stored["x"].numel() == bits * -(-tensor.numel() // 8)


def test_saving_again_changes_nothing(style: Style, tmp_path: Path) -> None:
    style.save(tmp_path / "once.safetensors")
    once = load_style(tmp_path / "once.safetensors")
    once.save(tmp_path / "twice.safetensors")
    twice = load_style(tmp_path / "twice.safetensors")
    for name, tensor in once.tensors.items():
        torch.testing.assert_close(twice.tensors[name], tensor, rtol=1e-6, atol=0)


def write_old(style: Style, path: Path) -> None:
    """The format before compression: everything float16."""
    picture_bytes = io.BytesIO()
    style.thumbnail.save(picture_bytes, "WEBP")
    raw = dataclasses.asdict(style.manifest)
    for name in ("solver", "spacing", "structure_span"):  # were not there either
        del raw["config"]["learn_route"][name], raw["config"]["stylize_route"][name]
    raw |= {
        "format": "osasis-style-1",
        "thumbnail": base64.b64encode(picture_bytes.getvalue()).decode(),
    }
    tensors = {k: v.half().contiguous() for k, v in style.tensors.items()}
    save_file(tensors, path, metadata={"osasis": json.dumps(raw)})


def test_old_files_still_load(style: Style, tiny_base: Base, tmp_path: Path) -> None:
    write_old(style, tmp_path / "old.safetensors")
    old = load_style(tmp_path / "old.safetensors")
    assert old.manifest == style.manifest
    for name, tensor in style.tensors.items():
        assert torch.equal(old.tensors[name], tensor.half().float())
    old.save(tmp_path / "new.safetensors", max_error=0.01)
    new = load_style(tmp_path / "new.safetensors")
    drawn = [Stylizer(tiny_base, s).stylize(torch.zeros(1, 3, 32, 32)) for s in (old, new)]
    assert float((drawn[0] - drawn[1]).abs().mean()) < 0.02


@pytest.mark.parametrize(
    "lie",
    [
        {"bits": 9},
        {"bits": 0},
        {"bits": "many"},
        {"shape": [3, 5]},
        {"shape": []},
        {"shape": [-1, -64]},
        {"shape": [10**9, 10**9]},
        {"shape": None},
    ],
)
def test_tables_that_lie_are_refused(style: Style, tmp_path: Path, lie: dict[str, Any]) -> None:
    path = tmp_path / "s.safetensors"
    style.save(path)
    with safe_open(path, "pt") as file:
        raw = json.loads(file.metadata()["osasis"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    name = next(iter(raw["packed"]))
    raw["packed"][name] |= lie
    save_file(tensors, path, metadata={"osasis": json.dumps(raw)})
    with pytest.raises(UserError, match="not a style file"):
        load_style(path)


def test_a_stylizer_copies_only_what_its_style_changes(style: Style, tiny_base: Base) -> None:
    look = Stylizer(tiny_base, style)._look
    before = dict(tiny_base.diffae.unet.named_parameters())
    copied = {k for k, p in look.diffae.unet.named_parameters() if p is not before[k]}
    assert {f"unet.{k}" for k in copied} == {k for k in style.tensors if k.startswith("unet.")}
