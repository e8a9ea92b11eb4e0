"""`osasis models`: what can be used by name, and getting it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_device
from osasis.cli.progress import Progress
from osasis.errors import OsasisError, UserError

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis models list                      what is here, and what can be fetched
  osasis models info ffhq-256             where it comes from, its size and licence
  osasis models fetch ffhq-256            download, check and convert the paper's base
  osasis models fetch ffhq-256 --from my_downloads/
  osasis models convert iter_200.pt --as style --base ffhq-256 --picture img1.png

Downloads are checked and go on where they stopped; files of the hub lie in its own cache.
HF_ENDPOINT sets a mirror, HF_HUB_OFFLINE=1 keeps the network off, OSASIS_DATA sets the folder for
fetched models. Pickles are converted in a process of their own.

Bases are used with `osasis learn --base NAME`, styles with `osasis stylize --style NAME`.
"""
KINDS = ("base", "style", "tensors", "released")


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "models",
        help="list, fetch, convert and check models",
        description="List, fetch, convert and check bases, styles and other models.",
        epilog=EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    actions.add_parser("list", help="what is here, and what can be fetched (default)")
    for name, text in (
        ("info", "all that is known of a model"),
        ("path", "print where a fetched model is"),
        ("verify", "check that fetched files are still what they were"),
        ("remove", "delete a fetched model"),
    ):
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".")
        nargs = "?" if name == "verify" else None
        shown = "as `osasis models list` shows it"
        action.add_argument("name", metavar="NAME", nargs=nargs, help=shown)
        if name == "remove":
            action.add_argument(
                "--forget",
                action="store_true",
                help="also forget the hashes that later fetches are held to",
            )
    _add_fetch(actions)
    _add_convert(actions)
    return parser


def _add_fetch(actions: Subparsers) -> None:
    fetch = actions.add_parser(
        "fetch",
        help="download, check, convert and put in place",
        description="Download a model, check it, convert it where needed, and put it in place.",
    )
    fetch.add_argument("name", metavar="NAME", help="as `osasis models list` shows it")
    fetch.add_argument(
        "--from",
        dest="given",
        action="append",
        default=[],
        metavar="FILE_OR_FOLDER_OR_URL",
        help="take it from here instead of downloading it; may be given several times",
    )


