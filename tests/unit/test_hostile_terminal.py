"""Names that steer a terminal, signals at a bad time, and what lies in folders of results."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TextIO, cast

import pytest

from osasis.cli.main import main
from osasis.errors import UserError
from osasis.files import atomic_path
from osasis.formats.records import Manifest
from osasis.terminal import Shown

from ..conftest import picture

ODD = "a\x1b[2J\x07\u202egpj.png"


def test_names_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ODD).write_bytes(b"no picture")
    main(["stylize", str(tmp_path / ODD), "--style", "memling_maria", "-o", str(tmp_path / "o")])
    said = "".join(capsys.readouterr())
    assert "\\x1b[2J\\x07\\u202e" in said
    assert not [c for c in said if not c.isprintable() and c not in "\n\t"]


def test_a_name_of_two_lines_is_said_on_one(
    tmp_path: Path, tiny_base_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "a\nerror: b.png", tmp_path / "c\nd.png"
    picture(1).save(good)
    bad.write_bytes(b"no picture")
    options = ["--style-image", str(good), "--no-align", "--base", str(tiny_base_path)]
    out = ["-o", str(tmp_path / "out")]
    assert main(["stylize", str(good), str(bad), *options, *out]) == 1
    assert main(["stylize", str(tmp_path / "e\nf.png"), *options, *out]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines()[0].endswith("out/a\\nerror: b.png")
    assert "c\\nd.png is not an image" in said.err and "e\\nf.png does not exist" in said.err
    odd = ("error: b.png", "d.png", "f.png")
    assert not [line for line in said.err.splitlines() if line.startswith(odd)]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams_are_no_failure(closed: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m osasis models list {closed}"
    assert subprocess.run(command, shell=True, check=False, capture_output=True).returncode == 0


def test_a_terminal_of_ascii_shows_other_letters_as_escapes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("photos/é.jpg \U0001f600", file=cast(TextIO, Shown(stream)), flush=True)
    assert stream.buffer.getvalue() == b"photos/\\xe9.jpg \\U0001f600\n"


PROGRAM = """
    import sys, time
    from osasis.cli import main, doctor
    def run():
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            time.sleep(1)
            print("saved", flush=True)
    doctor.doctor = run
    sys.exit(main.main(["doctor"]))
"""


@pytest.mark.parametrize(
    "sent", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]]
)
def test_a_signal_saves_and_a_second_one_waits(sent: list[signal.Signals]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for number in sent:
            process.send_signal(number)
            time.sleep(0.3)
        out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("saved\n", 130), err
    assert "Traceback" not in err


def test_lines_of_a_manifest_that_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    good = {"output": "a/b.png", "files": ["a/b.png"], "key": "k"}
    bad = [
        "[" * 100_000,
        "5",
        "null",
        '{"output": 5, "files": [5]}',
        json.dumps({"output": "a", "files": [3]}),
        json.dumps({"output": "a", "files": ["x" * 1000]}),
        json.dumps({"output": "a", "files": ["\u00e9" * 200]}),
        json.dumps({"output": "a", "files": ["../../etc/passwd"]}),
        json.dumps({"output": "a", "files": ["/etc/passwd"]}),
        json.dumps({"output": "a", "files": ["a\0b"]}),
        json.dumps({"output": "a" * 2_000_000, "files": []}),
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join([*bad, "", json.dumps(good)]) + "\n")
    manifest = Manifest(tmp_path)
    assert manifest.foreign == len(bad)
    assert manifest.outputs == [tmp_path / "a/b.png"]
    assert not manifest.has(tmp_path / "a/b.png", "k")


def test_a_manifest_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    (tmp_path / "manifest.jsonl").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="link"):
        Manifest(tmp_path)
    (tmp_path / "manifest.jsonl").unlink()
    os.mkfifo(tmp_path / "manifest.jsonl")
    with pytest.raises(UserError, match="no regular file"):
        Manifest(tmp_path)


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".png")
    with atomic_path(path) as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path: Path) -> None:
    program = f"""
        import os, pathlib
        from osasis.files import atomic_path
        with atomic_path(pathlib.Path({str(tmp_path / "a.png")!r})):
            os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_path(tmp_path / "a.png") as mine, atomic_path(tmp_path / "a.png") as other:
        assert mine.exists() and other.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
