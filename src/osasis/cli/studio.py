"""`osasis studio`: a page in the browser instead of commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from osasis.cli.options import DEFAULT_BASE, Amount, BaseName, Device, make_writable, within
from osasis.errors import UserError

PASSWORD = "OSASIS_STUDIO_PASSWORD"
_LONGEST = 1024  # bytes of a password


def studio(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=within(1, 65535))] = 7860,
    data: Path | None = None,
    password_file: Path | None = None,
    domain: list[str] | None = None,
    root_path: str = "",
    keep_hours: Amount = 24.0,
    keep_style_days: Amount = 30.0,
    base: BaseName = DEFAULT_BASE,
    device: Device = None,
) -> int:
    """Offer a web page: drop a picture to learn its style, drop photos to redraw.

    Args:
        host: address to listen on; 0.0.0.0 for every one
        port: to listen on
        data: folder of uploads, styles and results (default: studio/ where fetched models lie)
        password_file: ask for the password in this file's first line (or in
            $OSASIS_STUDIO_PASSWORD); any user name
        domain: host name under which a reverse proxy offers the page; may be repeated
        root_path: path below which a reverse proxy offers the page, such as /studio
        keep_hours: photos and results are removed after so many hours
        keep_style_days: styles are removed after so many days without use

    Examples:
      osasis studio
          then open http://127.0.0.1:7860; only this machine can connect
      osasis studio --port 8080 --data /srv/osasis
      OSASIS_STUDIO_PASSWORD=secret osasis studio --host 0.0.0.0
          for others too, with a password; see docs/STUDIO.md for a server behind a
          reverse proxy

    Visitors see only their own files. Photos and results are removed after
    --keep-hours, styles after --keep-style-days without use. Ctrl-C stops; a style
    that is being learned can go on afterwards.
    """
    from osasis.config.artefacts import data_folder
    from osasis.studio.config import Limits, StudioConfig

    config = StudioConfig(
        data=(data or data_folder() / "studio").expanduser().absolute(),
        base=base,
        device=device,
        host=host,
        port=port,
        password=_password(password_file),
        domains=tuple(domain or ()),
        root_path=root_path.rstrip("/"),
        limits=Limits(keep_hours=keep_hours, keep_style_days=keep_style_days),
    )
    make_writable(config.data, "--data")
    from osasis.studio.app import serve

    if not config.is_local and config.password is None:
        print(
            f"warning: everybody who can reach this machine can use the page; set ${PASSWORD}",
            file=sys.stderr,
        )
    host = f"[{config.host}]" if ":" in config.host else config.host
    print(f"files are kept in {config.data}", file=sys.stderr)
    serve(config, lambda: print(f"open http://{host}:{config.port}/ (Ctrl-C stops)", flush=True))
    return 0


def _password(file: Path | None) -> str | None:
    """The password that is asked for; None where none is."""
    if file is None:
        return os.environ.get(PASSWORD) or None
    hint = "write it into the file's first line"
    try:
        with file.open("rb") as opened:  # which may be a pipe, or never end
            line = opened.readline(_LONGEST + 1).rstrip(b"\r\n")
        password = line.decode()
    except OSError as error:
        raise UserError(f"the password cannot be read from {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} holds no password: its first line is no text", hint=hint
        ) from error
    if not line:
        raise UserError(f"{file} holds no password", hint=hint)
    if len(line) > _LONGEST:
        raise UserError(f"the password in {file} has more than {_LONGEST} bytes", hint=hint)
    return password
