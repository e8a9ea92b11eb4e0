"""The one place that knows devices, and what is compiled for them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, fx, nn

from osasis.errors import UserError

T = TypeVar("T")


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name, or the best one there is (accelerator, else CPU).

    Raises:
        UserError: a name torch does not know, or a device this machine lacks.
    """
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.empty(0).device
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # on "meta" nothing can be computed
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(
            f"device {name!r} cannot be used: {first_line}",
            hint="leave --device out to take the best one there is; `osasis doctor` lists them",
        ) from error
    return device


def shapes_only() -> torch.device:
    """Where tensors have a shape and no numbers: networks built there cost neither memory nor time.

    Used to know a network's names and shapes, and before weights are put in its place.
    """
    return torch.device("meta")


def mixed_precision(
    device: torch.device, *, wanted: bool = True, on_cpu: bool = False
) -> torch.autocast:
    """Autocast to bfloat16 where that is faster; elsewhere it changes nothing.

    Args:
        device: where is computed.
        wanted: False changes nothing anywhere.
        on_cpu: also on CPUs. Processors, of both kinds, that do not multiply bfloat16 themselves
            only emulate it, and stay with float32, which is faster there.
    """
    faster = (device.type == "cuda" and _gpu_has_bfloat16(device)) or (
        on_cpu and device.type == "cpu" and _cpu_has_bfloat16()
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and faster)


def _gpu_has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)  # NVIDIA's Ampere, every AMD Instinct


def _cpu_has_bfloat16() -> bool:
    # torch before 2.13 may not tell: float32 is right everywhere
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def compiling_pays(device: torch.device, updates: int) -> bool:
    """Whether so many updates of a style on `device` repay the minutes that compiling takes.

    On CPUs compiling took longer than the updates of `fast`. The number for accelerators is a
    judgement: it has not been measured on one.
    """
    return device.type != "cpu" and updates >= 1000


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device ran out of memory: on a CPU, torch only says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def with_room(work: Callable[[int], T], at_once: int) -> tuple[T, int]:
    """`work(n)` for the first n of `at_once`, its half and so on that memory suffices for; and n.

    Args:
        work: does everything, n pictures at once; it can be called again after it has failed.
        at_once: 1 or more.

    Raises:
        torch.OutOfMemoryError: there is too little for 1.
    """
    while True:
        try:
            return work(at_once), at_once
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if at_once == 1:
                raise torch.OutOfMemoryError(str(error)) from error
        # outside of `except`, where the failed tensors are let go
        at_once //= 2


def free_memory(device: torch.device) -> int:
    """Bytes that can still be used on `device`."""
    return _memory(device)[0]


def total_memory(device: torch.device) -> int:
    """Bytes that `device` has, used ones included."""
    return _memory(device)[1]


def _memory(device: torch.device) -> tuple[int, int]:
    """Bytes that are free, and all, of a GPU, else of the machine."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(free), int(total)
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def reset_peak_memory(device: torch.device) -> None:
    """Begin anew with what `peak_memory` counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_memory(device: torch.device) -> int | None:
    """Bytes in use at most since `reset_peak_memory`: of the GPU, else of the whole process.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


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
