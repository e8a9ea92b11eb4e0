"""Progress of a style on disk, so that Ctrl-C and crashes cost little."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from osasis.errors import OsasisError
from osasis.files import atomic_path


class Snapshot:
    """Weights, optimisers and the number of updates, bound to what is being learned.

    Args:
        path: where to write.
        identity: everything that must be the same for learning to continue.
    """

    def __init__(self, path: Path, identity: tuple[object, ...]) -> None:
        self._path = path
        self._identity = hashlib.sha256(repr(identity).encode()).hexdigest()
        self._kept: tuple[dict[str, Tensor], int] | None = None

    def keep(self, state: dict[str, Tensor], updates: int) -> None:
        """Remember a consistent state in memory; `write` puts the last one on disk."""
        self._kept = ({k: v.detach().clone() for k, v in state.items()}, updates)

    def write(self) -> None:
        """Write the kept state at once or not at all.

        Raises:
            OsasisError: the disk is full, or the folder cannot be written.
        """
        if self._kept is None:
            return
        state, updates = self._kept
        metadata = {"identity": self._identity, "updates": str(updates)}
        try:
            with atomic_path(self._path) as temporary:
                save_file({k: v.cpu().contiguous() for k, v in state.items()}, temporary, metadata)
        except (OSError, SafetensorError) as error:
            raise OsasisError(
                f"progress cannot be written to {self._path}: {error}",
                hint="make room there, or choose another folder with -o",
            ) from error

    def read(self) -> tuple[dict[str, Tensor], int] | None:
        """The state and its number of updates; None if there is none that fits."""
        if not self._path.exists():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:  # type: ignore[no-untyped-call]
                metadata = file.metadata() or {}
                if metadata.get("identity") != self._identity:
                    return None
                state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except SafetensorError:
            return None
        return state, int(metadata["updates"])

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
