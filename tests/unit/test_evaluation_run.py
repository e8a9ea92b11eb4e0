"""A whole evaluation with presets learned on the spot, on a tiny base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from osasis.errors import UserError
from osasis.evaluate.config import EvaluationConfig, load_evaluation
from osasis.evaluate.painters import learn_config
from osasis.evaluate.report import write_report
from osasis.evaluate.run import Evaluation
from osasis.formats.style_file import Style

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

LEARNED = """
[[methods]]
name = "ours"
learned = "learned"
"""

# the fewest steps that learn at all
SETTINGS = """
[methods.set]
iterations = 4
batch_size = 2
bank = { size = 2, latent_steps = 3, decode_steps = 2 }
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
    assert set(done.result.table["plain"]) == {"a", "b", "all"}
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


def test_a_style_learned_anew_under_the_same_name_is_redrawn(
    tiny_base_path: Path, tiny_style: Style, tmp_path: Path
) -> None:
    for folder in ("photos", "a", "learned"):
        (tmp_path / folder).mkdir()
    picture(1).save(tmp_path / "photos" / "p.png")
    picture(2).save(tmp_path / "a" / "s.png")
    text = METHODS.format(base=tiny_base_path, settings="").partition("[[methods]]")[0]
    path = tmp_path / "methods.toml"
    path.write_text(text.replace('b = "b"\n', "") + LEARNED)
    pictures = []
    for strength in (1.0, 3.0):
        tensors = {k: strength * v for k, v in tiny_style.tensors.items()}
        changed = Style(tiny_style.manifest, tiny_style.thumbnail, tensors)
        changed.save(tmp_path / "learned" / "s.safetensors")
        found = evaluation(load_evaluation(path), tmp_path / "report")
        list(found.steps())
        pictures.append(np.asarray(Image.open(found.groups[0].outputs[0])))
        written = write_report(found, "osasis evaluate")
        assert "ours,quick,a,s,p" in written[0].read_text()
        assert "ours: learned as quick" in written[2].read_text()
    assert not np.array_equal(*pictures)


def test_rows_say_who_judged(config: EvaluationConfig) -> None:
    """A preset with other judges than its own does not pass for it."""
    changed = replace(config.methods[0], value="release", options={"embedder": "vgg16-stats"})
    assert learn_config(changed).title == "release, judged by vgg16-stats"
