"""`osasis models`: what can be used by name, and getting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from osasis.cli.options import Device, Output
from osasis.errors import OsasisError, UserError
from osasis.progress import AGAIN, Progress, when_stopped

Name = Annotated[str, Parameter(name="NAME", help="as `osasis models list` shows it")]


def models_list() -> int:
    """List the bases and styles that are here, and what can be fetched.

    Examples:
      osasis models list                      what is here, and what can be fetched
      osasis models info ffhq-256             where it comes from, its size and licence
      osasis models path ffhq-256             where it is on this machine
      osasis models verify                    are fetched files still what they were
      osasis models remove ffhq-256           delete what was fetched
      osasis models fetch ffhq-256            download, check and convert the paper's base
      osasis models fetch ffhq-256 --from my_downloads/
      osasis models convert iter_200.pt --as style --base ffhq-256 --picture img1.png

    Downloads are checked and go on where they stopped; files of the hub lie in its
    own cache. HF_ENDPOINT sets a mirror, HF_HUB_OFFLINE=1 keeps the network off,
    OSASIS_DATA sets the folder for fetched models. Pickles are converted in a
    process of their own.

    Bases are used with `osasis learn --base NAME`, styles with `osasis stylize
    --style NAME`.
    """
    from osasis.cli.models_list import print_tables

    print_tables()
    return 0


def models_info(name: Name, /) -> int:
    """Print all that is known of a model.

    Examples:
      osasis models info ffhq-256
    """
    from osasis.cli.models_list import describe

    print("\n".join(describe(name)))
    return 0


def models_path(name: Name, /) -> int:
    """Print where a fetched model is.

    Examples:
      osasis models path ffhq-256
    """
    from osasis.config.artefacts import artefacts, path
    from osasis.config.catalogue import find_base

    print(path(name) if name in artefacts() else find_base(name))
    return 0


def models_remove(name: Name, /, *, forget: bool = False) -> int:
    """Delete a fetched model.

    Args:
        forget: also forget the hashes that later fetches are held to

    Examples:
      osasis models remove ffhq-256
    """
    from osasis.hub.fetch import remove

    for gone in remove(name, forget=forget):
        print(f"removed {gone}")
    return 0


def models_verify(name: Name | None = None, /) -> int:
    """Check that fetched files are still what they were; without a name all of them.

    Examples:
      osasis models verify
    """
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


def models_fetch(
    name: Name,
    /,
    *,
    given: Annotated[
        list[str] | None, Parameter(name="--from", metavar="FILE_OR_FOLDER_OR_URL")
    ] = None,
) -> int:
    """Download a model, check it, convert it where needed, and put it in place.

    Args:
        given: take it from here instead of downloading it; may be given several times

    Examples:
      osasis models fetch ffhq-256
      osasis models fetch ffhq-256 --from my_downloads/
    """
    from osasis.cli.models_list import plan
    from osasis.config.artefacts import artefact, fetched
    from osasis.hub.fetch import fetch

    if given or fetched(name) is None:
        print("\n".join(plan(name, given=bool(given))), flush=True)
    kept = f"stopped; what is downloaded so far is kept\n{AGAIN}"
    with when_stopped(lambda: kept), Progress() as progress:
        found = fetch(name, given or [], _megabytes(progress))
    print(f"{name} is in {found}")
    if artefact(name).kind == "base":
        print(f"next: osasis learn PICTURE --base {name}")
    return 0


@Parameter(name="*")
@dataclass(frozen=True)
class ConvertOptions:
    """What a conversion needs."""

    output: Annotated[Output | None, Parameter(metavar="PATH")] = None
    """File, or folder for `released`."""
    architecture: str = "ffhq-256"
    """Of a base."""
    base: str = "ffhq-256"
    """Of a style, by name or file."""
    picture: Path | None = None
    """Style image, which a checkpoint lacks."""
    name: str | None = None
    """What it is called (default: the file's name)."""
    force: bool = False
    """Replace what is there."""
    device: Device = None


def models_convert(
    files: Annotated[list[Path], Parameter(name="FILE")],
    /,
    *,
    kind: Annotated[Literal["base", "style", "tensors", "released"], Parameter(name="--as")],
    asked: ConvertOptions = ConvertOptions(),
) -> int:
    """Convert released checkpoints to our files, or ours to released ones.

    Args:
        files: checkpoint; for a base also its P2 DDPM
        kind: what to make of it

    Examples:
      osasis models convert last.ckpt ffhq_p2.pt --as base -o mine.safetensors
      osasis models convert iter_200.pt --as style --base ffhq-256 --picture img1.png
      osasis models convert art_inception.pth --as tensors
      osasis models convert ffhq-256 --as released -o checkpoints/
      osasis models convert img1.safetensors --as released --base ffhq-256 -o exp/
    """
    if len(files) > (2 if kind == "base" else 1):
        raise UserError(f"too many files for --as {kind}")
    if kind == "released":
        _to_released(asked, files[0])
        return 0
    first = files[0]
    name = asked.name or first.stem
    output = _output(asked, name)
    with Progress() as progress:
        progress.update("converting", 0, 1)
        if kind == "base":
            _to_base(asked, files, output, name)
        elif kind == "style":
            _to_style(asked, first, output, name)
        else:
            import shutil

            from osasis.files import atomic_path
            from osasis.hub.unpickle import unpickle

            with unpickle(first) as read, atomic_path(output) as temporary:
                shutil.copyfile(read.path, temporary)
        progress.update("converting", 1, 1)
    print(f"wrote {output}")
    return 0


def _output(asked: ConvertOptions, name: str) -> Path:
    """Where a converted file goes."""
    path = asked.output or Path(f"{name}.safetensors")
    if path.is_dir():
        path = path / f"{name}.safetensors"
    if path.suffix != ".safetensors":
        raise UserError(f"the result ends in .safetensors, not as in {path}")
    if path.exists() and not asked.force:
        raise UserError(f"{path} exists", hint="add --force to replace it, or choose another -o")
    return Path(path)


def _to_base(asked: ConvertOptions, files: list[Path], output: Path, name: str) -> None:
    from osasis.hub.released import architecture, build_base

    ddpm = files[1] if len(files) > 1 else None
    notes = {"description": f"converted from {', '.join(file.name for file in files)}"}
    build_base(output, name, architecture(asked.architecture), files[0], ddpm, notes)
    if ddpm is None:
        print("without ffhq_p2.pt: styles can be used on this base, and not be learned")


def _to_style(asked: ConvertOptions, file: Path, output: Path, name: str) -> None:
    if asked.picture is None:
        raise UserError(
            "a released style does not hold its style image, which stylizing needs",
            hint="add --picture STYLE_IMAGE",
        )
    from osasis.base import load_base
    from osasis.hub.released import import_style
    from osasis.imaging.load import load_image

    picture = load_image(asked.picture)
    import_style(file, load_base(asked.base, device=asked.device), picture, name).save(output)


def _to_released(asked: ConvertOptions, given: Path) -> None:
    from osasis.base import load_base
    from osasis.config.catalogue import find_base
    from osasis.formats.base_file import FORMAT
    from osasis.formats.safetensors_file import read_manifest
    from osasis.formats.style_file import load_style
    from osasis.hub.released import export_base, export_style

    folder = asked.output or Path("released")
    path = given
    is_style = path.is_file() and read_manifest(path).get("format") != FORMAT
    if is_style:
        style = load_style(path)
        files = [folder / f"iter_{style.manifest.config.iterations}.pt"]
    else:
        files = [folder / "last.ckpt", folder / "ffhq_p2.pt"]
        find_base(str(given))
    there = [file for file in files if file.exists() and not asked.force]
    if there:
        raise UserError(f"{there[0]} exists", hint="add --force to replace it")
    base = load_base(asked.base if is_style else str(given), device=asked.device)
    if is_style:
        export_style(style, base, files[0])
    else:
        files = export_base(base, folder)
    for file in files:
        print(f"wrote {file}")
