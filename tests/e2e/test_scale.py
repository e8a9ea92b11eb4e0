"""Past one machine: shares of several processes, and a Ray cluster whose worker is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from osasis.base import load_base
from osasis.learn.learner import StyleLearner
from osasis.scale.run import stylize_dataset
from osasis.scale.worker import Job

from ..conftest import picture
from ..unit.test_style import QUICK
from ..unit.test_style import run as run_learner

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
# `accelerate launch` starts several processes on GPUs only, or through MPI: on CPUs this does it,
# and the processes are the same
TWO = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")


def osasis(place: Path, *arguments: str | Path, two: bool = False) -> tuple[int, str]:
    command = [sys.executable, *(TWO if two else ()), "-m", "osasis", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def outputs(folder: Path) -> list[str]:
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    return sorted(json.loads(line)["output"] for line in lines)


@pytest.mark.slow
def test_two_processes_share_styles_and_photos(tmp_path: Path, tiny_base_path: Path) -> None:
    for i in range(4):
        (tmp_path / "p" / "sub").mkdir(parents=True, exist_ok=True)
        picture(i).save(tmp_path / "p" / ("sub" if i == 3 else "") / f"{i}.png")
    (tmp_path / "p" / "bad.png").write_text("no picture")
    common = ("--base", tiny_base_path, "--device", "cpu")
    learn = ("learn", "p", "-o", "styles", "--iterations", "1", *common)
    status, said = osasis(tmp_path, *learn, two=True)
    assert status == 1
    assert said.count("4 styles learned into styles") == 1
    assert said.count("bad.png is not an image") == 1
    names = ["0", "1", "2", "sub/3"]
    assert outputs(tmp_path / "styles") == [f"{name}.osasis.safetensors" for name in names]
    (tmp_path / "p" / "bad.png").unlink()
    status, said = osasis(tmp_path, *learn)  # one process goes on where two were
    assert (status, "0 styles learned into styles, 4 done before" in said) == (0, True), said

    style = "styles/0.osasis.safetensors"
    stylize = ("stylize", "p", "--style", style, "-o", "out", *common)
    status, said = osasis(tmp_path, *stylize, two=True)
    assert status == 0, said
    assert said.count("4 photos redrawn into out") == 1
    assert outputs(tmp_path / "out") == ["0.png", "1.png", "2.png", "sub/3.png"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path, tiny_base_path: Path) -> None:
    pytest.importorskip("ray.data", reason="osasis[ray] is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    count, bad = 1000, {3, 500, 999}
    (tmp_path / "photos").mkdir()
    for i in range(count):
        picture(i, 32).save(tmp_path / "photos" / f"{i:04d}.png")
    for i in bad:
        (tmp_path / "photos" / f"{i:04d}.png").write_text("no picture")
    base = load_base(tiny_base_path)
    learner = StyleLearner(base, picture(1), QUICK)
    run_learner(learner)
    style = learner.style()
    out = tmp_path / "out"
    job = Job(str(tiny_base_path), base.hash, str(out), {"style": "s"}, jobs=1, device="cpu")

    def run() -> tuple[int, int, int]:
        killed = 0
        for counts in stylize_dataset([str(tmp_path / "photos")], style, job, workers=2):
            if not killed and counts.done > count // 4:
                assert counts.done < count
                killed = counts.process
                os.kill(killed, signal.SIGKILL)
        assert killed
        return counts.done, counts.failed, counts.skipped

    def ids(table: str) -> list[str]:
        files = sorted((out / table).iterdir())
        rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
        assert all(row.get("image", row.get("reason")) for row in rows)
        return sorted(Path(row["id"]).stem for row in rows)

    done, failed, skipped = run()
    assert ids("results") == [f"{i:04d}" for i in range(count) if i not in bad]
    assert ids("failed") == [f"{i:04d}" for i in sorted(bad)]
    assert (done, failed, skipped) == (count - len(bad), len(bad), 0)
    for file in sorted((out / "results").iterdir())[:3]:
        file.unlink()  # as if that much had not been done
    lost = count - len(bad) - len(ids("results"))
    assert lost > 0
    last = list(stylize_dataset([str(tmp_path / "photos")], style, job, workers=2))[-1]
    assert (last.done, last.failed, last.skipped) == (lost, 0, count - lost)
    assert ids("results") == [f"{i:04d}" for i in range(count) if i not in bad]


# a photo that kills whoever opens it: the work of a decoder with a fault
DEADLY = b"DEADLY"
SITE = """
import os, signal
from PIL import Image, PpmImagePlugin  # ours takes the place of this one
Image.register_open("PPM", lambda *_: os.kill(os.getpid(), signal.SIGKILL),
                    lambda prefix: prefix.startswith(b"DEADLY"))
