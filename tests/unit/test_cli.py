"""The command line: parsing, messages, exit codes, progress."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import osasis
from osasis.cli import controls, doctor, edit, explore, learn, main, options, photos
from osasis.config.catalogue import configs
from osasis.config.controls import Controls
from osasis.errors import OsasisError, UserError
from osasis.files import snapshot_file
from osasis.stylize.edit import ATTRIBUTE_GUIDANCE
from osasis.stylize.explore import CONTROLS as EXPLORE_CONTROLS

NAMES = [module.__name__.rpartition(".")[2].replace("_", "-") for module in main.COMMANDS]


def fail_with(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.fixture
def broken_doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `osasis doctor` fail with an exception of the test's choice."""
    return lambda error: monkeypatch.setattr(doctor, "run", fail_with(error))


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


# -- importing -------------------------------------------------------------------------------


def test_import_does_not_load_torch() -> None:
    program = "import sys, osasis; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert python("-c", program).stdout.strip() == "[]"


def test_building_the_parser_does_not_load_torch() -> None:
    program = (
        "import sys; from osasis.cli.main import build_parser; build_parser(); "
        "print('torch' in sys.modules)"
    )
    assert python("-c", program).stdout.strip() == "False"


def test_import_is_quick() -> None:
    program = "import time; t = time.perf_counter(); import osasis; print(time.perf_counter() - t)"
    assert min(float(python("-c", program).stdout) for _ in range(5)) < 0.3


