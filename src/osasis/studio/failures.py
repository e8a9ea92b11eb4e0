"""What visitors are told of failures, and what the studio's log is."""

from __future__ import annotations

import logging

from safetensors import SafetensorError

from osasis.errors import OsasisError, UserError

_LOG = logging.getLogger(__name__)


class NotKept(OsasisError):
    """A failure of the server's disk, without the place where it keeps files."""


def not_kept(error: OSError | OsasisError) -> NotKept:
    """What a visitor is told of a failure to write; the studio's log has the rest."""
    _LOG.error("a visitor's file was not kept: %s", error)
    cause = error if isinstance(error, OSError) else error.__cause__
    said = getattr(cause, "strerror", None) or "it could not be written"
    return NotKept(f"cannot be kept: {said}", hint="try again later")


def for_visitor(error: OsasisError) -> OsasisError:
    """An error as a visitor is told it: of one that the disk made, `not_kept`."""
    by_disk = isinstance(error.__cause__, (OSError, SafetensorError))
    return not_kept(error) if by_disk and not isinstance(error, (UserError, NotKept)) else error
