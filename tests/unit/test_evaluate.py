"""Metrics against closed forms, tables against loops, configurations and peers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.config.artefacts import artefacts
from osasis.config.catalogue import assets, experiments
from osasis.config.presets import PRESETS
from osasis.errors import UserError
from osasis.evaluate.cache import remembered
from osasis.evaluate.config import EvaluationConfig, Method, load_evaluation, parse_styles
from osasis.evaluate.density import DensityRanker, auc_interval
from osasis.evaluate.metrics import directional_similarity, metric_names, style_similarity
from osasis.evaluate.named import DinoKeys, ResNetStatistics, StyleNamer, VggStructure, face_only
from osasis.evaluate.networks import NETWORKS, parse_networks
from osasis.evaluate.painters import Painters, folder_outputs, learn_config
from osasis.evaluate.peers.adain import Adain, AdainConfig, AdainNetworks, adain
from osasis.evaluate.peers.gatys import Gatys, GatysConfig, _gram
from osasis.evaluate.peers.nnst import (
    Neighbours,
    Nnst,
    NnstConfig,
    _argmax,
    collapse,
    laplacian,
    sides,
)
from osasis.evaluate.peers.run import Peers, colour_transfer, settings
from osasis.evaluate.run import Evaluation
from osasis.evaluate.tables import Estimate, Resampler, art_fid, frechet_distance
from osasis.formats.style_file import load_style
from osasis.imaging.faces import FaceDetector
from osasis.imaging.load import load_image
from osasis.imaging.tensors import to_tensor
from osasis.perception.identity import (
    FRAMED_LIKE_FFHQ,
    TEMPLATE,
    FaceEmbedder,
    IdentitySimilarity,
    align_face,
    find_landmarks,
    similarity_transform,
)
from osasis.perception.judges import load_judges
from osasis.perception.similarity import structure_distance
from osasis.pretrain.probes import area_under_curve

from ..conftest import picture

CPU = torch.device("cpu")


def face(size: int = 196) -> Image.Image:
    astronaut = load_image(assets() / "photos" / "astronaut.png")
    return astronaut.crop((126, 9, 322, 205)).resize((size, size))


# identity


def test_the_similarity_transform_is_recovered() -> None:
    turn = 1.3 * np.exp(0.4j)
    moved = (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]) * turn + (5 - 2j)
    found = similarity_transform(TEMPLATE, np.stack([moved.real, moved.imag], 1))
    expected = [[turn.real, -turn.imag, 5], [turn.imag, turn.real, -2]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_an_aligned_face_has_its_landmarks_on_the_template() -> None:
    photo = face()
    faces = FaceDetector(any_turn=False)(photo)
    aligned = align_face(photo, np.array(faces[0].landmarks))
    again = FaceDetector(any_turn=False)(aligned)[0]
    np.testing.assert_allclose(np.array(again.landmarks), TEMPLATE, atol=6)


def test_without_a_face_the_photos_places_and_then_ffhqs_are_used() -> None:
    detector, plain = FaceDetector(any_turn=False), picture(0, 100)
    fallback = find_landmarks(detector, plain)
    assert not fallback.found
    np.testing.assert_allclose(fallback.points, FRAMED_LIKE_FFHQ * 100)
    photo = find_landmarks(detector, face())
    assert photo.found
    assert find_landmarks(detector, plain, photo).points is photo.points


def test_a_face_network_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("no network")
    for kind in ("sface", "arcface"):
        with pytest.raises(UserError, match=f"is no {kind} network"):
            FaceEmbedder(kind, tmp_path / "net.onnx")  # type: ignore[arg-type]
        with pytest.raises(UserError, match="does not exist"):
            FaceEmbedder(kind, tmp_path / "other.onnx")  # type: ignore[arg-type]


@pytest.mark.skipif("OSASIS_SFACE" not in os.environ, reason="OSASIS_SFACE names SFace's ONNX file")
def test_sface_equals_opencvs_own_alignment() -> None:
    path, photo = Path(os.environ["OSASIS_SFACE"]), face()
    embedder = FaceEmbedder("sface", path)
    found = FaceDetector(any_turn=False)(photo)[0]
    row = np.zeros((1, 15), np.float32)
    row[0, 4:14] = np.array(found.landmarks).ravel()
    recogniser = cv2.FaceRecognizerSF.create(str(path), "")
    crop = recogniser.alignCrop(np.asarray(photo)[:, :, ::-1].copy(), row)
    theirs = recogniser.feature(crop).ravel()
    ours = embedder(align_face(photo, np.array(found.landmarks)))
    assert float(ours @ theirs / np.linalg.norm(theirs)) > 0.999
    similarity = IdentitySimilarity(embedder)
    assert similarity(photo, photo) == pytest.approx(1) and similarity.found
    assert similarity(picture(1, 196), photo) < 0.5 and not similarity.found


# structure, style, direction


def test_structure_distance_of_orthogonal_and_equal_directions() -> None:
    same = torch.ones(1, 2, 3)
    apart = torch.tensor([[[2.0, 0, 0], [0, 5.0, 0]]])
    assert float(structure_distance(same, 7 * same)) == pytest.approx(0, abs=1e-7)
    # similarities [[1, 1], [1, 1]] and [[1, 0], [0, 1]]
    assert float(structure_distance(same, apart)) == pytest.approx(0.5)


def test_dino_keys_are_those_of_the_definition(tmp_path: Path) -> None:
    """Splice: the key projection of the normalised input of the last block, all tokens."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=32,
        image_size=32, patch_size=8,
    )  # fmt: skip
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    x = to_tensor(picture(3, 32))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        normalised = ((x + 1) / 2 - mean) / std
        hidden = model(pixel_values=normalised, output_hidden_states=True).hidden_states[-2]
        state = model.state_dict()
        last = [k for k in state if "2." in k]
        key = next(k for k in last if k.endswith(("key.weight", "k_proj.weight")))
        norm = next(k for k in last if k.endswith("layernorm_before.weight"))
        hidden = F.layer_norm(
            hidden, (24,), state[norm], state[norm.replace("weight", "bias")], config.layer_norm_eps
        )
        expected = hidden @ state[key].T + state[key.replace("weight", "bias")]
    found = DinoKeys(tmp_path, CPU)(x)
    assert found.shape == (1, 17, 24)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="holds no ViTModel"):
        DinoKeys(tmp_path / "nothing", CPU)