def test_public_names_exist() -> None:
    for name in osasis.__all__:
        assert getattr(osasis, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = osasis.nonsense


# -- parsing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", NAMES)
def test_help_teaches_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main([command, "--help"])
    assert stop.value.code == 0
    assert f"  osasis {command.replace('-', ' ')}" in capsys.readouterr().out


def test_general_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--version"])
    assert capsys.readouterr().out.strip() == f"osasis {osasis.__version__}"


def test_run_as_a_module() -> None:
    done = python("-m", "osasis", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"osasis {osasis.__version__}")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("lern a.jpg", "no command 'lern'", "did you mean learn?"),
        ("qqqq", "no command 'qqqq'", "hint: commands are learn, stylize"),
        ("learn", "STYLE_IMAGE", "osasis learn --help"),
        ("learn a.jpg --sed 3", "--sed 3", "did you mean --seed?"),
        ("learn a.jpg --seed -1", "--seed", "osasis learn --help"),
        ("learn a.jpg --seed x", "not a whole number", "osasis learn --help"),
        ("learn a.jpg --preset quick", "'fast', 'paper', 'release'", "osasis learn --help"),
        ("stylize a.jpg", "--style", "osasis stylize --help"),
        ("stylize a.jpg --style s --style-levels 0,x", "list of levels", "--help"),
        ("stylize a.jpg --style s --variation 2", "between 0 and 1", "--help"),
        ("stylize a.jpg --style s --lambda-spn nan", "not a number", "--help"),
        ("stylize a.jpg --style s --batch-size 0", "1 or more", "--help"),
        ("stylize a.jpg --style s=0", "share above 0", "--help"),
        ("stylize a.jpg --style s --style-image p.png", "not allowed with", "--help"),
        ("stylize a.jpg --style s --style-strength -1", "0 or more", "--help"),
        ("edit a.jpg", "nothing to edit", "--attribute"),
        ("edit a.jpg --attribute smiling=x", "no attribute such as", "--help"),
        ("explore a.jpg --style s --rows t1", "no row is called 't1'", "--help"),
        ("pretrain faces-257", "faces-257", "did you mean faces-256?"),
        ("pretrain no/such.toml", "no/such.toml does not exist", ""),
        ("demo --style gova_josefa -o {tmp}", "gova_josefa", "did you mean goya_josefa?"),
    ],
)
def test_wrong_use(
    line: str, message: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(line.format(tmp=tmp_path).split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert hint in shown.err
    assert "Traceback" not in shown.err


def test_levels() -> None:
    assert options.levels("1, 0,1") == (0, 1)
    assert options.levels("none") == ()


# -- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (UserError("no", hint="do this"), 2, "error: no\nhint: do this\n"),
        (OsasisError("no"), 1, "error: no\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: Permission denied: /x\n"),
        (
            ZeroDivisionError("a\nb"),
            1,
            "internal error: ZeroDivisionError: a b; run again with --debug\n",
        ),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (KeyboardInterrupt("kept in x"), 130, "\nkept in x\n"),
    ],
)
def test_errors_become_messages(
    error: BaseException,
    status: int,
    shown: str,
    broken_doctor: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_doctor(error)
    assert main.main(["doctor"]) == status
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize("line", [["--debug", "doctor"], ["doctor", "--debug"]])
@pytest.mark.parametrize("error", [UserError("no"), ZeroDivisionError("no"), OSError("no")])
def test_debug_shows_the_traceback(
    line: list[str],
    error: Exception,
    broken_doctor: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_doctor(error)
    assert main.main(line) == getattr(error, "exit_code", 1)
    assert "Traceback" in capsys.readouterr().err


def test_reader_that_leaves_is_no_error() -> None:
    for arguments in ("", "--help"):
        program = f"{sys.executable} -m osasis {arguments} | true"
        done = subprocess.run(
            ["sh", "-c", program], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == ""


# -- commands --------------------------------------------------------------------------------


def test_presets_are_those_of_the_library() -> None:
    from osasis.config.presets import PRESETS

    assert set(learn.PRESETS) == set(PRESETS)


def test_learn_names_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = Path("pictures/monk.v2.jpg")
    default = learn.output_file(picture, None, force=False)
    assert default == Path("monk.v2.osasis.safetensors")
    assert learn.output_file(picture, tmp_path, force=False) == tmp_path / default
    assert snapshot_file(default) == Path(".monk.v2.osasis.partial.safetensors")
    with pytest.raises(UserError, match="safetensors"):
        learn.output_file(picture, Path("monk.png"), force=False)


def test_learn_does_not_replace_a_style(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.safetensors"
    output.write_text("precious")
    assert main.main(["learn", "a.jpg", "-o", str(output)]) == 2
    assert "--force" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert learn.output_file(Path("a.jpg"), output, force=True) == output


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create"):
        options.make_writable(tmp_path / "file" / "inside")


def test_stylize_reports_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert photos.report(1, tmp_path, []) == 0
    assert photos.report(2, tmp_path, [(Path("a.png"), UserError("bad", hint="mend"))]) == 1
    shown = capsys.readouterr()
    assert "2 photos" in shown.out and str(tmp_path) in shown.out
    assert "1 of 3" in shown.err and "a.png: bad (mend)" in shown.err


def parsed(line: str) -> argparse.Namespace:
    return main.parse(line.split())


def test_metadata_says_how_it_was_made() -> None:
    base: Any = SimpleNamespace(name="faces-256")
    monk, nun = (
        SimpleNamespace(manifest=SimpleNamespace(name=name, seed=3)) for name in ("monk", "nun")
    )
    styles: Any = [(monk, 3.0), (nun, 1.0)]
    args = parsed(
        "stylize a.jpg --style monk --seed 5 --variation 0.5 --style-strength 0.6 --t0 300"
    )
    said = controls.describe(base, styles, args)
    assert said["base"] == "faces-256" and said["seed"] == "5" and said["style seed"] == "3, 3"
    assert said["style"] == "monk=0.75 + nun=0.25" and said["style strength"] == "0.6"
    assert said["t0"] == "300" and "lambda spn" not in said and "note" not in said
    assert osasis.__version__ in said["version"]
    assert controls.describe(base, styles[:1], args)["style"] == "monk"
    args = parsed("stylize a.jpg --style-image p.png --swap-codes")
    said = controls.describe(base, styles[:1], args)
    assert "preview" in said["note"] and said["codes"] == "swapped"


def test_styles_and_their_shares(tmp_path: Path) -> None:
    assert controls.style_share("monk") == ("monk", 1.0)
    assert controls.style_share("a/b=c=0.25") == ("a/b=c", 0.25)
    strange = tmp_path / "x=2"
    strange.write_text("")
    assert controls.style_share(str(strange)) == (str(strange), 1.0)
    args = parsed("stylize a.jpg --style monk=0.7 --style nun=0.3")
    assert args.style == [("monk", 0.7), ("nun", 0.3)]


def test_every_control_reaches_the_stylizer() -> None:
    args = parsed(
        "edit a.jpg --attribute smiling --style-strength 2 --style-levels 1 --swap-codes "
        "--lambda-spn 0.5 --t0 40 --variation 0.1 --seed 3 --mixed-precision"
    )
    values = controls.control_values(args)
    assert values == Controls(2.0, (1,), True, 0.5, 40, 0.1, 3, mixed_precision=True)
    defaults = controls.control_values(parsed("edit a.jpg --attribute smiling"))
    assert defaults == Controls()


def test_attributes_and_guidance() -> None:
    args = parsed("edit a.jpg --attribute smiling=1.5 --attribute male=-2 --attribute age")
    assert args.attribute == [("smiling", 1.5), ("male", -2.0), ("age", 1.0)]
    assert edit.guidance_of(args) == ATTRIBUTE_GUIDANCE
    assert f"default: {ATTRIBUTE_GUIDANCE:g} for attributes" in " ".join(
        main.build_parser().parse_args(["edit", "a", "--text", "b"]).parser.format_help().split()
    )
    assert edit.guidance_of(parsed("edit a.jpg --attribute age --style monk")) == 1
    assert edit.guidance_of(parsed("edit a.jpg --text smile --guidance 3")) == 3


def test_explore_knows_its_rows() -> None:
    assert explore.CONTROLS == EXPLORE_CONTROLS
    assert parsed("explore a.jpg --style m --rows t0,strength,t0").rows == ("t0", "strength")


def test_shipped_configuration_is_valid() -> None:
    from osasis.pretrain.config import load_config

    for name, path in configs().items():
        assert load_config(path, data="somewhere").name == name
    assert "faces-256" in configs()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
def test_freed_memory_serves_the_next_tensor() -> None:
    """Pages that the kernel has to map for 20 tensors of 48 MB, one after the other."""
    code = """
import resource, sys
import torch
from osasis.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    for _ in range(20):
        torch.ones(12_000_000)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", code, how], capture_output=True, check=True
            ).stdout
        )
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 1000 < faults["give back"]
