"""`osasis film`: redraw the face of a film."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from osasis.cli.controls import controls_of, load_styles, say_strained
from osasis.cli.options import (
    Amount,
    BlendOptions,
    Device,
    DrawingOptions,
    OutputFile,
    Positive,
    Share,
    StylesOrPreview,
    make_writable,
)
from osasis.errors import UserError
from osasis.progress import Progress, when_stopped


def film(
    film: Annotated[Path, Parameter(name="FILM")],
    /,
    *,
    output: OutputFile | None = None,
    force: bool = False,
    styles: StylesOrPreview = StylesOrPreview(),
    steady: Share = 0.8,
    smooth: Amount = 0.08,
    drawing: DrawingOptions = DrawingOptions(),
    blending: BlendOptions = BlendOptions(),
    batch_size: Positive | None = None,
    device: Device = None,
) -> int:
    """Redraw the face of a short film in a learned style, without flicker.

    Args:
        film: a film that FFmpeg can read
        output: .mp4, .mov or .mkv (default: FILM-stylized.mp4 in this folder)
        force: replace the output if it exists
        steady: how much of each result comes from the frames before, below 1
        smooth: seconds over which the face's place is smoothed
        batch_size: frames drawn at once

    Examples:
      osasis film clip.mp4 --style memling_maria
          writes clip-stylized.mp4; sound and times stay
      osasis film clip.mov --style painting.osasis.safetensors -o out.mp4 --steady 0.9
      osasis film clip.mp4 --style memling_maria --steady 0 --smooth 0
          every frame by itself: this flickers

    The largest face is followed through the film; frames without one stay as they
    are.
    """
    from osasis.imaging.video import notes_on, open_film

    styles.check("film")
    written = _output_file(film, output, force=force)
    with open_film(film) as opened:  # before anything slow
        make_writable(written.parent)
        for note in notes_on(opened, written.suffix.lower()):
            print(f"note: {note}", file=sys.stderr)

    from osasis.stylize.film import FilmConfig, redraw_film
    from osasis.stylize.stylizer import Stylizer

    controls = controls_of(drawing, blending)
    base, loaded = load_styles(styles, device, lambda_spn=controls.lambda_spn)
    stylizer = Stylizer(base, loaded, controls, batch_size=batch_size)
    say_strained(controls)
    config = FilmConfig(smooth=smooth, steady=steady)
    with when_stopped(lambda: "stopped; nothing was written"), Progress() as progress:
        last = progress.follow(redraw_film(stylizer, film, written, config))
    for note in last.notes if last else ():
        print(f"note: {note}", file=sys.stderr)
    print(f"look at {written}")
    return 0


def _output_file(film: Path, given: Path | None, *, force: bool) -> Path:
    """Where the result goes.

    Raises:
        UserError: it exists, or is the film itself.
    """
    output = given or Path(f"{film.stem}-stylized.mp4")
    if output.exists() and film.exists() and output.samefile(film):
        raise UserError("the output would replace the film", hint="choose another with -o")
    if output.exists() and not force:
        raise UserError(f"{output} exists", hint="choose another with -o, or add --force")
    return output
