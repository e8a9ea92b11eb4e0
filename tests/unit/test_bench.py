"""`osasis bench` on a tiny base: counts, ratios, files, what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from osasis.base import Base, load_base
from osasis.bench.commands import Command, Ran, run_commands
from osasis.bench.jobs import (
    Bench,
    evaluations_of,
    peer_cost,
    style_cost,
    untrained_style,
    update_name,
)
from osasis.bench.measure import Job, Measured, Skipped, measure
from osasis.bench.report import print_jobs, ratios
from osasis.cli.main import main
from osasis.config.presets import PRESETS
from osasis.stylize.stylizer import Stylizer


@pytest.mark.slow
def test_the_command_writes_numbers(
    tiny_base_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"
    quick = ["--rounds", "1", "--quick", "-o", str(out)]
    assert main(["bench", "--base", str(tiny_base_path), *quick]) == 0
    assert {p.name for p in out.iterdir()} == {"bench.json"}
    numbers = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    jobs = {row["name"]: row for row in numbers["jobs"]}
    assert all(len(row["seconds"]) == 1 and row["median"] > 0 for row in jobs.values())
    assert jobs["stylize 1 photo, release"]["evaluations"] == 75
    of_fast = evaluations_of(PRESETS["fast"].stylize_route)
    assert jobs["stylize 16 photos, fast"]["evaluations"] == 16 * of_fast
    assert numbers["per_photo"]["times_faster"]["least"] > 1
    assert numbers["per_style"]["release"]["updates"] == 2000
    assert numbers["not_measured"] == []
    # making ready is not counted: an update's operations grow with its pictures, not with set-up
    updates = [jobs[update_name(preset)]["flops"] for preset in ("release", "fast")]
    assert "learning update, release, judged by vgg16-stats" in jobs
    assert updates[0] > updates[1] > 0
    # the matrix product's operations are known in closed form, a larger batch's in proportion
    assert jobs["matrix product"]["flops"] == 2 * 2048**3
    one, four = (jobs[f"U-Net evaluation, batch {n}"]["flops"] for n in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.02)
    said = " ".join(capsys.readouterr().out.split())
    assert f"75 evaluations with release, {of_fast} with fast" in said


def test_the_table_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = {
        "name": update_name("release"),
        "median": 123.456,
        "seconds": [101.2, 145.6],
        "cpu_median": 234.5,
        "evaluations": 1234,
        "share_of_peak": 0.12,
        "peak_memory": 12345 * 2**20,
    }
    print_jobs("released-256", "cpu", [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for text in ("123", "101-146", "234", "1234", "12%", "12345"):
        assert any(text in line for line in lines), text


def test_what_takes_too_long_is_named(tiny_base: Base) -> None:
    bench = Bench(tiny_base, limit=0.0)
    names = {job.name for job in bench.jobs(peers=False)}
    assert "matrix product" in names
    assert update_name("release") not in names
    reasons = {skipped.name: skipped.reason for skipped in bench.skipped}
    assert "more than --limit 0" in reasons[update_name("release")]


def test_a_base_in_latents_can_be_measured() -> None:
    base = load_base()
    assert not base.in_pixels
    bench = Bench(base, limit=1000.0)
    [job] = [job for job in bench.jobs(peers=False) if job.name == "U-Net evaluation, 256 px"]
    with FlopCounterMode(display=False) as counter:
        job.work()
    assert 2e9 < counter.get_total_flops() < 2e10  # of 32 x 32 latents


def test_commands_are_run_measured_and_their_failures_named(tmp_path: Path) -> None:
    there, fails, needs = run_commands(
        [
            Command("version", ("--version",)),
            Command("no such photo", ("stylize", "nothing.png", "--style", "goya_josefa")),
            Command("other", ("--version",), needs="package_that_nobody_has"),
        ],
        tmp_path,
    )
    assert isinstance(there, Ran) and there.cpu_seconds > 0.01
    assert 10**6 < there.peak_memory < 10**8  # its own, not that of these tests
    assert isinstance(fails, Skipped) and "nothing.png" in fails.reason
    assert needs == Skipped("other", "needs the package package_that_nobody_has")


def test_a_peers_photo_is_extrapolated_from_differences() -> None:
    seconds = {
        "gatys, 1 updates": 3.0, "gatys, 3 updates": 7.0,
        "nnst, 1 updates": 10.0, "nnst, 2 updates": 11.0, "nnst, 3 updates": 14.0,
    }  # fmt: skip
    # 1 s of start and 2 s an update; 9 s of looking up, 1 s an update, 4 s one of the last pass
    assert peer_cost(seconds) == {"gatys": 1 + 500 * 2, "nnst": 9 + 200 * 1 + 200 * 4}
    assert peer_cost({"adain": 0.5}) == {"adain": 0.5}


def test_jobs_are_interleaved() -> None:
    order: list[str] = []
    jobs = [Job(name, lambda name=name: order.append(name)) for name in "ab"]
    found = measure(jobs, 2, torch.empty(0).device, lambda done: None)
    assert order == list("ababab")
    order.clear()
    [prepared] = measure(
        [Job("c", lambda: order.append("c"), prepare=lambda: torch.ones(8, 8) @ torch.ones(8, 8))],
        1,
        torch.empty(0).device,
        lambda done: None,
    )
    assert order == ["c", "c"] and prepared.flops == 0
    assert [len(m.seconds) for m in found] == [2, 2]


def test_ratios_are_taken_round_by_round() -> None:
    slow = Measured("slow", 0, seconds=[2.0, 40.0, 3.0])
    fast = Measured("fast", 0, seconds=[1.0, 10.0, 1.0])
    assert ratios(slow, fast) == {"median": 3.0, "least": 2.0, "most": 4.0}
    assert ratios(slow, None) is None


def test_a_share_of_the_peak_does_not_fall_while_other_programs_run() -> None:
    busy = Measured("a", 0, seconds=[8.0], cpu_seconds=[2.0], flops=6)
    assert busy.flops_per_second == 3
    assert replace(busy, on_cpu=False).flops_per_second == 6 / 8


def test_a_style_is_extrapolated_from_counts() -> None:
    cost = style_cost(PRESETS["release"], update=6.0, evaluation=0.1)
    assert cost["updates"] == 2000
    assert cost["bank_evaluations"] == 1600 * (20 + 25)
    assert cost["learning"] == 12000
    assert cost["first_style"] == pytest.approx(12000 + 0.1 * (25 + 72000))
    assert cost["further_style"] == pytest.approx(12000 + 0.1 * 25)


@pytest.mark.parametrize("preset", ["release", "fast"])
def test_untrained_styles_have_the_presets_shape(tiny_base: Base, preset: str) -> None:
    style = untrained_style(tiny_base, PRESETS[preset])
    evaluated = 0

    def count(*_: object) -> None:
        nonlocal evaluated
        evaluated += 1

    stylizer = Stylizer(tiny_base, style)
    hooks = [
        network.register_forward_hook(count)
        for network in (tiny_base.diffae.unet, stylizer._model.diffae.unet)
    ]
    stylizer.redraw_squares(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert evaluated == evaluations_of(PRESETS[preset].stylize_route)
