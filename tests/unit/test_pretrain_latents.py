"""Pretraining in latents: the autoencoder, the cache of latents, Muon, and the base at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from osasis.base import load_base
from osasis.errors import UserError
from osasis.formats.base_file import load_autoencoder, save_autoencoder
from osasis.models.autoencoder import Autoencoder, AutoencoderConfig
from osasis.models.diffae import DiffAEConfig
from osasis.models.encoder import ThumbnailEncoderConfig
from osasis.models.latent_net import LatentNetConfig
from osasis.models.unet import UNetConfig
from osasis.pretrain.autoencoder import train_autoencoder
from osasis.pretrain.config import AutoencoderRun, PretrainConfig, TrainConfig
from osasis.pretrain.data import index_images
from osasis.pretrain.latents import LatentCache, LatentStream
from osasis.pretrain.processes import Processes
from osasis.pretrain.run import pretrain

from ..conftest import picture

SHAPE = AutoencoderConfig(4, (8, 8, 16), (16, 8, 8), (1, 1, 1), (1, 1, 1))
MUON = TrainConfig(48, 4, 1e-2, warmup_images=8, checkpoint_seconds=0.0, optimizer="muon", sheets=1)
MODEL = DiffAEConfig(
    UNetConfig(
        image_size=8, channels=32, channel_mult=(1, 2), num_res_blocks=1,
        attention_resolutions=(4,), time_dim=32, z_dim=16, out_channels=4, in_channels=4,
        draft_size=4, draft_channels=2,
    ),
    ThumbnailEncoderConfig(image_size=8, thumbnail_size=4, z_dim=16, channels=2),
    prediction="v",
    null_code=True,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(10):
        picture(i, size=64 + i).save(images / f"{i}.png")
    (images / "4.png").write_text("no picture")
    return images


def autoencoder_run(folder: Path, images: int = 48) -> AutoencoderRun:
    train = replace(MUON, total_images=images)
    sources = (str(folder), str(folder))
    return AutoencoderRun("coder", 0, sources, SHAPE, train, (3.0, 1.0), image_size=64, crop=16)


def test_an_autoencoder_learns_and_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    config = autoencoder_run(folder, 120)
    whole = [r for r in train_autoencoder(config, tmp_path / "whole") if r.loss is not None]
    losses = [r.loss for r in whole if r.loss is not None]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert max(r.bad_images for r in whole) == 1
    assert len(list((tmp_path / "whole" / "sheets").iterdir())) == 1
    found, regions = load_autoencoder(tmp_path / "whole" / "coder.safetensors")
    assert regions is None
    photos = torch.stack([torch.rand(3, 64, 64) for _ in range(2)]) * 2 - 1
    assert found.decode(found.encode(photos)).shape == photos.shape
    assert not torch.equal(found.mixing, torch.eye(4))  # its latents were made normal
    run = train_autoencoder(config, tmp_path / "parts")
    first = [next(run) for _ in range(12)]
    run.close()
    second = [r for r in train_autoencoder(config, tmp_path / "parts") if r.loss is not None]
    resumed = [r.loss for r in (*first, *second)]
    assert resumed == pytest.approx([r.loss for r in whole], rel=1e-4)


def test_a_kind_without_an_image_in_a_batch_is_refused(folder: Path, tmp_path: Path) -> None:
    config = replace(autoencoder_run(folder), shares=(100.0, 1.0))
    with pytest.raises(UserError, match="no image of some kind"):
        next(train_autoencoder(config, tmp_path))


@pytest.fixture
def autoencoder_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    made = Autoencoder(SHAPE)
    made.whiten(torch.zeros(4), torch.eye(4) * 0.01)
    path = tmp_path / "coder.safetensors"
    save_autoencoder(path, "coder", made)
    return path


def test_the_cache_holds_both_directions_of_what_can_be_read(
    folder: Path, autoencoder_file: Path, tmp_path: Path
) -> None:
    autoencoder, _ = load_autoencoder(autoencoder_file)
    entries = index_images(str(folder))
    cache = LatentCache(tmp_path / "latents", entries, autoencoder, 64)
    records = list(cache.fill(Processes("cpu")))
    assert records[-1].images == 10
    assert len(cache.readable) == 9 and cache.bad == ["4.png"]
    stream = LatentStream(cache, 3, seed=1)
    batches = [batch for batch, _ in zip(stream, range(4), strict=False)]
    assert batches[0].shape == (3, 4, 8, 8)
    resumed = LatentStream(cache, 3, seed=1)
    resumed.position = 2
    assert torch.equal(next(iter(resumed)), batches[2])
    with pytest.raises(UserError, match="latents of other images or of another autoencoder"):
        LatentCache(tmp_path / "latents", entries[1:], autoencoder, 64)


def test_a_base_in_latents(folder: Path, autoencoder_file: Path, tmp_path: Path) -> None:
    latent = TrainConfig(64, 16, 1e-3)
    config = PretrainConfig(
        "mine", str(folder), 0, MODEL, LatentNetConfig(16, 32, 3), MUON, latent,
        autoencoder=str(autoencoder_file),
    )  # fmt: skip
    run = pretrain(config, tmp_path / "run")
    for record in run:
        if record.stage == "diffae" and record.images == 20:
            break
    run.close()
    losses = [r.loss for r in pretrain(config, tmp_path / "run") if r.stage == "diffae"]
    whole = [r.loss for r in pretrain(config, tmp_path / "whole") if r.stage == "diffae"]
    assert losses == pytest.approx(whole[5:], rel=1e-4)
    base = load_base(tmp_path / "run" / "mine.safetensors")
    assert (base.image_size, base.x0_shape) == (64, (4, 8, 8))
    assert base.sample(1, steps=3, latent_steps=3).shape == (1, 3, 64, 64)
    again, _ = load_autoencoder(tmp_path / "run" / "mine.safetensors")  # of a base as well
    first, _ = load_autoencoder(autoencoder_file)
    assert torch.equal(again.mixing, first.mixing)
    assert list((tmp_path / "run" / "sheets").iterdir())


def test_a_unet_for_other_latents_is_refused(folder: Path, tmp_path: Path) -> None:
    other = replace(MODEL, unet=replace(MODEL.unet, in_channels=3))
    latent = TrainConfig(64, 16, 1e-3)
    shape = LatentNetConfig(16, 32, 3)
    config = PretrainConfig("mine", str(folder), 0, other, shape, MUON, latent)
    with pytest.raises(UserError, match="x0 has 3 channels, but .* out_channels 4"):
        next(pretrain(config, tmp_path))
