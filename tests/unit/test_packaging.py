"""The package as it is built and installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import osasis
from osasis.cli import doctor

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "osasis"

LIST_FILES = """
import json
from setuptools import Distribution
dist = Distribution({"script_name": "setup.py"})
dist.parse_config_files()
build = dist.get_command_obj("build_py")
build.ensure_finalized()
data = build.get_data_files_without_manifest()
found = [f"{folder}/{name}" for _, folder, _, names in data for name in names]
for package in build.packages:
    modules = build.find_package_modules(package, build.get_package_dir(package))
    found += [path for _, _, path in modules]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_-]", text, maxsplit=1)[0] for text in requirements}


def test_few_core_dependencies(project: dict[str, Any]) -> None:
    core = names(project["project"]["dependencies"])
    assert len(core) <= 10
    assert not core & {"torchvision", "opencv-python", "transformers"}


def test_doctor_looks_for_every_dependency(project: dict[str, Any]) -> None:
    assert names(project["project"]["dependencies"]) == set(doctor.CORE)
    extras = project["project"]["optional-dependencies"]
    assert {k: names(v) for k, v in extras.items() if k != "dev"} == {
        k: set(v) for k, v in doctor.EXTRAS.items()
    }


def test_constraints_pin_every_dependency(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and line[0] != "#"}
    extras = project["project"]["optional-dependencies"].values()
    wanted = names([*project["project"]["dependencies"], *(x for extra in extras for x in extra)])
    assert wanted <= pinned


def test_torchvision_is_not_used() -> None:
    used = re.compile(r"^\s*(import|from) torchvision\b", re.MULTILINE)
    assert not [p for p in PACKAGE.rglob("*.py") if used.search(p.read_text(encoding="utf-8"))]


def test_every_file_of_the_package_is_built() -> None:
    pytest.importorskip("setuptools", minversion="77.0")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIST_FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    built = {(ROOT / path).resolve() for path in json.loads(done.stdout.splitlines()[-1])}
    present = {p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    # a file that is being written at this moment has a hidden name
    assert {p for p in present - built if not p.name.startswith(".")} == set()


def test_version_is_read_from_the_package(project: dict[str, Any]) -> None:
    assert "version" in project["project"]["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", osasis.__version__)


def test_changelog_knows_the_version() -> None:
    assert osasis.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
