"""`osasis stylize` and `osasis film`: redraw photos, or the face of a film, in a style."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from osasis.cli.controls import (
    PREVIEW_NOTE,
    controls_of,
    describe,
    load_styles,
    made_by,
    say_strained,
)
from osasis.cli.options import (
    Amount,
    BlendOptions,
    Device,
    DrawingOptions,
    Output,
    OutputFile,
    PhotoOptions,
    Positive,
    Share,
    StylesOrPreview,
    make_writable,
)
from osasis.cli.photos import Format, Photos, find, redraw_all, result_folder
from osasis.errors import UserError
from osasis.progress import Progress, when_stopped
from osasis.terminal import say


def stylize(
    photos: Photos,
    /,
    *,
    output: Output = Path("stylized"),
    format: Format = "same",
    styles: StylesOrPreview = StylesOrPreview(),
    drawing: DrawingOptions = DrawingOptions(),
    photo: PhotoOptions = PhotoOptions(),
    crops: bool = False,
    batch_size: Positive | None = None,
    jobs: Positive = 2,
    device: Device = None,
) -> int:
    """Redraw photos, or all photos of folders, in a learned style.

    Args:
        output: folder for the results, or for one photo a picture's file
        crops: also write the redrawn squares, into crops/
        batch_size: squares drawn at once
        jobs: threads that read, search and save beside the network

    Examples:
      osasis stylize me.jpg --style memling_maria
          a style that is shipped, see `osasis models list`; writes stylized/me.jpg:
          your photo with every face in it redrawn
      osasis stylize photos/ 'more/**/*.jpg' --style painting.osasis.safetensors -o out/
          sub-folders are kept; run it again, and only what is new or changed is
          done
      find . -name '*.jpg' | osasis stylize - --style memling_maria
      accelerate launch --num_processes 4 -m osasis stylize photos/ --style memling_maria
          several GPUs: each redraws its share of the photos; on CPUs it is
          `torchrun --nproc_per_node 2 -m osasis ...`; `osasis batch` is for
          millions
      osasis stylize group.jpg --style memling_maria --largest-face --crops --detail 0.8
      osasis stylize square.png --style memling_maria --no-align
          the central square as it is; the result is as large as the base draws
      osasis stylize me.jpg --style memling_maria --style-strength 0.6
          between the photo (0) and the style as learned (1)
      osasis stylize me.jpg --style memling_maria=0.7 --style cezanne_peasant=0.3
          a mix of two styles
      osasis stylize me.jpg --style memling_maria --variation 0.3 --seed 7
          the same photo, drawn a little differently for every seed
      osasis stylize me.jpg --style-image painting.png
          a preview in seconds, without learning: the picture's colours, part by
          part of a face, without its strokes, which `osasis learn` brings

    `osasis explore me.jpg --style memling_maria` draws a sheet of what each control
    does. Photos that fail are listed at the end, and the exit status is then 1; all
    others are done. How each result was made is in the folder's manifest.jsonl, and
    in each result.
    """
    styles.check("stylize")
    from osasis.scale.shares import Shares

    shares = Shares(device)
    found = shares.from_main(lambda: find(photos, output))
    make_writable(result_folder(output))

    from osasis.stylize.stylizer import Stylizer

    controls = controls_of(drawing, photo)
    base, loaded = load_styles(styles, shares.device, lambda_spn=controls.lambda_spn)
    stylizer = Stylizer(base, loaded, controls, batch_size=batch_size)
    say_strained(controls)
    preview = styles.picture is not None
    if preview:
        say(f"{styles.picture}: {PREVIEW_NOTE}", sys.stderr)
    made = made_by(base, styles, loaded, controls, format=format, crops=crops)
    metadata = describe(base, loaded, controls, preview=preview)
    return redraw_all(
        found, output, stylizer, made, metadata, shares, format=format, jobs=jobs, crops=crops
    )


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
    say(f"look at {written}")
    return 0


def _output_file(film: Path, given: Path | None, *, force: bool) -> Path:
    """Where the result goes."""
    output = given or Path(f"{film.stem}-stylized.mp4")
    if output.exists() and film.exists() and output.samefile(film):
        raise UserError("the output would replace the film", hint="choose another with -o")
    if output.exists() and not force:
        raise UserError(f"{output} exists", hint="choose another with -o, or add --force")
    return output
