"""Autoencoders of diffusers in the place of our own: tiny random ones in a folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from osasis.base import load_base
from osasis.cli.main import main
from osasis.errors import UserError
from osasis.formats.base_file import load_autoencoder, save_autoencoder
from osasis.formats.borrowed import KINDS, borrow
from osasis.formats.style_file import load_style
from osasis.imaging.tensors import to_tensor
from osasis.models import autoencoder as module

from ..conftest import picture

CONFIG = """
autoencoder = "diffusers:{folder}"

[model]
prediction = "v"
null_code = true

[unet]
image_size = 8
in_channels = 4
out_channels = {channels}
channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [4]
time_dim = 32
z_dim = 16
draft_size = 4
draft_channels = 2

[encoder]
image_size = 8
thumbnail_size = 4
channels = 2
z_dim = 16

[latent_net]
z_dim = 16
hidden = 32
num_layers = 3

[train]
total_images = 16
batch_size = 4
learning_rate = 1e-3
sheets = 1

[latent]
total_images = 64
batch_size = 16
learning_rate = 1e-3
"""


def make(kind: str, folder: Path, seed: int = 0, levels: int = 4, **options: Any) -> Path:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(seed)
    if kind == "AutoencoderTiny":
        once = (1,) * levels
        options |= {f"{half}_block_out_channels": (8,) * levels for half in ("encoder", "decoder")}
        options |= {f"num_{half}_blocks": once for half in ("encoder", "decoder")}
    else:
        options |= {
            "block_out_channels": (8,) * levels,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "norm_num_groups": 4,
        }
    getattr(diffusers, kind)(latent_channels=4, **options).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(kind, tmp_path_factory.mktemp("borrowed") / kind)


def run(*args: object) -> None:
    assert main([str(arg) for arg in args]) == 0


def test_it_gives_what_diffusers_gives(kind: str, folder: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    vae = getattr(diffusers, kind).from_pretrained(folder)
    found = borrow(str(folder))
    pictures = torch.rand(2, 3, 64, 40) * 2 - 1
    encoded = vae.encode(pictures)
    raw = encoded.latents if kind == "AutoencoderTiny" else encoded.latent_dist.mean
    torch.testing.assert_close(found.encode(pictures), raw)
    torch.testing.assert_close(found.decode(raw), vae.decode(raw).sample)
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_a_base_in_its_latents(folder: Path, tmp_path: Path) -> None:
    """Pretraining, learning and stylizing, all through the command line."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        picture(i, size=64).save(tmp_path / "images" / f"{i}.png")
    config, out = tmp_path / "mine.toml", tmp_path / "run"
    config.write_text(CONFIG.format(folder=folder, channels=4))
    pretrain = ("pretrain", config, "--data", tmp_path / "images", "-o", out, "--device", "cpu")
    run(*pretrain)
    kept = (out / "autoencoder.safetensors").read_bytes()
    run(*pretrain)  # goes on where it stopped, with the same linear map
    assert (out / "autoencoder.safetensors").read_bytes() == kept
    base, file = load_base(out / "mine.safetensors"), out / "mine.safetensors"
    assert (base.image_size, base.x0_shape) == (64, (4, 8, 8))
    assert base.autoencoder is not None and base.autoencoder.config == borrow(str(folder)).config
    pictures = torch.cat([to_tensor(picture(i, 64)) for i in range(6)])
    x0 = base.to_x0(pictures)
    assert x0.mean((0, 2, 3)).abs().max() < 0.1 and 0.5 < x0.var() < 2  # whitened
    own = base.autoencoder.decoder(base.autoencoder.encoder(pictures))
    torch.testing.assert_close(base.to_picture(x0), own, atol=2e-2, rtol=0)  # float16 in the file
    style, photo = tmp_path / "s.osasis.safetensors", tmp_path / "images" / "1.png"
    painting = tmp_path / "images" / "0.png"
    learn = ("learn", painting, "-o", style, "--base", file, "--photos", tmp_path / "images")
    run(*learn, "--iterations", "2", "--device", "cpu")
    assert load_style(style).manifest.updates == 2
    run("stylize", photo, "--style", style, "--base", file, "-o", tmp_path / "o", "--no-align")
    assert Image.open(tmp_path / "o" / "1.png").size == (64, 64)


