"""The command line: parsing, messages, exit codes, progress."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

import osasis
from osasis.cli import app, controls, doctor, explore, learn, main, options, photos
from osasis.cli.app import Call
from osasis.config.catalogue import configs
from osasis.config.controls import Controls
from osasis.errors import OsasisError, UserError
from osasis.files import snapshot_file
from osasis.stylize.edit import ATTRIBUTE_GUIDANCE, guidance_of
from osasis.stylize.explore import CONTROLS as EXPLORE_CONTROLS

NAMES = [*main.COMMANDS, "pretrain-evaluate", "pretrain-autoencoder"]


def fail_with(error: BaseException) -> Callable[[], int]:
    def doctor() -> int:
        raise error

    return doctor


@pytest.fixture
def broken_doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `osasis doctor` fail with an exception of the test's choice."""
    return lambda error: monkeypatch.setattr(doctor, "doctor", fail_with(error))


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
        "import sys; from osasis.cli.app import whole_app; whole_app(); "
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
        main.main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"  osasis {command.replace('-', ' ')}" in capsys.readouterr().out


def test_general_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    shown = capsys.readouterr().out
    assert all(name.split()[0] in shown for name in main.COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert (stop.value.code, capsys.readouterr().out) == (0, shown)


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


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("train a.jpg", "learn"),
        ("video a.mp4", "film"),
        ("stylize a.jpg --style s --strength 2", "--style-strength"),
        ("stylize a.jpg --style s --intensity 2", "--style-strength"),
        ("stylize a.jpg --style s --style-weight 2", "--style-strength"),
        ("stylize a.jpg --style s --gpu 0", "--device"),
        ("stylize a.jpg --style s --out o", "--output"),
        ("learn a.jpg --epochs 3", "--iterations"),
    ],
)
def test_what_is_meant(line: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(line.split()) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_what_other_programs_call_them_leads_somewhere() -> None:
    assert set(main.MEANT.values()) <= {*main.COMMANDS, "--help"}
    assert not set(main.MEANT) & set(main.COMMANDS)
    known = {
        name
        for command in ("stylize", "learn")
        for argument in app.app_of(
            command, main.COMMANDS[command][0]
        ).assemble_argument_collection()
        for name in argument.names
    }
    assert set(app.MEANT.values()) <= known
    assert not set(app.MEANT) & known


def test_a_control_out_of_range_is_named_by_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["stylize", "a.jpg", "--style", "s", "--style-strength", "-1"]) == 2
    assert "error: --style-strength must be 0 or more, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    for word in ("stylize", "style-strength", "autoencoder", "tiles", "fetch"):
        assert word in shown


def test_bash_takes_the_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", "bash"]) == 0
    script = (
        capsys.readouterr().out
        + """
COMP_WORDS=(osasis sty); COMP_CWORD=1; _osasis
echo "${COMPREPLY[@]}"
"""
    )
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("stylize", "")


def test_the_page_of_commands_needs_no_library() -> None:
    program = (
        "import sys; from osasis.cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'cyclopts', 'rich') if m in sys.modules])"
    )
    assert python("-c", program).stdout.splitlines()[-1] == "[]"


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

    assert set(get_args(learn.Preset)) == set(PRESETS)


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
    assert "1 of 3" in shown.err and "a.png: bad; mend" in shown.err


def parsed(line: str) -> dict[str, Any]:
    call: Call = main.parse(line.split())
    return call.options


def controls_in(line: str) -> Controls:
    given = parsed(line)
    groups = (given[name] for name in ("drawing", "photo", "edits") if name in given)
    return controls.controls_of(*groups)


def test_metadata_says_how_it_was_made() -> None:
    base: Any = SimpleNamespace(name="faces-256")
    monk, nun = (
        SimpleNamespace(manifest=SimpleNamespace(name=name, seed=3)) for name in ("monk", "nun")
    )
    styles: Any = [(monk, 3.0), (nun, 1.0)]
    asked = controls_in(
        "stylize a.jpg --style monk --seed 5 --variation 0.5 --style-strength 0.6 --t0 300"
    )
    said = controls.describe(base, styles, asked)
    assert said["base"] == "faces-256" and said["seed"] == "5" and said["style seed"] == "3, 3"
    assert said["style"] == "monk=0.75 + nun=0.25" and said["style strength"] == "0.6"
    assert said["t0"] == "300" and "lambda spn" not in said and "note" not in said
    assert osasis.__version__ in said["version"]
    assert controls.describe(base, styles[:1], asked)["style"] == "monk"
    asked = controls_in("stylize a.jpg --style-image p.png --swap-codes")
    said = controls.describe(base, styles[:1], asked, preview=True)
    assert "preview" in said["note"] and said["codes"] == "swapped"


