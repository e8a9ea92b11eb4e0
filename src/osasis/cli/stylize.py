"""`osasis stylize`: redraw photos in a style."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osasis._version import __version__
from osasis.cli.options import add_device, amount, levels, make_writable, positive, share, whole
from osasis.cli.progress import Progress
from osasis.errors import OsasisError

if TYPE_CHECKING:
    from PIL import Image

    from osasis.cli.options import Subparsers
    from osasis.style.file import Style
    from osasis.stylize.stylizer import Stylizer

EPILOG = """\
examples:
  osasis stylize me.jpg --style goya_josefa
      a style that is shipped, see `osasis models list`; writes stylized/me.png
  osasis stylize photos/ more/*.jpg --style painting.osasis.safetensors -o out/
  osasis stylize me.jpg --style painting.osasis.safetensors --lambda-spn 0.5
      keeps less of the photo's structure than the style file says
  osasis stylize me.jpg --style goya_josefa --variation 0.3 --seed 7
      the same photo, drawn a little differently for every seed

Photos that cannot be read are listed at the end; all others are done.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "stylize",
        help="redraw photos in a style",
        description="Redraw photos, or all photos of folders, in a learned style.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO_OR_DIR", help="photos, folders of photos"
    )
    parser.add_argument(
        "--style", required=True, metavar="FILE_OR_NAME", help="style file, or a shipped style"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("stylized"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--style-levels",
        type=levels,
        metavar="0,1",
        help="levels of the U-Net that see the style's code, 0 the finest (default: the style's)",
    )
    parser.add_argument(
        "--lambda-spn",
        type=amount,
        metavar="X",
        help="how strongly the photo's structure is kept (default: the style's)",
    )
    parser.add_argument(
        "--variation",
        type=share,
        default=0.0,
        metavar="V",
        help="how much of each photo's structure is drawn anew, 0 to 1 (default: 0, not random)",
    )
    parser.add_argument(
        "--seed",
        type=whole,
        default=0,
        metavar="N",
        help="seed of what --variation draws; photo i uses N + i (default: 0)",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="photos computed at once")
    add_device(parser)
    return parser


class Photos(Sequence["Image.Image"]):
    """Photos from the one at `start` on, read when they are asked for; bad ones are passed over.

    Attributes:
        good: indices of the photos read so far, in order.
        bad: why others cannot be read, by index.
    """

    def __init__(self, paths: Sequence[Path], start: int) -> None:
        self.paths, self.next = paths, start
        self.good: list[int] = []
        self.bad: dict[int, OsasisError] = {}

    def __len__(self) -> int:
        return len(self.paths) - self.next

    def __getitem__(self, index: Any) -> Any:
        from osasis.imaging.load import load_image

        return load_image(self.paths[index])

    def __iter__(self) -> Iterator[Image.Image]:
        while self.next < len(self.paths):
            index = self.next
            self.next += 1
            try:
                image = self[index]
            except OsasisError as error:
                self.bad[index] = error
                continue
            self.good.append(index)
            yield image


def redraw(
    stylizer: Stylizer, paths: Sequence[Path]
) -> Iterator[tuple[int, Image.Image | OsasisError]]:
    """Yield each photo's index with its result, or with why there is none."""
    start = 0
    while start < len(paths):
        photos = Photos(paths, start)
        done = 0
        try:
            for result in stylizer.stream(photos):
                done += 1
                yield photos.good[done - 1], result
        except OsasisError:
            # one photo of a batch is bad: do that batch one by one, then go on
            for index in photos.good[done:]:
                yield index, _alone(stylizer, photos[index])
        yield from photos.bad.items()
        start = photos.next


def _alone(stylizer: Stylizer, image: Image.Image) -> Image.Image | OsasisError:
    try:
        return next(iter(stylizer.stream([image])))
    except OsasisError as error:
        return error


def describe(style: Style, args: argparse.Namespace) -> dict[str, str]:
    """What a result's metadata says about how it was made."""
    manifest = style.manifest
    return {
        "style": str(manifest.name),
        "base": str(manifest.base_name),
        "version": f"osasis {__version__}",
        "seed": str(args.seed),
        "variation": str(args.variation),
        "style seed": str(manifest.seed),
    }


def report(done: int, folder: Path, failed: list[tuple[Path, OsasisError]]) -> int:
    """Say what was done and what was not; return the exit status."""
    print(f"{done} {'photo' if done == 1 else 'photos'} redrawn into {folder}")
    if not failed:
        return 0
    print(f"error: {len(failed)} of {done + len(failed)} photos failed:", file=sys.stderr)
    for photo, error in failed:
        hint = f" ({error.hint})" if error.hint else ""
        # messages about a file that cannot be read name it themselves
        where = "" if str(photo) in str(error) else f"{photo}: "
        print(f"  {where}{error}{hint}", file=sys.stderr)
    return 1


def run(args: argparse.Namespace) -> int:
    """Redraw the photos, write them, say where."""
    from osasis.hub.registry import find_style

    style_path = find_style(args.style)
    from osasis.imaging.load import find_images
    from osasis.imaging.save import output_paths, save_image

    photos = find_images(args.photos)
    folder: Path = args.output
    outputs = output_paths(photos, folder)
    make_writable(folder)

    from osasis.base import load_base
    from osasis.style.file import load_style
    from osasis.stylize.stylizer import Stylizer

    style = load_style(style_path)
    stylizer = Stylizer(
        load_base(style.manifest.base_name, device=args.device),
        style,
        style_levels=args.style_levels,
        lambda_spn=args.lambda_spn,
        variation=args.variation,
        seed=args.seed,
        batch_size=args.batch_size,
    )
    metadata = describe(style, args)
    failed: list[tuple[Path, OsasisError]] = []
    with Progress() as progress:
        progress.update("stylize", 0, len(photos))
        results = redraw(stylizer, photos)
        for count, (index, result) in enumerate(results, start=1):
            if isinstance(result, OsasisError):
                failed.append((photos[index], result))
            else:
                save_image(result, outputs[index], metadata=metadata)
            progress.update("stylize", count, len(photos))
    return report(len(photos) - len(failed), folder, failed)
