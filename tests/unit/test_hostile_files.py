"""Base and style files, and settings, that a stranger made: refused at the door, at once."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from osasis.base import Base, load_base
from osasis.errors import UserError
from osasis.formats.safetensors_file import read_manifest
from osasis.formats.style_file import Style, load_style
from osasis.pretrain.config import load_config

from ..conftest import picture, write_tiny_base

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def rewrite(path: Path, change: Change, more: bytes = b"") -> Path:
    """The file with its header (tensors, manifest) changed, and `more` bytes at its end."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    manifest = json.loads(table["__metadata__"]["osasis"])
    change(table, manifest)
    table["__metadata__"]["osasis"] = json.dumps(manifest)
    head = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :] + more)
    return path


def refused(load: Callable[[Path], object], path: Path) -> str:
    began = time.process_time()
    with pytest.raises(UserError) as error:
        load(path)
    assert time.process_time() - began < 2
    return str(error.value)


def network(name: str, **changes: Any) -> Change:
    def change(table: dict[str, Any], manifest: dict[str, Any]) -> None:
        inner = manifest["latent_net"] if name == "latent_net" else manifest["model"][name]
        inner.update(changes)

    return change


def axes(table: dict[str, Any], manifest: dict[str, Any]) -> None:
    table["z_mean"]["shape"] = [1] * 100_000 + table["z_mean"]["shape"]


def float4(table: dict[str, Any], manifest: dict[str, Any]) -> None:
    table["z_mean"]["dtype"] = "F4"


def odd_name(table: dict[str, Any], manifest: dict[str, Any]) -> None:
    table["\x1b[2J"] = table.pop("z_mean")


@pytest.mark.parametrize(
    "change",
    [
        network("unet", num_res_blocks=65536),
        network("unet", channel_mult=[]),
        network("unet", channel_mult=[1] * 16),
        network("unet", channel_mult=[60_000]),
        network("unet", channels=-1),
        network("unet", patch_size=0),
        network("unet", patch_size=3),
        network("unet", channels=33),
        network("unet", image_size=31),
        network("unet", head_channels=7),
        network("encoder", thumbnail_size=64),
        network("encoder", z_dim=2**40),
        network("latent_net", num_layers=65536),
        network("latent_net", hidden=1e300),
        axes,
        float4,
        odd_name,
    ],
)
def test_bases_that_no_network_has(tmp_path: Path, change: Change) -> None:
    path = write_tiny_base(tmp_path / "a.safetensors", 1)
    load_base(path)
    refused(load_base, rewrite(path, change))


@pytest.mark.parametrize("head", [b"[" * 100_000, b"[]", b'{"a": 5}', b'{"a": {"shape": [1]}}'])
def test_odd_headers(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    refused(load_base, path)
    path.write_bytes(struct.pack("<Q", 2**40) + head)
    refused(load_base, path)


@pytest.mark.parametrize("kept", [0, 3, 10, 5000, -1])
def test_a_file_that_lacks_its_end_is_called_that(
    tmp_path: Path, tiny_style: Style, kept: int
) -> None:
    base, style = tmp_path / "b.safetensors", tmp_path / "s.safetensors"
    write_tiny_base(base, 1)
    tiny_style.save(style)
    for load, path in ((load_base, base), (load_style, style), (read_manifest, style)):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(UserError) as error:
            load(path)
        said, hint = str(error.value), error.value.hint
        assert f"{path} is not " in said
        if kept != 3:  # which could be of anything
            assert ("it is cut short: " if kept else "it is empty (0 bytes)") in said
            assert hint == "copy or download it again"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lambda_spn": float("nan")}, "lambda_spn of .* must be a number, got nan"),
        ({"lambda_spn": -1}, "lambda_spn must be 0 or more"),
        ({"style_levels": [0, 99]}, "style_levels must lie between 0 and"),
        ({"name": "x" * 100_000}, "name may have 255 letters"),
        ({"config": None}, "its manifest has no 'config'"),
    ],
)
def test_a_style_with_a_wrong_manifest(
    tmp_path: Path, tiny_style: Style, changes: dict[str, Any], said: str
) -> None:
    def change(table: dict[str, Any], manifest: dict[str, Any]) -> None:
        manifest.update(changes)
        if manifest["config"] is None:
            del manifest["config"]

    path = tmp_path / "a.safetensors"
    tiny_style.save(path)
    assert re.search(said, refused(load_style, rewrite(path, change)))


def test_a_style_whose_body_is_damaged_is_called_that(tmp_path: Path, tiny_style: Style) -> None:
    path = tmp_path / "a.safetensors"
    tiny_style.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    assert f"{path} is damaged: " in refused(load_style, path)


