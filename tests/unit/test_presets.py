"""What a preset says is what is done: every field, its judges, and what is missing of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from osasis.base import Base, load_base
from osasis.cli.main import main
from osasis.config.presets import (
    FAST,
    PRESETS,
    RELEASE,
    BankConfig,
    BridgeConfig,
    LearnConfig,
    SPNSettings,
)
from osasis.diffusion.route import Route
from osasis.errors import UserError
from osasis.extras import install
from osasis.formats.base_file import save_base
from osasis.formats.style_file import load_style
from osasis.hub.fetch import fetch
from osasis.learn.context import LearningContext
from osasis.learn.learner import StyleLearner, photo_order
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.perception.clip import ClipEmbedder
from osasis.perception.judges import check_judges, judges_of
from osasis.perception.vgg import vgg_shapes
from osasis.stylize.stylizer import Stylizer

from ..conftest import TINY, picture
from .test_perception import ASSET
from .test_style import QUICK, run
from .test_update import has_bfloat16

DEVICE = torch.empty(0).device


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole VGG16 beside its classifier, and LPIPS' heads in the format they are published in."""
    folder = tmp_path_factory.mktemp("parts")
    weights = {k: v.float() for k, v in load_file(ASSET).items()}
    generator = torch.Generator().manual_seed(0)
    for name, shape in vgg_shapes(5).items():
        if name not in weights:
            drawn = torch.randn(shape, generator=generator)
            weights[name] = drawn.abs() if "lin" in name else 0.03 * drawn
    heads = {f"lin{i}.model.1.weight": weights.pop(f"lin{i}.weight") for i in range(5)}
    save_file(weights | {"head.fc.weight": torch.ones(3)}, folder / "model.safetensors")
    torch.save(heads, folder / "vgg.pth", _use_new_zipfile_serialization=False)
    return folder


