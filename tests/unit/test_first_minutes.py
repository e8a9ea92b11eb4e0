"""What a new user meets first: files that are none, what is printed, two runs at a time."""

from __future__ import annotations

import importlib.util
import shlex
import socket
import sys
import time
from pathlib import Path

import pytest

from osasis import extras
from osasis.base import Base
from osasis.cli.main import main
from osasis.cli.models_list import describe
from osasis.cli.options import command_line
from osasis.config.catalogue import find_base, find_style
from osasis.errors import OsasisError, UserError
from osasis.files import reserved
from osasis.formats.records import MANIFEST
from osasis.formats.style_file import Style, load_style
from osasis.hub.download import unusable_proxies
from osasis.hub.fetch import fetch
from osasis.learn.save import learn_style
from osasis.pretrain.config import load_config

from ..conftest import picture
from .test_style import QUICK


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>" + b"x" * 90, "a web page", "download"),
        (b"\xff\xd8\xff\xe0" + b"x" * 90, "a picture", "osasis learn"),
        (b"PK\x03\x04" + b"x" * 90, "a checkpoint of PyTorch", "models convert"),
        (b"\x02\0\0\0\0\0\0\0{}", "safetensors file of another program", "osasis"),
    ],
)
def test_a_file_that_is_no_style_is_said_what_it_is(
    tmp_path: Path, data: bytes, what: str, hint: str
) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=what) as refused:
        load_style(tmp_path / "a.safetensors")
    assert hint in refused.value.hint


def test_bases_and_styles_print_a_few_lines(tiny_base: Base, tiny_style: Style) -> None:
    for shown in (repr(tiny_base), repr(tiny_style), str(tiny_style)):
        assert 8 <= len(shown.splitlines()) <= 12
        assert max(map(len, shown.splitlines())) < 120 and "tensor(" not in shown
    assert tiny_style.manifest.name in repr(tiny_style) and tiny_base.hash in repr(tiny_base)
    for name in ("faces-256", "memling_maria"):
        lines = describe(name)
        assert 5 <= len(lines) <= 20 and max(map(len, lines)) < 330
        assert "{" not in "".join(lines)


def test_a_folder_of_results_called_as_their_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, find in (("memling_maria", find_style), ("faces-256", find_base)):
        Path(name).mkdir()
        assert find(name).is_file() and tmp_path not in find(name).parents
        with pytest.raises(UserError, match="is a folder without"):
            find(f"./{name}/")  # named outright
        Path(name, "model.safetensors").touch()
        assert find(name) == Path(name, "model.safetensors")


def test_the_next_command_works_in_the_shell_that_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = Path(".venv", "bin", "osasis")
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    for called in (str(program), f"{tmp_path}/.venv/bin/osasis"):
        monkeypatch.setattr(sys, "argv", [called, "learn"])
        assert command_line(["stylize", "a b"]) == f"{called} stylize 'a b'"
    monkeypatch.setenv("PATH", f"{tmp_path}/.venv/bin")
    assert command_line(["stylize"]) == "osasis stylize"
    monkeypatch.setattr(sys, "argv", ["/x/osasis/__main__.py"])
    assert command_line(["stylize"]) == "osasis stylize"


def test_extends_finds_what_is_shipped(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "ffhq-256"\nname = "mine"\n')
    assert load_config(tmp_path / "mine.toml", data=str(tmp_path)).name == "mine"
    (tmp_path / "mine.toml").write_text('extends = "nowhere"\n')
    with pytest.raises(UserError, match="no configuration at"):
        load_config(tmp_path / "mine.toml")


def test_two_runs_do_not_make_one_file(tiny_base: Base, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("fcntl")
    picture(1).save(tmp_path / "a.png")
    output = tmp_path / "a.safetensors"
    with reserved(output):
        assert main(["learn", str(tmp_path / "a.png"), "-o", str(output)]) == 2
        assert "another run is making" in capsys.readouterr().err
        with pytest.raises(UserError, match="another run is making"):
            learn_style(tmp_path / "a.png", base=tiny_base, output=output)
    folder = tmp_path / "styles"
    with reserved(folder / MANIFEST):
        assert main(["learn", str(tmp_path), "-o", str(folder), "--device", "cpu"]) == 2
        assert "another run is making" in capsys.readouterr().err
    with reserved(output), reserved(folder / MANIFEST):  # free again
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "styles"]


@pytest.mark.parametrize(
    ("origin", "what"),
    [
        ("", "'osasis[film]'"),
        (
            '{"url": "file:///a%20b/o", "dir_info": {"editable": true}}',
            "-e '/a b/o[film]'",
        ),
        ('{"url": "file:///a/osasis", "dir_info": {}}', "'/a/osasis[film]'"),
        (
            '{"url": "https://x.org/o", "vcs_info": {"vcs": "git"}}',
            "'osasis[film] @ git+https://x.org/o'",
        ),
    ],
)
def test_extras_are_installed_from_where_osasis_came_from(origin: str, what: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extras, "_origin", lambda: origin)
        extras.install.cache_clear()
        assert extras.install("film") == f"{shlex.quote(sys.executable)} -m pip install {what}"
    extras.install.cache_clear()


def test_learning_in_python_shows_how_far_it_is(tiny_base: Base, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        learn_style(picture(1), base=tiny_base, preset=QUICK, name="a")
        assert "learn" in capsys.readouterr().err
        learn_style(picture(1), base=tiny_base, preset=QUICK, name="a", callback=print)
    said = capsys.readouterr()
    assert not said.err and "StepRecord" in said.out


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        start = time.process_time()
        assert main(["studio", "--port", port, "--data", str(tmp_path)]) == 1
        assert time.process_time() - start < 1.5
    said = capsys.readouterr().err
    assert "cannot listen on" in said and "--port" in said


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="SOCKS works here")
def test_a_socks_proxy_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(OsasisError, match="SOCKS proxy") as refused:
        fetch("sface")
    assert "socksio" in refused.value.hint
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert unusable_proxies() == []
