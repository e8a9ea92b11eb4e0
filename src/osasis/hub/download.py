"""Bytes from elsewhere: the hub through its own library, plain addresses with resuming."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from osasis.config.artefacts import describe_bytes
from osasis.errors import OsasisError, UserError
from osasis.files import CHUNK, Report, silent
from osasis.formats.huggingface import check_room, offline

_NAMES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


def unusable_proxies() -> list[str]:
    """Variables that name a SOCKS proxy, where the package that speaks to one is missing."""
    if importlib.util.find_spec("socksio") is not None:
        return []
    names = [spelled for name in _NAMES for spelled in (name, name.lower())]
    return [name for name in names if os.environ.get(name, "").lower().startswith("socks")]


def check_proxies() -> None:
    """Refuse to fetch past a SOCKS proxy that was asked for.

    Raises:
        OsasisError: one is set and cannot be used.
    """
    if names := unusable_proxies():
        raise OsasisError(
            f"${names[0]} is a SOCKS proxy, and the package for it is missing",
            hint="pip install socksio",
        )


ATTEMPTS = 5  # in a row without a single byte
TIMEOUT = 30.0  # seconds without a byte


def refuse_web_page(path: Path, origin: str) -> None:
    """Refuse a web page that was saved under a model's name, as drives send when asked too often.

    Raises:
        OsasisError: `path` is a web page; the message gives its title.
    """
    with path.open("rb") as file:
        head = file.read(65536)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return
    text = head.decode("utf-8", "replace")
    match = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    title = " ".join(html.unescape(match.group(1)).split())[:80] if match else "no title"
    quota = "quota" in text.lower() or "too many users" in text.lower()
    why = ": its download quota is used up for now" if quota else ""
    raise OsasisError(
        f"{origin} is a web page ({title}), not a model{why}",
        hint="open the address in a browser, download the file there, and give it with --from FILE",
    )


def from_url(address: str, target: Path, report: Report = silent) -> Path:
    """Download `address` to `target`; a part that is there already is continued.

    The part lies beside `target` with the suffix `.partial`. It is continued only if the server
    says, by its ETag, that the file is still the same.

    Raises:
        UserError: offline mode is on.
        OsasisError: the server refuses, the connection stays cut, the disk is full.
    """
    if offline():
        raise UserError(
            f"{address} is needed, and offline mode is on (HF_HUB_OFFLINE)",
            hint="unset HF_HUB_OFFLINE, or give the file with --from FILE",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    fruitless = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            if _continue(address, partial, report):
                break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is longer than the file: begin anew
                partial.unlink(missing_ok=True)
            elif error.code < 500:
                raise _refused(address, error) from error
            cause: Exception = error
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            cause = error
        else:
            cause = ConnectionError("the connection was cut")
        after = partial.stat().st_size if partial.exists() else 0
        fruitless = 0 if after > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            reason = getattr(cause, "reason", None) or cause
            kept = f"; {describe_bytes(after)} are kept" if after else ""
            raise OsasisError(
                f"{address} cannot be downloaded: {reason}{kept}",
                hint="run the same command again: it goes on from there"
                if after
                else "check the connection, or give the file with --from FILE",
            ) from cause
    _etag_file(partial).unlink(missing_ok=True)
    partial.replace(target)
    return target


def _etag_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _continue(address: str, partial: Path, report: Report) -> bool:
    """One connection; whether the file is whole afterwards."""
    have = partial.stat().st_size if partial.exists() else 0
    etag = _etag_file(partial).read_text(encoding="utf-8") if _etag_file(partial).exists() else ""
    request = urllib.request.Request(address, headers={"User-Agent": "osasis"})
    if have and etag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", etag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206
        total = int(response.headers.get("Content-Length") or 0)
        done = have if resumed else 0
        total = total + done if total else 0
        check_room(partial.parent, total - done)
        _etag_file(partial).write_text(_validator(response), encoding="utf-8")
        with partial.open("ab" if resumed else "wb", buffering=0) as file:
            _pump(response, file, done, total, report)
    return not total or partial.stat().st_size >= total


def _validator(response: HTTPResponse) -> str:
    """What tells the same file from a newer one; empty where the server gives nothing."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _pump(response: HTTPResponse, file: Any, done: int, total: int, report: Report) -> None:
    while piece := response.read1(CHUNK):  # what has come, so that a kill loses little
        file.write(piece)
        done += len(piece)
        report("downloading", done, max(total, done))


def _refused(address: str, error: urllib.error.HTTPError) -> OsasisError:
    return OsasisError(
        f"{address} cannot be downloaded: {error.code} {error.reason}",
        hint="open the address in a browser, and give the file with --from FILE",
    )
