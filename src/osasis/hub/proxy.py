"""SOCKS proxies of the environment, for which HTTPX needs one more package."""

from __future__ import annotations

import importlib.util
import os

from osasis.errors import OsasisError

_NAMES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


def unusable_proxies() -> list[str]:
    """Variables that name a SOCKS proxy, where the package that speaks to one is missing."""
    if importlib.util.find_spec("socksio") is not None:
        return []
    names = [spelled for name in _NAMES for spelled in (name, name.lower())]
    return [name for name in names if os.environ.get(name, "").lower().startswith("socks")]


def check_proxies() -> None:
    """Refuse to fetch past a SOCKS proxy that was asked for.

    Raises:
        OsasisError: one is set and cannot be used.
    """
    if names := unusable_proxies():
        raise OsasisError(
            f"${names[0]} is a SOCKS proxy, and the package for it is missing",
            hint="pip install socksio",
        )
