"""Pretraining: data, resume, configuration, and a base at the end that loads."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from osasis.base import load_base
from osasis.errors import UserError
from osasis.models.latent_net import LatentNetConfig
from osasis.pretrain.config import PretrainConfig, TrainConfig, load_config
from osasis.pretrain.data import ImageStream, index_images
from osasis.pretrain.run import pretrain
from osasis.pretrain.train import TrainRecord, train_diffae

from ..conftest import TINY, picture

CONFIGS = Path(__file__).parents[2] / "src" / "osasis" / "configs"
TRAIN = TrainConfig(48, 4, 1e-3, warmup_images=8, checkpoint_seconds=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(10):
        picture(i, size=40 + i).save(images / f"{i}.png")
    return images


def configured(data: Path | str) -> PretrainConfig:
    latent = TrainConfig(64, 16, 1e-3)
    return PretrainConfig("mine", str(data), 0, TINY, LatentNetConfig(16, 32, 3), TRAIN, latent)


def test_every_image_once_an_epoch_and_any_position_can_be_resumed(folder: Path) -> None:
    entries = index_images(str(folder))
    stream = ImageStream(entries, 32, 5, seed=3)
    batches = [b for b, _ in zip(stream, range(6), strict=False)]
    assert batches[0].shape == (5, 3, 32, 32)
    assert float(batches[0].min()) >= -1 and float(batches[0].max()) <= 1
    resumed = ImageStream(entries, 32, 5, seed=3)
    resumed.position = 3
    for expected, again in zip(batches[3:], resumed, strict=False):
        assert torch.equal(expected, again)


def test_tar_shards(folder: Path, tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"faces-{shard}.tar", "w") as tar:
            for i in range(5):
                data = (folder / f"{shard * 5 + i}.png").read_bytes()
                info = tarfile.TarInfo(f"{shard * 5 + i}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    entries = index_images(str(tmp_path / "faces-*.tar"))
    assert [e.name for e in entries] == [f"{i}.png" for i in range(10)]
    assert entries[7].read() == (folder / "7.png").read_bytes()


def test_bad_images_are_counted_and_replaced(folder: Path) -> None:
    (folder / "4.png").write_text("no picture")
    stream = ImageStream(index_images(str(folder)), 32, 5, seed=3)
    for _, batch in zip(range(4), stream, strict=False):
        assert batch.shape[0] == 5
    assert stream.bad == {"4.png"}


def test_too_little_data(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="no training images"):
        index_images(str(tmp_path / "none-*.tar"))
    with pytest.raises(UserError, match="10 images are too few for batches of 64"):
        ImageStream(index_images(str(folder)), 32, 64, seed=0)
    for path in folder.iterdir():
        path.write_text("no picture")
    with pytest.raises(UserError, match="cannot be read"):
        next(iter(ImageStream(index_images(str(folder)), 32, 5, seed=0)))


def finish(config: PretrainConfig, checkpoint: Path, stop: int | None = None) -> list[TrainRecord]:
    records = []
    run = train_diffae(config, checkpoint, torch.empty(0).device)
    for record in run:
        records.append(record)
        if len(records) == stop:
            break
    run.close()  # type: ignore[attr-defined]
    return records


def test_a_stopped_run_continues_on_the_same_trajectory(folder: Path, tmp_path: Path) -> None:
    config = configured(folder)
    whole = finish(config, tmp_path / "whole.safetensors")
    first = finish(config, tmp_path / "parts.safetensors", stop=5)
    second = finish(config, tmp_path / "parts.safetensors")
    assert [r.images for r in whole] == list(range(4, 49, 4))
    resumed = [r.loss for r in (*first, *second)]
    assert resumed == pytest.approx([r.loss for r in whole], rel=1e-5)
    assert [r.learning_rate for r in (*first, *second)] == [r.learning_rate for r in whole]


def test_another_network_does_not_continue(folder: Path, tmp_path: Path) -> None:
    finish(configured(folder), tmp_path / "c.safetensors", stop=1)
    other = configured(folder)
    model = replace(other.model, unet=replace(other.model.unet, channels=64))
    with pytest.raises(UserError, match="another network"):
        finish(replace(other, model=model), tmp_path / "c.safetensors", stop=1)


def test_the_result_is_a_base(folder: Path, tmp_path: Path) -> None:
    records = list(pretrain(configured(folder), tmp_path / "run"))
    assert {r.stage for r in records} == {"diffae", "latent"}
    base = load_base(tmp_path / "run" / "mine.safetensors")
    assert (base.name, base.image_size, base.num_levels) == ("mine", 32, 3)
    assert torch.isfinite(base.sample(1, steps=3, latent_steps=3)).all()


def test_shipped_configurations_load() -> None:
    paths = sorted(CONFIGS.glob("*.toml"))
    assert paths
    for path in paths:
        config = load_config(path, data="anywhere")
        assert config.model.unet.z_dim == config.latent_net.z_dim


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= 3", "not TOML"),
        ("name = 'x'", "lacks the sections"),
        ("{faces}\n[extra]\n", None),
    ],
)
def test_configuration_errors(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "c.toml"
    faces = (CONFIGS / "faces-128.toml").read_text()
    path.write_text(text.replace("{faces}", faces))
    if message is None:
        path.write_text(faces.replace("[train]", "[train]\nspeed = 3"))
        message = r"unknown settings \['speed'\]"
    with pytest.raises(UserError, match=message):
        load_config(path, data="anywhere")


def test_configuration_without_data(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text((CONFIGS / "faces-128.toml").read_text())
    with pytest.raises(UserError, match="where the images are"):
        load_config(path)
