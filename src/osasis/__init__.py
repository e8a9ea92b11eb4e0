"""Redraw photos in the style of one picture (OSASIS, CVPR 2024).

The public names load what they need (torch above all) when first used, so that importing the
package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from osasis._version import __version__
from osasis.errors import OsasisError, UserError

if TYPE_CHECKING:
    from osasis.base import Base, load_base
    from osasis.config.controls import Controls
    from osasis.config.presets import PRESETS, LearnConfig
    from osasis.formats.style_file import Style, load_style
    from osasis.learn.save import learn_style
    from osasis.stylize.edit import AttributeEdit
    from osasis.stylize.preview import preview_style
    from osasis.stylize.stylizer import Stylizer
    from osasis.stylize.text import TextEdit

__all__ = [
    "AttributeEdit",
    "Base",
    "Controls",
    "LearnConfig",
    "OsasisError",
    "PRESETS",
    "Style",
    "Stylizer",
    "TextEdit",
    "UserError",
    "__version__",
    "learn_style",
    "load_base",
    "load_style",
    "preview_style",
]

_LAZY = {
    "Base": "osasis.base",
    "load_base": "osasis.base",
    "Style": "osasis.formats.style_file",
    "load_style": "osasis.formats.style_file",
    "learn_style": "osasis.learn.save",
    "Stylizer": "osasis.stylize.stylizer",
    "AttributeEdit": "osasis.stylize.edit",
    "TextEdit": "osasis.stylize.text",
    "preview_style": "osasis.stylize.preview",
    "Controls": "osasis.config.controls",
    "LearnConfig": "osasis.config.presets",
    "PRESETS": "osasis.config.presets",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
