"""What a batch leaves behind: small Parquet tables, each there whole or not at all."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from osasis.errors import OsasisError, UserError
from osasis.scale.source import ID, REASON, filesystem

RESULTS, FAILED, NOTES, JOB = "results", "failed", "working", "job.json"
_TEMPORARY = ".tmp"


class Tables:
    """The tables `results` (id, image, key) and `failed` (id, reason, hint) of an output folder.

    Beside them, while a job runs, a note of each batch in progress: what a worker died at.

    A table is named by the photos it holds: a batch that is done a second time, because its worker
    died before it could say so, replaces its own table and doubles nothing.

    Args:
        address: a folder, or an address that pyarrow understands (s3://bucket/folder).

    Raises:
        UserError: the address is of no file system that is known.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._fs, root = filesystem(address)
        except (OSError, ValueError) as error:
            raise UserError(f"{address} is no place for results: {error}") from error
        self._root = root.rstrip("/")

    def open_job(self, made: Mapping[str, Any], *, retry_failed: bool = False) -> None:
        """Begin or continue the job that `made` describes; leftovers of a kill are removed.

        Raises:
            UserError: the folder holds results of another job.
            OsasisError: it cannot be written.
        """
        text = json.dumps(made, sort_keys=True, indent=2)
        path = f"{self._root}/{JOB}"
        try:
            begun = self._exists(path)
            if begun:
                with self._fs.open_input_stream(path) as file:
                    if file.read().decode() != text:
                        raise UserError(
                            f"{self.address} holds results of another job: other styles, base, "
                            "version or settings",
                            hint=f"choose another -o; what was asked there is in {JOB}",
                        )
            for name in (RESULTS, FAILED, NOTES):
                self._fs.create_dir(f"{self._root}/{name}", recursive=True)
            if not begun:
                self._write_bytes(path, text.encode())
            for name in (RESULTS, FAILED, NOTES):
                for left in self._files(name):
                    again = name == NOTES or (retry_failed and name == FAILED)
                    if again or left.endswith(_TEMPORARY):
                        self._fs.delete_file(left)
        except OSError as error:
            raise self._unwritable(error) from error

    def close_job(self) -> None:
        """Remove the notes of what was in progress.

        Raises:
            OsasisError: they cannot be removed.
        """
        try:
            self._fs.delete_dir(f"{self._root}/{NOTES}")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._unwritable(error) from error

    def note(self, batch: Sequence[str], suspects: Sequence[str]) -> None:
        """Write down that the photos `batch` are in progress, and which of them are suspected.

        Raises:
            OsasisError: it cannot be written.
        """
        try:
            self._write_bytes(self._note(batch), json.dumps(list(suspects)).encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def noted(self, batch: Sequence[str]) -> list[str] | None:
        """The suspects of a batch whose worker died; None if none did."""
        path = self._note(batch)
        if not self._exists(path):
            return None
        with self._fs.open_input_stream(path) as file:
            return [str(name) for name in json.loads(file.read())]

    def forget(self, batch: Sequence[str]) -> None:
        """Remove the note of a batch that is done."""
        self._fs.delete_file(self._note(batch))

    def _note(self, batch: Sequence[str]) -> str:
        return f"{self._root}/{NOTES}/{_name_of(batch)}.json"

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as one file of `table`, named by their ids.

        Raises:
            OsasisError: it cannot be written.
        """
        if not rows:
            return
        arrow, parquet = (importlib.import_module(f"pyarrow{m}") for m in ("", ".parquet"))
        path = f"{self._root}/{table}/{_name_of([str(row[ID]) for row in rows])}.parquet"
        try:
            parquet.write_table(
                arrow.Table.from_pylist([dict(row) for row in rows]),
                path + _TEMPORARY,
                filesystem=self._fs,
                compression="zstd" if table == FAILED else "none",  # images are compressed
            )
            self._fs.move(path + _TEMPORARY, path)
        except OSError as error:
            raise self._unwritable(error) from error

    def done(self) -> np.ndarray:
        """Sorted 64-bit hashes of the ids that are done or set aside."""
        parquet = importlib.import_module("pyarrow.parquet")
        found: list[np.ndarray] = [np.empty(0, np.uint64)]
        for name in (RESULTS, FAILED):
            for path in self._files(name):
                ids = parquet.read_table(path, columns=[ID], filesystem=self._fs)[ID].to_pylist()
                found.append(id_hashes(ids))
        return np.unique(np.concatenate(found))

    def reasons(self, most: int) -> list[tuple[str, str]]:
        """Some photos that were set aside, at most `most`, and why."""
        parquet = importlib.import_module("pyarrow.parquet")
        found: list[tuple[str, str]] = []
        for path in self._files(FAILED):
            rows = parquet.read_table(path, filesystem=self._fs).to_pylist()
            found += [(row[ID], row[REASON]) for row in rows]
            if len(found) >= most:
                break
        return found[:most]

    def _files(self, name: str) -> list[str]:
        fs = importlib.import_module("pyarrow.fs")
        selector = fs.FileSelector(f"{self._root}/{name}", allow_not_found=True)
        infos = self._fs.get_file_info(selector)
        return sorted(info.path for info in infos if info.type == fs.FileType.File)

    def _exists(self, path: str) -> bool:
        fs = importlib.import_module("pyarrow.fs")
        return bool(self._fs.get_file_info(path).type == fs.FileType.File)

    def _write_bytes(self, path: str, data: bytes) -> None:
        with self._fs.open_output_stream(path + _TEMPORARY) as file:
            file.write(data)
        self._fs.move(path + _TEMPORARY, path)

    def _unwritable(self, error: OSError) -> OsasisError:
        return OsasisError(
            f"results cannot be written to {self.address}: {error}",
            hint="make room there, or choose another place with -o",
        )


def _name_of(ids: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()[:32]


def id_hashes(ids: Sequence[str]) -> np.ndarray:
    """(N,) uint64: the first 8 bytes of each id's SHA-256.

    Of a hundred million ids any two share one with a probability of 3 in 10,000.
    """
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in ids)
    return np.frombuffer(digests, np.uint64)


def are_in(hashes: np.ndarray, done: np.ndarray) -> np.ndarray:
    """(N,) bool: which of `hashes` are in the sorted array `done`."""
    if not len(done):
        return np.zeros(len(hashes), bool)
    places = np.minimum(np.searchsorted(done, hashes), len(done) - 1)
    return np.asarray(done[places] == hashes)
