"""The documentation names what exists, and its commands parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from osasis.cli.main import parse

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
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    text = (ROOT / "docs" / "METHOD.md").read_text()
    for name in re.findall(r"`(?:parity|oracle|unit): (test_\w+)`", text):
        assert f"def {name}(" in tests, name
    sources = "\n".join(p.read_text() for p in (ROOT / "src").rglob("*.py"))
    for dotted in re.findall(r"`((?:diffusion|models|learn|stylize)\.[a-z_]+\.\w+)", text):
        assert re.search(rf"(def|class) {dotted.rsplit('.', 1)[1]}\b", sources), dotted