def test_vgg_structure_features_are_relu4_1() -> None:
    trunk = load_judges().trunk
    x = to_tensor(picture(4, 224))
    y = (x - trunk.shift) / trunk.scale
    convolutions = 0
    for layer in trunk.features:
        y = layer(y)
        convolutions += isinstance(layer, torch.nn.Conv2d)
        if convolutions == 8 and isinstance(layer, torch.nn.ReLU):  # 2 + 2 + 3 + 1
            break
    found = VggStructure(trunk)(x)
    assert found.shape == (1, 784, 512)
    torch.testing.assert_close(found[0, 29], y[0, :, 1, 1])
    face = face_only(found)
    assert face.shape == (1, 15 * 16, 512)
    torch.testing.assert_close(face[0, 17], y[0, :, 8, 7])  # from .25 and .22 of 28 on


# which style it is


def resnet(folder: Path) -> Path:
    """A small ResNet with random weights in the hub's layout."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(folder)
    return folder


def test_resnet_statistics_are_means_and_deviations_of_five_stages(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    x = to_tensor(picture(3, 64))
    found = ResNetStatistics(resnet(tmp_path), CPU)(x)
    assert found.shape == (1, 2 * (8 + 8 + 12 + 16 + 20))
    model = transformers.ResNetModel.from_pretrained(tmp_path).eval()
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        hidden = model(((x + 1) / 2 - mean) / std, output_hidden_states=True).hidden_states
    parts = [torch.cat([y.mean((2, 3)), y.std((2, 3), correction=0)], 1) for y in hidden[1:]]
    expected = torch.cat([F.normalize(part, dim=1) for part in parts], 1)
    torch.testing.assert_close(found[:, 16:], expected, rtol=1e-4, atol=1e-6)
    assert float(found[:, :16].norm()) == pytest.approx(1)


def test_a_style_is_named_by_the_direction_and_travel_is_how_far(tmp_path: Path) -> None:
    photo, styles = face(64), [picture(seed, 64) for seed in range(4)]
    namer = StyleNamer(ResNetStatistics(resnet(tmp_path), CPU), [*styles, styles[0]], CPU)
    assert len(namer) == 4  # the same picture twice is one
    for style in styles:
        assert namer.named(style, photo, style)
        assert namer.travel(style, photo, style) == pytest.approx(1, abs=1e-5)
        halfway = Image.blend(photo, style, 0.3)
        assert 0 < namer.travel(halfway, photo, style) < 1
        assert not namer.named(photo, photo, style)
        assert namer.travel(photo, photo, style) == 0
    assert not namer.named(styles[1], photo, styles[0])
    with pytest.raises(UserError, match="not among 1"):
        StyleNamer(ResNetStatistics(tmp_path, CPU), styles[:1], CPU)
    with pytest.raises(UserError, match="holds no ResNetModel"):
        ResNetStatistics(tmp_path / "nothing", CPU)


class Pixels:
    name, dim = "pixels", 12

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_style_and_directional_similarity_are_cosines() -> None:
    def flat(*values: float) -> Tensor:
        return torch.tensor(values).float()[None, :, None, None].expand(1, 3, 2, 2)

    assert style_similarity(Pixels(), flat(1, 0, 0), flat(1, 1, 0)) == pytest.approx(0.5**0.5)
    made = directional_similarity(
        Pixels(),
        flat(1, 1, 0),
        flat(3, 2, 0),
        photo=flat(1, 0, 0),
        photos_mean=Pixels()(flat(3, 0, 0)),
    )
    assert made == pytest.approx(1)


# tables


def test_the_bootstrap_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 3)) + 3 * rng.normal(size=(6, 1))
    resampler = Resampler(6, 3, 500)
    found = resampler.mean(scores)
    draws = []
    for photos, styles in zip(resampler.photos, resampler.styles, strict=True):
        repeated = np.repeat(np.repeat(scores, photos, axis=0), styles, axis=1)
        draws.append(repeated.mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (found.value, found.samples) == (pytest.approx(scores.mean()), 18)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.low < found.value < found.high


def test_frechet_of_counts_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    counts_a, counts_b = np.array([2, 0, 1, 3, 1]), np.array([1, 4, 2])
    expected = frechet_distance(np.repeat(a, counts_a, axis=0), np.repeat(b, counts_b, axis=0))
    assert frechet_distance(a, b, counts_a, counts_b) == pytest.approx(expected)


def test_frechet_pairs_every_output_with_its_style() -> None:
    rng = np.random.default_rng(2)
    outputs, styles = rng.normal(size=(4, 2, 6)), rng.normal(size=(2, 6))
    found = Resampler(4, 2, 50).frechet(outputs, styles)
    expected = frechet_distance(outputs.reshape(8, 6), np.tile(styles, (4, 1)))
    assert (found.value, found.samples) == (pytest.approx(expected), 8)
    assert found.low <= found.value <= found.high


def test_art_fid_is_the_product() -> None:
    found = art_fid(Estimate(0.5, 0.4, 0.6, 8), Estimate(20.0, 19.0, 21.0, 8))
    assert (found.value, found.low, found.high) == pytest.approx((31.5, 28.0, 35.2))


# density


def test_the_area_under_the_curve() -> None:
    assert area_under_curve([3, 4], [1, 2]) == 1
    assert area_under_curve([1, 2], [1, 2]) == 0.5
    assert area_under_curve([1, 3], [2]) == 0.5
    low, high = auc_interval([1, 5, 6, 7], [0, 2, 3, 4])
    assert low < area_under_curve([1, 5, 6, 7], [0, 2, 3, 4]) < high
    with pytest.raises(ValueError, match="positives and negatives"):
        area_under_curve([], [1])


def test_the_same_photo_gets_the_same_density(tiny_base: Base) -> None:
    ranker = DensityRanker(tiny_base, load_judges().lpips, draws=2, steps=3)
    photo, other = picture(0, 32), picture(1, 32)
    first = ranker(photo)
    ranker(other)
    assert ranker(photo) == first
    assert ranker(other) != first
    assert first.spread > 0


# runs


def test_a_picture_that_comes_again_is_measured_once_while_it_is_kept() -> None:
    asked = []

    def measure(image: Image.Image) -> int:
        asked.append(image)
        return len(asked)

    of = remembered(measure, 2)
    photo, *outputs = (picture(seed, 16) for seed in range(4))
    for number, output in enumerate(outputs, 2):
        assert of(photo.copy()) == 1  # by its pixels; asked for first, it stays
        assert of(output) == number
    assert of(outputs[0]) == 5


def test_sources_of_styles_have_a_row_of_all_of_them(tmp_path: Path) -> None:
    for folder, seeds in {"photos": (1, 2), "a": (3,), "b": (4, 5)}.items():
        (tmp_path / folder).mkdir()
        for seed in seeds:
            picture(seed, 32).save(tmp_path / folder / f"{seed}.png")
    methods = (Method("colour", "peer", "colour"),)
    styles = {"a": tmp_path / "a", "b": tmp_path / "b"}
    config = EvaluationConfig(
        "", methods, tmp_path / "photos", styles, size=32, metrics=("lpips",), bootstrap=50
    )
    evaluation = Evaluation(config, tmp_path / "report", {}, CPU)
    list(evaluation.steps())
    order = [(s.group.style_name, s.photo.stem) for s in evaluation.result.scores]
    assert order == [(style, photo) for style in "345" for photo in "12"]
    row = evaluation.result.table["colour"]
    assert [row[source]["lpips"].samples for source in ("all", "a", "b")] == [6, 2, 4]
    both = (2 * row["a"]["lpips"].value + 4 * row["b"]["lpips"].value) / 6
    assert row["all"]["lpips"].value == pytest.approx(both)
    for score in evaluation.result.scores:
        images = (load_image(path) for path in (score.output, score.photo))
        alone = load_judges().lpips(*map(to_tensor, images))
        assert score.values["lpips"] == pytest.approx(float(alone))


# configuration and peers


def test_every_shipped_experiment_loads(tmp_path: Path) -> None:
    assert set(experiments()) == {
        "table1", "table2", "fig3", "fig5", "fig8", "fig9", "peers", "peers_slow",
        "peers_learned",
    }  # fmt: skip
    for path in experiments().values():
        config = load_evaluation(path, photos=tmp_path, styles={"a": tmp_path}, preset="paper")
        assert config.size == 256
        for method in config.methods:
            if method.kind == "preset":
                assert learn_config(method).preset == "paper"
            if method.kind == "peer":
                settings(method.value, method.options.get("set", {}))
    weights = [
        learn_config(m).spn.lambda_spn
        for m in load_evaluation(
            experiments()["table2"], photos=tmp_path, styles={"a": tmp_path}
        ).methods
    ]
    assert weights == [0.0, 0.1, 0.5, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photos = 'p'", "names no method"),
        ("[[methods]]\nname='a'\npeer='gatys'", "where the photos are"),
        ("photos='p'\n[[methods]]\nname='a'\npeer='gatys'", "where the style images are"),
        ("photos='p'\n[[methods]]\nname='a'", "needs a name and one of"),
        ("photos='p'\nphoto=1", "no setting .photo"),
        ("photos='p'\n[[methods]]\nname='a'\nfolder='x'\nset={}", r"unknown settings \[.set"),
        (
            "photos='p'\nsize=3\n[styles]\na='a'\n[[methods]]\nname='a'\npeer='gatys'",
            "size must lie",
        ),
        ("photos = ", "is not TOML"),
    ],
)
def test_wrong_configurations_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "methods.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_evaluation(path)


def test_settings_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    for changes in ({"lamda": 1}, {"spn": {"wieght": 1}}):
        with pytest.raises(UserError, match="there is no setting"):
            learn_config(Method("a", "preset", "fast", {"set": changes}))
    for value in ({"lpips_layers": 3}, {"learn_route": {"t0_ratio": 2.0}}):
        with pytest.raises(UserError, match="must"):
            learn_config(Method("a", "preset", "paper", {"set": value}))
    with pytest.raises(UserError, match="no setting 'stps'"):
        settings("gatys", {"stps": 3})
    with pytest.raises(UserError, match="no peer"):
        settings("gatsy", {})
    with pytest.raises(UserError, match="NAME=FILE"):
        parse_networks(["sfce=x"])
    with pytest.raises(UserError, match="no style images"):
        parse_styles([str(tmp_path / "nothing")])


def test_outputs_of_other_programs_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "goya").mkdir()
    for name in ("b.webp", "a.png", "notes.txt"):
        (tmp_path / "goya" / name).touch()
    method, photos = Method("theirs", "folder", str(tmp_path)), [Path("a.jpg"), Path("b.jpg")]
    goya = tmp_path / "goya"
    found = folder_outputs(method, Path("goya.jpg"), photos, one_style=False)
    assert found == [goya / "a.png", goya / "b.webp"]
    with pytest.raises(UserError, match="lacks 1 of 1 photos, for example c.jpg"):
        folder_outputs(method, Path("goya.jpg"), [Path("c.jpg")], one_style=False)
    with pytest.raises(UserError, match="there is no folder"):
        folder_outputs(method, Path("renoir.jpg"), photos, one_style=False)


def test_metrics_without_their_network_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    without = metric_names(None, {})
    assert "lpips" in without and "fid" not in without
    assert "fid" in metric_names(None, {"inception": tmp_path})
    with pytest.raises(UserError, match="sface is not here") as error:
        metric_names(["identity-sface"], {})
    assert "osasis models fetch sface" in error.value.hint
    with pytest.raises(UserError, match="lpips-vgg16 is not here") as error:
        metric_names(["lpips-5"], {})
    assert "osasis models fetch lpips-vgg16" in error.value.hint
    assert {n.artefact for n in NETWORKS.values()} <= set(artefacts())


def test_changed_methods_get_other_folders() -> None:
    method = Method("ours", "preset", "fast", {"seed": 1})
    slugs = {
        method.slug(),
        method.slug("other base"),
        Method("ours", "preset", "fast", {"seed": 2}).slug(),
    }
    assert len(slugs) == 3


def test_methods_that_only_redraw_otherwise_share_what_is_learned() -> None:
    one = Method("one", "preset", "fast", {"seed": 1})
    swapped = Method("other", "preset", "fast", {"seed": 1, "stylize": {"swap_codes": True}})
    assert one.learning("base") == swapped.learning("base")
    assert one.slug("base") != swapped.slug("base")
    assert one.learning("base") != Method("one", "preset", "fast", {"seed": 2}).learning("base")


def test_a_preset_that_changed_makes_outputs_anew(
    tmp_path: Path, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluationConfig("", (), tmp_path, {})
    method = Method("ours", "preset", "fast")
    painters = Painters(config, tmp_path, {}, CPU)
    painters.base = tiny_base
    before = method.slug(painters.identity(method))
    assert method.slug(painters.identity(method)) == before
    monkeypatch.setitem(PRESETS, "fast", replace(PRESETS["fast"], iterations=1))
    assert method.slug(painters.identity(method)) != before


def test_a_preset_learns_on_the_photos_it_is_given(tmp_path: Path, tiny_base: Base) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for seed in (1, 2):
        picture(seed, 40).save(folder / f"{seed}.png")
    picture(3, 40).save(tmp_path / "style.png")
    (tmp_path / "m.toml").write_text(
        'photos = "faces"\n[styles]\ns = "style.png"\n[[methods]]\nname = "ours"\n'
        'preset = "fast"\ncontent = "faces"\nset = { iterations = 1, trained_levels = [0] }\n'
    )
    config = load_evaluation(tmp_path / "m.toml")
    [method] = config.methods
    painters = Painters(config, tmp_path / "styles", {}, CPU)
    painters.base = tiny_base
    painters.check(method)
    list(painters.learn(method, tmp_path / "style.png", "s"))
    [file] = (tmp_path / "styles").rglob("*.safetensors")
    assert load_style(file).manifest.content.startswith("2 photos")

    drawn = replace(method, options={k: v for k, v in method.options.items() if k != "content"})
    assert painters.identity(drawn) != painters.identity(method)
    before = painters.identity(method)
    picture(4, 40).save(folder / "2.png")
    again = Painters(config, tmp_path / "styles", {}, CPU)
    again.base = tiny_base
    assert again.identity(method) != before

    given = load_evaluation(tmp_path / "m.toml", content=tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        again.check(given.methods[0])


def test_colour_transfer_gives_the_styles_mean_and_covariance() -> None:
    rng = np.random.default_rng(0)

    def noise(mean: float, deviation: float) -> Image.Image:
        values = rng.normal(mean, deviation, (64, 64, 3)).clip(0, 255)
        return Image.fromarray(values.astype(np.uint8))

    def moments(image: Image.Image) -> tuple[Any, Any]:
        x = np.asarray(image, dtype=float).reshape(-1, 3)
        return x.mean(0), np.cov(x.T)

    style = noise(140, 10)
    for ours, theirs in zip(
        moments(colour_transfer(noise(90, 20), style)), moments(style), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1.0)


def test_gatys_brings_the_gram_matrices_nearer() -> None:
    trunk = load_judges().trunk
    photo, style = to_tensor(face(48)), to_tensor(picture(7, 48))
    made = Gatys(trunk, style, GatysConfig(steps=6))(photo)
    assert made.shape == photo.shape and float(made.abs().max()) <= 1

    def distance(x: Tensor) -> float:
        pairs = zip(trunk(x), trunk(style), strict=True)
        return sum(float((_gram(a) - _gram(b)).square().mean()) for a, b in pairs)

    with torch.no_grad():
        assert distance(made) < 0.7 * distance(photo)
    assert torch.equal(made, Gatys(trunk, style, GatysConfig(steps=6))(photo))


def test_the_two_ends_are_the_photo_and_the_style() -> None:
    photo, style, peers = picture(1, 32), picture(2, 32), Peers({}, CPU)
    assert peers.of("photo", {}, style)(photo) is photo
    assert peers.of("style", {}, style)(photo) is style
    with pytest.raises(UserError, match="adain is not here"):
        peers.identity("adain", {})


def test_adain_gives_the_styles_means_and_deviations() -> None:
    torch.manual_seed(0)
    content, style = torch.randn(1, 5, 9, 9), 3 * torch.randn(1, 5, 7, 7) + 2
    made = adain(content, style)
    torch.testing.assert_close(made.mean((2, 3)), style.mean((2, 3)))
    torch.testing.assert_close(made.std((2, 3)), style.std((2, 3)), rtol=1e-4, atol=1e-4)
    networks = AdainNetworks()
    photo, other = to_tensor(face(32)), to_tensor(picture(2, 32))
    in_own_style = Adain(networks, photo, AdainConfig())(photo)
    torch.testing.assert_close(in_own_style, Adain(networks, other, AdainConfig(alpha=0))(photo))
    assert not torch.equal(in_own_style, Adain(networks, other, AdainConfig())(photo))


def test_nnst_takes_the_nearest_features_and_keeps_a_photo_in_its_own_style() -> None:
    style = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])  # of mean 0
    features = torch.tensor([[9.0, 0.1, -9.1], [0.1, 5.0, -5.1]])
    assert torch.equal(Neighbours(style).nearest(features), style)
    for length in (7, 512):
        rows = torch.randn(3, length, generator=torch.Generator().manual_seed(length)).bfloat16()
        assert torch.equal(_argmax(rows), rows.float().argmax(1))
    x = to_tensor(picture(5, 96))
    assert sides(96) == [48, 96] and len(laplacian(x)) == 3
    torch.testing.assert_close(collapse(laplacian(x)), x)

    trunk, photo = load_judges().trunk, to_tensor(face(64))
    config = NnstConfig(steps=4, split_steps=2, rotations=1)
    own = Nnst(trunk, photo, config)(photo)
    painted = Nnst(trunk, to_tensor(picture(7, 64)), config)(photo)
    assert own.shape == photo.shape and float(painted.abs().max()) <= 1
    statistics = load_judges().statistics

    def likeness(x: Tensor, y: Tensor) -> float:
        return float(F.cosine_similarity(statistics(x), statistics(y)))

    with torch.no_grad():
        style_image = to_tensor(picture(7, 64))
        assert likeness(painted, style_image) > likeness(photo, style_image) + 0.01
        assert likeness(own, photo) > likeness(painted, photo) + 0.01
