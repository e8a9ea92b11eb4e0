"""`osasis studio`: a page in the browser instead of commands."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_base, add_device, amount, make_writable, whole
from osasis.errors import UserError

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

PASSWORD = "OSASIS_STUDIO_PASSWORD"

EPILOG = f"""\
examples:
  osasis studio
      then open http://127.0.0.1:7860; nobody but this machine can
  osasis studio --port 8080 --data /srv/osasis
  {PASSWORD}=secret osasis studio --host 0.0.0.0
      for others too, with a password; see docs/STUDIO.md for a server behind a reverse proxy

Visitors see only their own files. Photos and results are removed after --keep-hours, styles after
--keep-style-days without use. Ctrl-C stops; a style that is being learned can go on afterwards.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "studio",
        help="open a page in the browser that does all of this",
        description="Offer a web page: drop a picture to learn its style, drop photos to redraw.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for every one (default: %(default)s, this machine)",
    )
    parser.add_argument("--port", type=port, default=7860, help="(default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of uploads, styles and results (default: studio/ where fetched models lie)",
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help=f"ask for the password in this file's first line (or in ${PASSWORD}); any user name",
    )
    parser.add_argument(
        "--domain",
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which a reverse proxy offers the page; may be repeated",
    )
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="path below which a reverse proxy offers the page, such as /studio",
    )
    parser.add_argument(
        "--keep-hours",
        type=amount,
        default=24.0,
        metavar="H",
        help="photos and results are removed after so many hours (default: 24)",
    )
    parser.add_argument(
        "--keep-style-days",
        type=amount,
        default=30.0,
        metavar="D",
        help="styles are removed after so many days without use (default: 30)",
    )
    add_base(parser)
    add_device(parser)
    return parser


def port(text: str) -> int:
    """A port that can be listened on, 1 to 65535."""
    value = whole(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 1 to 65535")
    return value


def password(file: Path | None) -> str | None:
    """The password that is asked for; None where none is.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(PASSWORD) or None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the password cannot be read from {file}: {error}") from error
    if not lines or not lines[0]:
        raise UserError(f"{file} holds no password", hint="write it into its first line")
    return lines[0]


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from osasis.config.artefacts import data_folder
    from osasis.studio.config import Limits, StudioConfig

    config = StudioConfig(
        data=(args.data or data_folder() / "studio").expanduser().absolute(),
        base=args.base,
        device=args.device,
        host=args.host,
        port=args.port,
        password=password(args.password_file),
        domains=tuple(args.domain),
        root_path=args.root_path.rstrip("/"),
        limits=Limits(keep_hours=args.keep_hours, keep_style_days=args.keep_style_days),
    )
    make_writable(config.data)
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