@pytest.fixture(scope="module")
def whole_vgg(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The judges of five layers, fetched by name."""
    digest = hashlib.sha256((parts / "vgg.pth").read_bytes()).hexdigest()
    registry = parts / "registry.toml"
    registry.write_text(
        '[artefacts.lpips-heads]\nkind = "checkpoint"\nlicence = "none"\n'
        f'files = {{ "vgg.pth" = {{ sha256 = "{digest}" }} }}\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSASIS_REGISTRY", str(registry))
        patch.setenv("OSASIS_DATA", str(tmp_path_factory.mktemp("data")))
        yield fetch("lpips-vgg16", [str(parts)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """As `tiny_base`, with dropout, so that it matters whether it is active."""
    torch.manual_seed(3)
    diffae = DiffAE(replace(TINY, unet=replace(TINY.unet, dropout=0.2)))
    for name, parameter in diffae.unet.named_parameters():
        if name.endswith(("conv_out.weight", "conv_final.weight")):
            torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("base") / "dropout.safetensors"
    latent = LatentNet(LatentNetConfig(16, 32, 3))
    save_base(path, "dropout", diffae, latent, torch.zeros(16), torch.ones(16))
    return load_base(path)


PLAIN = LearnConfig(
    preset="walk",
    iterations=1,
    batch_size=2,
    lr_unet=1e-3,
    lr_spn=1e-3,
    learn_route=Route(4, 4),
    stylize_route=Route(4, 4),
    weights=QUICK.weights,
    bridge=BridgeConfig(steps=8, t0_ratio=0.25),
    bank=BankConfig(size=3, latent_steps=4, decode_steps=4),
    spn=SPNSettings(channels=32),
    trained_levels=(0,),
)
# fields whose other value cannot be guessed from the first
OTHERS: dict[str, Any] = {
    "trained_levels": (0, 1),
    "style_levels": (0,),
    "lpips_layers": 5,
    "learn_route.t0_ratio": 0.25,
    "stylize_route.t0_ratio": 0.25,
    "learn_route.spacing": "time^1.5",
    "stylize_route.spacing": "time^1.5",
    # fewer: more would visit the same nodes again
    "learn_route.decode_steps": 2,
    "stylize_route.decode_steps": 2,
    "critic": "regions",
    "optimizer": "muon",
    "rates": "cosine",
    "bridge.t0_ratio": 0.5,
    "bridge.candidates": 8,
}


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def changed(config: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    if rest:
        value = changed(getattr(config, name), rest, value)
    return replace(config, **{name: value})


def other(config: Any, path: str) -> Any:
    """Another value of the field at `path`: whatever a new field is called, it gets one."""
    if path in OTHERS:
        return OTHERS[path]
    value = config
    for name in path.split("."):
        value = getattr(value, name)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 2 * value
    if isinstance(value, str):
        return f"{value}2"
    raise AssertionError(f"say in OTHERS what else {path} can be")


def outcome(base: Base, config: LearnConfig) -> str:
    """Digest of everything that comes of a configuration: the learned weights and what they draw.

    Dropout draws from torch's own generator, which is set here.
    """
    learner = StyleLearner(base, picture(1), config)
    torch.manual_seed(0)
    run(learner)
    style = learner.style()
    photo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = Stylizer(base, style).redraw_squares(photo)
    tensors = [*style.tensors.values(), drawn]
    digest = hashlib.sha256(style.manifest.preset.encode())
    for tensor in tensors:
        digest.update(tensor.numpy(force=True).tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def plain_outcome(base: Base) -> str:
    return outcome(base, PLAIN)


def test_the_same_configuration_has_the_same_outcome(base: Base, plain_outcome: str) -> None:
    """Without this the next test would pass on anything."""
    assert outcome(base, replace(PLAIN)) == plain_outcome


@pytest.mark.parametrize("path", list(leaves(PLAIN)))
def test_every_field_of_a_preset_is_honoured(
    base: Base, plain_outcome: str, whole_vgg: Path, clip_folder: Path, path: str
) -> None:
    """Changing a field changes what is learned or drawn, or is refused."""
    if path == "mixed_precision" and not has_bfloat16():
        pytest.skip("no bfloat16 on this CPU")
    config, before = PLAIN, plain_outcome
    if path == "release_preprocessing":
        config = replace(PLAIN, embedder=f"clip:{clip_folder}")
    if config != PLAIN:
        before = outcome(base, config)
    value = f"clip:{clip_folder}" if path == "embedder" else other(config, path)
    try:
        after = outcome(base, changed(config, path, value))
    except ValueError as refusal:
        assert any(part in str(refusal) for part in (*path.split("."), str(value)))
    else:
        assert after != before, f"nothing reads {path}"


BY_REGION = replace(
    FAST,
    preset="walk",
    iterations=1,
    mixed_precision=False,
    learn_route=Route(4, 4),
    stylize_route=Route(4, 4),
    bank=PLAIN.bank,
    spn=replace(FAST.spn, channels=8, timed=True),
    trained_levels=(0,),
)


@pytest.fixture(scope="module")
def by_region_outcome(latent_base: Base) -> str:
    return outcome(latent_base, BY_REGION)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in leaves(BY_REGION)
        if path.split(".")[0] in ("region_weights", "dress", "optimizer", "lr_rest", "rates", "spn")
    ],
)
def test_every_field_of_a_preset_by_region_is_honoured(
    latent_base: Base, by_region_outcome: str, path: str
) -> None:
    """Those that are read by regions alone, or otherwise; the rest is as above."""
    if path == "region_weights.crops":
        pytest.skip("crops are for pictures beyond 128 pixels; the tiny base has 64")
    others = {"optimizer": "adam", "rates": "constant", "spn.style_lambda": 1.0}
    if path == "spn.style_lambda":
        pytest.skip("by region there is no style branch")
    value = others.get(path) or other(BY_REGION, path)
    try:
        after = outcome(latent_base, changed(BY_REGION, path, value))
    except ValueError as refusal:
        assert any(part in str(refusal) for part in (*path.split("."), str(value)))
    else:
        assert after != by_region_outcome, f"nothing reads {path}"


def test_by_region_there_is_no_embedder() -> None:
    with pytest.raises(UserError, match="judges region by region"):
        PRESETS["fast"].judged_by("clip")
    for name, value in (("embedder", "clip"), ("lpips_layers", 5)):
        with pytest.raises(ValueError, match=f"{name} is of critic 'directions' alone"):
            replace(PRESETS["fast"], **{name: value})


def test_presets_name_their_judges() -> None:
    judges = {name: (c.embedder, c.lpips_layers) for name, c in PRESETS.items()}
    assert judges["release"] == judges["paper"] == ("clip", 5)
    assert judges["fast"][1] == 4
    assert [c.title for c in PRESETS.values()] == list(PRESETS)


def test_a_style_calls_itself_what_it_is(base: Base, tmp_path: Path) -> None:
    small = {"iterations": 1, "bank": PLAIN.bank, "bridge": PLAIN.bridge, "batch_size": 2}
    config = replace(RELEASE.judged_by("vgg16-stats"), **small)
    assert (config.lpips_layers, config.release_preprocessing) == (4, False)
    learner = StyleLearner(base, picture(1), config)
    run(learner, updates=1)
    path = tmp_path / "s.safetensors"
    learner.style().save(path)
    manifest = load_style(path).manifest
    assert manifest.preset == "release, judged by vgg16-stats"
    assert (manifest.embedder, manifest.config) == ("vgg16-stats", config)


def test_one_answer_names_all_judges_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OSASIS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("osasis.perception.clip.importlib.util.find_spec", lambda name: None)
    picture(1).save(tmp_path / "x.png")
    out = tmp_path / "x.safetensors"
    assert main(["learn", str(tmp_path / "x.png"), "--preset", "release", "-o", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    for part in (
        "release judges pictures with the package transformers and CLIP ViT-B/32 (605 MB) and "
        "LPIPS with five layers of VGG16 (553 MB to fetch, 59 MB kept)",
        f"{install('clip')} && osasis models fetch clip-vit-b32 && osasis models fetch lpips-vgg16",
        "--embedder vgg16-stats",
    ):
        assert part in said
    assert not out.exists()


def test_the_judges_in_the_package_are_never_missing() -> None:
    check_judges("vgg16-stats", 4, whose="fast")


def test_lpips_with_five_layers_is_made_of_its_parts(parts: Path, whole_vgg: Path) -> None:
    judges = judges_of(5, DEVICE)
    assert judges.lpips.name == "lpips-vgg16" and judges.trunk.stages == 5
    heads = torch.load(parts / "vgg.pth", weights_only=True)
    for i, head in enumerate(judges.lpips.heads):
        torch.testing.assert_close(head, heads[f"lin{i}.model.1.weight"])
    assert judges_of(4, DEVICE).lpips.name == "lpips-vgg16-4"


def test_heads_of_something_else_are_refused(
    parts: Path, whole_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSASIS_DATA", str(tmp_path / "data"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "model.safetensors").write_bytes(
        (parts / "model.safetensors").read_bytes()
    )
    torch.save({"lin0.model.1.weight": torch.ones(1, 64, 1, 1)}, tmp_path / "given" / "vgg.pth")
    with pytest.raises(Exception, match="not the file that the registry knows"):
        fetch("lpips-vgg16", [str(tmp_path / "given")])


class Reference:
    """The released program's judges, written again: CLIP of transformers and LPIPS' formula."""

    def __init__(self, clip_folder: Path, vgg: Path) -> None:
        transformers = pytest.importorskip("transformers")
        self.clip = transformers.CLIPModel.from_pretrained(clip_folder).eval()
        self.vgg, self.embedded = load_file(vgg), 0

    def embed(self, x: Tensor) -> Tensor:
        """Raw pixels; every picture whose side is a multiple of 28 is resized by taking pixels."""
        self.embedded += 1
        rows = (torch.arange(28) * x.shape[-1] / 28).long()
        found = self.clip.get_image_features(pixel_values=x[:, :, rows][..., rows])
        return found if isinstance(found, Tensor) else found.pooler_output

    def lpips(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(len(x))
        for i, (a, b) in enumerate(zip(self._layers(x), self._layers(y), strict=True)):
            a, b = (t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10) for t in (a, b))
            total = total + ((a - b).square() * self.vgg[f"lin{i}.weight"]).sum(1).mean((1, 2))
        return total

    def _layers(self, x: Tensor) -> list[Tensor]:
        shift, scale = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]
        y = (x - torch.tensor(shift)[:, None, None]) / torch.tensor(scale)[:, None, None]
        layers: list[Tensor] = []
        for stage in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            y = F.max_pool2d(y, 2) if layers else y
            for n in stage:
                weight, bias = self.vgg[f"features.{n}.weight"], self.vgg[f"features.{n}.bias"]
                y = F.relu(F.conv2d(y, weight, bias, padding=1))
            layers.append(y)
        return layers

    def losses(self, a: dict[str, Tensor], content: Tensor, style: Tensor) -> list[Tensor]:
        """Cross-domain, in-domain, embedding, L1, LPIPS: ten embeddings, as the release takes."""

        def angle(x: Tensor, y: Tensor) -> Tensor:
            x, y = (v / v.norm(dim=-1, keepdim=True) for v in (x, y))
            return (1 - (x * y).sum(-1)).mean()

        e = self.embed
        across = e(a["style_B"]) - e(a["style_A"])
        cross = angle(across, e(content) - e(a["content_A"]))
        within = e(a["content_A"]) - e(a["style_A"])
        inside = angle(within, e(content) - e(a["style_B"]))
        again = angle(e(style), e(a["style_B"]))
        l1 = (style - a["style_B"]).abs().mean()
        return [
            cross,
            0.5 * inside,
            30 * again,
            10 * l1,
            10 * self.lpips(style, a["style_B"]).mean(),
        ]


def ddim(x: Tensor, eps: Tensor, here: float, there: float) -> tuple[Tensor, Tensor]:
    x0 = ((x - (1 - here) ** 0.5 * eps) / here**0.5).clamp(-1, 1)
    eps = (x - here**0.5 * x0) / (1 - here) ** 0.5
    return there**0.5 * x0 + (1 - there) ** 0.5 * eps, x0


def test_a_whole_release_iteration_with_a_small_clip(
    tiny_base: Base, whole_vgg: Path, clip_folder: Path
) -> None:
    """Ten updates of `release`, its rates raised so that each is seen in the next one's losses."""
    config = replace(
        RELEASE,
        iterations=1,
        batch_size=2,
        lr_unet=1e-4,
        lr_spn=1e-4,
        bank=BankConfig(size=2, latent_steps=4, decode_steps=4),
        bridge=replace(RELEASE.bridge, steps=8),
        embedder=f"clip:{clip_folder}",
    )
    context = LearningContext(tiny_base, config)
    learner = StyleLearner(tiny_base, picture(1), config, context=context)
    unet, spn = learner._train_state.student.diffae, learner._train_state.student.spn
    start = {k: v.clone() for k, v in learner._train_state.weights().items()}
    found = [list(r.losses.values())[1:] for r in run(learner) if r.phase == "learn"]
    learned = {k: v.clone() for k, v in learner._train_state.weights().items()}

    learner._train_state.restore({**learner._train_state.state(), **start})
    student, reference = unet, Reference(clip_folder, whole_vgg)
    drawn = context.bank.photos(photo_order(0, 2, 2, 0))
    photos = drawn.x0
    assert learner._style_A is not None
    fixed = {"style_A": learner._style_A, "content_A": photos, "style_B": learner._style_B}
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)).tolist()
    content, style = photos, fixed["style_A"]
    z_content, z_style = tiny_base.encode(content), tiny_base.encode(style)

    def eps(model: DiffAE, x: Tensor, t: int, z: Tensor) -> Tensor:
        return model.eps(x, torch.full((len(x),), t), model.plain(z))

    with torch.no_grad():
        for t in range(0, 500, 20):
            step = alpha_bar[t], alpha_bar[t + 20]
            content, _ = ddim(content, eps(tiny_base.diffae, content, t, z_content), *step)
            style, _ = ddim(style, eps(tiny_base.diffae, style, t, z_style), *step)
    # the bank keeps halves: its codes are ours, rounded
    torch.testing.assert_close(content, drawn.x_t, rtol=0, atol=1e-2)
    content = drawn.x_t
    trained = [p for p in student.unet.parameters() if p.requires_grad]
    optimizers = [torch.optim.Adam(trained, 1e-4), torch.optim.Adam(spn.parameters(), 1e-4)]
    # Adam's step of a gradient near 0 can go either way by rounding, and each adds to it
    exact = {9: 1e-4, 8: 1e-3}
    for index, losses in zip(range(9, -1, -1), found, strict=True):
        t, here = 50 * index, alpha_bar[50 * index]
        there = alpha_bar[t - 50] if index else 1.0
        bent = content + 0.1 * spn(photos, torch.full((2,), index))
        content_next, content_x0 = ddim(bent, eps(student, bent, t, z_content), here, there)
        bent = style + spn(fixed["style_A"], torch.full((1,), index))  # not scaled
        style_next, style_x0 = ddim(bent, eps(student, bent, t, z_style), here, there)
        reference.embedded = 0
        expected = reference.losses(fixed, content_x0, style_x0)
        assert reference.embedded == 10
        numbers = [float(x.detach()) for x in expected]
        assert losses == pytest.approx(numbers, rel=exact.get(index, 2e-2), abs=1e-5), index
        for optimizer in optimizers:
            optimizer.zero_grad()
        sum(expected[1:], start=expected[0]).backward()
        for optimizer in optimizers:
            optimizer.step()
        content, style = content_next.detach(), style_next.detach()
    recomputed = learner._train_state.weights()
    moved = torch.cat([(learned[k] - start[k]).flatten() for k in start])
    wanted = torch.cat([(recomputed[k] - start[k]).flatten() for k in start])
    assert float(wanted.norm()) > 0
    assert float(torch.cosine_similarity(moved, wanted, dim=0)) > 0.98


