"""The encoder in closed form, against what principal components are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from osasis.models.encoder import ThumbnailEncoder, ThumbnailEncoderConfig

CONFIG = ThumbnailEncoderConfig(image_size=16, thumbnail_size=4, z_dim=6)
PIXELS = 3 * 4**2


def images(count: int) -> Tensor:
    """Images (N, 3, 16, 16) whose thumbnails are correlated."""
    source = torch.Generator().manual_seed(0)
    mixing = torch.randn(PIXELS, PIXELS, generator=source) * torch.logspace(0, -2, PIXELS)
    small = 0.1 * torch.randn(count, PIXELS, generator=source) @ mixing.T + 0.2
    return small.view(count, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)


def statistics(thumbnails: Tensor) -> Iterator[Tensor]:
    mean = thumbnails.double().mean(0)
    centred = thumbnails.double() - mean
    yield from (mean, centred.T @ centred / len(thumbnails))


def test_codes_are_white_and_the_way_back_loses_what_the_other_components_hold() -> None:
    encoder, x0 = ThumbnailEncoder(CONFIG), images(500)
    thumbnails = encoder.thumbnails(x0)
    mean, covariance = statistics(thumbnails)
    back = encoder.fit(mean, covariance)
    z = encoder(x0).double()
    assert torch.allclose(z.mean(0), torch.zeros(6).double(), atol=1e-4)
    assert torch.allclose(z.T @ z / len(z), torch.eye(6).double(), atol=1e-3)
    lost = (back(z.float()) - thumbnails).double().square().sum(1).mean()
    others = torch.linalg.eigvalsh(covariance)[: PIXELS - 6].sum()
    assert float(lost) == pytest.approx(float(others), rel=1e-3)


def test_fewer_images_than_components_give_finite_codes() -> None:
    encoder, x0 = ThumbnailEncoder(CONFIG), images(3)
    back = encoder.fit(*statistics(encoder.thumbnails(x0)))
    z = encoder(x0)
    assert torch.isfinite(z).all() and float(z.abs().max()) < 3
    assert torch.allclose(back(z), encoder.thumbnails(x0), atol=1e-3)


def test_a_thumbnail_has_no_more_components_than_numbers() -> None:
    with pytest.raises(ValueError, match="has no 49 components"):
        ThumbnailEncoder(ThumbnailEncoderConfig(16, 4, 49))
