"""Ray: imported when needed, started on this machine where no cluster is given."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from osasis.errors import OsasisError, UserError
from osasis.extras import install


def import_ray_data() -> Any:
    """The module `ray.data`, with Ray's reports to its makers off unless they were asked for.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray.data")
    except ImportError as error:
        raise UserError(
            "batches over a cluster need Ray, which is not installed",
            hint=install("ray"),
        ) from error


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
