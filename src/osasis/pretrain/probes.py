"""What z_sem says about a photo: linear probes of labelled attributes, and their directions."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.errors import UserError

MIN_LABELS = 20  # of each class, to train on
RIDGE = 3e-3  # weight of the squared norm of a probe


@dataclass(frozen=True)
class Probe:
    """A linear classifier of one attribute on z_sem.

    Attributes:
        name: the attribute's column.
        direction: (z_dim,) from the mean of the negatives to the mean of the positives along the
            classifier's normal; see `Base.directions`.
        auc: area under the ROC curve on the held-out photos.
        trained_on: photos it was trained on.
        tested_on: photos held out.
        threshold: a column of numbers is split here, above is positive; None for 0 and 1.
    """

    name: str
    direction: Tensor
    auc: float
    trained_on: int
    tested_on: int
    threshold: float | None = None


def read_attributes(path: Path) -> dict[str, dict[str, float]]:
    """Read labels, a table with tabs whose first column names the image.

    Returns:
        For each attribute the known values by image name (without suffix).

    Raises:
        UserError: the file is missing or is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read labels from {path}: {error}") from error
    if not rows or len(rows[0]) < 2 or None in rows[0]:
        raise UserError(
            f"{path} is no table of labels",
            hint="a first line such as image<TAB>smiling<TAB>age, then a line per image",
        )
    key, *names = rows[0]
    found: dict[str, dict[str, float]] = {}
    for name in names:
        labels = {}
        for row in rows:
            try:
                labels[Path(row[key]).stem] = float(row[name])
            except (TypeError, ValueError):
                continue  # not known of this image
        if labels:
            found[name] = labels
    return found


def auc_of(scores: Sequence[float] | np.ndarray, labels: np.ndarray) -> float:
    """`area_under_curve` of labelled scores; NaN where one of the classes is missing."""
    values = np.asarray(scores, dtype=np.float64)
    if labels.all() or not labels.any():
        return float("nan")
    return area_under_curve(values[labels].tolist(), values[~labels].tolist())


def fit_probe(z: Tensor, labels: Tensor) -> Tensor:
    """Weights (z_dim + 1,) of a logistic regression, the bias last; both classes weigh the same.

    Args:
        z: (N, z_dim) normalised codes.
        labels: (N,) bool.
    """
    x = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    y = labels.double()
    weight = torch.where(labels, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    w = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        fit = F.binary_cross_entropy_with_logits(x @ w, y, weight=weight)
        loss: Tensor = fit + RIDGE * w[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return w.detach().float()


def probe(
    name: str,
    codes: Mapping[str, Tensor],
    held_out: Mapping[str, Tensor],
    labels: Mapping[str, float],
    statistics: tuple[Tensor, Tensor],
) -> Probe | None:
    """Train and test one attribute; None where too few photos are labelled.

    Args:
        name: of the attribute.
        codes: z_sem (z_dim,) by image name, to train on.
        held_out: the same of photos that are not trained on.
        labels: values by image name; numbers other than 0 and 1 are split at their median.
        statistics: mean and standard deviation of z_sem, each (z_dim,).
    """
    train = [n for n in labels if n in codes]
    test = [n for n in labels if n in held_out]
    values = torch.tensor([labels[n] for n in train])
    threshold = None
    if not set(labels.values()) <= {0.0, 1.0}:
        threshold = float(values.median()) if train else 0.0
    bound = 0.5 if threshold is None else threshold
    positive = values > bound
    if min(int(positive.sum()), int((~positive).sum())) < MIN_LABELS:
        return None
    mean, std = statistics
    z = (torch.stack([codes[n] for n in train]) - mean) / std
    weights = fit_probe(z, positive)
    normal = weights[:-1] / weights[:-1].norm()
    projected = z @ normal
    gap = projected[positive].mean() - projected[~positive].mean()
    auc = float("nan")
    if test:
        z_test = (torch.stack([held_out[n] for n in test]) - mean) / std
        truth = np.array([labels[n] > bound for n in test])
        auc = auc_of((z_test @ normal).numpy(), truth)
    return Probe(name, normal * gap * std, auc, len(train), len(test), threshold)


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Chance that a positive scores higher than a negative, ties counting half (ROC AUC,
    Mann-Whitney U).

    Raises:
        ValueError: either list is empty.
    """
    if not len(positive) or not len(negative):
        raise ValueError("the area under the curve needs positives and negatives")
    p, n = np.asarray(positive, dtype=float), np.sort(np.asarray(negative, dtype=float))
    below, upto = np.searchsorted(n, p, side="left"), np.searchsorted(n, p, side="right")
    return float((below + upto).mean() / 2 / len(n))
