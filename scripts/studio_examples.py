"""Draw the examples that the studio shows before anything was made with it."""

from __future__ import annotations

from PIL import Image

import osasis
from osasis.config.catalogue import assets
from osasis.imaging.load import load_image
from osasis.studio.intake import write_view
from osasis.studio.work import EXAMPLES, Studio
from osasis.stylize.demo import PHOTO
from osasis.stylize.explore import explore, plan, sheet

BOX = (72, 0, 376, 304)  # head and shoulders


def main() -> None:
    base = osasis.load_base()
    style = osasis.load_style("renoir_seashore")
    photo = load_image(assets() / "photos" / PHOTO).crop(BOX)
    folder = assets() / "studio"
    stylizer = osasis.Stylizer(base, style, fit="whole")
    drawn = stylizer(photo)
    square = Studio(base).example
    rows = plan(base, [(style, 1.0), (osasis.load_style("jacometto_nun"), 1.0)], ("mix",))
    rows = plan(base, [(style, 1.0)], ("strength", "t0", "variation")) + rows
    pictures: list[list[Image.Image]] = [[] for _ in rows]
    for row, picture in explore(base, square, rows):
        pictures[row].append(picture)
    page = sheet(square, [(style, 1.0)], rows, pictures, size=base.image_size)
    for name, image in zip(EXAMPLES, (photo, drawn, page), strict=True):
        write_view(image, folder / f"{name}.webp")


if __name__ == "__main__":
    main()
