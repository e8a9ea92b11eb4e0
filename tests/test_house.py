"""The house: which part of the package may import which, read from every import statement."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "osasis"

# from the ground up: a room imports its own floor and those below
FLOORS = (
    ("_version", "errors", "files", "device", "threads") + ("extras", "progress", "terminal"),
    ("diffusion",),
    ("config",),
    ("models",),
    ("imaging",),
    ("perception",),
    ("formats",),
    ("base",),
    ("learn",),
    ("stylize",),
    ("scale",),
    ("pretrain",),
    ("evaluate",),
    ("hub",),
    ("bench",),
    ("studio",),
    ("cli",),
    ("__init__", "__main__"),
)
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}

# imports that still run up; a line may leave this list, none may join it
EXCEPTIONS: set[tuple[str, str]] = set()


def imports() -> Iterator[tuple[str, str]]:
    """Pairs of a module of the package and one that it imports, those inside functions too."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports by a relative name"
                module = node.module or ""
                if module == "osasis":
                    yield from ((name, alias.name) for alias in node.names)
                elif module.startswith("osasis."):
                    yield name, module.removeprefix("osasis.")
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("osasis."):
                        yield name, alias.name.removeprefix("osasis.")


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_room_has_a_floor() -> None:
    rooms = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/*.py")}
    assert rooms == set(HEIGHT)


def test_the_document_has_the_rooms_in_this_order() -> None:
    text = (PACKAGE.parents[1] / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (`.*?) \|", text.partition("## Choices")[0], re.MULTILINE)
    names = [name.strip("`/") for row in listed for name in re.findall(r"`\w+/?`", row)]
    known = [name for name in names if name in HEIGHT]
    assert known == sorted(known, key=HEIGHT.__getitem__)
    assert {room for floor in FLOORS[1:-1] for room in floor} <= set(known)


def test_no_import_runs_up() -> None:
    up = {
        (module, target)
        for module, target in imports()
        if HEIGHT[room(module)] < HEIGHT[room(target)]
    }
    assert up == EXCEPTIONS, "EXCEPTIONS may only get shorter"


def test_the_test_sees_imports() -> None:
    found = set(imports())
    assert ("stylize.stylizer", "base") in found
    assert ("cli.learn", "base") in found  # inside a function
