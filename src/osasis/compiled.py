"""Compiled networks, with an honest way back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn


def compile_network(network: nn.Module) -> Any:
    """`network`, compiled.

    What cannot be compiled, for example because there is no C++ compiler, runs as it is, and a
    warning says so once.
    """
    # parts that cannot even be traced run as they are, too
    torch._dynamo.config.suppress_errors = True
    return torch.compile(network, backend=_inductor_or_eager)


def compile_in_place(network: nn.Module) -> None:
    """As `compile_network`, but `network` itself changes; names of weights stay as they are.

    Only for networks of ours: torch passes over those whose `forward` is its own.
    """
    torch._dynamo.config.suppress_errors = True
    network.compile(backend=_inductor_or_eager)


def _inductor_or_eager(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    try:
        fast: Callable[..., Any] = torch._dynamo.lookup_backend("inductor")(graph, inputs)
    except Exception as error:  # noqa: BLE001 - however a compiler fails, there is a way without
        _warn(f"compiling failed, so that networks run as they are: {error!s:.200}")
        return graph.forward
    return fast


@cache  # graphs of one network fail alike
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
