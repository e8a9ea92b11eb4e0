"""`osasis demo`: a painting learned, six faces redrawn."""

from __future__ import annotations

from pathlib import Path

from osasis.cli.options import Device, Output, command_line, make_writable
from osasis.config.catalogue import DEMO_PAINTING
from osasis.files import STYLE_SUFFIX
from osasis.progress import Progress


def demo(
    *, output: Output = Path("demo"), style: str = DEMO_PAINTING, device: Device = None
) -> int:
    """Learn a shipped painting, then redraw a photo and five portraits in it.

    Args:
        output: folder for the results
        style: a shipped painting, or a picture of yours

    Examples:
      osasis demo
          a few minutes on a laptop; look at demo/contact-sheet.png
      osasis demo --style my_painting.jpg -o my-demo/
    """
    make_writable(output)
    from osasis.stylize.demo import CONTACT_SHEET, run_demo

    with Progress() as progress:
        progress.follow(run_demo(output, style, device))
    print(f"look at {output / CONTACT_SHEET}")
    print(f"each picture and the style file are in {output}")
    learned = output / f"{Path(style).stem}{STYLE_SUFFIX}"
    print(f"next: {command_line(['stylize', 'PHOTO', '--style', learned])}")
    return 0
