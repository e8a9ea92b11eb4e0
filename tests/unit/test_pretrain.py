"""Pretraining: data, resume, configuration, and a base at the end that loads."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
import torch
from torch import Tensor

from osasis.base import Base, load_base
from osasis.diffusion.schedule import IMAGE_SCHEDULE
from osasis.errors import OsasisError, UserError
from osasis.evaluate.base_numbers import Plan, evaluate_base, spread
from osasis.hub import convert
from osasis.models.diffae import DiffAE
from osasis.models.encoder import EncoderConfig, SemanticEncoder
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.pretrain.config import (
    PretrainConfig,
    TrainConfig,
    load_autoencoder_config,
    load_config,
)
from osasis.pretrain.data import ImageStream, index_images, try_decode
from osasis.pretrain.log import RunLog, read_log
from osasis.pretrain.processes import update_noise
from osasis.pretrain.run import pretrain
from osasis.pretrain.state import TrainState
from osasis.pretrain.train import DiffAELoss, TrainRecord, draw

from ..conftest import TINY, picture

CONFIGS = Path(__file__).parents[2] / "src" / "osasis" / "configs"
GOLDENS = Path(__file__).parents[1] / "goldens"
RELEASED = ("ffhq-256", "afhq-dog-256", "lsun-church-256", "deepfashion-256")
LEARNED = replace(TINY, encoder=EncoderConfig(32, 32, (1, 2), 1, (), 16, patch_size=4))
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
    with pytest.raises(UserError, match="none of 10 training images can be read"):
        finish(configured(folder), tmp_path / "run")


def finish(config: PretrainConfig, out: Path, stop: int | None = None) -> list[TrainRecord]:
    records = []
    run = pretrain(config, out)
    for record in run:
        if record.stage == "fit":
            continue
        if record.stage != "diffae":
            break
        records.append(record)
        if len(records) == stop:
            break
    run.close()
    return records


def test_a_stopped_run_continues_on_the_same_trajectory(folder: Path, tmp_path: Path) -> None:
    config = configured(folder)
    whole = finish(config, tmp_path / "whole")
    first = finish(config, tmp_path / "parts", stop=5)
    second = finish(config, tmp_path / "parts")
    assert [r.images for r in whole] == list(range(4, 49, 4))
    resumed = [r.loss for r in (*first, *second)]
    assert resumed == pytest.approx([r.loss for r in whole], rel=1e-5)
    assert [r.learning_rate for r in (*first, *second)] == [r.learning_rate for r in whole]


def test_a_damaged_state_is_named(folder: Path, tmp_path: Path) -> None:
    finish(configured(folder), tmp_path, stop=1)
    next((tmp_path / "diffae").glob("*.safetensors")).write_bytes(b"half")
    with pytest.raises(OsasisError, match="training state in .*diffae is damaged"):
        finish(configured(folder), tmp_path, stop=1)


def test_another_network_does_not_continue(folder: Path, tmp_path: Path) -> None:
    finish(configured(folder), tmp_path, stop=1)
    other = configured(folder)
    model = replace(other.model, unet=replace(other.model.unet, channels=64))
    with pytest.raises(UserError, match="another network"):
        finish(replace(other, model=model), tmp_path, stop=1)


def test_updates_without_finite_gradients_change_nothing_and_end_the_run() -> None:
    model = torch.nn.Linear(3, 1)
    training = TrainState(model, TRAIN)
    before = model.weight.clone()
    model.weight.grad = torch.full_like(model.weight, float("nan"))
    model.bias.grad = torch.zeros_like(model.bias)
    assert not training.apply()
    assert torch.equal(model.weight, before) and (training.skipped, training.batches) == (1, 1)
    with pytest.raises(OsasisError, match="not finite"):
        for _ in range(21):
            training.apply()


def test_noise_depends_on_seed_update_and_stream_alone() -> None:
    device = torch.empty(0).device

    def first(*key: int, stream: int = 0) -> Tensor:
        return torch.randn(4, generator=update_noise(*key, device, stream=stream))

    assert torch.equal(first(3, 7), first(3, 7))
    others = [first(3, 8), first(4, 7), first(3, 7, stream=1)]
    assert not any(torch.equal(first(3, 7), other) for other in others)


def test_the_null_code_is_learned_from_drops_alone(folder: Path) -> None:
    model = DiffAELoss(LEARNED)
    for parameter in model.diffae.unet.parameters():  # some start at 0 and would hide it
        torch.nn.init.normal_(parameter, std=0.1)
    x0 = torch.rand(4, 3, 32, 32) * 2 - 1
    for kept in (True, False):
        model.zero_grad()
        drawn = draw(x0.shape, IMAGE_SCHEDULE, 0.5, torch.Generator().manual_seed(0))
        model(x0, drawn.t, drawn.eps, torch.full((4,), kept)).backward()
        assert isinstance(model.diffae.encoder, SemanticEncoder)
        null, encoder = model.diffae.z_null, model.diffae.encoder.conv_final.weight
        assert null is not None and null.grad is not None and encoder.grad is not None
        assert bool(null.grad.any()) == (not kept)
        assert bool(encoder.grad.any()) == kept


def test_the_result_is_a_base_and_the_run_can_be_read(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tsv"
    for i in range(10, 50):
        picture(i, size=32).save(folder / f"{i}.png")
    lines = [f"{i}\t{i % 2}\t{i}" for i in range(50)]
    labels.write_text("image\tsmiling\tage\n" + "\n".join(lines))
    config = replace(configured(folder), attributes=labels)
    config = replace(config, train=replace(config.train, sheets=2))
    records = list(pretrain(config, tmp_path / "run"))
    assert [k for k, _ in groupby(r.stage for r in records)] == [
        "fit",
        "diffae",
        "encode",
        "latent",
        "encode",
    ]
    base = load_base(tmp_path / "run" / "mine.safetensors")
    assert (base.name, base.image_size, base.num_levels) == ("mine", 32, 3)
    assert torch.isfinite(base.sample(1, steps=3, latent_steps=3)).all()
    assert set(base.directions) == {"smiling", "age"}
    sheets = sorted((tmp_path / "run" / "sheets").iterdir())
    assert [s.name for s in sheets] == ["diffae-000000024.png", "diffae-000000048.png"]
    lines_of = read_log(tmp_path / "run" / "log.jsonl")
    assert [k for k, _ in groupby(line["stage"] for line in lines_of)] == ["diffae", "latent"]
    assert all(line["loss"] > 0 for line in lines_of)
    assert list((tmp_path / "run" / "tensorboard" / "diffae").iterdir())


def test_the_log_takes_back_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    def note(*images: int, start: int) -> None:
        with RunLog(tmp_path, "diffae", start, seconds=0) as log:
            for count in images:
                log.add(TrainRecord("diffae", count, 40, 1.0, 1e-3, 5.0))

    note(4, 8, 12, start=0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": "dif')  # a kill in the middle of a line
    note(12, 16, start=8)
    assert [line["images"] for line in read_log(tmp_path / "log.jsonl")] == [4, 8, 12, 16]


def test_hub_data_sets(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    entries = index_images(f"hf:{folder}?split=train")
    assert len(entries) == 10
    names = {try_decode(e, 32).tobytes() for e in entries}  # type: ignore[union-attr]
    files = index_images(str(folder))
    assert names == {try_decode(e, 32).tobytes() for e in files}  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"unknown options \['spilt'\]"):
        index_images(f"hf:{folder}?spilt=train")
    with pytest.raises(UserError, match="no column of images"):
        index_images(f"hf:{folder}?column=text")
    with pytest.raises(UserError, match="cannot load the data set"):
        index_images(f"hf:{folder}?split=nonsense")


def test_shipped_configurations_load() -> None:
    paths = sorted(CONFIGS.glob("*.toml"))
    assert {p.stem for p in paths} == {"faces-256", *RELEASED}
    for path in sorted((CONFIGS / "autoencoder").glob("*.toml")):
        assert load_autoencoder_config(path, data="anywhere").name == path.stem
    for path in paths:
        config = load_config(path, data="anywhere")
        assert config.name == path.stem
        assert config.model.unet.z_dim == config.latent_net.z_dim


@pytest.mark.parametrize("name", RELEASED)
def test_the_256_px_configurations_are_the_released_networks(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.toml", data="anywhere")
    with torch.device("meta"):
        own = DiffAE(config.model).state_dict()
        latent = LatentNet(config.latent_net).state_dict()
    keys = json.loads((GOLDENS / "diffae_ffhq256_latent.keys.json").read_text())["keys"]
    theirs = {k: torch.empty(shape, device="meta") for k, shape in keys.items()}
    expected = {k: v.shape for k, v in convert.diffae_from_released(theirs).items()}
    assert {k: v.shape for k, v in own.items() if k != "z_null"} == expected
    expected = {k: v.shape for k, v in convert.latent_net_from_released(theirs, 10).items()}
    assert {k: v.shape for k, v in latent.items()} == expected


def test_one_configuration_extends_another(tmp_path: Path) -> None:
    (tmp_path / "faces-256.toml").write_text((CONFIGS / "faces-256.toml").read_text())
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "faces-256"\nname = "mine"\n[train]\ntotal_images = 7\n')
    config = load_config(mine, data="anywhere")
    assert (config.name, config.train.total_images, config.train.batch_size) == ("mine", 7, 32)
    (tmp_path / "more.toml").write_text('extends = "mine"\n')
    with pytest.raises(UserError, match="one step is the limit"):
        load_config(tmp_path / "more.toml", data="anywhere")


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
    faces = (CONFIGS / "faces-256.toml").read_text()
    path.write_text(text.replace("{faces}", faces))
    if message is None:
        path.write_text(faces.replace("[train]", "[train]\nspeed = 3"))
        message = r"no setting 'speed' in \[train\]"
    with pytest.raises(UserError, match=message):
        load_config(path, data="anywhere")


def test_configuration_without_data(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text((CONFIGS / "faces-256.toml").read_text())
    with pytest.raises(UserError, match="where the images are"):
        load_config(path)


def test_the_numbers_of_a_base(folder: Path, tiny_base: Base, tmp_path: Path) -> None:
    for i in range(10, 60):
        picture(i, size=32).save(folder / f"{i}.png")
    entries = index_images(str(folder))
    labels = {"odd": {f"{i}": float(i % 2) for i in range(60)}}
    phases = []
    plan = Plan(entries, 5, training=entries, labels=labels)
    found, pictures = evaluate_base(tiny_base, plan, lambda phase, n, total: phases.append(phase))
    values = {m.name: m for m in found}
    half = values["t0 ratio 0.5 and back, 50-step grid: MSE in [0, 1]"]
    assert half.count == 5 and 0 < half.value < 1
    assert values["z_sem with random x_T: LPIPS"].how.startswith("lpips-vgg16-4")
    assert values["probe odd: AUC"].count == 60
    assert values["probe odd: AUC"].value > 0.5  # tested on what it was trained on
    assert len(pictures["photos"]) == 5 and len(pictures) == 6
    assert {"codes", "z_sem with random x_T"} <= set(phases)


def test_photos_are_spread_evenly() -> None:
    assert spread(list(range(10)), 5) == [0, 2, 4, 6, 8]  # type: ignore[arg-type]
    assert spread(list(range(3)), 5) == [0, 1, 2]  # type: ignore[arg-type]