def test_large_pictures_have_no_seams(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = borrow(str(folder))
    torch.manual_seed(0)
    pictures = torch.rand(8, 3, 128, 256) * 2 - 1
    monkeypatch.setattr(module, "TILE", 16)
    latents = found.encode(pictures)
    assert latents.shape == (8, 4, 16, 32)
    steps = found.decode(latents).diff(dim=3).abs().mean((0, 1, 2))
    borders = torch.tensor([63, 127, 191])  # of windows that begin every 8 latents
    assert steps[borders].max() < 1.3 * steps[7::8].mean()


def test_another_autoencoder_is_refused(kind: str, tmp_path: Path) -> None:
    first = make(kind, tmp_path / "first")
    file = tmp_path / "file" / "coder.safetensors"
    save_autoencoder(file, "coder", borrow(str(first)))
    wanted = borrow(str(first)).config
    first.rename(file.parent / "first")
    load_autoencoder(file)  # beside the file, where its old place is gone
    found = borrow(str(make(kind, file.parent / "first", seed=1))).config
    with pytest.raises(UserError) as refused:
        load_autoencoder(file)
    assert wanted.hash in str(refused.value) and found.hash in str(refused.value)
    shutil.rmtree(file.parent / "first")
    with pytest.raises(UserError, match="there is no folder .*first"):
        load_autoencoder(file)


@pytest.mark.parametrize("levels", [3, 5])
def test_other_factors_are_refused(kind: str, levels: int, tmp_path: Path) -> None:
    side = 2 ** (levels - 1)
    with pytest.raises(UserError, match=f"takes {side} x {side} pixels to a latent"):
        borrow(str(make(kind, tmp_path / "other", levels=levels)))


def test_what_is_no_autoencoder_is_refused(folder: Path, kind: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=f"holds no {kind} that can be read"):
        borrow(str(broken))
    (broken / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=f"holds no {kind} that can be read"):
        borrow(str(broken))
    config = json.loads((folder / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"_class_name": "VQModel"}))
    with pytest.raises(UserError, match="holds 'VQModel', expected AutoencoderTiny or"):
        borrow(str(broken))
    (broken / "config.json").write_text("[]")
    with pytest.raises(UserError, match="has no config.json that can be read"):
        borrow(str(broken))
    with pytest.raises(UserError, match=r"no RGB|RGB pictures"):
        borrow(str(make(kind, tmp_path / "grey", in_channels=1)))


def test_a_repository_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="not in the hub's cache") as refused:
        borrow("nobody/nothing-of-this-name")
    assert "hf download nobody/nothing-of-this-name config.json" in refused.value.hint
    with pytest.raises(UserError, match="there is no folder ./none"):
        borrow("./none")


def test_without_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match="needs the package diffusers") as refused:
        borrow(str(folder))
    assert "[diffusers]" in refused.value.hint


def test_a_unet_for_other_latents_is_refused_before_anything_is_encoded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(0, size=64).save(tmp_path / "0.png")
    config = tmp_path / "mine.toml"
    config.write_text(CONFIG.format(folder=folder, channels=3))
    assert main(["pretrain", str(config), "--data", str(tmp_path), "-o", str(tmp_path / "o")]) == 2
    assert "set both to 4" in capsys.readouterr().err
    assert not (tmp_path / "o" / "autoencoder.safetensors").exists()


def test_latents_that_are_not_finite(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diffusers = pytest.importorskip("diffusers")
    broken = make(kind, tmp_path / "broken")
    vae = getattr(diffusers, kind).from_pretrained(broken)
    next(vae.encoder.parameters()).data.fill_(float("nan"))
    vae.save_pretrained(broken)
    picture(0, size=64).save(tmp_path / "0.png")
    config = tmp_path / "mine.toml"
    config.write_text(CONFIG.format(folder=broken, channels=4))
    assert main(["pretrain", str(config), "--data", str(tmp_path), "-o", str(tmp_path / "o")]) == 2
    assert "latents that are not finite" in capsys.readouterr().err


def test_the_core_never_imports_it() -> None:
    code = (
        "import sys, osasis, osasis.stylize.stylizer, osasis.formats.borrowed, osasis.pretrain.run;"
        "sys.exit('diffusers' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
