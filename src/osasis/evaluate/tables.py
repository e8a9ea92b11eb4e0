"""From scores of pictures to numbers with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osasis.evaluate.frechet import frechet_distance

SET_RESAMPLES = 200  # of the Frechet distance, whose resamples are dear
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
        pairs = zip(self.photos[:SET_RESAMPLES], self.styles, strict=False)
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
