"""Collections of styles, shares, tables, sources: what many machines are built of."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from osasis.base import Base, load_base
from osasis.cli.main import main
from osasis.errors import OsasisError, UserError
from osasis.formats.records import Manifest
from osasis.formats.style_file import Style, load_style
from osasis.imaging.find import PassedOver
from osasis.imaging.save import mark_of
from osasis.learn.collection import Collection, style_tasks
from osasis.learn.context import LearningContext
from osasis.scale import source
from osasis.scale.run import Counts, _count
from osasis.scale.tables import FAILED, NOTES, RESULTS, Tables, are_in, id_hashes
from osasis.scale.worker import Job, Worker
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture
from .test_style import QUICK, run


def test_a_collection_learns_each_picture_once(tiny_base: Base, tmp_path: Path) -> None:
    from osasis.learn.learner import StyleLearner

    (tmp_path / "p").mkdir()
    for i in range(2):
        picture(i).save(tmp_path / "p" / f"{i}.png")
    (tmp_path / "p" / "bad.png").write_text("no picture")
    out = tmp_path / "styles"
    out.mkdir()
    tasks = style_tasks([tmp_path / "p"], out)

    def learn(seed: int = 0) -> dict[str, bool | str]:
        collection = Collection(LearningContext(tiny_base, QUICK), out, seed=seed)
        outcomes = collection.run(tasks)
        return {t.name: str(o) if isinstance(o, OsasisError) else o for t, o in outcomes}

    said = learn()
    assert (said["0.png"], said["1.png"]) == (True, True)
    assert "not an image" in str(said["bad.png"])
    assert sorted(p.name for p in out.iterdir()) == [
        "0.osasis.safetensors",
        "1.osasis.safetensors",
        "manifest.jsonl",
    ]
    # what is shared changes nothing: the second style is the one that is learned alone
    alone = StyleLearner(tiny_base, picture(1), QUICK, name="1")
    run(alone)
    alone.style().save(tmp_path / "alone.safetensors")
    left, right = load_style(tmp_path / "alone.safetensors"), load_style(tasks[1].output)
    for name, tensor in left.tensors.items():
        assert tensor.equal(right.tensors[name]), name

    again = learn()
    assert (again["0.png"], again["1.png"]) == (False, False)
    picture(7).save(tmp_path / "p" / "0.png")
    changed = learn()
    assert (changed["0.png"], changed["1.png"]) == (True, False)
    assert learn(seed=1)["1.png"] is True  # another configuration
    (out / "manifest.jsonl").unlink()
    assert "was not learned here" in str(learn(seed=1)["1.png"])


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_results_in_tables_keep_what_their_photos_had(
    tiny_base: Base, tiny_base_path: Path, tiny_style: Style, tmp_path: Path, kind: str
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="osasis[ray] is not installed")
    ray = pytest.importorskip("ray", reason="osasis[ray] is not installed")
    tables = Tables(str(tmp_path / "out"))
    tables.open_job({})
    see_through, exif, buffer = picture(1), Image.Exif(), io.BytesIO()
    see_through.putalpha(90)
    exif[0x0110] = "Pocket 5"
    see_through.save(buffer, "PNG", exif=exif, dpi=(300, 300))
    batch = {"id": np.array(["a"]), "reason": np.array([""])}
    batch["data"] = np.array([buffer.getvalue()], dtype=object)
    place = str(tmp_path / "out")
    job = Job(str(tiny_base_path), tiny_base.hash, place, {"style": "x"}, format=kind, jobs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda value: value)  # the store is Ray's own business
        Worker(job, {"styles": tiny_style, "done": id_hashes([])})(batch)
    (file,) = (tmp_path / "out" / RESULTS).iterdir()
    (row,) = parquet.read_table(file).to_pylist()
    (tmp_path / f"a.{kind}").write_bytes(row["image"])
    with Image.open(tmp_path / f"a.{kind}") as image:
        assert image.getexif()[0x0110] == "Pocket 5"
        assert image.mode == ("RGB" if kind == "jpeg" else "RGBA")
        if kind != "jpeg":
            assert image.getchannel("A").getextrema() == (90, 90)
        if kind != "webp":  # which has no place for it
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    mark = mark_of(tmp_path / f"a.{kind}")
    assert mark["key"] == row["key"] and mark["style"] == "x"
    assert any("no transparency" in note for note in mark["notes"]) == (kind == "jpeg")


def _add_many(folder: Path, first: int) -> None:
    manifest = Manifest(folder)
    for i in range(first, first + 200):
        manifest.add(folder / f"{i}.png", [folder / f"{i}.png"], {"key": "x" * 5000})


def test_two_processes_write_one_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"output": "cut sho')
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add_many, args=(tmp_path, n)) for n in (0, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert sorted(int(json.loads(x)["output"][:-4]) for x in lines[1:]) == list(range(400))


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def test_rows_of_every_kind() -> None:
    assert source.kind_of("a/b.tar") == "tar"
    assert source.kind_of("s3://a/b.parquet") == "parquet"
    assert source.kind_of("a/b") == "folder"
    sample = {"__url__": "s.tar", "__key__": "k", "txt": b"x", "jpg": b"y", "png": float("nan")}
    assert source._of_sample(sample) == {"id": "s.tar/k", "data": b"y", "reason": ""}
    assert source._of_sample({"__url__": "s.tar", "__key__": "k", "txt": b"x"})["reason"]
    table = {"n": 3, "image": {"bytes": b"z", "path": "p"}}
    assert source._of_table(table, "n", "image") == {"id": "3", "data": b"z", "reason": ""}
    assert source._of_table({"n": 3, "image": None}, "n", "image")["reason"]


def test_a_folder_is_searched_as_every_command_does(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.jpg", "sub/c.txt", ".hidden.png"):
        (photos / name).write_bytes(png(1))
    (photos / "sub" / "up").symlink_to("..")
    (photos / "self").symlink_to(".")
    (photos / "again").symlink_to("sub")
    passed = PassedOver()
    address = "s3://mine/photos"
    found = source.image_files([str(photos), address, str(photos / "a.png")], passed)
    assert found == [str(photos / "a.png"), str(photos / "sub" / "b.jpg"), address]
    assert [kind.name for kind in passed.found] == ["links to a folder around them"]


@pytest.mark.parametrize(("name", "status"), [("b.cr2", 1), ("b.mp4", 0)])
def test_a_batch_that_left_photos_unread_says_so_by_its_status(
    tiny_base_path: Path,
    tiny_style: Style,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    status: int,
) -> None:
    for file in ("a.png", name):
        (tmp_path / file).write_bytes(png(1))
    tiny_style.save(tmp_path / "s.safetensors")

    def nothing_new(sources: list[str], *_: Any, passed: PassedOver, **__: Any) -> Iterator[Counts]:
        source.image_files(sources, passed)
        yield Counts(skipped=1)

    monkeypatch.setattr("osasis.scale.run.stylize_dataset", nothing_new)
    monkeypatch.setattr("osasis.scale.source.import_ray_data", lambda: None)
    style = ["--style", str(tmp_path / "s.safetensors"), "--base", str(tiny_base_path)]
    assert main(["batch", str(tmp_path), *style, "-o", str(tmp_path / "out")]) == status


def test_a_worker_redraws_what_is_new_and_sets_the_rest_aside(
    tiny_base: Base, tiny_base_path: Path, tiny_style: Style, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="osasis[ray] is not installed")
    ray = pytest.importorskip("ray", reason="osasis[ray] is not installed")
    out = tmp_path / "out"
    tables = Tables(str(out))
    tables.open_job({"style": "x"})
    made = {"a": png(1), "b": b"no picture", "c": b"", "d": png(2)}
    batch = {
        "id": np.array(list(made)),
        "data": np.array(list(made.values()), dtype=object),
        "reason": np.array(["", "", "there is no image", ""]),
    }
    job = Job(str(tiny_base_path), tiny_base.hash, str(out), {"style": "x"}, jobs=1)
    kept = {"styles": tiny_style, "done": id_hashes(["d"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda value: value)  # the store is Ray's own business
        worker = Worker(job, kept)
        for _ in range(2):  # a batch that is done twice doubles nothing
            counts = {name: n[0] for name, n in worker(batch).items()}
    size = sum(map(len, made.values()))
    expected = {"done": 1, "failed": 2, "skipped": 1, "bytes": size, "process": os.getpid()}
    assert counts == {**expected, "error": "", "hint": ""}
    (file,) = (out / RESULTS).iterdir()
    (row,) = parquet.read_table(file).to_pylist()
    assert row["id"] == "a"
    with Image.open(io.BytesIO(row["image"])) as image:
        alone = Stylizer(load_base(tiny_base_path), tiny_style)(picture(1))
        assert np.array_equal(np.asarray(image), np.asarray(alone))
    assert dict(tables.reasons(10)).keys() == {"b", "c"}
    assert are_in(id_hashes(["a", "b", "c", "d"]), tables.done()).tolist() == [1, 1, 1, 0]
    assert not list((out / NOTES).iterdir())
    (out / RESULTS / "left.parquet.tmp").touch()
    tables.open_job({"style": "x"}, retry_failed=True)
    assert [p.suffix for p in (out / RESULTS).iterdir()] == [".parquet"]
    assert not list((out / FAILED).iterdir())
    with pytest.raises(UserError, match="another job"):
        tables.open_job({"style": "y"})

    # its worker died with the whole batch, then with "a" alone: "a" is set aside, "d" is done
    batch["id"][3] = "e"
    tables.note(["a", "b", "e"], ["a"])
    assert int(worker(batch)["done"][0]) == 1
    assert "died twice" in dict(tables.reasons(10))["a"]
    assert not list((out / NOTES).iterdir())
    tables.close_job()
    assert not (out / NOTES).exists()
    # a disk that takes nothing: the worker's own words arrive, whatever Ray makes of exceptions
    (out / NOTES).mkdir()
    shutil.rmtree(out / RESULTS)
    (out / RESULTS).write_text("no folder")
    row = {name: n[0] for name, n in worker(batch).items()}
    reports = SimpleNamespace(iter_rows=lambda: [row])
    with pytest.raises(OsasisError, match=f"cannot be written to {out}: .*[Nn]ot a directory"):
        list(_count(ray, reports))
