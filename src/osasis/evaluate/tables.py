"""From scores of pictures to numbers with intervals; the Frechet distance of sets."""

from __future__ import annotations

from dataclasses import dataclass

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


SET_RESAMPLES = 200  # of the Frechet distance, whose resamples take long
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its 95% bootstrap interval over photos and styles, and its sample count."""

    value: float
    low: float
    high: float
    samples: int

    def __str__(self) -> str:
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


class Resampler:
    """Draws photos and styles with replacement; the same draws for every method and metric.

    So differences of two methods are paired, and intervals cover both which photos and which
    styles were chosen. Source: the two-way bootstrap of Owen 2007, "The pigeonhole bootstrap".

    Args:
        photos: number of photos.
        styles: number of styles.
        resamples: number of draws; 0 gives no intervals.
        seed: seed of the draws.
    """

    def __init__(self, photos: int, styles: int, resamples: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.photos = rng.multinomial(photos, [1 / photos] * photos, resamples)
        self.styles = rng.multinomial(styles, [1 / styles] * styles, resamples)

    def mean(self, scores: np.ndarray) -> Estimate:
        """Mean of (photos, styles) scores."""
        draws = np.einsum("rp,ps,rs->r", self.photos, scores, self.styles) / scores.size
        return _percentiles(float(scores.mean()), draws, scores.size)

    def frechet(self, outputs: np.ndarray, styles: np.ndarray) -> Estimate:
        """Frechet distance of (photos, styles, d) features of outputs to (styles, d) of styles.

        Every output is paired with its style image, so that both sets have as many members.
        Resamples hold copies, which moves the distance; the interval is moved back by that much.
        """
        n_photos, n_styles, d = outputs.shape
        flat = outputs.reshape(-1, d)

        def distance(photo_counts: np.ndarray, style_counts: np.ndarray) -> float:
            counts = np.outer(photo_counts, style_counts).ravel()
            return frechet_distance(flat, styles, counts, style_counts * photo_counts.sum())

        value = distance(np.ones(n_photos), np.ones(n_styles))
        pairs = zip(self.photos[:SET_RESAMPLES], self.styles[:SET_RESAMPLES], strict=True)
        draws = np.array([distance(p, s) for p, s in pairs])
        if len(draws):
            draws += value - draws.mean()
        return _percentiles(value, draws, len(flat))


def _percentiles(value: float, draws: np.ndarray, samples: int) -> Estimate:
    if not len(draws):
        return Estimate(value, value, value, samples)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), samples)


def art_fid(lpips: Estimate, fid: Estimate) -> Estimate:
    """`(1 + LPIPS) (1 + FID)` (Wright and Ommer 2022, 2207.12280, Eq. 4), bounds from its parts."""
    return Estimate(
        (1 + lpips.value) * (1 + fid.value),
        (1 + lpips.low) * (1 + fid.low),
        (1 + lpips.high) * (1 + fid.high),
        min(lpips.samples, fid.samples),
    )
