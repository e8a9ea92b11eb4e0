"""What reaches the terminal: text, whatever strangers named their files and styles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_CONTROL = {*range(0x20), *range(0x7F, 0xA0), *_TURNING, *range(0xD800, 0xE000)} - {
    ord("\n"),
    ord("\t"),
}
_SHOWN = {code: ascii(chr(code))[1:-1] for code in _CONTROL}


def printable(text: str) -> str:
    """`text` with what steers a terminal, or turns writing round, shown as an escape."""
    return text.translate(_SHOWN)


def say(line: str, stream: TextIO | None = None) -> None:
    """Print one line, also where a name in it holds several."""
    print(line.replace("\n", "\\n"), file=stream)


def table(title: str, left: Sequence[str], right: Sequence[str] = ()) -> Table:
    """An empty table, with columns of text that folds and, to the right, of numbers."""
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for column in left:
        made.add_column(column, overflow="fold")
    for column in right:
        made.add_column(column, justify="right", no_wrap=True)
    return made


class Shown:
    """Writes to a stream, all text `printable`; without one (closed) nowhere.

    Attributes:
        terminal: the stream itself, for what steers it on purpose.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.terminal = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def write(self, text: str) -> int:
        """Write text; what the stream's encoding does not know as an escape."""
        text = printable(text)
        try:
            return self.terminal.write(text)
        except UnicodeEncodeError:
            known = self.terminal.encoding
            return self.terminal.write(text.encode(known, "backslashreplace").decode(known))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)
