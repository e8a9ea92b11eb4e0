"""Optional packages, and the command that installs them, by how osasis itself was installed."""

from __future__ import annotations

import json
import shlex
import sys
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any
from urllib.parse import unquote, urlsplit

from osasis.errors import UserError


def need(module: str, what: str, extra: str, hint: str = "") -> Any:
    """A module of an extra, such as "av" of "film".

    Args:
        what: needs it, for the message.
        hint: what to run besides.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        message = (
            f"{what} needs the package {package}, which is not installed, or not whole: {error}"
        )
        raise UserError(message, hint=f"{install(extra)}{hint}") from error


@lru_cache
def install(extra: str) -> str:
    """The command that installs an extra, such as "film".

    A checkout is not on PyPI: its extras are installed from its folder.
    """
    return f"{shlex.quote(sys.executable)} -m pip install {_what(extra, _origin())}"


def _origin() -> str:
    """Where pip says osasis came from; empty for an index, or where that is unknown."""
    try:
        return distribution("osasis").read_text("direct_url.json") or ""
    except PackageNotFoundError:
        return ""


def _what(extra: str, origin: str) -> str:
    """Arguments of `pip install`.

    Args:
        origin: text of pip's direct_url.json.
    """
    if not origin:
        return shlex.quote(f"osasis[{extra}]")
    said = json.loads(origin)
    url = said["url"]
    if "dir_info" in said:
        editable = "-e " if said["dir_info"].get("editable") else ""
        return editable + shlex.quote(f"{unquote(urlsplit(url).path)}[{extra}]")
    kind = said.get("vcs_info", {}).get("vcs")
    return shlex.quote(f"osasis[{extra}] @ {f'{kind}+' if kind else ''}{url}")
