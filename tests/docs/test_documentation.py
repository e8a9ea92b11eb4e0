"""The documentation names what exists, and its commands parse."""

from __future__ import annotations

import importlib
import re
import shlex
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from osasis.cli.main import parse
from osasis.config.catalogue import assets
from osasis.config.presets import PRESETS
from osasis.imaging.load import load_image
from osasis.stylize.demo import PHOTO, face_crop

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    found = []
    for page in PAGES:
        found += re.findall(
            r"^(?:    )?(?:\.venv/bin/)?(osasis .+?)(?:\s+#.*)?$", page.read_text(), re.M
        )
    return found


def test_there_are_commands() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command: str) -> None:
    parse(shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), (page.name, target)


def test_method_names_functions_and_tests_that_exist() -> None:
    text = (ROOT / "docs" / "METHOD.md").read_text()
    named = re.findall(r"`(parity|oracle|unit): (test_\w+)(\.py)?`", text)
    assert len(named) > 20
    for folder, name, is_file in named:
        tests = sorted((ROOT / "tests" / folder).glob("test_*.py"))
        if is_file:
            assert f"{name}.py" in [path.name for path in tests]
        else:
            assert any(f"def {name}(" in path.read_text() for path in tests), (folder, name)
    rooms = "|".join(p.name for p in (ROOT / "src" / "osasis").iterdir() if p.is_dir())
    dotted = re.findall(rf"`((?:{rooms})(?:\.\w+)+)`", text)
    assert len(dotted) > 20
    for name in dotted:
        resolve(name)


def resolve(dotted: str) -> object:
    """What a name below `osasis` stands for, every part of it."""
    parts = dotted.split(".")
    found: object = importlib.import_module("osasis." + parts[0])
    for number, part in enumerate(parts[1:], start=2):
        if isinstance(found, types.ModuleType) and not hasattr(found, part):
            importlib.import_module("osasis." + ".".join(parts[:number]))
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tables_are_tables(page: Path) -> None:
    """A head, a rule, rows of as many cells, and an empty line on both sides."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.strip("\n").splitlines() if not line.startswith("    ")]
        if not any(line.startswith("|") for line in lines):
            continue
        assert all(line.startswith("|") for line in lines), f"text in a table: {block[:300]}"
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(cells) == 1, f"rows of {cells} cells: {block[:300]}"
        assert re.fullmatch(r"[|:\- ]+", lines[1]), f"no rule below the head: {block[:300]}"


def test_the_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded base, with a preset that is quick; whole photos come back."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    photo = face_crop(load_image(assets() / "photos" / PHOTO)).resize((256, 272))
    for name in ("me.jpg", "you.jpg", "painting.jpg"):
        photo.save(name)
    fast = PRESETS["fast"]
    quick = replace(fast, iterations=1, bank=replace(fast.bank, size=1))
    assert "output=" in code
    names: dict[str, Any] = {"QUICK": quick}
    exec(code.replace("output=", "preset=QUICK, output="), names)
    assert names["picture"].size == photo.size
    assert [image.size for image in names["pictures"]] == [photo.size] * 2
    assert Path("painting.osasis.safetensors").is_file()


def test_contributing_names_what_ci_leaves_out() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    pattern = r"mark\.slow.*?^(?:async )?def (test_\w+)"
    slow = {name for text in sources for name in re.findall(pattern, text, re.M | re.S)}
    assert len(slow) > 10
    assert slow == set(re.findall(r"`(test_\w+)`", text))