@pytest.mark.parametrize(
    "given",
    ["--t0 1.5", "--seed=2.5", "--batch-size 1.9", "--tiles .5", "--t0 2.5e0", "--seed 1.5_0"],
)
def test_a_fraction_is_no_whole_number(given: str) -> None:
    with pytest.raises(UserError, match=r"'\d?\.\d(e0|_0)?' is not a whole number") as caught:
        parsed(f"stylize a.jpg --style monk {given}")
    assert "osasis stylize --help" in caught.value.hint
    assert parsed("stylize a.jpg --style monk --detail 0.5")["photo"].detail == 0.5


def test_names_that_start_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-me.jpg").write_text("")
    for words, said in (
        ("a.jpg --style monk -o -c.jpg", "joined to it: -o=-c.jpg"),
        ("a.jpg --style monk --output -c.jpg", "joined to it: --output=-c.jpg"),
        ("-me.jpg --style monk", "the file of that name is ./-me.jpg"),
        ("a.jpg -o --style monk", "osasis stylize --help"),
        ("a.jpg --style monk -o", "osasis stylize --help"),
    ):
        with pytest.raises(UserError) as caught:
            parsed(f"stylize {words}")
        assert said in caught.value.hint, words
    assert str(parsed("stylize a.jpg --style monk -o=-c.jpg")["output"]) == "-c.jpg"


def test_styles_and_their_shares(tmp_path: Path) -> None:
    assert options.style_share("monk") == ("monk", 1.0)
    assert options.style_share("a/b=c=0.25") == ("a/b=c", 0.25)
    strange = tmp_path / "x=2"
    strange.write_text("")
    assert options.style_share(str(strange)) == (str(strange), 1.0)
    given = parsed("stylize a.jpg --style monk=0.7 --style nun=0.3")
    assert given["styles"].style == (("monk", 0.7), ("nun", 0.3))


def test_every_control_reaches_the_stylizer() -> None:
    values = controls_in(
        "edit a.jpg --attribute smiling --style-strength 2 --style-levels 1 --swap-codes "
        "--lambda-spn 0.5 --t0 40 --variation 0.1 --seed 3 --mixed-precision"
    )
    smile = (("smiling", 1.0),)
    assert values == Controls(
        2.0, (1,), True, 0.5, 40, 0.1, 3, mixed_precision=True, attributes=smile
    )
    values = controls_in(
        "stylize a.jpg --fit tiles --largest-face --tiles 2 --detail 1 --no-match-color --feather 1"
    )
    assert values == Controls(
        fit="tiles", largest_face=True, tiles=2, detail=1.0, match_color=False, feather=1.0
    )
    assert controls_in("stylize a.jpg --no-align").fit == "crop"
    assert controls_in("edit a.jpg --attribute smiling") == Controls(attributes=smile)
    values = controls_in(
        "edit a.jpg --text smile --from frown --guidance 3 --iterations 9 --max-change 0.1 "
        "--min-identity 0.5"
    )
    assert values == Controls(
        text="smile", text_from="frown", guidance=3, iterations=9, max_change=0.1, min_identity=0.5
    )


def test_standard_input_and_files_that_begin_with_a_hyphen() -> None:
    assert parsed("stylize - --style monk")["photos"] == ["-"]
    assert parsed("stylize --style monk b.jpg -")["photos"] == ["b.jpg", "-"]
    assert parsed("stylize --style monk -- --b.jpg -c.jpg")["photos"] == ["--b.jpg", "-c.jpg"]


def test_attributes_and_guidance(capsys: pytest.CaptureFixture[str]) -> None:
    line = "edit a.jpg --attribute smiling=1.5 --attribute male=-2 --attribute age"
    asked = controls_in(line)
    assert asked.attributes == (("smiling", 1.5), ("male", -2.0), ("age", 1.0))
    assert guidance_of(asked, styled=False) == ATTRIBUTE_GUIDANCE
    assert guidance_of(asked, styled=True) == 1
    with pytest.raises(SystemExit):
        main.main(["edit", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"default: {ATTRIBUTE_GUIDANCE:g} for attributes" in shown
    asked = controls_in("edit a.jpg --text smile --guidance 3")
    assert guidance_of(asked, styled=False) == 3


def test_explore_knows_its_rows() -> None:
    assert explore.CONTROLS == EXPLORE_CONTROLS
    assert parsed("explore a.jpg --style m --rows t0,strength,t0")["rows"] == ("t0", "strength")


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
from osasis.threads import keep_freed_memory
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
