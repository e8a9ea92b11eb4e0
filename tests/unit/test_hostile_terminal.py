"""Names that steer a terminal, and signals that come at a bad time."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from osasis.cli.main import main

ODD = "a\x1b[2J\x07\u202egpj.png"


def test_names_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ODD).write_bytes(b"no picture")
    main(["stylize", str(tmp_path / ODD), "--style", "memling_maria", "-o", str(tmp_path / "o")])
    said = "".join(capsys.readouterr())
    assert "\\x1b[2J\\x07\\u202e" in said
    assert not [c for c in said if not c.isprintable() and c not in "\n\t"]


PROGRAM = """
    import sys, time
    from osasis.cli import main, doctor
    def run(args):
        print("ready", flush=True)
        try:
            time.sleep(60)
        finally:
            time.sleep(1)
            print("saved", flush=True)
    doctor.run = run
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
