"""Fixtures: a tiny untrained base with real parts, and small pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from osasis.base import Base, load_base
from osasis.formats.base_file import save_base
from osasis.models.autoencoder import Autoencoder, AutoencoderConfig
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.encoder import ThumbnailEncoderConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.regions import RegionConfig, RegionNet
from osasis.models.unet import UNetConfig

TINY = DiffAEConfig(
    UNetConfig(
        image_size=32,
        channels=32,
        channel_mult=(1, 2, 2),
        num_res_blocks=1,
        attention_resolutions=(4,),
        time_dim=32,
        z_dim=16,
        patch_size=2,
        draft_size=8,
    ),
    ThumbnailEncoderConfig(image_size=32, thumbnail_size=8, z_dim=16),
    prediction="v",
    null_code=True,
)


def write_tiny_base(path: Path, seed: int) -> Path:
    """A base whose weights are random, those that training starts from at 0 included."""
    torch.manual_seed(seed)
    diffae = DiffAE(TINY)
    for name, parameter in diffae.unet.named_parameters():
        if name.endswith(("conv_out.weight", "conv_final.weight")):
            torch.nn.init.normal_(parameter, std=0.02)
    latent = LatentNet(LatentNetConfig(16, 32, 3))
    directions = {"smiling": torch.linspace(-1, 1, 16)}
    statistics = torch.zeros(16), torch.ones(16)
    save_base(path, "tiny", diffae, latent, *statistics, directions=directions)
    return path


def write_latent_base(path: Path, seed: int) -> Path:
    """A base in latents, 64 pixels, of untrained parts that draw something."""
    torch.manual_seed(seed)
    unet = UNetConfig(
        image_size=8, channels=32, channel_mult=(1, 2), num_res_blocks=1,
        attention_resolutions=(4,), time_dim=32, z_dim=16,
        in_channels=4, out_channels=4, draft_size=4, draft_channels=2,
    )  # fmt: skip
    encoder = ThumbnailEncoderConfig(image_size=8, thumbnail_size=4, z_dim=16, channels=2)
    diffae = DiffAE(DiffAEConfig(unet, encoder, prediction="v", null_code=True))
    for name, parameter in diffae.unet.named_parameters():
        if name.endswith(("conv_out.weight", "conv_final.weight")):
            torch.nn.init.normal_(parameter, std=0.02)
    widths = (8, 8, 8)
    autoencoder = Autoencoder(AutoencoderConfig(4, widths, widths, (1, 1, 1), (1, 1, 1)))
    regions = RegionNet(RegionConfig(4, widths))
    latent = LatentNet(LatentNetConfig(16, 32, 3))
    statistics = torch.zeros(16), torch.ones(16)
    save_base(
        path, "tiny-latent", diffae, latent, *statistics, autoencoder=autoencoder, regions=regions
    )
    return path


@pytest.fixture(scope="session")
def latent_base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_latent_base(tmp_path_factory.mktemp("base") / "l.safetensors", seed=1))


@pytest.fixture(scope="session")
def tiny_base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base") / "tiny.safetensors", seed=1)


@pytest.fixture(scope="session")
def tiny_base(tiny_base_path: Path) -> Base:
    return load_base(tiny_base_path)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no fixture of any scope, reads or writes the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "osasis-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSASIS_CACHE", str(folder))
        patch.setenv("OSASIS_DATA", str(folder.with_name("osasis-data")))
        yield


def picture(seed: int, size: int = 48) -> Image.Image:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
