"""Reads one torch pickle in a process of its own and writes its tensors as safetensors.

Run by path with `python -I`. One JSON object comes in on stdin (paths, limits, which names to
keep), one goes out on stdout: {"names", "plain"} or {"error"}.

The wall is torch's `weights_only` reader, which builds tensors and plain containers and calls
nothing else. Behind it, for its mistakes: this process, with limited memory and time, inside
`osasis.hub.fence`.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any, BinaryIO

MAX_DEPTH = 32
MAX_ITEMS = 500_000
MAX_TEXT = 2000
# A trainer's bookkeeping in a checkpoint: read as an empty stand-in, never imported.
BOOKKEEPING = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "argparse.Namespace")
# what safetensors call torch's numbers
KINDS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip


class Refused(Exception):
    """What was found cannot be accepted; the message is for the user."""


class Ignored:
    """Stands for an object of a trainer; takes whatever it is given and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Ignored:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def allow_bookkeeping(torch: Any, path: str) -> None:
    """Let the trainer's own names through as stand-ins; refuse every other unknown name."""
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    bad = sorted(name for name in unknown if not name.startswith(BOOKKEEPING))
    if bad:
        raise Refused(
            "it asks for " + ", ".join(bad[:3]) + ", which is neither tensor nor container"
        )
    stands = [(dict if n.endswith("AttributeDict") else Ignored, n) for n in unknown]
    torch.serialization.add_safe_globals(stands)


def flatten(torch: Any, root: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and plain values by path ('state_dict/name'); each container is entered once."""
    tensors: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    entered: set[int] = set()
    stack: list[tuple[str, Any, int]] = [("", root, 0)]
    items = 0
    while stack:
        path, value, depth = stack.pop()
        items += 1
        if items > MAX_ITEMS or depth > MAX_DEPTH:
            raise Refused("it is nested too deeply or holds too many things")
        if isinstance(value, torch.Tensor):
            tensors[path] = value
        elif isinstance(value, (dict, list, tuple)):
            if id(value) in entered:
                continue  # pickles may refer to a container twice, or to one that holds itself
            entered.add(id(value))
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in pairs:
                if isinstance(key, (type, Ignored)):
                    continue  # Lightning keys the states of its callbacks by their classes
                if not isinstance(key, (str, int)) or len(str(key)) > MAX_TEXT:
                    raise Refused("a container in it has a key that is no name")
                stack.append((path + "/" + str(key) if path else str(key), inner, depth + 1))
        elif value is None or isinstance(value, (bool, int, float, str)):
            if len(str(value)) <= MAX_TEXT:
                plain[path] = value
        elif not isinstance(value, (Ignored, torch.dtype, torch.Size, torch.device, type)):
            raise Refused("it holds a " + type(value).__name__ + " at " + path)
    return tensors, plain


def check_tensor(torch: Any, name: str, tensor: Any) -> None:
    """Refuse tensors that claim more than is stored."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise Refused(name + " is not a plain tensor")
    if tensor.is_meta or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(name + " claims more numbers than the file holds")


def write(torch: Any, file: BinaryIO, tensors: dict[str, Any]) -> None:
    """Write safetensors to an open file; their own writer opens the file itself.

    Raises:
        Refused: a tensor of a kind that such files cannot hold.
    """
    kinds = {getattr(torch, name): short for name, short in KINDS.items()}
    header: dict[str, Any] = {}
    end = 0
    ordered = sorted(tensors.items(), key=lambda pair: -pair[1].element_size())  # aligned
    for name, tensor in ordered:
        if tensor.dtype not in kinds:
            raise Refused(name + " holds " + str(tensor.dtype))
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {
            "dtype": kinds[tensor.dtype], "shape": shape, "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, tensor in ordered:
        file.write(tensor.reshape(-1).view(torch.uint8).numpy())


def convert(job: dict[str, Any], output: BinaryIO) -> dict[str, Any]:
    """Read the file that `job` names, inside the fence."""
    import torch
    import torch._weights_only_unpickler  # what is imported now is not looked for inside

    from osasis.hub import fence

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 10):
        raise Refused("torch " + torch.__version__ + " is installed, and 2.10 is needed for this")
    torch.set_num_threads(1)
    old = job["old"]  # the format before torch 1.6 has no list of names, and cannot be mapped
    fence.close_doors()
    if not old:
        allow_bookkeeping(torch, job["input"])
    root = torch.load(job["input"], map_location="cpu", weights_only=True, mmap=not old)
    tensors, plain = flatten(torch, root)
    kept: dict[str, Any] = {}
    stored: set[tuple[int, int]] = set()
    names = {}
    for name, tensor in tensors.items():
        check_tensor(torch, name, tensor)
        names[name] = list(tensor.shape)
        if any(name.startswith(prefix) for prefix in job["keep"]):
            tensor = tensor.detach()
            place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset())
            whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
            if place in stored or not whole or not tensor.is_contiguous():
                tensor = tensor.clone(memory_format=torch.contiguous_format)
            stored.add(place)
            kept[name] = tensor
    if not kept:
        raise Refused(
            "nothing of what is looked for is in it; it holds " + ", ".join(list(names)[:3])
        )
    write(torch, output, kept)
    return {"names": names, "plain": plain}


def main() -> None:
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    from osasis.hub import fence

    fence.leave_network()
    fence.limit_resources(job["memory"], job["seconds"], job["size"])
    try:
        with open(job["output"], "xb") as output:
            answer = convert(job, output)
    except Refused as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "it needs more memory than a model of its size may"}
    except Exception as error:  # noqa: BLE001 - whatever a hostile file provokes is an answer
        lines = str(error).strip().splitlines() or [""]
        answer = {
            "error": "torch cannot read it safely: " + type(error).__name__ + ": " + lines[0][:300]
        }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