def _add_convert(actions: Subparsers) -> None:
    convert = actions.add_parser(
        "convert",
        help="convert released checkpoints to our files, or back",
        description="Convert released checkpoints to our files, or ours to released ones.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  osasis models convert last.ckpt ffhq_p2.pt --as base -o mine.safetensors
  osasis models convert iter_200.pt --as style --base ffhq-256 --picture img1.png
  osasis models convert art_inception.pth --as tensors
  osasis models convert ffhq-256 --as released -o checkpoints/
  osasis models convert img1.safetensors --as released --base ffhq-256 -o exp/
""",
    )
    add = convert.add_argument
    add("files", nargs="+", metavar="FILE", help="checkpoint; for a base also its P2 DDPM")
    add("--as", dest="kind", required=True, choices=KINDS, help="what to make of it")
    add("-o", "--output", type=Path, metavar="PATH", help="file, or folder for `released`")
    add("--architecture", default="ffhq-256", metavar="NAME", help="of a base (%(default)s)")
    add("--base", default="ffhq-256", metavar="NAME_OR_FILE", help="of a style (%(default)s)")
    add("--picture", type=Path, metavar="FILE", help="style image, which a checkpoint lacks")
    add("--name", metavar="TEXT", help="what it is called (default: the file's name)")
    add("--force", action="store_true", help="replace what is there")
    add_device(convert)


def run(args: argparse.Namespace) -> int:
    """Do what is asked."""
    action = args.action or "list"
    if action == "list":
        from osasis.cli.models_list import print_tables

        print_tables()
        return 0
    if action == "verify":
        return _verify(args.name)
    {"info": _info, "path": _path, "remove": _remove, "fetch": _fetch, "convert": _convert}[action](
        args
    )
    return 0


def _info(args: argparse.Namespace) -> None:
    from osasis.cli.models_list import describe

    print("\n".join(describe(args.name)))


def _path(args: argparse.Namespace) -> None:
    from osasis.config.artefacts import artefacts, path
    from osasis.config.catalogue import find_base

    print(path(args.name) if args.name in artefacts() else find_base(args.name))


def _remove(args: argparse.Namespace) -> None:
    from osasis.hub.fetch import remove

    for gone in remove(args.name, forget=args.forget):
        print(f"removed {gone}")


def _verify(name: str | None) -> int:
    from osasis.config.artefacts import Lock
    from osasis.hub.fetch import verify

    names = [name] if name else sorted(Lock().installed)
    if not names:
        print("nothing was fetched: there is nothing to verify")
    bad = 0
    with Progress() as progress:
        for each in names:
            wrong = verify(each, _megabytes(progress))
            bad += bool(wrong)
            print(f"{each}: {'; '.join(wrong) or 'as it was fetched'}")
    if bad:
        raise OsasisError(
            f"{bad} of {len(names)} are not as they were fetched",
            hint="osasis models remove NAME, then osasis models fetch NAME",
        )
    return 0


def _megabytes(progress: Progress) -> Callable[[str, int, int], None]:
    """Bytes as megabytes on a progress bar."""

    def report(phase: str, done: int, total: int) -> None:
        if total > 1:
            done, total = done // 1_000_000, max(1, total // 1_000_000)
        progress.update(phase, done, total, "MB" if total > 1 else "")

    return report


def _fetch(args: argparse.Namespace) -> None:
    from osasis.cli.models_list import plan
    from osasis.config.artefacts import artefact, fetched
    from osasis.hub.fetch import fetch

    if args.given or fetched(args.name) is None:
        print("\n".join(plan(args.name, given=bool(args.given))), flush=True)
    try:
        with Progress() as progress:
            found = fetch(args.name, args.given, _megabytes(progress))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped; what is downloaded so far is kept\n"
            "hint: run the same command again to continue from there"
        ) from None
    print(f"{args.name} is in {found}")
    if artefact(args.name).kind == "base":
        print(f"next: osasis learn PICTURE --base {args.name}")


def _output(args: argparse.Namespace, name: str) -> Path:
    """Where a converted file goes.

    Raises:
        UserError: it exists already, or has another suffix.
    """
    path = args.output or Path(f"{name}.safetensors")
    if path.is_dir():
        path = path / f"{name}.safetensors"
    if path.suffix != ".safetensors":
        raise UserError(f"the result ends in .safetensors, not as in {path}")
    if path.exists() and not args.force:
        raise UserError(f"{path} exists", hint="add --force to replace it, or choose another -o")
    return Path(path)


def _convert(args: argparse.Namespace) -> None:
    if len(args.files) > (2 if args.kind == "base" else 1):
        raise UserError(f"too many files for --as {args.kind}")
    if args.kind == "released":
        _to_released(args)
        return
    first = Path(args.files[0])
    name = args.name or first.stem
    output = _output(args, name)
    with Progress() as progress:
        progress.update("converting", 0, 1)
        if args.kind == "base":
            _to_base(args, output, name)
        elif args.kind == "style":
            _to_style(args, first, output, name)
        else:
            import shutil

            from osasis.files import atomic_path
            from osasis.hub.unpickle import unpickle

            with unpickle(first) as read, atomic_path(output) as temporary:
                shutil.copyfile(read.path, temporary)
        progress.update("converting", 1, 1)
    print(f"wrote {output}")


def _to_base(args: argparse.Namespace, output: Path, name: str) -> None:
    from osasis.hub.released import architecture, build_base

    files = [Path(file) for file in args.files]
    ddpm = files[1] if len(files) > 1 else None
    notes = {"description": f"converted from {', '.join(file.name for file in files)}"}
    build_base(output, name, architecture(args.architecture), files[0], ddpm, notes)
    if ddpm is None:
        print("without ffhq_p2.pt: styles can be used on this base, and not be learned")


def _to_style(args: argparse.Namespace, file: Path, output: Path, name: str) -> None:
    if args.picture is None:
        raise UserError(
            "a released style does not hold its style image, which stylizing needs",
            hint="add --picture STYLE_IMAGE",
        )
    from osasis.base import load_base
    from osasis.hub.released import import_style
    from osasis.imaging.load import load_image

    picture = load_image(args.picture)
    import_style(file, load_base(args.base, device=args.device), picture, name).save(output)


def _to_released(args: argparse.Namespace) -> None:
    from osasis.base import FORMAT, load_base
    from osasis.config.catalogue import find_base
    from osasis.formats.safetensors_file import read_manifest
    from osasis.formats.style_file import load_style
    from osasis.hub.released import export_base, export_style

    folder = args.output or Path("released")
    path = Path(args.files[0])
    is_style = path.is_file() and read_manifest(path).get("format") != FORMAT
    if is_style:
        style = load_style(path)
        files = [folder / f"iter_{style.manifest.config.iterations}.pt"]
    else:
        files = [folder / "last.ckpt", folder / "ffhq_p2.pt"]
        find_base(args.files[0])
    there = [file for file in files if file.exists() and not args.force]
    if there:
        raise UserError(f"{there[0]} exists", hint="add --force to replace it")
    base = load_base(args.base if is_style else args.files[0], device=args.device)
    if is_style:
        export_style(style, base, files[0])
    else:
        files = export_base(base, folder)
    for file in files:
        print(f"wrote {file}")
