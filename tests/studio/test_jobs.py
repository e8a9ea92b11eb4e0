"""The line of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image
from safetensors import SafetensorError

from osasis.errors import UserError
from osasis.formats.safetensors_file import write_tensors
from osasis.imaging.save import save_image
from osasis.studio.api import told
from osasis.studio.config import Limits
from osasis.studio.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Job, JobQueue, Step


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    queue = JobQueue(Limits(waiting=3, all_waiting=4))
    yield queue
    queue.close()


def until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def ended(job: Job) -> bool:
    return job.state in (DONE, FAILED, CANCELLED)


class Held:
    """Work that waits to be let go; tells whether it was closed."""

    def __init__(self) -> None:
        self.go, self.closed = threading.Event(), False

    def __call__(self) -> Generator[Step, None, None]:
        try:
            for done in range(100):
                yield Step("work", done, 100)
                self.go.wait(0.01 if done else 5)
            yield Step("work", 100, 100, result="r")
        finally:
            self.closed = True


def quick() -> Generator[Step, None, None]:
    yield Step("work", 0, 1)
    yield Step("work", 1, 1, result="made")


def test_first_come_first_served(queue: JobQueue) -> None:
    order: list[str] = []

    def named(name: str):
        def work() -> Generator[Step, None, None]:
            order.append(name)
            yield Step("work", 1, 1)

        return work

    held = Held()
    first = queue.submit("a", "k", "1", held)
    rest = [queue.submit(owner, "k", owner, named(owner)) for owner in ("b", "a", "c")]
    until(lambda: first.state == RUNNING)
    assert [queue.position(job) for job in (first, *rest)] == [0, 1, 2, 3]
    held.go.set()
    until(lambda: all(map(ended, rest)))
    assert order == ["b", "a", "c"]
    assert first.results == ["r"] and first.state == DONE


def test_jobs_belong_to_visitors(queue: JobQueue) -> None:
    job = queue.submit("a", "k", "t", quick)
    until(lambda: ended(job))
    assert queue.job("a", job.id) is job and queue.jobs("b") == []
    for act in (queue.job, queue.cancel):
        with pytest.raises(UserError, match="no job of that id"):
            act("b", job.id)


def test_cancel_while_waiting_and_while_running(queue: JobQueue) -> None:
    held = Held()
    first = queue.submit("a", "k", "1", held)
    second = queue.submit("a", "k", "2", quick)
    until(lambda: first.state == RUNNING)
    assert queue.cancel("a", second.id).state == CANCELLED
    queue.cancel("a", first.id)
    held.go.set()
    until(lambda: first.state == CANCELLED)
    assert held.closed and first.step.done < 100
    after = queue.submit("a", "k", "3", quick)
    until(lambda: after.state == DONE)


def test_a_job_that_fails_does_not_end_the_line(queue: JobQueue) -> None:
    def wrong() -> Generator[Step, None, None]:
        yield Step("work", 0, 1)
        raise UserError("no face was found", hint="choose another")

    def bug() -> Generator[Step, None, None]:
        yield Step("work", 0, 1)
        raise KeyError("secret")

    jobs = [queue.submit(str(i), "k", "t", work) for i, work in enumerate((wrong, bug, quick))]
    until(lambda: all(map(ended, jobs)))
    assert jobs[0].error == "no face was found; choose another"
    assert jobs[1].error == "internal error: KeyError"
    assert jobs[2].state == DONE


def test_a_job_that_the_disk_fails_does_not_tell_where_files_are(
    queue: JobQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> Generator[Step, None, None]:
        yield Step("learn", 0, 1)
        (tmp_path / "there.png").mkdir()
        save_image(Image.new("RGB", (8, 8)), tmp_path / "there.png")  # where a folder is

    job = queue.submit("me", "k", "t", full)
    until(lambda: ended(job))
    assert job.error == "cannot be kept: Is a directory; try again later"
    assert str(tmp_path / "there.png") in caplog.text  # whoever runs the studio is told


def test_nor_does_a_style_that_the_disk_fails(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise SafetensorError("I/O error: File too large (os error 27)")  # as it says it

    def full() -> Generator[Step, None, None]:
        yield Step("learn", 0, 1)
        write_tensors(tmp_path / "s.safetensors", {}, what="the style")

    monkeypatch.setattr("osasis.formats.safetensors_file.save_file", no_room)
    job = queue.submit("me", "k", "t", full)
    until(lambda: ended(job))
    said = "cannot be kept: it could not be written; try again later"
    assert job.error == said
    with pytest.raises(gr.Error) as caught, told():
        list(full())
    assert caught.value.message == said


def test_limits(queue: JobQueue) -> None:
    held = Held()
    for _ in range(3):
        queue.submit("a", "k", "t", held)
    with pytest.raises(UserError, match="3 of your jobs"):
        queue.submit("a", "k", "t", held)
    queue.submit("b", "k", "t", held)
    with pytest.raises(UserError, match="too long"):
        queue.submit("c", "k", "t", held)


def test_time_left_versions_and_what_is_busy() -> None:
    now = [0.0]
    queue = JobQueue(Limits(), clock=lambda: now[0])
    steps, seen = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> Generator[Step, None, None]:
        for done in range(3):
            steps.acquire()
            yield Step("work", done, 10)
            seen.release()

    job = queue.submit("a", "k", "t", work, frozenset({"item"}))
    before = queue.version("a")
    assert queue.busy() == {"item"}
    for _ in range(3):
        steps.release()
        assert seen.acquire(timeout=5)
        now[0] += 2.0
    until(lambda: ended(job))
    # the third step came 4 s after the first, two of ten steps further
    assert job.step.done == 2 and queue.version("a") > before and queue.busy() == frozenset()
    now[0] += 100
    queue.expire(50)
    assert queue.jobs("a") == [] and queue.version("a") == 0
    queue.close()


def test_close_lets_work_keep_what_it_has() -> None:
    queue, held = JobQueue(Limits()), Held()
    job = queue.submit("a", "k", "t", held)
    until(lambda: job.state == RUNNING)
    threading.Timer(0.05, held.go.set).start()
    queue.close()
    assert held.closed and job.state == CANCELLED
    assert QUEUED not in {j.state for j in queue.jobs("a")}
