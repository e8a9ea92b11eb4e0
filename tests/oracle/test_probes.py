"""Linear probes against planted directions and a brute-force AUC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from osasis.errors import UserError
from osasis.pretrain.probes import auc_of, fit_probe, probe, read_attributes


def test_auc_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, 60).astype(float)  # ties included
    labels = rng.random(60) < 0.3
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels] for n in scores[~labels]]
    assert auc_of(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert np.isnan(auc_of([1.0, 2.0], np.array([True, True])))


def test_a_planted_direction_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(8)
    truth[2], truth[5] = 3.0, 4.0
    z = torch.randn(4000, 8, generator=generator)
    labels = z @ truth + torch.randn(4000, generator=generator) > 2
    weights = fit_probe(z, labels)
    cosine = torch.cosine_similarity(weights[:-1], truth, dim=0)
    assert cosine > 0.995


def test_one_unit_goes_from_one_mean_to_the_other() -> None:
    generator = torch.Generator().manual_seed(1)
    mean, std = torch.full((4,), 5.0), torch.tensor([1.0, 2.0, 0.5, 1.0])
    step = torch.tensor([2.0, 0.0, 1.0, 0.0])  # in z_sem
    labels = {f"{i}": float(i % 2) for i in range(3000)}
    noise = torch.randn(3000, 4, generator=generator) * std
    codes = {f"{i}": mean + noise[i] + (i % 2) * step for i in range(3000)}
    held_out = {k: codes.pop(k) for k in [f"{i}" for i in range(1000)]}
    found = probe("smiling", codes, held_out, labels, (mean, std))
    assert found is not None
    assert (found.trained_on, found.tested_on) == (2000, 1000)
    normalised, expected = found.direction / std, step / std
    assert torch.cosine_similarity(normalised, expected, dim=0) > 0.98
    assert normalised.norm() == pytest.approx(float(expected.norm()), rel=0.05)
    # two unit normals whose means lie sqrt(8) apart: AUC is Phi(sqrt(8) / sqrt(2))
    assert found.auc == pytest.approx(0.977, abs=0.012)


def test_numbers_are_split_at_their_median_and_few_labels_are_no_probe() -> None:
    generator = torch.Generator().manual_seed(2)
    codes = {f"{i}": torch.randn(4, generator=generator) for i in range(200)}
    ages = {k: 40 + 10 * float(z[1]) for k, z in codes.items()}
    statistics = (torch.zeros(4), torch.ones(4))
    found = probe("age", codes, {}, ages, statistics)
    assert found is not None and found.threshold == pytest.approx(40, abs=2)
    assert int(found.direction.argmax()) == 1 and np.isnan(found.auc)
    rare = {k: float(i < 19) for i, k in enumerate(codes)}
    assert probe("rare", codes, {}, rare, statistics) is None


def test_reading_labels(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("image\tsmiling\tage\na.png\t1\t\nb\t0\t33\n")
    assert read_attributes(table) == {"smiling": {"a": 1.0, "b": 0.0}, "age": {"b": 33.0}}
    table.write_text("no table")
    with pytest.raises(UserError, match="no table of labels"):
        read_attributes(table)
    with pytest.raises(UserError, match="cannot read labels"):
        read_attributes(tmp_path / "none.tsv")
