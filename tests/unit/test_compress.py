"""The compressed style file: its bound, its size, files that lie."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from osasis.base import Base
from osasis.errors import UserError
from osasis.formats.compress import NUMBERS_PER_BYTE, compress, decompress
from osasis.formats.style_file import Style, load_style
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture

Lie = Callable[[Any, dict[str, torch.Tensor], str], object]
"""Changes the table, the stored tensors, or what both say of the tensor of this name."""


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


@pytest.fixture(scope="module")
def saved(style: Style, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "style.safetensors"
    style.save(path)
    return path


@pytest.mark.parametrize("bound", [0.3, 0.05, 0.01])
def test_every_tensor_keeps_its_bound_and_uses_it(style: Style, bound: float) -> None:
    stored, table = compress(style.tensors, bound)
    back = decompress(stored, table)
    assert set(back) == set(style.tensors) and table
    for name, tensor in style.tensors.items():
        norm = float(tensor.norm())
        error = float((back[name] - tensor).norm())
        if name not in table:
            assert error <= 1e-3 * norm + 1e-6
        else:
            assert error <= bound * norm
            assert error >= 0.98 * bound * norm or norm == 0
        if name in table and name.startswith("unet."):
            assert float(back[name][0].abs().max()) == 0


def test_a_smaller_bound_costs_bytes(style: Style, tmp_path: Path) -> None:
    sizes = []
    for bound in (0.2, 0.05, 0.01, 0):
        style.save(tmp_path / "s.safetensors", bound)
        sizes.append((tmp_path / "s.safetensors").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[1] < 0.4 * sizes[-1]


def test_normal_numbers_take_their_entropy() -> None:
    tensor = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))
    stored, table = compress({"x": tensor}, 0.05)
    # 4.58 bits are the entropy at this bound
    assert 4.57 < 8 * stored["x"].numel() / tensor.numel() < 4.62
    assert torch.equal(stored["x"], compress({"x": tensor.clone()}, 0.05)[0]["x"])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(32, 32),
        torch.full((32, 32), 1e-12),
        torch.full((32, 32), -1e20),
        torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) ** 3,
        1e-18 * torch.randn(32, 32, generator=torch.Generator().manual_seed(1)),
        1e25 * torch.randn(32, 32, generator=torch.Generator().manual_seed(1)),
        torch.eye(32),
        torch.diag(10.0 ** torch.arange(-16, 16)),
        torch.arange(-32_000, 32_000).reshape(64, 1000) * 0.25,
        6.0 * torch.randint(-3, 4, (32, 32), generator=torch.Generator().manual_seed(2)),
    ],
)
def test_odd_tensors_keep_the_bound_too(tensor: torch.Tensor) -> None:
    stored, table = compress({"x": tensor}, 0.05)
    back = decompress(stored, table)["x"]
    assert "x" in table
    assert float((back - tensor).double().norm()) <= 0.05 * float(tensor.double().norm())
    assert torch.equal(decompress(*compress({"x": back}, 0.05))["x"], back)


def test_what_integers_cannot_hold_stays_float16() -> None:
    numbers = torch.randn(32, 32, generator=torch.Generator().manual_seed(3))
    for tensor, bound in ((numbers, 1e-5), (numbers, 0), (torch.full((32, 32), torch.nan), 0.05)):
        stored, table = compress({"x": tensor}, bound)
        assert not table and stored["x"].dtype == torch.float16


def test_saving_again_changes_nothing(style: Style, tmp_path: Path) -> None:
    once, twice, other = (tmp_path / f"{n}.safetensors" for n in ("once", "twice", "other"))
    style.save(once)
    style.save(twice)
    assert once.read_bytes() == twice.read_bytes()
    loaded = load_style(once)
    loaded.save(twice)
    loaded.save(other, max_error=0.2)
    for path in (twice, other):
        again = load_style(path).tensors
        assert all(torch.equal(again[name], t) for name, t in loaded.tensors.items())


@pytest.mark.parametrize("name", ["osasis-style-1", "osasis-style-2", "osasis-style-4"])
def test_other_formats_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    with safe_open(saved, "pt") as file:
        raw = json.loads(file.metadata()["osasis"]) | {"format": name}
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "other.safetensors", metadata={"osasis": json.dumps(raw)})
    with pytest.raises(UserError, match=f"format is '{name}', expected 'osasis-style-3'"):
        load_style(tmp_path / "other.safetensors")


def rewritten(source: Path, path: Path, lie: Lie) -> Path:
    """`source` as `path`, with one packed tensor's entry and stream changed by `lie`."""
    with safe_open(source, "pt") as file:
        raw = json.loads(file.metadata()["osasis"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    lie(raw["packed"], tensors, next(iter(raw["packed"])))
    save_file(tensors, path, metadata={"osasis": json.dumps(raw)})
    return path


def entry(**values: Any) -> Lie:
    return lambda table, tensors, name: table[name].update(values)


def stream(change: Callable[[bytes], bytes], **values: Any) -> Lie:
    """A stream made of the true one, and an entry made to go with it."""

    def lie(table: Any, tensors: dict[str, torch.Tensor], name: str) -> None:
        data = bytearray(change(tensors[name].numpy().tobytes()))
        tensors[name] = torch.frombuffer(data, dtype=torch.uint8) if data else torch.zeros(0).byte()
        table[name].update(values)

    return lie


def remove(table: Any, tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def as_float(table: Any, tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = tensors[name].float()


def renamed(table: Any, tensors: dict[str, torch.Tensor], name: str) -> None:
    table[name]["bits"] = table[name].pop("bytes")


LIES: dict[str, Lie] = {
    "shape of others": entry(shape=[3, 5]),
    "no shape": entry(shape=None),
    "empty shape": entry(shape=[]),
    "negative shape": entry(shape=[-1, -64]),
    "shape of zeros": entry(shape=[0, 64]),
    "huge shape": entry(shape=[10**9, 10**9]),
    "endless shape": entry(shape=[float("inf"), 2]),
    "deep shape": entry(shape=[10**9] * 100_000),
    "no step": entry(step=None),
    "a step in words": entry(step="many"),
    "a step of 0": entry(step=0),
    "a negative step": entry(step=-0.1),
    "an infinite step": entry(step=float("inf")),
    "a step that is no number": entry(step=float("nan")),
    "a step beyond float": entry(step=10**400),
    "no bytes": entry(bytes=0),
    "eight bytes": entry(bytes=8),
    "endless bytes": entry(bytes=float("inf")),
    "bytes of others": entry(bytes=2),
    "an entry that is a list": lambda table, tensors, name: table.update({name: [1, 2]}),
    "nothing there": remove,
    "not bytes": as_float,
    "an empty stream": stream(lambda data: b""),
    "a cut stream": stream(lambda data: data[:-9]),
    "a stream without its end": stream(lambda data: data[:-1]),
    "a longer stream": stream(lambda data: zlib.compress(zlib.decompress(data) + b"x")),
    "a shorter stream": stream(lambda data: zlib.compress(zlib.decompress(data)[:-1])),
    "more behind the stream": stream(lambda data: data + b"more"),
    "a flipped bit": stream(lambda data: data[:99] + bytes([data[99] ^ 16]) + data[100:]),
    "no stream": stream(lambda data: bytes(len(data))),
    "a stream with a dictionary": stream(lambda data: b"\x78\xbb" + data[2:]),
    "a bomb": stream(lambda data: zlib.compress(bytes(10**8)), shape=[10**4, 10**4]),
    "a bomb beyond its shape": stream(lambda data: zlib.compress(bytes(10**8))),
    "bits in place of bytes": renamed,
}


@pytest.mark.parametrize("lie", LIES)
def test_packed_tensors_that_lie_are_refused(saved: Path, tmp_path: Path, lie: str) -> None:
    path = rewritten(saved, tmp_path / "lie.safetensors", LIES[lie])
    with pytest.raises(UserError, match="is damaged"):
        load_style(path)


def test_a_bomb_takes_no_memory() -> None:
    bomb = torch.frombuffer(bytearray(zlib.compress(bytes(10**8))), dtype=torch.uint8)
    for shape in ([10**4, 10**4], [1, 1 + NUMBERS_PER_BYTE * len(bomb)], [64, 64]):
        tracemalloc.start()
        with pytest.raises(ValueError, match="too few bytes|does not hold exactly"):
            decompress({"x": bomb}, {"x": {"step": 1.0, "bytes": 1, "shape": shape}})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**6


def test_a_stylizer_copies_only_what_its_style_changes(style: Style, tiny_base: Base) -> None:
    model = Stylizer(tiny_base, style)._model
    before = dict(tiny_base.diffae.unet.named_parameters())
    copied = {k for k, p in model.diffae.unet.named_parameters() if p is not before[k]}
    assert {f"unet.{k}" for k in copied} == {k for k in style.tensors if k.startswith("unet.")}
