"""Frozen judges: VGG statistics, LPIPS and CLIP."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import osasis
from osasis.errors import OsasisError, UserError
from osasis.extras import install
from osasis.perception import Embedder, VggJudges, get_embedder, load_judges
from osasis.perception.clip import ClipEmbedder
from osasis.perception.judges import VGG_ASSET
from osasis.perception.vgg import VggTrunk, vgg_shapes

ASSET = Path(osasis.__file__).parent / "assets" / VGG_ASSET
LAYER_DIMS = [128, 256, 512, 1024]


@pytest.fixture(scope="module")
def judges() -> VggJudges:
    return load_judges()


def pictures(count: int, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bilinear") * 2 - 1


def oracle_activations(x: Tensor) -> list[Tensor]:
    weights = {name: tensor.float() for name, tensor in load_file(ASSET).items()}
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    y = (x - shift) / scale
    activations: list[Tensor] = []
    for stage in ([0, 2], [5, 7], [10, 12, 14], [17, 19, 21]):
        y = F.max_pool2d(y, 2, 2) if activations else y
        for n in stage:
            kernel, bias = weights[f"features.{n}.weight"], weights[f"features.{n}.bias"]
            y = F.relu(F.conv2d(y, kernel, bias, padding=1))
        activations.append(y)
    return activations


def test_trunk_equals_the_formula(judges: VggJudges) -> None:
    x = pictures(1)
    found, expected = judges.trunk(x), oracle_activations(x)
    assert [tuple(a.shape) for a in found] == [
        (1, 64, 32, 48), (1, 128, 16, 24), (1, 256, 8, 12), (1, 512, 4, 6)
    ]  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_trunk_is_frozen_float32_channels_last(judges: VggJudges) -> None:
    assert not judges.trunk.training
    for parameter in judges.trunk.parameters():
        assert not parameter.requires_grad
        assert parameter.dtype == torch.float32
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)


def test_trunk_refuses_other_shapes(judges: VggJudges) -> None:
    for shape in ((3, 32, 32), (1, 1, 32, 32), (1, 3, 15, 32)):
        with pytest.raises(ValueError, match="at least 16 pixels"):
            judges.trunk(torch.zeros(shape))
    with pytest.raises(ValueError, match="1 to 5 stages"):
        VggTrunk(6)


def test_loading_leaves_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_judges()
    assert torch.equal(torch.rand(3), expected)


def test_lpips_equals_the_formula(judges: VggJudges) -> None:
    x, y = pictures(2, seed=1), pictures(2, seed=2)
    heads = load_file(ASSET)
    expected = torch.zeros(2)
    for i, (a, b) in enumerate(zip(oracle_activations(x), oracle_activations(y), strict=True)):
        a = a / (a.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
        b = b / (b.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
        expected += F.conv2d((a - b) ** 2, heads[f"lin{i}.weight"].float()).mean((1, 2, 3))
    torch.testing.assert_close(judges.lpips(x, y), expected, rtol=1e-4, atol=1e-6)


def test_lpips_zero_symmetric_monotone(judges: VggJudges) -> None:
    x, y = pictures(2), pictures(2, seed=3)
    assert judges.lpips.name == "lpips-vgg16-4"
    assert judges.lpips(x, x).tolist() == [0, 0]
    torch.testing.assert_close(judges.lpips(x, y), judges.lpips(y, x))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    distances = torch.stack([judges.lpips(x, x + s * noise) for s in (0.02, 0.1, 0.3)])
    assert bool((distances.diff(dim=0) > 0).all())
    assert bool((distances > 0).all())


def test_lpips_pieces_broadcast_and_agree(judges: VggJudges) -> None:
    x, y = pictures(2), pictures(1, seed=3)
    normalised_x = judges.lpips.normalise(judges.trunk(x))
    normalised_y = judges.lpips.normalise(judges.trunk(y))
    found = judges.lpips.distance(normalised_x, normalised_y)
    assert found.shape == (2,)
    torch.testing.assert_close(found, judges.lpips(x, y.expand_as(x)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, judges.lpips(y, x), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="cannot compare"):
        judges.lpips(x, pictures(2, 32, 32))
    with pytest.raises(ValueError, match="cannot compare"):
        judges.lpips(x, pictures(3))


@pytest.mark.parametrize("picture", ["noise", "black"])
def test_gradients_are_finite(judges: VggJudges, picture: str) -> None:
    x = pictures(1, 32, 32) if picture == "noise" else torch.full((1, 3, 32, 32), -1.0)
    x.requires_grad_()
    activations = judges.trunk(x)
    target = judges.lpips.normalise(judges.trunk(pictures(1, 32, 32, seed=8)))
    loss = judges.statistics.from_activations(activations).sum()
    loss = loss + judges.lpips.distance(judges.lpips.normalise(activations), target).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(gradient.isfinite().all())
    assert gradient.abs().max() > 0


def test_statistics(judges: VggJudges) -> None:
    x = pictures(2)
    found = judges.statistics(x)
    assert isinstance(judges.statistics, Embedder)
    assert (judges.statistics.name, judges.statistics.dim) == ("vgg16-stats", 1920)
    assert found.shape == (2, 1920)
    assert found.dtype == torch.float32
    for part in torch.split(found, LAYER_DIMS, dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(2))
    assert torch.equal(judges.statistics.from_activations(judges.trunk(x)), found)
    for part, layer in zip(
        torch.split(found, LAYER_DIMS, dim=1), oracle_activations(x), strict=True
    ):
        raw = torch.cat([layer.mean((2, 3)), layer.std((2, 3), correction=0)], dim=1)
        expected = raw / raw.norm(dim=1, keepdim=True)
        torch.testing.assert_close(part, expected, rtol=1e-3, atol=1e-4)


def test_statistics_shrink_large_pictures(judges: VggJudges) -> None:
    x = pictures(1, 112, 448)
    small = F.interpolate(x, (56, 224), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(judges.statistics(x), judges.statistics(small))
    half = pictures(1).half()
    assert judges.statistics(half).dtype == torch.float32


def test_weight_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not exist"):
        load_judges(tmp_path / "gone.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    with pytest.raises(OsasisError, match="cannot read"):
        load_judges(tmp_path / "bad.safetensors")
    weights = load_file(ASSET)
    weights["extra"] = weights.pop("lin2.weight").clone()
    save_file(weights, tmp_path / "renamed.safetensors")
    with pytest.raises(OsasisError, match=r"2 tensors .*extra, lin2\.weight"):
        load_judges(tmp_path / "renamed.safetensors")


def test_five_layers_are_called_by_the_full_name(tmp_path: Path) -> None:
    weights = {name: torch.zeros(shape).half() for name, shape in vgg_shapes(5).items()}
    weights |= load_file(ASSET)
    save_file(weights, tmp_path / "five.safetensors")
    judges = load_judges(tmp_path / "five.safetensors")
    assert judges.lpips.name == "lpips-vgg16"
    x, y = pictures(1), pictures(1, seed=1)
    assert len(judges.trunk(x)) == 5
    assert judges.statistics(x).shape == (1, 1920)
    # the fifth layer is all zeros here, so nothing is added
    torch.testing.assert_close(judges.lpips(x, y), load_judges().lpips(x, y))


def test_get_embedder_by_name() -> None:
    for name in (None, "vgg16-stats"):
        assert get_embedder(name).name == "vgg16-stats"
    for name in ("dino", "clip:", "clipper", ""):
        with pytest.raises(UserError, match="no embedder named") as caught:
            get_embedder(name)
        assert "vgg16-stats" in caught.value.hint


def test_clip_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="not installed") as caught:
        get_embedder("clip")
    for part in (
        install("clip"),
        "605 MB",
        "osasis models fetch clip-vit-b32",
    ):
        assert part in caught.value.hint


def features(embedder: ClipEmbedder, pixel_values: Tensor) -> Tensor:
    found = embedder._model.get_image_features(pixel_values=pixel_values)
    value: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return value


def test_clip_embeds_pictures(clip_folder: Path) -> None:
    embedder = get_embedder(f"clip:{clip_folder}")
    assert isinstance(embedder, ClipEmbedder)
    assert isinstance(embedder, Embedder)
    assert (embedder.name, embedder.dim) == (f"clip:{clip_folder}", 12)
    x = pictures(2, 64, 64).requires_grad_()
    found = embedder(x)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    small = F.interpolate((x + 1) / 2, (28, 28), mode="bicubic", antialias=True)
    torch.testing.assert_close(found, features(embedder, (small - mean) / std))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.abs().max() > 0
    assert not any(p.requires_grad for p in embedder._model.parameters())


def test_clip_as_the_released_program_feeds_it(clip_folder: Path) -> None:
    embedder = ClipEmbedder(clip_folder, release_preprocessing=True)
    x = pictures(1, 56, 56)
    assert torch.equal(embedder.preprocess(x), x[..., ::2, ::2])
    torch.testing.assert_close(embedder(x), features(embedder, x[..., ::2, ::2]))


def test_clip_embeds_texts(clip_folder: Path) -> None:
    embedder = ClipEmbedder(clip_folder)
    found = embedder.embed_text(["a photo", "a very long text that has to be cut"])
    assert found.shape == (2, 12)
    # padding must not change a text's vector
    torch.testing.assert_close(found[:1], embedder.embed_text(["a photo"]))
    with pytest.raises(ValueError, match="at least one text"):
        embedder.embed_text([])


def test_clip_that_is_not_here_or_not_whole(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CLIP folder"):
        ClipEmbedder(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        ClipEmbedder("nobody-here/no-such-clip")
    assert "hf download nobody-here/no-such-clip" in caught.value.hint
    with pytest.raises(UserError, match="cannot be loaded"):
        ClipEmbedder(tmp_path)
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    weights = load_file(clip_folder / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks 1 tensors"):
        ClipEmbedder(tmp_path)
    save_file(load_file(clip_folder / "model.safetensors"), tmp_path / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(UserError, match="without its tokenizer"):
        ClipEmbedder(tmp_path).embed_text(["a"])
