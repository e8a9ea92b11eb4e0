"""What jobs do, without a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from PIL import Image

from osasis.base import Base
from osasis.cli.main import main
from osasis.errors import UserError
from osasis.files import reserved
from osasis.formats.style_file import Style
from osasis.imaging.load import load_image
from osasis.studio import views
from osasis.studio.config import Limits, Settings, StudioConfig, settings_from
from osasis.studio.connect import Clicks
from osasis.studio.intake import PICTURE
from osasis.studio.jobs import Step
from osasis.studio.service import Service
from osasis.studio.store import Visitor
from osasis.studio.work import EXAMPLES
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture
from ..unit.conftest import tiny_style as tiny_style
from .conftest import PRESET, free_port


@pytest.fixture(scope="module")
def service(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = StudioConfig(data=tmp_path_factory.mktemp("data"), limits=Limits())
    service = Service(config, tiny_base, PRESET)
    yield service
    service.close()


@pytest.fixture
def visitor(service: Service) -> Visitor:
    return service.store.visitor("v" * 40)


def results(steps: Iterator[Step]) -> list[str]:
    return [step.result for step in steps if step.result]


def test_a_mix_with_every_control_is_what_the_library_draws(
    service: Service, visitor: Visitor, tiny_base: Base
) -> None:
    one, two = (service.intake.add_style_picture(visitor, picture(i), f"s{i}") for i in (1, 2))
    photo = service.intake.add_photo(visitor, picture(5), "photo")
    chosen = settings_from(
        {"style": one.id, "second": two.id, "share": 0.25, "strength": 0.75, "style_levels": [0, 1]}
        | {"t0": 300, "swap_codes": True, "variation": 0.5, "seed": 7, "guidance": 2.0}
    )
    [key] = results(service.studio.stylize(visitor, [photo.id], chosen))
    styles = [(preview_style(tiny_base, picture(i)), share) for i, share in ((1, 0.75), (2, 0.25))]
    stylizer = Stylizer(
        tiny_base, styles, strength=0.75, style_levels=(0, 1), t0=300, swap_codes=True,
        variation=0.5, seed=7, guidance=2.0,
    )  # fmt: skip
    drawn = Image.open(visitor.item(key).file(PICTURE))
    assert drawn.tobytes() == stylizer(picture(5)).tobytes()
    assert '"seed": 7' in drawn.text["osasis"]


def test_the_factor_multiplies_each_styles_own(service: Service, tiny_style: Style) -> None:
    strong = replace(tiny_style, manifest=replace(tiny_style.manifest, lambda_spn=0.4))
    shares = [(tiny_style, 0.5), (strong, 0.5)]
    own = [style.manifest.lambda_spn for style, _ in shares]
    for factor in (1.0, 3.0, 0.0):
        stylizer = service.studio._stylizer(shares, Settings(spn_factor=factor))
        weights = [part.settings.lambda_spn for part in stylizer._model.parts]
        assert weights == pytest.approx([factor * weight for weight in own])


def test_an_uploaded_style_says_how_it_was_learned(
    service: Service, visitor: Visitor, tiny_style: Style
) -> None:
    own = replace(tiny_style.manifest.config, preset="release", embedder="vgg16-stats")
    manifest = replace(tiny_style.manifest, config=own, preset=own.title)
    upload = service.store.uploads / "s.safetensors"
    replace(tiny_style, manifest=manifest).save(upload)
    item = service.intake.style_file(visitor, upload)
    assert views.state_of(item) == "uploaded, release, judged by vgg16-stats"


def test_the_example_is_called_by_its_own_style() -> None:
    """The painting in the file's name, whatever is shipped."""
    name = EXAMPLES[1].removeprefix(f"{EXAMPLES[0]}-")
    shown = views.result(None)
    assert f"examples/{EXAMPLES[1]}" in shown
    assert f"in the style of {escape(views.titles()[name])}" in shown


def test_only_chosen_faces_are_redrawn(service: Service, visitor: Visitor) -> None:
    photo = service.example_photo(visitor)
    style = service.intake.add_style_picture(visitor, picture(1), "s")
    chosen = Settings(style=style.id, fit="faces")
    [key] = results(service.studio.stylize(visitor, [photo.id], chosen))
    before, after = (load_image(i.file(PICTURE)) for i in (photo, visitor.item(key)))
    assert before.size == after.size and before.tobytes() != after.tobytes()
    corner = (0, 256, 100, 512)
    assert before.crop(corner).tobytes() == after.crop(corner).tobytes()
    service.toggle_face(visitor, photo.id, 0)
    steps = list(service.studio.stylize(visitor, [photo.id], chosen))
    assert "no face is chosen" in steps[-1].failure and not steps[-1].result


def test_a_style_that_is_learned_is_the_chosen_one(service: Service, visitor: Visitor) -> None:
    style = service.intake.add_style_picture(visitor, picture(1), "s")
    chosen = Clicks(service).learn(visitor, {"mine": style.id, "style": "another"}, 0)
    assert chosen == {"mine": style.id, "style": style.id}
    for job in service.queue.jobs(visitor.id):
        service.queue.cancel(visitor.id, job.id)


def test_a_sheet_grows_row_by_row(service: Service, visitor: Visitor) -> None:
    photo = service.intake.add_photo(visitor, picture(5), "photo")
    style = service.intake.add_style_picture(visitor, picture(1), "s")
    settings = Settings(style=style.id)
    steps = list(service.studio.explore(visitor, photo.id, settings, ["strength", "codes"]))
    assert [step.total for step in steps[-1:]] == [7]
    previews = [step.preview for step in steps if step.preview]
    assert len(previews) == 2 and previews[0] == previews[1] == steps[-1].result
    with pytest.raises(UserError, match="choose rows"):
        service.explore(visitor, photo.id, settings, ["nothing"])


def test_settings_out_of_range_are_refused() -> None:
    for raw in ({"share": 2}, {"variation": float("nan")}, {"fit": "x"}, {"swap_codes": 1}):
        with pytest.raises(UserError):
            settings_from(raw)
    assert settings_from({"attributes": {"a": 0, "b": 1}}).attributes == (("b", 1.0),)


def test_the_command_refuses_what_cannot_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "password"
    empty.write_text("\n")
    data = f"--data={tmp_path / 'data'}"
    assert main(["studio", data, "--password-file", str(empty)]) == 2
    assert main(["studio", data, "--password-file", str(tmp_path / "none")]) == 2
    assert main(["studio", data, "--port", "0"]) == 2
    assert not (tmp_path / "data").exists()
    assert "holds no password" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for options, said in (
        (["--password-file", "/dev/zero"], "more than 1024 bytes"),
        (["--password-file", str(tmp_path)], f"cannot be read from {tmp_path}: Is a directory"),
        (["--data", str(tmp_path / "file")], "choose another with --data"),
        (["--domain", "http://x.org/"], "a domain is a host name, got 'http://x.org/'"),
        (["--domain", ""], "a domain is a host name"),
        (["--root-path", "studio"], "--root-path /studio"),
    ):
        assert main(["studio", data, *options]) == 2
        assert said in capsys.readouterr().err
    for domain in ("*", "*.example.org", "studio.example.org", "[::1]", "10.0.0.1"):
        StudioConfig(tmp_path, domains=(domain,))


def test_a_folder_has_one_studio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with reserved(tmp_path / "studio"):  # as a studio that runs
        options = ["--data", str(tmp_path), "--port", str(free_port())]
        assert main(["studio", *options]) == 2
    assert f"another studio uses {tmp_path}" in capsys.readouterr().err
