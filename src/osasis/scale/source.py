"""Ray, and where photos come from, read by its readers: rows of an id and the bytes of a file."""

from __future__ import annotations

import base64
import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from osasis.errors import OsasisError, UserError
from osasis.extras import need
from osasis.imaging.find import PassedOver, find_images
from osasis.imaging.load import IMAGE_SUFFIXES


def import_ray_data() -> Any:
    """The module `ray.data`, with Ray's reports to its makers off unless they were asked for.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return need("ray.data", "a batch over a cluster", "ray")


@contextmanager
def running_ray(address: str | None) -> Iterator[Any]:
    """Ray, running: as it is where it runs already, else joined at `address` or started here.

    What was started here is ended afterwards.

    Args:
        address: of a cluster, "auto" for the one this machine belongs to; None takes RAY_ADDRESS,
            else starts Ray on this machine.

    Raises:
        OsasisError: no cluster answers there.
    """
    data = import_ray_data()
    # what workers print, and what Ray tells programmers; it writes files of its own about both
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False  # the caller has its own
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    # workers do what the user waits for: by default any other program goes before them
    os.environ.setdefault("RAY_worker_niceness", "0")
    here = {} if address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OsasisError(
            f"Ray cannot be reached or started: {error}",
            hint="leave --address out to use this machine alone",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


KINDS = ("folder", "tar", "parquet")
ID, DATA, REASON = "id", "data", "reason"
"""Columns: what a photo is called; its file's bytes, none where there are none; why not."""
_EXTENSION = b"ARROW:extension:name"  # in the schema, which Parquet keeps in base64
_FOOTER_BYTES = 64_000_000
_TAR_BLOCK = 1024  # a header, and on average half a block that is filled up, and a small label


def kind_of(source: str) -> str:
    """The kind a path or address says it is by its suffix."""
    suffix = PurePosixPath(source.rstrip("/")).suffix
    return {".tar": "tar", ".parquet": "parquet"}.get(suffix, "folder")


def read(
    sources: list[str],
    kind: str,
    *,
    id_column: str = "id",
    image_column: str = "image",
    passed: PassedOver | None = None,
) -> Any:
    """A Ray data set with the columns `ID`, `DATA` and `REASON`.

    Args:
        sources: folders, files or addresses that pyarrow understands (s3://, gs://, ...).
        kind: "folder": image files, an id is the file's address; "tar": shards as WebDataset makes
            them, an id is the shard's address, "/" and the sample's key; "parquet": a table.
        id_column: with "parquet", the column that names photos.
        image_column: with "parquet", the column of image bytes, or of structs with "bytes".
        passed: gets what was passed over in folders of this machine.

    Raises:
        UserError: ray is not installed, nothing is there, or a column is not.
    """
    data = import_ray_data()
    try:
        if kind == "tar":
            rows = data.read_webdataset(sources, decoder=None)
            return rows.map(_of_sample)
        if kind == "parquet":
            _refuse_extensions(sources)
            _check_columns(_tables(sources), id_column, image_column)
            rows = data.read_parquet(sources)
            return rows.select_columns(sorted({id_column, image_column})).map(
                _of_table, fn_args=(id_column, image_column)
            )
        suffixes = sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
        files = image_files(sources, passed)
        rows = data.read_binary_files(files, include_paths=True, file_extensions=suffixes)
        return rows.map(_of_file)
    except (OSError, ValueError) as error:
        if isinstance(error, OsasisError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{', '.join(sources)} cannot be read as {kind}: {first}",
            hint=f"--kind says what it is: {', '.join(KINDS)}",
        ) from error


def image_files(sources: Sequence[str], passed: PassedOver | None = None) -> list[str]:
    """The pictures of folders and files, as every command finds them; addresses as they are.

    Args:
        passed: gets what was passed over in folders.

    Raises:
        UserError: a path does not exist, or a folder holds no picture.
    """
    local = [source for source in sources if "://" not in source]
    files = [str(path) for path in find_images(local, passed)] if local else []
    return files + [source for source in sources if "://" in source]


