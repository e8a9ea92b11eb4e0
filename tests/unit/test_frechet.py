"""The Frechet distance and the Inception networks it is measured with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from osasis.errors import UserError
from osasis.evaluate.inception import Inception, InceptionFeatures, tensorflow_resize
from osasis.evaluate.tables import frechet_distance

CPU = torch.device("cpu")


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


def test_frechet_of_diagonal_gaussians_is_the_closed_form() -> None:
    """Samples made to have exactly these means and covariances."""
    n, deviations = 64, (np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5]))
    means = (np.zeros(3), np.array([1.0, -2.0, 0.5]))
    sets = []
    for seed, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        white = normal(n, 3, seed)
        white -= white.mean(axis=0)
        white = np.linalg.qr(white)[0] * np.sqrt(n - 1)
        sets.append(white * deviation + mean)
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((deviations[0] - deviations[1]) ** 2)
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [40, 5])
def test_frechet_equals_torchmetrics(n: int) -> None:
    """More samples than dimensions, and fewer."""
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = normal(n, 16, 0), normal(n + 3, 16, 1, 1.5, 0.3)

    class Rows(nn.Module):
        num_features = 16

        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 0]

    judge = fid.FrechetInceptionDistance(Rows(), normalize=True, input_img_size=(1, 1, 16))
    judge.set_dtype(torch.float64)
    judge.update(torch.from_numpy(a)[:, None, None], real=True)
    judge.update(torch.from_numpy(b)[:, None, None], real=False)
    assert frechet_distance(a, b) == pytest.approx(float(judge.compute()), rel=1e-5)


def test_frechet_of_equal_sets_is_zero_and_grows_with_distance() -> None:
    a = normal(10, 30, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 30)
    with pytest.raises(ValueError, match="two sets"):
        frechet_distance(a, a[:1])


def test_the_resize_reads_where_tensorflow_1_does() -> None:
    x = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4)
    assert tensorflow_resize(x, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    big = torch.rand(1, 3, 47, 31, generator=torch.Generator().manual_seed(0))
    # the same rule, written as a shifted grid: sample centres moved by half a pixel
    height, width, size = 47, 31, 20
    theta = torch.tensor([[[1, 0, 1 / width - 1 / size], [0, 1, 1 / height - 1 / size]]])
    grid = F.affine_grid(theta, [1, 3, size, size], align_corners=False)
    other = F.grid_sample(big, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(tensorflow_resize(big, size), other, rtol=1e-4, atol=1e-4)


def test_average_pools_differ_between_the_two_networks() -> None:
    x = torch.ones(1, 1, 4, 4)
    fid, art = Inception("fid"), Inception("art")
    assert fid.Mixed_5b.pooled(x)[0, 0, 0, 0] == 1
    assert art.Mixed_5b.pooled(x)[0, 0, 0, 0] == pytest.approx(4 / 9)
    peak = torch.zeros(1, 1, 4, 4)
    peak[0, 0, 1, 1] = 9
    assert fid.Mixed_7c.pooled(peak)[0, 0, 0, 0] == 9
    assert art.Mixed_7c.pooled(peak)[0, 0, 0, 0] == pytest.approx(1)


def test_published_files_load_by_their_exact_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Inception("art").eval()
    weights = {k: v.clone() for k, v in network.state_dict().items() if v.ndim}
    for head in ("fc1", "fc2", "AuxLogits1.fc"):
        weights[f"{head}.weight"] = torch.zeros(5, 8)
    save_file(weights, tmp_path / "art.safetensors")
    features = InceptionFeatures(tmp_path / "art.safetensors", "art", CPU)
    picture = Image.fromarray(np.full((80, 80, 3), 51, np.uint8))
    with torch.no_grad():
        expected = network(torch.full((1, 3, 80, 80), 0.2))
    np.testing.assert_allclose(features([picture]), expected, rtol=1e-4, atol=1e-6)

    del weights["Mixed_6a.branch3x3.conv.weight"]
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match="Mixed_6a.branch3x3.conv.weight"):
        InceptionFeatures(tmp_path / "less.safetensors", "art", CPU)
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(UserError, match="no safetensors file"):
        InceptionFeatures(tmp_path / "text.safetensors", "fid", CPU)


@pytest.mark.skipif(
    not {"OSASIS_INCEPTION", "OSASIS_INCEPTION_TORCHSCRIPT"} <= os.environ.keys(),
    reason="OSASIS_INCEPTION and OSASIS_INCEPTION_TORCHSCRIPT name FID's network in two forms",
)
def test_the_real_network_equals_its_torchscript() -> None:
    theirs = torch.jit.load(os.environ["OSASIS_INCEPTION_TORCHSCRIPT"], map_location="cpu").eval()
    ours = InceptionFeatures(Path(os.environ["OSASIS_INCEPTION"]), "fid", CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = theirs((tensorflow_resize(x) - 128) / 128)
    found = torch.from_numpy(ours([Image.fromarray(pixels)]))
    assert float((found - expected).norm() / expected.norm()) < 1e-5
