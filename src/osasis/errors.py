"""Errors a user can act on."""

from __future__ import annotations


class OsasisError(Exception):
    """A failure with a plain message and, where there is one, the next thing to do.

    Attributes:
        hint: what to run or change; empty when nothing is known to help.
        exit_code: exit status of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def line(self) -> str:
        """What went wrong and what to do, on one line."""
        return "; ".join(filter(None, [str(self), self.hint]))


class UserError(OsasisError):
    """Wrong use: what was given cannot work, and the message says what would."""

    exit_code = 2
