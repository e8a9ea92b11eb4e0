"""Where photos come from, read by Ray Data's own readers: rows of an id and a file's bytes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from osasis.errors import OsasisError, UserError
from osasis.imaging.load import IMAGE_SUFFIXES
from osasis.scale.engine import import_ray_data

KINDS = ("folder", "tar", "parquet")
ID, DATA, REASON = "id", "data", "reason"
"""Columns: what a photo is called; its file's bytes, none where there are none; why not."""


def kind_of(source: str) -> str:
    """The kind a path or address says it is by its suffix."""
    suffix = PurePosixPath(source.rstrip("/")).suffix
    return {".tar": "tar", ".parquet": "parquet"}.get(suffix, "folder")


def read(
    sources: list[str], kind: str, *, id_column: str = "id", image_column: str = "image"
) -> Any:
    """A Ray data set with the columns `ID`, `DATA` and `REASON`.

    Args:
        sources: folders, files or addresses that pyarrow understands (s3://, gs://, ...).
        kind: "folder": image files, an id is the file's address; "tar": shards as WebDataset makes
            them, an id is the shard's address, "/" and the sample's key; "parquet": a table.
        id_column: with "parquet", the column that names photos.
        image_column: with "parquet", the column of image bytes, or of structs with "bytes".

    Raises:
        UserError: ray is not installed, nothing is there, or a column is not.
    """
    data = import_ray_data()
    try:
        if kind == "tar":
            rows = data.read_webdataset(sources, decoder=None)
            return rows.map(_of_sample)
        if kind == "parquet":
            rows = data.read_parquet(sources)
            _check_columns(rows, id_column, image_column)
            return rows.select_columns(sorted({id_column, image_column})).map(
                _of_table, fn_args=(id_column, image_column)
            )
        suffixes = sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
        rows = data.read_binary_files(sources, include_paths=True, file_extensions=suffixes)
        return rows.map(_of_file)
    except (OSError, ValueError) as error:
        if isinstance(error, OsasisError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{', '.join(sources)} cannot be read as {kind}: {first}",
            hint=f"--kind says what it is: {', '.join(KINDS)}",
        ) from error


def _check_columns(rows: Any, id_column: str, image_column: str) -> None:
    schema = rows.schema()
    names = list(schema.names) if schema is not None else []
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