def test_clips_own_preparation_is_transformers(clip_folder: Path) -> None:
    """Against its image processor, on pictures as they come from disk."""
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    image = picture(5, size=64)
    wanted = processor(image, return_tensors="pt").pixel_values
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    found = ClipEmbedder(clip_folder).preprocess(x)
    # Pillow rounds to 8 bits after each of its two passes; a level is 1/255 of about 4 deviations
    assert float((found - wanted).abs().max()) < 3 / 255 / 0.26
    assert float((found - wanted).abs().mean()) < 0.5 / 255 / 0.26


def test_the_released_preparation_is_nearest_neighbour(clip_folder: Path) -> None:
    """Against an image processor told to do only that: no antialiasing, scaling to a mean of .5."""
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(
        size={"height": 28, "width": 28},
        resample=0,
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    image = picture(5, size=84)  # three times: nearest neighbours of torch and Pillow differ by 1
    pixels = np.array(image)
    wanted = processor(image, return_tensors="pt").pixel_values
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    found = ClipEmbedder(clip_folder, release_preprocessing=True).preprocess(x)
    torch.testing.assert_close(found, x[..., ::3, ::3])
    # Pillow takes the middle of three pixels, torch the first
    torch.testing.assert_close(wanted, x[..., 1::3, 1::3], rtol=0, atol=1e-6)


def test_an_unknown_embedder_is_refused(tiny_base: Base) -> None:
    """Before anything is drawn or learned."""
    with pytest.raises(UserError, match="no embedder named 'dino'"):
        LearningContext(tiny_base, replace(PLAIN, embedder="dino"))
    with pytest.raises(UserError, match="no CLIP folder"):
        LearningContext(tiny_base, replace(PLAIN, embedder="clip:/nowhere"))
