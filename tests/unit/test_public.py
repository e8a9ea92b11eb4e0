"""The public API: its names and signatures, and what they promise."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import osasis
from osasis import Base, Style, Stylizer, UserError, learn_style
from osasis.files import snapshot_file
from osasis.learn.learner import StepRecord

from ..conftest import picture
from .test_style import QUICK

SIGNATURES = {
    "Stylizer": "(base, style, controls, *, edits, batch_size, **changes)",
    "Stylizer.from_pretrained": "(style, *, base, device, controls, **changes)",
    "Stylizer.__call__": "(self, photos, controls, **changes)",
    "Stylizer.stream": "(self, photos)",
    "Stylizer.redraw_squares": "(self, x0, seeds)",
    "learn_style": "(picture, *, base, preset, photos, seed, name, embedder, output, callback)",
    "Style.from_pretrained": "(style, **options)",
    "Style.save": "(self, path, max_error)",
    "Base.from_pretrained": "(base, *, device, **options)",
    "Base.encode": "(self, x0)",
    "Base.invert": "(self, x0, z_sem, t0, steps)",
    "Base.decode": "(self, x_t, z_sem, t0, steps)",
    "Base.sample": "(self, n, seed, steps, latent_steps)",
    "load_base": "(name_or_path, *, device)",
    "load_style": "(path)",
    "preview_style": "(base, image, *, name)",
}
NAMES = {
    "AttributeEdit", "Base", "Controls", "LearnConfig", "OsasisError", "PRESETS", "Style",
    "Stylizer", "TextEdit", "UserError", "__version__", "learn_style", "load_base", "load_style",
    "preview_style",
}  # fmt: skip


def found(name: str) -> object:
    value: object = osasis
    for part in name.split("."):
        value = getattr(value, part)
    return value


def spelled(name: str) -> str:
    """Names and kinds of the parameters."""
    signature = inspect.signature(found(name))  # type: ignore[arg-type]
    bare = [p.replace(annotation=p.empty, default=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def test_names_and_signatures() -> None:
    """A change here is a change for everybody's code: say so in CHANGELOG."""
    assert set(osasis.__all__) == NAMES == set(dir(osasis))
    assert {name: spelled(name) for name in SIGNATURES} == SIGNATURES
    for name in SIGNATURES:
        parameters = inspect.signature(found(name)).parameters.values()  # type: ignore[arg-type]
        assert all(p.annotation is not p.empty for p in parameters if p.name != "self"), name


def test_importing_loads_nothing_heavy() -> None:
    program = (
        "import sys, osasis; osasis.Controls(strength=0.5)\n"
        "print([n for n in ('torch', 'numpy', 'PIL', 'cv2') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=int)


def test_a_photo_gives_a_picture_and_a_list_a_list(tiny_base: Base, tiny_style: Style) -> None:
    stylizer = Stylizer.from_pretrained(tiny_style, base=tiny_base, fit="whole")
    photos = [picture(1, 64), picture(2, 64).resize((64, 96))]
    one, both = stylizer(photos[0]), stylizer(photos)
    assert isinstance(one, Image.Image) and isinstance(both, list)
    assert [image.size for image in both] == [(64, 64), (64, 96)]
    assert np.abs(pixels(one) - pixels(both[0])).max() <= 1
    faint = stylizer(photos[0], strength=0.0)
    assert np.array_equal(
        pixels(faint), pixels(Stylizer(tiny_base, tiny_style, fit="whole", strength=0)(photos[0]))
    )
    assert np.array_equal(pixels(stylizer(photos[0])), pixels(one))  # for those photos alone


def test_from_pretrained_takes_files_and_mixes(
    tiny_base: Base, tiny_base_path: Path, tiny_style: Style, tmp_path: Path
) -> None:
    path = tmp_path / "style.safetensors"
    tiny_style.save(path)
    plain = Stylizer(tiny_base, Style.from_pretrained(path))(picture(1))
    for style in (path, str(path), [(path, 2.0)]):
        same = Stylizer.from_pretrained(style, base=tiny_base_path)
        assert np.array_equal(pixels(same(picture(1))), pixels(plain))
    mix = Stylizer.from_pretrained([(path, 0.7), (tiny_style, 0.3)], base=tiny_base)
    assert np.abs(pixels(mix(picture(1))) - pixels(plain)).max() <= 3  # both are the same style
    assert (tiny_style.base, tiny_style.preset) == (tiny_base.name, tiny_style.manifest.preset)
    with pytest.raises(UserError, match="no style"):
        Stylizer.from_pretrained([], base=tiny_base)


def test_learning_into_a_file_goes_on_after_a_stop(tiny_base: Base, tmp_path: Path) -> None:
    output = tmp_path / "a.osasis.safetensors"
    config = replace(QUICK, iterations=3)
    records: list[StepRecord] = []

    def stop(record: StepRecord) -> None:
        records.append(record)
        if record.phase == "learn" and record.done == 5:
            raise KeyboardInterrupt

    def learn(callback: object) -> Style:
        return learn_style(
            picture(1), base=tiny_base, preset=config, output=output,
            callback=callback,  # type: ignore[arg-type]
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        learn(stop)
    assert snapshot_file(output).exists() and not output.exists()
    assert [r.phase for r in records][-1] == "learn"
    records.clear()
    style = learn(records.append)
    assert [r.done for r in records if r.phase == "learn"][0] > 1  # not from the start
    assert output.exists() and not snapshot_file(output).exists()
    assert Style.from_pretrained(output).manifest == style.manifest