def estimate_total(rows: Any, sources: list[str], kind: str) -> Callable[[int, int], int]:
    """How many photos a source has, without reading it.

    Of tar shards only the size is known, so that the number is estimated from what was seen.

    Args:
        rows: what `read` returned for `sources` and `kind`.

    Returns:
        A function from the number of photos seen and the bytes in them to the number of all.
    """
    if kind != "tar":
        tables = _tables(sources) if kind == "parquet" else []
        total = sum(t.count_rows() for t in tables) if tables else len(rows.input_files())
        return lambda seen, data: total
    there = filesystem(sources[0])[0]
    size = sum(info.size or 0 for info in there.get_file_info(rows.input_files()))
    return lambda seen, data: round(seen * size / (data + _TAR_BLOCK * seen)) if seen else 0


def filesystem(address: str) -> tuple[Any, str]:
    """The pyarrow file system of a path or address, and the path in it."""
    fs = importlib.import_module("pyarrow.fs")
    found: tuple[Any, str] = (
        fs.FileSystem.from_uri(address) if "://" in address else (fs.LocalFileSystem(), address)
    )
    return found


def _tables(sources: list[str]) -> list[Any]:
    dataset = importlib.import_module("pyarrow.dataset")
    places = map(filesystem, sources)
    return [dataset.dataset(path, filesystem=fs, format="parquet") for fs, path in places]


def _refuse_extensions(sources: list[str]) -> None:
    """Refuse tables with columns of extension types, before Arrow or Ray reads them.

    Some such types are made from a pickle in the file, which runs whatever its author wrote.
    """
    selector = importlib.import_module("pyarrow.fs").FileSelector
    for source in sources:
        fs, path = filesystem(source)
        found = fs.get_file_info(path)
        inside = [found] if found.is_file else fs.get_file_info(selector(path, recursive=True))
        for info in inside:
            if info.is_file and any(mark in _footer(fs, info) for mark in _EXTENSIONS):
                raise UserError(
                    f"{info.path} has a column of an Arrow extension type, which may run code",
                    hint="write the table again with images as plain binary",
                )


def _footer(fs: Any, info: Any) -> bytes:
    """The part of a Parquet file that says what is in it."""
    with fs.open_input_file(info.path) as file:
        file.seek(max(0, info.size - 8))
        length = int.from_bytes(file.read(4), "little")
        if not 0 <= length <= min(info.size, _FOOTER_BYTES):
            raise UserError(f"{info.path} is not a Parquet file that can be read")
        file.seek(max(0, info.size - 8 - length))
        return bytes(file.read(length))


def _encodings(text: bytes) -> list[bytes]:
    """How a text looks inside base64, at each of three offsets; the ends depend on neighbours."""
    return [base64.b64encode(bytes(i) + text)[-(-i * 8 // 6) : -4] for i in range(3)]


_EXTENSIONS = [_EXTENSION, *_encodings(_EXTENSION)]


def _check_columns(tables: list[Any], id_column: str, image_column: str) -> None:
    names = tables[0].schema.names
    for option, name in (("--id-column", id_column), ("--image-column", image_column)):
        if name not in names:
            raise UserError(
                f"the table has no column {name!r}", hint=f"{option} is one of {', '.join(names)}"
            )


def _row(name: str, data: Any, reason: str = "") -> dict[str, Any]:
    usable = isinstance(data, bytes) and not reason
    return {
        ID: name,
        DATA: data if usable else b"",
        REASON: reason if usable or reason else "there is no image",
    }


def _of_file(row: dict[str, Any]) -> dict[str, Any]:
    return _row(row["path"], row["bytes"])


def _of_sample(row: dict[str, Any]) -> dict[str, Any]:
    name = f"{row['__url__']}/{row['__key__']}"
    images = [
        value
        for key, value in sorted(row.items())
        if f".{key.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES and isinstance(value, bytes)
    ]
    return _row(name, images[0] if images else None)


def _of_table(row: dict[str, Any], id_column: str, image_column: str) -> dict[str, Any]:
    value = row[image_column]
    return _row(str(row[id_column]), value.get("bytes") if isinstance(value, dict) else value)
