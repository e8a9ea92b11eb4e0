"""Released checkpoints to our files and back: names, shapes, numbers."""

from __future__ import annotations

import json
import pickle
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from osasis import Base, Style, Stylizer, UserError, learn_style, load_base, load_style
from osasis.hub import convert
from osasis.hub.fetch import fetch
from osasis.hub.released import (
    Architecture,
    architecture,
    base_bytes,
    build_base,
    export_base,
    export_style,
    import_style,
)
from osasis.models.diffae import DiffAE, invert
from osasis.models.encoder import ThumbnailEncoderConfig
from osasis.models.unet import UNet
from osasis.stylize.decode import decode
from osasis.stylize.model import StyledModel, StylePart
from osasis.stylize.model import student as student_of

from ..conftest import picture
from ..standin import draw, lightning_checkpoint, p2_checkpoint
from .conftest import QUICK

GOLDENS = Path(__file__).parents[1] / "goldens"


def keys_of(name: str) -> dict[str, tuple[int, ...]]:
    raw = json.loads((GOLDENS / name).read_text())
    return {k: tuple(v) for k, v in raw.get("keys", raw).items()}


def test_names_and_shapes_of_the_released_256_pixel_checkpoints() -> None:
    family = architecture("ffhq-256")
    expected = keys_of("diffae_ffhq256_latent.keys.json")
    assert len(expected) == 784
    assert family.diffae_shapes() == expected
    assert family.ddpm_shapes() == keys_of("p2_ffhq256.keys.json")
    doubled = sum(torch.Size(v).numel() for k, v in expected.items() if ".linear_emb." in k)
    assert base_bytes(family) == 4 * (232_057_603 - doubled + 93_563_910)


def test_spn_names_both_ways() -> None:
    keys = keys_of("osasis_tiny.json")
    for prefix in ("model_map.", "model_map_untimed."):
        released = convert.with_prefix(keys, prefix)
        ours = {k: torch.zeros(1) for k in released}
        assert set(convert.spn_to_released(convert.spn_from_released(ours))) == set(released)


def read_own(path: Path) -> dict[str, Any]:
    """A checkpoint that a test wrote, Lightning's objects included."""
    return torch.load(path, weights_only=False, pickle_module=Tolerant)


