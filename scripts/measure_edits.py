"""Measure edits: how far attributes move, how far all else does, whether it is the same person.

    python scripts/measure_edits.py PHOTOS... --identity arcface.onnx --sheet edits.png

For each pair of t0 and guidance all edits are made on all photos. "own" is the mean change of the
edited attribute's score towards the amount asked for, "others" the mean absolute change of the
other scores. Scores are those of `attribute_scores`, measured on the results. The defaults in
`osasis.stylize.edit` come from here; measure again for a new base.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from osasis.base import load_base
from osasis.imaging.load import find_images, load_image
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.perception import load_judges
from osasis.stylize.edit import AttributeEdit, attribute_scores
from osasis.stylize.stylizer import Stylizer

Similarity = Callable[[Image.Image, Image.Image], float]


def identity(path: Path | None) -> Similarity:
    """ArcFace's similarity; NaN without its weights."""
    if path is None:
        return lambda output, photo: float("nan")
    from osasis.evaluate.identity import FaceEmbedder, IdentitySimilarity

    return IdentitySimilarity(FaceEmbedder("arcface", path))


def pair(text: str) -> tuple[int, float]:
    t0, guidance = text.split(",")
    return int(t0), float(guidance)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--base", default="faces-128")
    parser.add_argument("--identity", type=Path, help="ArcFace ONNX file")
    parser.add_argument("--amount", type=float, default=1.5)
    parser.add_argument("--sheet", type=Path, help="where to write the pictures")
    parser.add_argument(
        "--try",
        dest="pairs",
        nargs="+",
        type=pair,
        default=[(500, 1.0), (500, 20.0), (1000, 1.0), (1000, 10.0), (1000, 20.0), (1000, 40.0)],
        metavar="T0,GUIDANCE",
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    base = load_base(args.base)
    similarity, lpips = identity(args.identity), load_judges(device=base.device).lpips
    photos = [fit_square(load_image(p), base.image_size) for p in find_images(args.photos)]
    x0 = torch.cat([to_tensor(p) for p in photos]).to(base.device)
    before = attribute_scores(base, base.encode(x0))
    rows, titles = [photos], ["photo"]
    print("t0    guidance  attribute     amount   own  others  identity  LPIPS")
    for t0, guidance in args.pairs:
        for name in base.directions:
            edit = AttributeEdit(base, {name: args.amount})
            edited = Stylizer(base, edits=[edit], t0=t0, guidance=guidance).stylize(x0)
            after = attribute_scores(base, base.encode(edited))
            moved = {k: float((after[k] - before[k]).mean()) for k in after}
            others = [abs(v) for k, v in moved.items() if k != name]
            pictures = to_images(edited)
            same = [similarity(a, b) for a, b in zip(pictures, photos, strict=True)]
            with torch.no_grad():
                distance = float(lpips(edited, x0).mean())
            print(
                f"{t0:<6}{guidance:<10g}{name:<14}{args.amount:<6g}{moved[name]:>6.2f}"
                f"{sum(others) / max(1, len(others)):>8.2f}{sum(same) / len(same):>10.3f}"
                f"{distance:>7.3f}",
                flush=True,
            )
            rows.append(pictures)
            titles.append(f"{t0} g{guidance:g} {name}")
    if args.sheet:
        contact_sheet(rows, row_titles=titles, cell=128).save(args.sheet)


if __name__ == "__main__":
    main()
