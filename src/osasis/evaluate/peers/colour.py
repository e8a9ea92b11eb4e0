"""The style's colours and nothing else."""

from __future__ import annotations

import numpy as np
from PIL import Image


def colour_transfer(photo: Image.Image, style: Image.Image) -> Image.Image:
    """The photo with the style's mean and covariance of RGB, in closed form: a floor to stand on.

    Source: the linear Monge-Kantorovich transfer of Pitie and Kokaram 2007, section 3.
    """
    x = np.asarray(photo.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    y = np.asarray(style.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    a, b = np.cov(x.T) + 1e-6 * np.eye(3), np.cov(y.T) + 1e-6 * np.eye(3)
    root = _root(a)
    inverse = np.linalg.inv(root)
    moved = (x - x.mean(0)) @ (inverse @ _root(root @ b @ root) @ inverse) + y.mean(0)
    pixels = np.rint(moved.clip(0, 255)).astype(np.uint8)
    return Image.fromarray(pixels.reshape(photo.height, photo.width, 3))


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