"""


class Batch:
    """`osasis batch` in a folder of photos, shards and a table: 30 pictures, the eighth damaged."""

    def __init__(self, place: Path, base: Path) -> None:
        self.place, self.base = place, base
        before = ENVIRONMENT.get("PYTHONPATH")  # where a copy of the package may lie
        paths = os.pathsep.join(filter(None, (str(place / "site"), before)))
        self.environment = ENVIRONMENT | {"PYTHONPATH": paths}
        for name in ("photos", "shards", "site"):
            (place / name).mkdir()
        (place / "site" / "sitecustomize.py").write_text(SITE)
        files = []
        for i in range(30):
            buffer = io.BytesIO()
            picture(i).save(buffer, "PNG")
            files.append(b"no picture" if i == 7 else buffer.getvalue())
            (place / "photos" / f"{i:02d}.png").write_bytes(files[i])
        (place / "photos" / "here").symlink_to(".")  # a loop: each photo once all the same
        files[20] = DEADLY
        for shard in range(2):
            with tarfile.open(place / "shards" / f"{shard}.tar", "w") as tar:
                for i in range(15 * shard, 15 * shard + 15):
                    for suffix, data in (("png", files[i]), ("txt", b"a caption")):
                        member = tarfile.TarInfo(f"{i:02d}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        good = [i for i in range(30) if i not in (7, 20)]
        table = {"url": [f"{i:02d}" for i in good], "jpg": [files[i] for i in good]}
        parquet.write_table(arrow.table(table), place / "table.parquet")

    def start(self, source: str, out: str, *more: str) -> subprocess.Popen[str]:
        options = ("--style", "style.safetensors", "--base", self.base, "--device", "cpu")
        small = ("--no-align", "--workers", "1", *more)
        command = [sys.executable, "-m", "osasis", "batch", source, "-o", out, *options, *small]
        return subprocess.Popen(
            list(map(str, command)),
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as a terminal does it: a signal goes to the whole group
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, source: str, out: str, *more: str) -> tuple[int, str]:
        process = self.start(source, out, *more)
        said, errors = process.communicate()
        return process.returncode, said + errors

    def stop(self, source: str, out: str, number: int, *more: str) -> tuple[int, str]:
        """Send a signal when there is one more table of results."""
        before = len(list(self.place.glob(f"{out}/results/*.parquet")))
        process = self.start(source, out, *more)
        while len(list(self.place.glob(f"{out}/results/*.parquet"))) == before:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.killpg(process.pid, number)
        said, errors = process.communicate()
        return process.returncode, said + errors

    def ids(self, out: str, table: str) -> list[str]:
        parquet = pytest.importorskip("pyarrow.parquet")
        files = sorted(self.place.glob(f"{out}/{table}/*"))
        rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
        assert all(row.get("image", row.get("reason")) for row in rows)
        return sorted(Path(row["id"]).stem for row in rows)


@pytest.fixture
def batch(tmp_path: Path, tiny_base_path: Path) -> Batch:
    pytest.importorskip("ray.data", reason="osasis[ray] is not installed")
    learner = StyleLearner(load_base(tiny_base_path), picture(1), QUICK)
    run_learner(learner)
    learner.style().save(tmp_path / "style.safetensors")
    return Batch(tmp_path, tiny_base_path)


@pytest.mark.slow
def test_a_batch_that_is_stopped_and_killed_goes_on(batch: Batch) -> None:
    command = ("photos", "out")
    status, said = batch.stop(*command, signal.SIGINT, "--batch-size", "1")
    assert status == 130 and "the same command does what is not done yet" in said, said
    assert "Traceback" not in said
    stopped = batch.ids("out", "results")
    assert 0 < len(stopped) < 29
    assert sorted(p.name for p in (batch.place / "out").iterdir()) == [
        "failed",
        "job.json",
        "results",
    ]
    status, said = batch.stop(*command, signal.SIGKILL, "--batch-size", "1")
    assert status == -signal.SIGKILL
    killed = batch.ids("out", "results")
    assert len(stopped) < len(killed) < 29
    status, said = batch.run(*command, "--batch-size", "1")
    assert status == 1 and "07.png: the image is not an image" in said, said
    good = [f"{i:02d}" for i in range(30) if i != 7]
    assert batch.ids("out", "results") == good
    assert batch.ids("out", "failed") == ["07"]


@pytest.mark.slow
def test_batches_of_shards_and_tables_and_a_deadly_photo(batch: Batch) -> None:
    good = [f"{i:02d}" for i in range(30) if i not in (7, 20)]
    status, said = batch.run("shards", "tar", "--kind", "tar", "--batch-size", "4")
    assert status == 1 and "the worker died twice" in said, said
    assert "28 photos redrawn into tar" in said and "2 photos were set aside" in said
    assert batch.ids("tar", "results") == good
    assert batch.ids("tar", "failed") == ["07", "20"]
    columns = ("--id-column", "url", "--image-column", "jpg")
    status, said = batch.run("table.parquet", "table", *columns)
    assert (status, batch.ids("table", "results")) == (0, good), said
    status, said = batch.run("table.parquet", "table", *columns)
    assert (status, "0 photos redrawn into table, 28 done or" in said) == (0, True), said


LEAVES = """
import atexit, sys
import torch.distributed as group
# what is registered first is called last
atexit.register(lambda: open(f"left-{shares.rank}", "w").write(str(group.is_initialized())))
from osasis.scale.shares import Shares
shares = Shares("cpu")
assert shares.gather([shares.rank]) == [0, 1] and group.is_initialized()
"""


def test_processes_leave_their_group_before_they_end(tmp_path: Path) -> None:
    """One that ends inside it is now and then aborted: its threads outlive the interpreter."""
    (tmp_path / "leaves.py").write_text(LEAVES)
    subprocess.run([sys.executable, *TWO, "leaves.py"], cwd=tmp_path, check=True, timeout=120)
    assert [(tmp_path / f"left-{rank}").read_text() for rank in (0, 1)] == ["False", "False"]