class Tolerant:
    """The pickle module, with a stand-in for Lightning."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return dict if module == "pytorch_lightning" else super().find_class(module, name)

    load = staticmethod(pickle.load)


@pytest.fixture(scope="module")
def base(small: Architecture, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = tmp_path_factory.mktemp("converted") / "small.safetensors"
    files = checkpoints / "last.ckpt", checkpoints / "ffhq_p2.pt"
    build_base(path, "small", small, *files, {"description": "small"})
    return load_base(path)


@pytest.fixture(scope="module")
def style(base: Base) -> Style:
    return learn_style(picture(1), base=base, preset=QUICK, name="smooth")


def test_a_base_goes_there_and_back_without_a_difference(
    base: Base, checkpoints: Path, tmp_path: Path
) -> None:
    files = export_base(base, tmp_path)
    assert [file.name for file in files] == ["last.ckpt", "ffhq_p2.pt"]
    for file, prefix in zip(files, ("ema_model.", "out."), strict=True):
        # what an old pickle reader sees; the files are ours
        first, second = read_own(checkpoints / file.name), read_own(file)
        first, second = first.get("state_dict", first), second.get("state_dict", second)
        names = [name for name in first if name.startswith(prefix)]
        assert names
        for name in names:
            assert torch.equal(first[name], second[name]), name
    again = tmp_path / "again.safetensors"
    build_base(again, "small", architecture("small"), *files, {"description": "small"})
    assert load_base(again).hash == base.hash


def test_our_own_base_cannot_be_exported(tiny_base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another architecture"):
        export_base(tiny_base, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"unet": {"draft_size": 8}},
        {"unet": {"patch_size": 2}},
        {"unet": {"head_channels": 16}},
        {"encoder": {"patch_size": 2}},
        {"encoder": "thumbnail"},
        {"prediction": "v"},
        {"null_code": True},
        {"ddpm": {"patch_size": 2}},
    ],
    ids=str,
)
def test_nothing_that_released_programs_do_not_know_is_exported(
    base: Base, small: Architecture, tmp_path: Path, change: dict[str, Any]
) -> None:
    config, ddpm = small.diffae, UNet(replace(small.ddpm, **change.pop("ddpm", {})))
    if change.get("encoder") == "thumbnail":
        change = {"encoder": ThumbnailEncoderConfig(config.unet.image_size, 8, config.unet.z_dim)}
    for name, value in change.items():
        part = replace(getattr(config, name), **value) if isinstance(value, dict) else value
        config = replace(config, **{name: part})
    other = Base(
        DiffAE(config), base.latent_net, base.z_mean, base.z_std,
        name="other", file_hash="none", device=base.device, ddpm=ddpm,
    )  # fmt: skip
    with pytest.raises(UserError, match="another architecture"):
        export_base(other, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_style_with_another_spn_cannot_be_exported(
    base: Base, style: Style, tmp_path: Path
) -> None:
    config = replace(QUICK, spn=replace(QUICK.spn, channels=32))
    narrow = replace(style, manifest=replace(style.manifest, config=config))
    with pytest.raises(UserError, match="is 32 channels wide"):
        export_style(narrow, base, tmp_path / "iter_1.pt")
    assert not (tmp_path / "iter_1.pt").exists()


def test_a_base_without_ddpm_says_so_when_it_learns(
    small: Architecture, checkpoints: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.safetensors"
    build_base(path, "half", small, checkpoints / "last.ckpt", None, {})
    with pytest.raises(UserError, match="no unconditional DDPM"):
        learn_style(picture(1), base=load_base(path), preset=QUICK)


def test_a_style_goes_to_the_released_layout_and_back(
    base: Base, style: Style, tmp_path: Path
) -> None:
    path = tmp_path / "iter_1.pt"
    export_style(style, base, path)
    content = torch.load(path, weights_only=True)
    assert list(content) == ["iter", "diffae_B", "model_map", "optim_diffae_B", "optim_map"]
    assert content["iter"] == 1
    golden = keys_of("osasis_tiny.json")
    assert set(content["model_map"]) == set(convert.with_prefix(golden, "model_map."))
    back = import_style(path, base, picture(1), "smooth")
    ours, theirs = student_of(style, base), student_of(back, base)
    for one, other in ((ours.diffae, theirs.diffae), (ours.spn, theirs.spn)):
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert float((a - b).abs().max()) < 1e-6, name
    back.save(tmp_path / "back.safetensors")
    stored = Stylizer(base, load_style(tmp_path / "back.safetensors"), style_levels=(0,))
    assert stored(picture(2)).size == (32, 32)
    # the released networks of the goldens are ours: what both students draw is the same
    x0 = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        z = base.encode(x0)
        x_t0 = invert(base.diffae, x0, z, QUICK.stylize_route)
        parts = [(s.diffae, StylePart(1.0, z, (0,), s.spn, QUICK.spn)) for s in (ours, theirs)]
        models = [
            StyledModel(diffae, (part,), strength=1.0, swap_codes=False) for diffae, part in parts
        ]
        drawn = [decode(model, (x0,), x_t0, z, QUICK.stylize_route) for model in models]
    torch.testing.assert_close(*drawn, atol=1e-4, rtol=1e-4)


def test_a_released_style_of_another_base_is_refused(
    base: Base, style: Style, small: Architecture, tmp_path: Path
) -> None:
    export_style(style, base, tmp_path / "iter_1.pt")
    lightning_checkpoint(small, tmp_path / "last.ckpt", seed=7)
    build_base(tmp_path / "other.safetensors", "other", small, tmp_path / "last.ckpt", None, {})
    with pytest.raises(UserError, match="was not learned on other"):
        import_style(
            tmp_path / "iter_1.pt", load_base(tmp_path / "other.safetensors"), picture(1), "x"
        )


def test_every_name_is_accounted_for(
    small: Architecture, checkpoints: Path, tmp_path: Path
) -> None:
    state = draw(small.ddpm_shapes(), 1)
    state["unheard.of"] = torch.zeros(2)
    del state["out.2.bias"]
    state["out.0.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "p2.pt")
    with pytest.raises(UserError, match="is not a released P2 DDPM") as caught:
        build_base(
            tmp_path / "x.safetensors",
            "x",
            small,
            checkpoints / "last.ckpt",
            tmp_path / "p2.pt",
            {},
        )
    for part in (
        "1 missing (out.2.bias)",
        "1 not known (unheard.of)",
        "out.0.bias: expected (32,)",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_published_base_keeps_its_file_and_its_styles(
    base: Base, style: Style, tmp_path: Path
) -> None:
    base.save_pretrained(tmp_path / "base")
    style.save_pretrained(tmp_path / "style")
    assert {p.name for p in (tmp_path / "base").iterdir()} == {
        "model.safetensors", "config.json", "README.md",
    }  # fmt: skip
    assert {p.name for p in (tmp_path / "style").iterdir()} == {
        "model.safetensors", "config.json", "README.md", "thumbnail.webp",
    }  # fmt: skip
    card = (tmp_path / "style" / "README.md").read_text()
    assert "library_name: osasis" in card and "thumbnail.webp" in card and base.hash in card
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    assert config["format"] == "osasis-base-1" and config["ddpm"]["out_channels"] == 6
    again = Base.from_pretrained(tmp_path / "base")
    assert again.hash == base.hash
    loaded = Style.from_pretrained(tmp_path / "style")
    assert loaded.manifest == style.manifest
    assert Stylizer(again, loaded)(picture(2)).size == (32, 32)
    assert load_base(tmp_path / "base").hash == base.hash
    assert load_style(tmp_path / "style").manifest == style.manifest


def peak_gib() -> tuple[float, float]:
    """Peak memory so far of this process and of its largest child."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    mine, child = (resource.getrusage(kind).ru_maxrss / 2**20 for kind in kinds)
    return mine, child


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_way_at_256_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in of 2.7 GB with the released names: fetch, convert, load, learn, stylize."""
    monkeypatch.setenv("OSASIS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OSASIS_CACHE", str(tmp_path / "cache"))
    family = architecture("ffhq-256")
    folder = tmp_path / "given"
    folder.mkdir()
    clock = time.monotonic()

    def lap(what: str) -> None:
        """Say at once how long it took, so that a run that is cut has told what it knew."""
        nonlocal clock
        mine, child = peak_gib()
        seconds = time.monotonic() - clock
        with capsys.disabled():
            print(f"\n{what}: {seconds:.0f} s, peak {mine:.1f} GiB, of a child {child:.1f} GiB")
        clock = time.monotonic()

    lightning_checkpoint(family, folder / "last.ckpt", extra=212_000_000)
    p2_checkpoint(family, folder / "ffhq_p2.pt")
    size = (folder / "last.ckpt").stat().st_size
    assert size > 2_600_000_000
    lap(f"made a stand-in of {size} bytes")
    path = fetch("ffhq-256", [str(folder)])
    lap(f"fetched and converted to {path.stat().st_size} bytes")
    base = load_base("ffhq-256")
    assert base.image_size == 256 and base.num_levels == 6
    lap("loaded")
    assert max(peak_gib()) < 10  # learning, below, needs more: its networks at 256 pixels set that
    style = learn_style(picture(1, 256), base=base, preset=QUICK)
    assert style.manifest.updates == 2
    lap("learned: 2 updates, batch 1")
    result = Stylizer(base, style, style_levels=(0, 1, 2, 3))(picture(2, 256))
    assert result.size == (256, 256)
    lap("stylized one photo in 2 steps up and down")
