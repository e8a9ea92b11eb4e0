"""The Frechet distance between two sets of features."""

from __future__ import annotations

import numpy as np


def frechet_distance(
    a: np.ndarray,
    b: np.ndarray,
    counts_a: np.ndarray | None = None,
    counts_b: np.ndarray | None = None,
) -> float:
    """Frechet distance of Gaussians fitted to two sets of features (Heusel et al. 2017).

    `|mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))` with the covariances of N - 1. The
    last trace is the nuclear norm of `A B^T / sqrt((n_a - 1)(n_b - 1))`, A and B being the centred
    features: the same number as the usual matrix root, but exact also where the samples are fewer
    than the dimensions, and without the constant that is then added to the diagonal.

    Args:
        a: (n_a, d) features.
        b: (n_b, d) features.
        counts_a: (n_a,) how often each stands in its set; None is once. Each set needs two.
        counts_b: the same of `b`.

    Raises:
        ValueError: another shape, or fewer than two samples.
    """
    counts_a = np.ones(len(a)) if counts_a is None else counts_a
    counts_b = np.ones(len(b)) if counts_b is None else counts_b
    enough = counts_a.sum() > 1 and counts_b.sum() > 1
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not enough:
        raise ValueError(f"need two sets of at least two vectors, got {a.shape} and {b.shape}")
    mean_a, root_a = _mean_and_root(a, counts_a)
    mean_b, root_b = _mean_and_root(b, counts_b)
    difference = mean_a - mean_b
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    traces = np.square(root_a).sum() + np.square(root_b).sum()
    return max(0.0, float(difference @ difference + traces - 2 * cross))


def _mean_and_root(x: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and a matrix R of at most d rows with R^T R the covariance, both float64."""
    x = np.asarray(x, dtype=np.float64)[counts > 0]
    counts = counts[counts > 0]
    mean = counts @ x / counts.sum()
    centred = (x - mean) * np.sqrt(counts / (counts.sum() - 1))[:, None]
    if len(centred) > centred.shape[1]:
        centred = np.linalg.qr(centred, mode="r")
    return mean, centred
