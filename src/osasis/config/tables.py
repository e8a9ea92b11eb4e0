"""Frozen dataclasses from tables of TOML and JSON; names, kinds and ranges are checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from osasis.errors import UserError

T = TypeVar("T")
MAX_DEPTH = 32
MOST = 2**62  # of any number: seeds and float32 hold it, and room above
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class ValueRefused(UserError):
    """A field's value out of its range.

    Attributes:
        field: its name.
        problem: what is wrong, to be read after the name.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; with `above` without `low` itself."""

    low: float = 0
    high: float = math.inf
    above: bool = False

    def problem(self, value: float) -> str:
        """What is wrong with a value; empty where nothing is."""
        large_enough = self.low < value if self.above else self.low <= value
        if large_enough and value <= min(self.high, MOST):
            return ""
        got = f"got {value}" + (", which is not a number" if value != value else "")
        if self.high == math.inf:
            too_large = f", at most {MOST:g}" if value > MOST else ""
            least = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
            return f"must be {least}{too_large}, {got}"
        lowest = f"above {self.low:g}, at most" if self.above else f"between {self.low:g} and"
        return f"must lie {lowest} {self.high:g}, {got}"


@lru_cache
def ranges(kind: type) -> dict[str, Range]:
    """The ranges of a dataclass's fields, by name."""
    hints = get_type_hints(kind, include_extras=True)
    parts = {name: get_args(hint) for name, hint in hints.items()}
    return {n: part for n, found in parts.items() for part in found if isinstance(part, Range)}


@lru_cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(kind)
    return {n: get_args(hint) for n, hint in hints.items() if get_origin(hint) is Literal}


class Checked:
    """A dataclass whose fields are held to their `Range` and `Literal`.

    Raises:
        ValueRefused: a value that is outside.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, allowed in ranges(kind).items():
            value = getattr(self, name)
            problem = "" if value is None else allowed.problem(value)
            if problem:
                raise ValueRefused(name, problem)
        for name, choices in _choices(kind).items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(repr, choices))
                raise ValueRefused(name, f"must be one of {known}, got {getattr(self, name)!r}")


def from_table(
    kind: type[T], table: Any, *, where: str = "", what: str = "setting", **given: Any
) -> T:
    """A dataclass from a table; what the table leaves out keeps its default.

    Args:
        where: whose table it is, for messages, such as "[train]".
        what: what a field is called in messages.
        given: fields that the table cannot set.

    Raises:
        UserError: an unknown or missing field, or a value of the wrong kind or out of range.
    """
    values = _values(kind, table, where, what, given)
    return _made(lambda: kind(**given, **values), where)


def with_table(start: T, table: Any, *, where: str = "", what: str = "setting") -> T:
    """A dataclass with the fields replaced that a table names, tables within tables included.

    Raises:
        UserError: as `from_table`.
    """
    values = _values(type(start), table, where, what, {}, start)
    return _made(lambda: replace(start, **values), where)  # type: ignore[type-var]


def _values(
    kind: type, table: Any, where: str, what: str, given: Mapping[str, Any], start: Any = None
) -> dict[str, Any]:
    of = f" of {where}" if where else ""
    if not isinstance(table, Mapping):
        raise UserError(f"the {what}s{of} must be a table, not {table!r:.60}")
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind) if f.name not in given]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UserError(
            f"there is no {what} {unknown[0]!r}{' in ' * bool(where)}{where}",
            hint=f"there are {', '.join(known) or 'none'}",
        )
    values = {}
    for name, value in table.items():
        before = getattr(start, name, None)
        if is_dataclass(before) and isinstance(value, Mapping):
            values[name] = with_table(before, value, where=name, what=what)
        else:
            values[name] = typed(value, hints[name], f"{name}{of}")
    return values


def _made(make: Callable[[], T], where: str) -> T:
    of = f"{where}: " if where else ""
    try:
        return make()
    except TypeError as error:
        raise UserError(f"{of}incomplete or wrong: {error}") from error
    except (UserError, ValueError) as error:
        if not where:
            raise
        raise UserError(f"{of}{error}", hint=getattr(error, "hint", "")) from error


def typed(value: Any, hint: Any, name: str) -> Any:
    """`value`, if it is of the type `hint`; lists become tuples, texts paths, whole numbers floats.

    Raises:
        UserError: it is not.
    """
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in kinds:
        origin = get_origin(kind)
        if is_dataclass(kind) and isinstance(value, Mapping):
            return from_table(kind, value, where=name)  # type: ignore[arg-type]
        if origin is dict and isinstance(value, dict):
            return {str(k): typed(v, get_args(kind)[1], f"{k} of {name}") for k, v in value.items()}
        if kind is Any or (is_dataclass(kind) and isinstance(value, kind)):  # type: ignore[arg-type]
            return value
        if origin is tuple and isinstance(value, (list, tuple)):
            return tuple(typed(entry, get_args(kind)[0], name) for entry in value)
        if origin is Literal and value in get_args(kind):
            return value
        if kind is Path and isinstance(value, str):
            return Path(value).expanduser()
        if kind is float and type(value) in (int, float) and math.isfinite(value):
            return float(value)
        if kind is int and type(value) is float and value.is_integer():
            return int(value)
        if type(value) is kind and kind is not float:  # NaN and infinity are no numbers
            return value
    wanted = " or ".join(_named(kind) for kind in kinds if kind is not NoneType)
    raise UserError(f"{name} must be {wanted}, got {value!r:.60}")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UserError: it cannot be read.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOML's and Unicode's are ValueErrors
        raise UserError(f"{path} cannot be read, it is not TOML: {error}") from error


def parsed(text: str | bytes, name: str) -> Any:
    """JSON, of tables and lists at most `MAX_DEPTH` deep.

    Raises:
        UserError: it is none, or deeper.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON that can be read: {error}") from error
    if _is_deeper(value, MAX_DEPTH):
        raise UserError(f"{name} is nested more than {MAX_DEPTH} deep")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deeper(part, most - 1) for part in inside)


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return "a list"
    if get_origin(kind) is dict or is_dataclass(kind):
        return "a table"
    return _KINDS.get(kind, getattr(kind, "__name__", str(kind)))
