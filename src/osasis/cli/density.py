"""`osasis density`: which photos are hard for a base."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from osasis.cli.options import (
    DEFAULT_BASE,
    BaseName,
    Device,
    OutputFile,
    Positive,
    Several,
    Whole,
    make_writable,
)
from osasis.cli.photos import say_failed, say_passed
from osasis.errors import OsasisError, UserError
from osasis.progress import AGAIN, Progress, when_stopped
from osasis.terminal import say

if TYPE_CHECKING:
    from osasis.evaluate.density import Ranked, Ranking


def density(
    photos: Annotated[list[Path], Parameter(name="PHOTO_OR_DIR")],
    /,
    *,
    output: OutputFile = Path("ranking.csv"),
    top: Positive | None = None,
    hard: Annotated[list[Path] | None, Several] = None,
    draws: Positive = 4,
    steps: Positive = 20,
    seed: Whole = 0,
    base: BaseName = DEFAULT_BASE,
    device: Device = None,
) -> int:
    """Rank photos by density: which are unlike what the base has learned to draw.

    Args:
        photos: photos, folders of photos
        output: CSV to write; the sheet gets the same name with .png
        top: keep only N of each end
        hard: photos expected to be hard: ranked too, and the AUC against the others is said
        draws: noise draws
        steps: DDIM steps
        seed: of the draws

    Examples:
      osasis density photos/ -o ranking.csv
          the hardest first; ranking.png shows both ends with their reconstructions
      osasis density photos/ -o ranking.csv --top 100
          only the 100 hardest and the 100 easiest
      osasis density faces/ --hard microphones/ -o ranking.csv
          also says how well the photos of microphones/ are told from those of
          faces/ (AUC)

    A photo's score is the LPIPS between it and pictures drawn from its semantic
    code and fresh noise: high where the code alone does not hold what is in the
    photo, as with hands, hats and microphones. The same photo always gets the same
    score. Ctrl-C keeps the scores; the same command goes on.
    """
    from osasis.imaging.save import is_taken

    if output.suffix != ".csv":
        raise UserError(f"the ranking is a .csv file, not {output}", hint="-o ranking.csv")
    for path in (output, output.with_suffix(".png")):
        if is_taken(path):
            raise UserError(f"{path} exists", hint="choose another with -o")
    from osasis.imaging.find import PassedOver, find_images

    passed = PassedOver()
    expected_hard = find_images(hard) if hard else []
    expected = {p.resolve() for p in expected_hard}
    given = [p for p in find_images(photos, passed) if p.resolve() not in expected]
    make_writable(output.parent)

    from osasis.base import load_base
    from osasis.evaluate.density import DensityRanker, Ranking, ends_of, write_ranking
    from osasis.imaging.save import save_image
    from osasis.perception.judges import load_judges

    loaded = load_base(base, device=device)
    ranker = DensityRanker(
        loaded,
        load_judges(device=loaded.device).lpips,
        draws=draws,
        steps=steps,
        seed=seed,
    )
    ranking = Ranking(ranker, output.with_name(f".{output.stem}.partial.json"))
    ranked = _score(ranking, given, expected_hard, output)
    ranked.sort(key=lambda entry: -entry.score.stochastic)
    ranks = {id(entry): rank for rank, entry in enumerate(ranked, 1)}
    kept = ends_of(ranked, top) if top else ranked
    write_ranking(output, kept, [ranks[id(entry)] for entry in kept])
    save_image(
        ranking.sheet(ranked),
        output.with_suffix(".png"),
        metadata={"osasis": '{"kind": "sheet"}'},
        replace=False,
    )
    ranking.finish()
    say(f"wrote {output} ({len(kept)} of {len(ranked)} photos) and {output.with_suffix('.png')}")
    if hard:
        _say_auc(ranked)
    unread = say_passed(passed)
    return _say_bad(ranking.bad) or unread


def _score(ranking: Ranking, photos: list[Path], hard: list[Path], output: Path) -> list[Ranked]:
    total = len(photos) + len(hard)
    found = []
    kept = f"stopped; the scores so far are kept beside {output}\n{AGAIN}"
    with when_stopped(lambda: kept), Progress() as progress:
        progress.update("score", 0, total)
        for count, entry in enumerate(ranking.score(photos, hard), 1):
            if entry is not None:
                found.append(entry)
            progress.update("score", count, total)
    if not found:
        raise UserError("none of the photos could be read", hint=str(ranking.bad[0][1]))
    return found


def _say_auc(ranked: list[Ranked]) -> None:
    from osasis.evaluate.density import auc_interval
    from osasis.pretrain.probes import area_under_curve

    positive = [entry.score.stochastic for entry in ranked if entry.hard]
    negative = [entry.score.stochastic for entry in ranked if not entry.hard]
    if not positive or not negative:
        print("no AUC: it needs photos of both kinds")
        return
    auc = area_under_curve(positive, negative)
    low, high = auc_interval(positive, negative)
    print(
        f"AUC {auc:.3f} [{low:.3f}, {high:.3f}]: the chance that one of the {len(positive)} "
        f"photos expected to be hard scores above one of the other {len(negative)} (0.5: none)"
    )


def _say_bad(bad: list[tuple[Path, OsasisError]]) -> int:
    if not bad:
        return 0
    print(f"error: {len(bad)} photos could not be read:", file=sys.stderr)
    say_failed(bad)
    return 1
