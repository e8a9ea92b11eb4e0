"""The sheet of what each control does."""

from __future__ import annotations

from osasis.base import Base
from osasis.stylize.explore import CONTROLS, explore, plan, sheet
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture


def test_rows_and_captions(tiny_base: Base) -> None:
    first, second = (preview_style(tiny_base, picture(i), name=f"p{i}") for i in (1, 2))
    alone = plan(tiny_base, [(first, 1.0)])
    assert [row.control for row in alone] == [c for c in CONTROLS if c != "mix"]
    own = first.manifest.config.stylize_route.t0
    (row,) = plan(tiny_base, [(first, 1.0)], ("t0",))
    tried = [trial.controls.t0 or 0 for trial in row.trials]
    assert own in tried and own < max(tried) <= 1.35 * own  # nothing was learned further up
    rows = plan(tiny_base, [(first, 2.0), (second, 2.0)], ("mix", "levels"))
    assert [row.control for row in rows] == ["levels", "mix"]
    assert [t.caption for t in rows[0].trials] == ["none", "0", "0,1", "0,1,2"]
    assert [t.caption for t in rows[1].trials][1] == "0.75 : 0.25"
    assert rows[1].trials[1].styles == ((first, 0.75), (second, 0.25))
    assert rows[0].trials[0].styles == ((first, 0.5), (second, 0.5))


def test_every_picture_is_what_its_caption_says(tiny_base: Base) -> None:
    styles = [(preview_style(tiny_base, picture(1), name="p"), 1.0)]
    photo = picture(5)
    rows = plan(tiny_base, styles, ("codes", "strength"))
    pictures = [[] for _ in rows]
    for number, drawn in explore(tiny_base, photo, rows):
        pictures[number].append(drawn)
    assert [len(row) for row in pictures] == [5, 2]
    swapped = Stylizer(tiny_base, styles, swap_codes=True)(photo)
    assert pictures[1][1].tobytes() == swapped.tobytes()
    page = sheet(photo, styles, rows, pictures, size=32)
    assert page.width > 5 * 192 and page.height > 3 * 192
