"""Files of the Hugging Face hub, through its own library."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osasis.config.artefacts import describe_bytes
from osasis.errors import OsasisError, UserError
from osasis.files import Report, silent

RESERVE = 200_000_000  # bytes of disk that are left alone


def offline() -> bool:
    """Whether the user has switched the network off, as the hub's library reads it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        OsasisError: less than `needed` bytes, and a reserve, are free where `folder` is or will be.
    """
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed + RESERVE:
        raise OsasisError(
            f"{describe_bytes(needed)} are needed in {folder}, and {free / 1e6:,.0f} MB are free",
            hint="make room, or set OSASIS_DATA (and HF_HOME for the hub's files) to another disk",
        )


def hub_files(repository: str, revision: str) -> tuple[str, list[str]]:
    """Commit and file names of a repository; an empty `revision` is the newest.

    Raises:
        OsasisError: there is no such repository or revision, or the hub cannot be reached.
        UserError: offline mode is on.
    """
    from huggingface_hub import HfApi

    with _hub_errors(repository):
        info = HfApi().model_info(repository, revision=revision or None)
        return str(info.sha), [sibling.rfilename for sibling in info.siblings or ()]


def from_hub(repository: str, file: str, revision: str, report: Report = silent) -> Path:
    """One file of a repository, in the hub's own cache; what is there is not fetched again.

    Raises:
        OsasisError: there is no such file, the hub cannot be reached, or the disk is full.
        UserError: offline mode is on and the file is not here.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub import try_to_load_from_cache as cached

    if not isinstance(cached(repository, file, revision=revision), str) and not offline():
        with _hub_errors(repository):
            url = hf_hub_url(repository, file, revision=revision)
            size = get_hf_file_metadata(url).size or 0
        check_room(Path(constants.HF_HUB_CACHE), size)
    takes_bar = "tqdm_class" in inspect.signature(hf_hub_download).parameters
    bar: dict[str, Any] = {"tqdm_class": _bar(report)} if takes_bar else {}
    with _hub_errors(repository):
        return Path(hf_hub_download(repository, file, revision=revision, **bar))


def hub_folder(repository: str, files: Sequence[str], *, download: bool) -> Path:
    """Folder of the hub's cache with some files of a repository's main branch.

    Args:
        download: what is not here.

    Raises:
        OsasisError: the hub cannot be reached, or the disk is full.
        UserError: not here, and not to be downloaded; offline mode is on.
    """
    from huggingface_hub import try_to_load_from_cache

    here = [try_to_load_from_cache(repository, name) for name in files]
    if not all(isinstance(path, str) for path in here):
        if not download:
            raise UserError(
                f"{repository} is not in the hub's cache on this machine",
                hint=f"hf download {repository} {' '.join(files)}",
            )
        here = [str(from_hub(repository, name, "main")) for name in files]
    return Path(str(here[0])).parent


def _bar(report: Report) -> type:
    """The hub's progress bar, drawn by us."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._seen, self._whole = int(kwargs.get("initial") or 0), int(kwargs.get("total") or 0)
            kwargs["disable"] = True
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            self._seen += int(n or 0)
            report("downloading", self._seen, max(self._whole, self._seen))
            return None

    return Bar


class _hub_errors:
    """Turns failures of the hub's library into ours."""

    def __init__(self, repository: str) -> None:
        self.repository = repository

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from huggingface_hub import errors

        if error is None or isinstance(error, OsasisError):
            return
        where = f"the hub's repository {self.repository}"
        if isinstance(error, errors.OfflineModeIsEnabled) or (
            isinstance(error, errors.LocalEntryNotFoundError) and offline()
        ):
            raise UserError(
                f"{where} is needed, and offline mode is on (HF_HUB_OFFLINE)",
                hint="unset HF_HUB_OFFLINE, or give the files with --from FOLDER",
            ) from error
        missing = (
            errors.RepositoryNotFoundError,
            errors.RevisionNotFoundError,
            errors.RemoteEntryNotFoundError,
        )
        short = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, missing):
            raise OsasisError(
                f"{where} does not have what is expected: {short}",
                hint="it may have moved; give the file with --from FILE",
            ) from error
        network = type(error).__module__.split(".")[0] in ("httpx", "httpx2", "requests")
        if network or isinstance(error, (OSError, ValueError)):
            raise OsasisError(
                f"{where} cannot be downloaded: {short}",
                hint="run the same command again: it goes on from there; HF_ENDPOINT sets a mirror",
            ) from error
