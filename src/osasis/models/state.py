"""Weights by name: compare, load strictly, take a part; the state of an optimiser as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from osasis.errors import UserError

T = TypeVar("T")


def differences(
    expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]], limit: int = 3
) -> str:
    """What differs between two tables of names and shapes, `limit` of a kind; empty if nothing."""
    missing = sorted(set(expected) - set(got))
    left = sorted(set(got) - set(expected))
    shapes = [
        f"{k}: expected {tuple(expected[k])}, got {tuple(got[k])}"
        for k in sorted(set(expected) & set(got))
        if tuple(expected[k]) != tuple(got[k])
    ]
    parts = [("missing", missing), ("not known", left), ("misshapen", shapes)]
    return "; ".join(
        f"{len(keys)} {title} ({', '.join(keys[:limit])}{', ...' if len(keys) > limit else ''})"
        for title, keys in parts
        if keys
    )


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Put `state` into `module` as it is, naming every key missing, left over or misshapen.

    The module's parameters become these very tensors; it may have been built by `shapes_only`.

    Raises:
        UserError: the keys or shapes differ.
    """
    found = differences(shapes_of(module.state_dict()), shapes_of(state))
    if found:
        raise UserError(f"these weights do not fit {what}: {found}")
    module.load_state_dict(dict(state), assign=True)


def with_prefix(state: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The part of `state` behind `prefix`, without it."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def state_hash(module: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a network's tensors, as float16 by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.half().numpy(force=True).tobytes())
    return digest.hexdigest()[:16]


def optimizer_tensors(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """Per-parameter state as `<prefix><parameter index>.<name>`."""
    return {
        f"{prefix}{index}.{name}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Load what `optimizer_tensors` gave; names without `prefix` are passed over."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            index, name = key[len(prefix) :].split(".")
            entries.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
