"""What `osasis doctor` finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osasis.cli import doctor, main
from osasis.errors import OsasisError
from osasis.extras import install


def test_doctor_runs(capsys: pytest.CaptureFixture[str]) -> None:
    status = main.main(["doctor"])
    shown = capsys.readouterr().out
    assert status == (1 if "MISSING" in shown else 0)
    assert all(package in shown for package in doctor.CORE)


def test_doctor_says_what_mends_a_missing_package() -> None:
    check = doctor.check_package("no-such-package", "no_such_package")
    assert not check.ok and check.core
    assert "pip install no-such-package" in check.lines()[1]
    absent = doctor.check_package("no-such-package", "no_such_package", extra="ray")
    assert not absent.core and install("ray") in absent.lines()[1]


def test_doctor_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_broken() -> Any:
        raise OsasisError("it is broken", hint="mend it")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (check_broken, doctor.check_python))
    found = list(doctor.examine())
    assert [c.ok for c in found] == [False, True, True]
    assert (found[0].name, found[0].fix) == ("broken", "mend it")


def test_doctor_finds_damaged_assets(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "t.tsv").write_text("file\tsha256\na.png\t00\nb.png\t\n")
    assert [text.split()[-1] for text in doctor.broken_assets(tmp_path)] == ["damaged", "missing"]
