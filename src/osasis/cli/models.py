"""`osasis models`: what can be used by name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from osasis.cli.options import Subparsers

EPILOG = """\
example:
  osasis models list

Bases are used with `osasis learn --base NAME`, styles with `osasis stylize --style NAME`.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "models",
        help="list the bases and the shipped styles",
        description="List the pretrained bases and the styles that are shipped.",
        epilog=EPILOG,
    )
    parser.add_argument("action", nargs="?", choices=("list",), default="list", help="what to do")
    return parser


def size(count: int) -> str:
    """A file size for people."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def base_table() -> Table:
    """The bases."""
    from osasis.hub.registry import list_bases

    table = _table("Bases", "name", "pixels", "size", "from", "what it draws")
    for base in list_bases():
        table.add_row(
            base.name,
            str(base.image_size),
            size(base.bytes),
            str(base.source),
            base.description,
        )
    return table


def style_table() -> Table:
    """The shipped styles."""
    from osasis.hub.registry import list_styles, read_manifest

    table = _table("Styles", "name", "base", "preset", "size")
    for path in list_styles():
        manifest = read_manifest(path)
        table.add_row(
            path.stem,
            str(manifest.get("base_name", "")),
            str(manifest.get("preset", "")),
            size(path.stat().st_size),
        )
    return table


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from rich.console import Console

    console = Console()
    for table in (base_table(), style_table()):
        console.print(table if table.row_count else f"{table.title}: none is shipped")
    return 0