def test_a_file_that_may_not_be_read_is_not_another_kind(tmp_path: Path, tiny_style: Style) -> None:
    path = tmp_path / "a.safetensors"
    path.mkdir()  # opening it fails for every user, root included
    with pytest.raises(UserError) as error:
        read_manifest(path)
    assert str(error.value) == f"{path} cannot be read: Is a directory"
    assert error.value.hint == "check who may read the file"


def test_a_picture_in_a_bases_place_is_not_to_be_learned(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(1).save(path)
    for load, hint in ((load_base, ""), (load_style, "learn it first: osasis learn PICTURE")):
        with pytest.raises(UserError, match="it is a picture") as error:
            load(path)
        assert error.value.hint == hint


def test_a_style_with_many_axes_or_unknown_names(tmp_path: Path, tiny_style: Style) -> None:
    path = tmp_path / "a.safetensors"

    def many_axes(table: dict[str, Any], manifest: dict[str, Any]) -> None:
        end = max(entry["data_offsets"][1] for k, entry in table.items() if k != "__metadata__")
        table["unet.x"] = {
            "dtype": "F32",
            "shape": [1] * 100_000,
            "data_offsets": [end, end + 4],
        }

    def unknown(table: dict[str, Any], manifest: dict[str, Any]) -> None:
        for name in [name for name in table if name.startswith("unet.")]:
            table[f"other.{name}"] = table.pop(name)
        packed = manifest["packed"]
        for name in [name for name in packed if name.startswith("unet.")]:
            packed[f"other.{name}"] = packed.pop(name)

    tiny_style.save(path)
    refused(load_style, rewrite(path, many_axes, bytes(4)))
    assert not replace(tiny_style, tensors={}).save(path)
    assert "z_style" in refused(load_style, path)
    tiny_style.save(path)
    assert "other.unet." in refused(load_style, rewrite(path, unknown))


def test_a_style_that_asks_for_too_much(tmp_path: Path, tiny_base: Base, tiny_style: Style) -> None:
    def wide(table: dict[str, Any], manifest: dict[str, Any]) -> None:
        manifest["config"]["spn"]["channels"] = 60_000

    def long(table: dict[str, Any], manifest: dict[str, Any]) -> None:
        manifest["config"]["stylize_route"]["decode_steps"] = 10**9

    for change in (wide, long):
        tiny_style.save(tmp_path / "a.safetensors")
        refused(load_style, rewrite(tmp_path / "a.safetensors", change))


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
[encoder]
image_size = 32
thumbnail_size = 8
z_dim = 16
[latent_net]
z_dim = 16
hidden = 32
num_layers = 3
[train]
total_images = 8
batch_size = 4
learning_rate = 1e-3
[latent]
total_images = 16
batch_size = 16
learning_rate = 1e-3
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("batch_size = 4", "batch_size = -4", "batch_size"),
        ("batch_size = 4", "batch_size = 4.5", "batch_size"),
        ("total_images = 8", "total_images = -1", "total_images"),
        ("total_images = 8", 'total_images = "8"', "total_images"),
        ("learning_rate = 1e-3\n[l", "learning_rate = nan\n[l", "learning_rate"),
        ("seed = 3", "description = 12:00:00", "description"),
        ("seed = 3", "attributes = 5", "attributes"),
        ("seed = 3", "seed = -1", "seed"),
        ("seed = 3", f"seed = {'9' * 5000}", "TOML"),
        ("seed = 3", f"seed = {'[' * 5000}{']' * 5000}", "TOML"),
        ('"tiny"', '"../x"', "name"),
        ('"tiny"', '"/tmp/x"', "name"),
        ('"tiny"', '".."', "name"),
        ("null_code = true", "null_code = true\nx = 1", "'x'"),
        ("null_code = true", "null_code = 1", "null_code"),
        ("channels = 32", "channels = -32", "channels"),
        ("num_layers = 3", "num_layers = 65536", "num_layers"),
        ("channel_mult = [1, 2]", 'channel_mult = [1, "2"]', "channel_mult"),
    ],
)
def test_settings_are_checked_before_any_work(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(TINY)
    load_config(path, data="x")
    assert before in TINY
    path.write_text(TINY.replace(before, after))
    with pytest.raises(UserError, match=said):
        load_config(path, data="x")


def test_tables_with_extension_types_are_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from osasis.scale.source import _refuse_extensions

    for shift in range(4):  # where the mark lies in the file's base64
        plain = arrow.table({"i" * (shift + 1): [1], "image": [b"x"]})
        parquet.write_table(plain, tmp_path / "a.parquet")
        _refuse_extensions([str(tmp_path / "a.parquet")])
        marked = arrow.field("image", arrow.binary(), metadata={"ARROW:extension:name": "a.b"})
        table = plain.cast(arrow.schema([plain.schema.field(0), marked]))
        parquet.write_table(table, tmp_path / "b.parquet")
        with pytest.raises(UserError, match="extension type"):
            _refuse_extensions([str(tmp_path)])
