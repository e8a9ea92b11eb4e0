"""Progress as lines and as a bar."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from osasis import progress
from osasis.evaluate.run import Tick
from osasis.learn.learner import StepRecord


def test_progress_prints_a_line_now_and_then() -> None:
    now = 0.0
    stream = io.StringIO()
    with progress.Progress(stream=stream, interval=10, clock=lambda: now) as shown:
        for done in range(31):
            shown.update("learn", done, 60, "loss 1")
            now += 1.0
    lines = stream.getvalue().splitlines()
    assert lines[0] == "learn: 10 of 60 (17%), 50 s left, loss 1"
    assert len(lines) == 3


def test_the_time_left_waits_until_it_is_known() -> None:
    """The first step takes 100 s, the others one."""
    now = 0.0
    stream = io.StringIO()
    with progress.Progress(stream=stream, interval=0, clock=lambda: now) as shown:
        for done in range(5):
            shown.update("learn", done, 10)
            now += 1.0 if done else 100.0
    assert [line.partition("), ")[2] for line in stream.getvalue().splitlines()] == [
        *[""] * 3, "7 s left", "6 s left",
    ]  # fmt: skip


def test_progress_of_a_resumed_run_counts_from_where_it_began() -> None:
    now = 0.0
    stream = io.StringIO()
    with progress.Progress(stream=stream, interval=0, clock=lambda: now) as shown:
        shown.update("learn", 50, 100)
        now = 10.0
        shown.update("learn", 60, 100)
    assert stream.getvalue().splitlines()[-1] == "learn: 60 of 100 (60%), 40 s left"


def test_progress_draws_a_bar_in_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress.Progress(stream=stream) as shown:
        shown.update("bridge", 1, 2)
        shown.update("learn", 2, 2, "loss 1")
    assert "bridge" in stream.getvalue() and "100%" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.7, "1 min 0 s"), (61, "1 min 1 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_records_are_followed_to_the_last() -> None:
    """Losses are said by their total, ticks by their note; what makes them is closed."""
    ended = []

    def records() -> Iterator[StepRecord | Tick]:
        try:
            yield StepRecord("bank", 1, 1, {})
            yield StepRecord("learn", 1, 2, {"total": 12.345, "l1": 1.0})
            yield Tick("redraw", 1, 2, "ours, goya")
        finally:
            ended.append(True)

    stream = io.StringIO()
    with progress.Progress(stream=stream, interval=0) as shown:
        last = shown.follow(records())
    assert last == Tick("redraw", 1, 2, "ours, goya") and ended
    assert stream.getvalue().splitlines() == [
        "bank: 1 of 1 (100%)", "learn: 1 of 2 (50%), loss 12.3", "redraw: 1 of 2 (50%), ours, goya",
    ]  # fmt: skip


def test_who_stops_is_told_what_is_kept() -> None:
    with (
        pytest.raises(KeyboardInterrupt, match="3 are done"),
        progress.when_stopped(lambda: "stopped; 3 are done"),
    ):
        raise KeyboardInterrupt
