"""Past one machine: shares of several processes, and a Ray cluster whose worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from osasis.base import load_base
from osasis.scale.run import stylize_dataset
from osasis.scale.worker import Job
from osasis.style.learn import StyleLearner

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
