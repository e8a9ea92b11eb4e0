"""A whole evaluation with presets learned on the spot, on a tiny base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from osasis.errors import UserError
from osasis.evaluate.config import EvaluationConfig, load_evaluation
from osasis.evaluate.report import write_report
from osasis.evaluate.run import Evaluation

from ..conftest import picture

METHODS = """
title = "tiny"
size = 32
photos = "photos"
bootstrap = 20
metrics = ["lpips", "direction-vgg16"]
base = "{base}"
[styles]
a = "a"
b = "b"
[[methods]]
name = "plain"
preset = "fast"
{settings}[[methods]]
name = "swapped"
preset = "fast"
stylize = {{ swap_codes = true }}
{settings}"""

# the fewest steps that learn at all
SETTINGS = """
[methods.set]
iterations = 4
batch_size = 2
bank = { size = 2, latent_steps = 3, decode_steps = 2 }
bridge = { steps = 4 }
learn_route = { invert_steps = 8, decode_steps = 8, t0_ratio = 0.15 }
stylize_route = { invert_steps = 8, decode_steps = 8, t0_ratio = 0.15 }
"""


@pytest.fixture
def config(tmp_path: Path, tiny_base_path: Path) -> EvaluationConfig:
    for folder, names in (("photos", "pq"), ("a", "s"), ("b", "t")):
        (tmp_path / folder).mkdir()
        for name in names:
            picture(ord(name)).save(tmp_path / folder / f"{name}.png")
    path = tmp_path / "methods.toml"
    path.write_text(METHODS.format(base=tiny_base_path, settings=SETTINGS))
    return load_evaluation(path)


def evaluation(config: EvaluationConfig, out: Path) -> Evaluation:
    return Evaluation(config, out, {}, torch.device("cpu"))


def test_presets_are_learned_measured_and_gone_on_with(
    config: EvaluationConfig, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    stopped = evaluation(config, out)
    ticks = stopped.steps()
    for tick in ticks:
        if tick.phase.startswith("learn") and "plain, t" in tick.phase:
            break  # in the middle of the second style
    ticks.close()
    learned = sorted(out.glob("styles/*/[!.]*.safetensors"))
    assert len(learned) == 1
    stamp = learned[0].stat().st_mtime_ns

    done = evaluation(config, out)
    phases = {tick.phase.split()[0] for tick in done.steps()}
    assert {"learn", "redraw", "measure", "tabulate"} <= phases
    assert learned[0].stat().st_mtime_ns == stamp
    # the methods differ only in where the codes go: both styles are learned once for the two
    assert len(list(out.glob("styles/*/*.safetensors"))) == 2
    outputs = {
        (g.method.name, g.style_name): [np.asarray(Image.open(o)) for o in g.outputs]
        for g in done.groups
    }
    assert all(len(found) == 2 for found in outputs.values())
    assert not np.array_equal(outputs["plain", "s"][0], outputs["swapped", "s"][0])
    assert set(done.result.table["plain"]) == {"a", "b"}
    written = write_report(done, "osasis evaluate")
    assert {p.name for p in written} == {"scores.csv", "report.json", "table.md", "report.html"}

    again = evaluation(config, out)
    assert {tick.phase for tick in again.steps()} == {"measure", "tabulate"}
    assert again.result.table == done.result.table


def test_two_photos_of_one_name_are_refused(config: EvaluationConfig, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "photos" / "p.jpg")
    with pytest.raises(UserError, match="have the same name"):
        evaluation(config, tmp_path / "report")


def test_a_changed_photo_is_redrawn(config: EvaluationConfig, tmp_path: Path) -> None:
    before = [o for g in evaluation(config, tmp_path / "r").groups for o in g.outputs]
    picture(99).save(tmp_path / "photos" / "p.png")
    after = [o for g in evaluation(config, tmp_path / "r").groups for o in g.outputs]
    assert len(set(before) & set(after)) == len(before) / 2
